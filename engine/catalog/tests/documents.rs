//! Every document of the tree loads clean, and every broken one says what is wrong with it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use engine_catalog::{Kind, check, load, load_folders, scaffold_bundle, scaffold_role, schema};
use engine_core::diagnostic::Diagnostic;

/// The top of the tree.
fn top() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the tree")
}

fn told(found: &[Diagnostic]) -> String {
    let top = format!("{}/", top().display());
    found.iter().map(|one| format!("{one}\n")).collect::<String>().replace(&top, "")
}

#[test]
fn the_tree_loads_clean() {
    let loaded = load(&[top()]);
    assert_eq!(told(&loaded.diagnostics), "");
    let roles: Vec<&String> = loaded.catalog.roles.keys().collect();
    assert_eq!(
        roles,
        [
            "certificate-authority",
            "dns-key",
            "dns-lookup",
            "dns-name",
            "dns-resolver",
            "dns-service",
            "dns-zone",
            "etcd",
            "etcd-balanced",
            "etcd-balancer",
            "etcd-ca",
            "etcd-client",
            "etcd-folder",
            "etcd-founding",
            "etcd-identity",
            "etcd-membership",
            "etcd-name",
            "etcd-package",
            "etcd-ready",
            "etcd-roster",
            "etcd-service",
            "etcd-shell",
            "etcd-tls",
            "haproxy",
            "haproxy-service",
            "hello",
            "node-base",
            "node-name",
            "random-secret",
            "tls-certificate",
            "tls-key",
            "tls-leaf",
            "trust-bundle",
            "virtual-address"
        ]
    );
    assert_eq!(loaded.catalog.workloads.keys().collect::<Vec<_>>(), ["etcd-cluster", "hello", "named-nodes"]);
}

#[test]
fn what_is_compiled_in_is_the_tree() {
    let (from_tree, compiled_in) = (load(&[top()]).catalog, load_folders(Vec::new()).catalog);
    assert_eq!(from_tree.roles.len(), compiled_in.roles.len());
    for (name, role) in &from_tree.roles {
        assert_eq!(role.content, compiled_in.roles[name].content, "{name}");
        assert_eq!(role.doc, compiled_in.roles[name].doc, "{name}");
    }
    assert_eq!(from_tree.workloads, compiled_in.workloads);
}

#[test]
fn references_are_replaced_in_the_catalog() {
    let catalog = load_folders(Vec::new()).catalog;
    for (name, role) in &catalog.roles {
        let text = serde_json::to_string(&role.doc).expect("a role");
        assert!(!text.contains("$ref"), "{name}: {text}");
    }
    let start = &catalog.roles["etcd"].doc.inputs["start"].schema;
    assert_eq!(start["properties"]["initial_cluster"]["items"]["properties"]["peer_url"]["format"], "uri");
}

#[test]
fn examples_and_test_bundles_are_clean() {
    for folder in ["docs/examples", "tests/documents/bundles"] {
        assert_eq!(told(&check(&[top().join(folder)])), "", "{folder}");
    }
    assert_eq!(told(&check(&[top().join("roles/etcd"), top().join("workloads")])), "");
}

