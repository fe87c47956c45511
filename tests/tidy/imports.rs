//! Who may import whom, and which crates may not be in the tree at all.

use std::collections::BTreeSet;

use crate::{none, read, root};

/// The import table of docs/ARCHITECTURE.md: crate, then what of the workspace it may use.
const TABLE: [(&str, &[&str]); 13] = [
    ("engine/core", &[]),
    ("engine/catalog", &["engine-core"]),
    ("engine/agent", &["engine-core"]),
    ("engine/remote", &["engine-core", "engine-agent"]),
    ("engine/pki", &["engine-core"]),
    ("engine/store", &["engine-core"]),
    ("engine/provider", &["engine-core", "engine-store", "engine-agent"]),
    ("engine/dns", &["engine-core"]),
    (
        "engine/daemon",
        &[
            "engine-core",
            "engine-catalog",
            "engine-store",
            "engine-agent",
            "engine-remote",
            "engine-provider",
            "engine-pki",
            "engine-dns",
        ],
    ),
    ("api/server", &["engine-core", "engine-catalog", "engine-store"]),
    ("api/client", &["engine-core"]),
    ("api/cli", &["engine-catalog", "engine-core", "engine-daemon", "engine-store", "api-client", "api-server"]),
    (
        "tests",
        &[
            "engine-core",
            "engine-catalog",
            "engine-store",
            "engine-agent",
            "engine-remote",
            "engine-provider",
            "engine-pki",
            "engine-dns",
            "engine-daemon",
        ],
    ),
];

/// Dependencies of a manifest, without those for tests.
fn dependencies(folder: &str, tests_too: bool) -> BTreeSet<String> {
    let manifest = read(&root().join(folder).join("Cargo.toml"));
    let mut section = String::new();
    let mut found = BTreeSet::new();
    for line in manifest.lines() {
        let wanted = section == "dependencies" || (tests_too && section == "dev-dependencies");
        if let Some(name) = line.strip_prefix('[') {
            name.trim_end_matches(']').clone_into(&mut section);
        } else if let Some((name, _)) = line.split_once(['=', '.'])
            && wanted
        {
            found.insert(name.trim().to_owned());
        }
    }
    found
}

#[test]
fn crates_import_only_what_the_table_allows() {
    let ours: Vec<String> = TABLE.iter().map(|(folder, _)| folder.replace('/', "-")).collect();
    let mut found = Vec::new();
    for (folder, allowed) in TABLE {
        for name in dependencies(folder, false).into_iter().filter(|name| ours.contains(name)) {
            if !allowed.contains(&name.as_str()) {
                found.push(format!("{folder} imports {name}"));
            }
        }
    }
    none("imports outside the table", &found);
}

#[test]
fn every_crate_of_the_workspace_is_in_the_table() {
    let manifest = read(&root().join("Cargo.toml"));
    let members = manifest.split("members = [").nth(1).and_then(|rest| rest.split(']').next()).expect("members");
    let members: BTreeSet<&str> = members.split('"').filter(|part| part.contains('/') || *part == "tests").collect();
    let table: BTreeSet<&str> = TABLE.iter().map(|(folder, _)| *folder).collect();
    assert_eq!(members, table);
}

#[test]
fn the_core_does_no_io() {
    let dependencies = dependencies("engine/core", true);
    for banned in ["tokio", "sqlx", "russh", "axum", "rand", "reqwest"] {
        assert!(!dependencies.contains(banned), "engine-core must not depend on {banned}");
    }
}

#[test]
fn sql_stays_in_the_store() {
    for (folder, _) in TABLE {
        assert!(folder == "engine/store" || !dependencies(folder, true).contains("sqlx"), "{folder} depends on sqlx");
    }
}

/// One TLS stack, nothing that links C libraries of the machine, nothing with known holes.
#[test]
fn banned_crates_are_not_in_the_tree() {
    let lock = read(&root().join("Cargo.lock"));
    let banned = ["aws-lc-sys", "aws-lc-rs", "openssl-sys", "native-tls", "serde_yml"];
    let found: Vec<String> =
        banned.iter().filter(|name| lock.contains(&format!("name = \"{name}\"\n"))).map(|n| (*n).to_owned()).collect();
    none("banned crates", &found);
}
