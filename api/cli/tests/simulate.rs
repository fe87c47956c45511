//! `plinth simulate`: a real engine and a real Postgres of its own, and nothing left.

use std::process::Command;

#[test]
fn a_small_fleet_converges_through_its_failures_and_leaves_nothing() {
    let below = tempfile::Builder::new().prefix("plinth-test-").tempdir_in("/var/tmp").expect("a folder");
    let folder = below.path().to_str().expect("text");
    // Postgres runs as somebody else when we are root.
    std::fs::set_permissions(below.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("our folder");
    let mut plinth = Command::new(env!("CARGO_BIN_EXE_plinth"));
    plinth.args(["simulate", "--nodes", "20", "--layers", "6", "--fail", "40", "--latency", "2", "--seed", "3"]);
    let output = plinth.args(["--below", folder, "-o", "json"]).output().expect("plinth runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&report["nodes"], &report["node_roles"]), (&20.into(), &120.into()));
    let number = |name: &str| report[name].as_i64().unwrap_or_default();
    // Each layer that fails does so once on every node.
    assert!(number("failed") > 0 && number("failed") % 20 == 0, "{report:#}");
    // Ready, running and active; a failure is two more before them, and a retry.
    assert!(number("transitions") >= 3 * 120 + 2 * number("failed"), "{report:#}");
    assert!(report["flushes_per_transition"].as_f64().is_some_and(|flushes| flushes > 0.0), "{report:#}");
    assert_eq!(std::fs::read_dir(below.path()).expect("our folder").count(), 0, "it leaves nothing");
}

#[test]
fn what_can_not_be_simulated_is_refused() {
    let refused = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_plinth")).arg("simulate").args(args).output().expect("runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(refused(&["--nodes", "0"]).0, Some(2));
    assert_eq!(refused(&["--fail", "101"]).0, Some(2));
    let (code, said) = refused(&["--below", "/no/such/folder"]);
    assert!(code == Some(1) && said.contains("[data-folder]"), "{said}");
}