#[test]
fn broken_documents_say_what_is_wrong() {
    let broken = top().join("tests/documents/broken");
    let found = check(std::slice::from_ref(&broken));
    let mut by_document: BTreeMap<String, Vec<Diagnostic>> = BTreeMap::new();
    for one in found {
        let file = one.file.clone().expect("each names its file");
        let file = Path::new(&file).strip_prefix(&broken).expect("only of these").display().to_string();
        let document: Vec<&str> = file.trim_end_matches(".yaml").split('/').collect();
        let parts = if document[0] == "bundle" && document[1] != "schemas" { 3 } else { document.len() };
        let document = document[..parts.min(document.len())].join("-");
        by_document.entry(document).or_default().push(Diagnostic { file: Some(file), ..one });
    }
    assert!(by_document.len() >= 25, "{}", by_document.len());
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(broken.join("expected"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    for (document, found) in &by_document {
        settings.bind(|| insta::assert_snapshot!(document.as_str(), told(found)));
    }
    // A circle is told once, at the first of its roles.
    let all_told: String = by_document.values().map(|found| told(found)).collect();
    let silent = documents(&broken).into_iter().filter(|name| !by_document.contains_key(name));
    let silent: Vec<String> =
        silent.filter(|name| !all_told.contains(name.trim_start_matches("bundle-roles-"))).collect();
    assert_eq!(silent, Vec::<String>::new(), "nothing is said of these");
}

/// Sound one by one, and wrong together.
#[test]
fn what_shows_only_in_a_graph_is_told_too() {
    let unsound = top().join("tests/documents/unsound");
    insta::assert_snapshot!(told(&check(&[unsound])), @r"
    tests/documents/unsound/bundle/roles/app/role.yaml:7:9: error[no-source]: input `name` of `app` (bound by the workload on all) has no source on all, in deployment `thirsty` (at /inputs/name); expected `with` or `from` where it is bound or used, `set: app.name`, or a default
    tests/documents/unsound/bundle/roles/app/role.yaml:7:9: warning[no-source]: input `name` of `app` (bound by the workload on all) has no source on all, in workload `thirsty` (at /inputs/name); expected `with` or `from` where it is bound or used, `set: app.name`, or a default
    tests/documents/unsound/bundle/workloads/untried/workload.yaml:9:5: warning[workload-not-compiled]: the workload is not compiled here: parameter `zone` has no value to try (at /parameters/properties/zone); expected a `default`, or `examples` that are valid
    tests/documents/unsound/bundle/workloads/which/workload.yaml:6:18: error[wrong-scope]: `base` runs on nodes: which instance is exported? (at /exports/count); expected a role that runs once for the deployment
    ");
}

/// Names of all roles, workloads and deployments there, as the snapshots are called.
fn documents(broken: &Path) -> Vec<String> {
    let list = |folder: &str| -> Vec<String> {
        let entries = std::fs::read_dir(broken.join(folder)).expect(folder);
        let names = entries
            .map(|entry| entry.expect("entry").file_name().to_string_lossy().trim_end_matches(".yaml").to_owned());
        names.map(|name| format!("{}-{name}", folder.replace('/', "-"))).collect()
    };
    ["bundle/roles", "bundle/workloads", "deployments"].into_iter().flat_map(list).collect()
}

#[test]
fn broken_documents_leave_the_rest_alone() {
    let loaded = load(&[top().join("tests/documents/broken/bundle")]);
    assert!(loaded.catalog.roles.contains_key("etcd"));
    let errors: Vec<&str> =
        loaded.diagnostics.iter().filter(|one| one.is_error()).filter_map(|one| one.file.as_deref()).collect();
    for role in loaded.catalog.roles.values() {
        assert!(!errors.contains(&role.source.as_str()), "{} has errors and is in the catalog", role.source);
    }
}

#[test]
fn a_new_role_loads_clean() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("bundle.yaml"), scaffold_bundle("mine")).expect("written");
    for (path, text) in scaffold_role("my-role") {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("created");
        std::fs::write(path, text).expect("written");
    }
    assert_eq!(told(&check(&[folder.path().to_owned()])), "");
    assert!(load(&[folder.path().to_owned()]).catalog.roles.contains_key("my-role"));
}

#[test]
fn schemas_describe_every_key() {
    for kind in Kind::ALL {
        let schema: serde_json::Value = serde_json::from_str(schema(kind)).expect("JSON");
        engine_core::schema::check(&schema).unwrap_or_else(|error| panic!("{}: {error}", kind.name()));
        described(kind.name(), &schema);
    }
}

fn described(path: &str, schema: &serde_json::Value) {
    for (below, sub) in engine_core::schema::subschemas(schema) {
        if below.starts_with("/properties/") {
            assert!(sub.get("description").is_some(), "{path}{below} has no description");
        }
        described(&format!("{path}{below}"), sub);
    }
}

#[test]
fn deployments_are_read_with_all_that_is_wrong() {
    let text = std::fs::read_to_string(top().join("docs/examples/ssh.yaml")).expect("there");
    let read = engine_catalog::read_deployments(&text, "ssh.yaml").expect("clean");
    assert_eq!(read[0].doc.deployment, "blue");
    let nodes =
        engine_catalog::read_nodes("node: a\naddress: 10.0.0.1\n---\nnode: b\naddress: 10.0.0.2\n", "nodes.yaml")
            .expect("clean");
    assert_eq!(nodes.len(), 2);
    let found =
        engine_catalog::read_deployments("deployment: A\nworkload: x\nexpires: 2h\n---\nworkload: y\n", "f.yaml")
            .expect_err("three");
    insta::assert_snapshot!(told(&found), @r"
    f.yaml:1:13: error[wrong-value]: `A` does not have the right form (at /deployment); expected a name of lower case letters, digits and single dashes, at most 27 long
    f.yaml:3:1: error[unknown-key]: `expires` is not a known key (at /expires); expected one of `about`, `check`, `deployment`, `expires_in`, `imports`, `moved`, `nodes`, `parameters`, `policy`, `profiles`, `set`, `weight`, `workload`
    f.yaml:5:1: error[missing-key]: `deployment` is missing; expected a name of lower case letters, digits and single dashes, at most 27 long
    ");
}
