//! The command as people run it.

use std::path::Path;
use std::process::{Command, Output};

fn plinth(args: &[&str], dir: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_plinth")).args(args).current_dir(dir).output().expect("plinth runs")
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

#[test]
fn the_tree_itself_is_clean() {
    let output = plinth(&["check", "."], root());
    assert!(output.status.success(), "{}{}", stdout(&output), String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_new_role_loads_and_a_broken_one_is_told_with_its_place() {
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::write(dir.path().join("bundle.yaml"), "bundle: mine\nversion: 1.0.0\nneeds: {core: \"^1\"}\n")
        .expect("written");
    let new = plinth(&["new", "role", "web"], dir.path());
    assert!(new.status.success(), "{}", String::from_utf8_lossy(&new.stderr));
    let check = plinth(&["check", "."], dir.path());
    assert!(check.status.success(), "{}", stdout(&check));

    // Where no bundle is, one is begun.
    let new = plinth(&["new", "role", "web", "--into", "other", "-o", "name"], dir.path());
    assert!(stdout(&new).starts_with("other/bundle.yaml\n"), "{}", stdout(&new));
    let check = plinth(&["check", "other"], dir.path());
    assert!(check.status.success(), "{}", stdout(&check));

    let again = plinth(&["new", "role", "web"], dir.path());
    assert_eq!(again.status.code(), Some(4), "what is there is not overwritten");

    let file = dir.path().join("roles/web/role.yaml");
    let text = std::fs::read_to_string(&file).expect("written by new role").replace("milestone:", "milestonne:");
    std::fs::write(&file, text).expect("written");
    let broken = plinth(&["check", "."], dir.path());
    assert_eq!(broken.status.code(), Some(1));
    assert!(stdout(&broken).contains("roles/web/role.yaml:5:1: error[unknown-key]"), "{}", stdout(&broken));
}

#[test]
fn answers_can_be_had_as_json() {
    let output = plinth(&["version", "-o", "json"], root());
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(value["version"], env!("CARGO_PKG_VERSION"));
    let schema = plinth(&["schema", "role"], root());
    let schema: serde_json::Value = serde_json::from_slice(&schema.stdout).expect("JSON");
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
}

#[test]
fn wrong_usage_says_what_was_expected() {
    assert_eq!(plinth(&["schema", "cluster"], root()).status.code(), Some(2));
    assert_eq!(plinth(&["check", "no/such/folder"], root()).status.code(), Some(3));
    assert_eq!(plinth(&["new", "role", "No Such"], root()).status.code(), Some(2));
}
