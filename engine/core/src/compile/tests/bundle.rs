//! The worked bundle of etcd with mutual TLS.

use serde_json::{Value, json};

use crate::graph::{Executor, Graph, Pairing, Source};
use crate::testing::{Fixture, catalog};
use crate::value::Layer;

fn types(name: &str) -> Value {
    match name {
        "path" | "pem" | "duration" => json!({"type": "string", "minLength": 1}),
        "names" => json!({"type": "array", "items": {"type": "string"}}),
        "files" => json!({"type": "object", "properties": {"ca": {"type": "string"}}, "required": ["ca"]}),
        "member" => json!({"type": "object", "additionalProperties": false, "required": ["name", "peer_url"],
                           "properties": {"name": {"type": "string"}, "peer_url": {"type": "string"}}}),
        _ => json!({"type": "object"}),
    }
}

fn input(name: &str, from: &str) -> Value {
    json!({"schema": types(name), "from": from})
}

fn tls() -> [Value; 4] {
    [
        json!({"role": "certificate-authority", "runs": "deployment", "at": "engine", "driver": "pki.authority",
               "inputs": {"common_name": {"schema": {"type": "string"}}},
               "outputs": {"issuer": {"schema": types("issuer")}, "trust": {"schema": types("trust")}}}),
        json!({"role": "tls-key", "requires": ["node-base"], "apply": [],
               "inputs": {"directory": {"schema": types("path")}, "names": {"schema": types("names")},
                          "owner": {"schema": {"type": "string"}, "default": "root"}},
               "outputs": {"key": {"schema": types("file")}, "csr": {"schema": types("pem")}}}),
        json!({"role": "tls-leaf", "at": "engine", "driver": "pki.leaf", "renew_at": "renew_at",
               "inputs": {"issuer": {"schema": types("issuer")}, "csr": {"schema": types("pem")},
                          "names": {"schema": types("names")}},
               "outputs": {"chain": {"schema": types("pem")}, "renew_at": {"schema": {"type": "string"}}}}),
        json!({"role": "tls-certificate", "apply": [],
               "uses": {
                   "key": {"role": "tls-key", "with": {"directory": "{{ directory }}", "names": "{{ names }}", "owner": "{{ owner }}"}},
                   "leaf": {"role": "tls-leaf", "from": {"csr": "key.csr"}, "with": {"issuer": "{{ issuer }}", "names": "{{ names }}"}}},
               "inputs": {"issuer": {"schema": types("issuer")}, "trust": {"schema": types("trust")},
                          "directory": {"schema": types("path")}, "owner": {"schema": {"type": "string"}, "default": "root"},
                          "names": input("names", "node.names"), "key": input("file", "key.key"),
                          "chain": input("pem", "leaf.chain")},
               "outputs": {"files": {"schema": types("files")}}}),
    ]
}

fn etcd() -> [Value; 8] {
    let peer = |directory: &str| {
        json!({"role": "tls-certificate", "from": {"issuer": "etcd-ca.issuer", "trust": "etcd-ca.trust"},
               "with": {"directory": directory, "owner": "etcd"}, "requires": ["etcd-account"]})
    };
    [
        json!({"role": "node-base", "apply": []}),
        json!({"role": "etcd-account", "requires": ["node-base"], "apply": []}),
        json!({"role": "etcd-ca", "is": "certificate-authority", "runs": "deployment", "at": "engine",
               "driver": "pki.authority", "with": {"common_name": "etcd"},
               "inputs": {"common_name": {"schema": {"type": "string"}}},
               "outputs": {"issuer": {"schema": types("issuer")}, "trust": {"schema": types("trust")}}}),
        json!({"role": "etcd-identity", "requires": ["node-base"],
               "inputs": {"name": {"schema": {"type": "string"}, "from": "node.name"},
                          "port": {"schema": {"type": "integer"}, "default": 2380}},
               "outputs": {"member": {"schema": types("member"), "value": {"name": "{{ name }}", "peer_url": "x:{{ port }}"}}}}),
        json!({"role": "etcd-founding", "runs": "deployment",
               "inputs": {"members": {"schema": {"type": "array", "items": types("member")}, "on_change": "ignore",
                                      "from": "each etcd-identity.member"}},
               "outputs": {"founders": {"schema": {"type": "array", "items": types("member")}, "value": "{{ members }}"}}}),
        json!({"role": "etcd-membership", "at": {"one": "etcd", "else": "self"}, "apply": [],
               "inputs": {"me": input("member", "etcd-identity.member"),
                          "founders": {"schema": {"type": "array"}, "from": "etcd-founding.founders"}},
               "outputs": {"start": {"schema": types("start")}}}),
        json!({"role": "etcd", "milestone": true, "requires": ["etcd-identity"], "disrupts": ["etcd"], "timeout": "5m",
               "uses": {"peer-tls": peer("/etc/etcd/tls/peer"), "server-tls": peer("/etc/etcd/tls/server")},
               "inputs": {"address": {"schema": {"type": "string", "format": "ipv4"}, "from": "node.address"},
                          "peer_url": {"schema": {"type": "string"}, "from": "etcd-identity.member.peer_url"},
                          "start": {"schema": types("start"), "from": "etcd-membership.start", "on_change": "ignore"},
                          "peer_tls": input("files", "peer-tls.files"), "server_tls": input("files", "server-tls.files"),
                          "trust": input("trust", "etcd-ca.trust"),
                          "data_dir": {"schema": types("path"), "default": "/var/lib/etcd/default"}},
               "outputs": {"client_url": {"schema": {"type": "string"}, "value": "https://{{ address }}:2379"},
                           "server_tls_files": {"schema": types("files"), "value": "{{ server_tls }}"}},
               "apply": [{"run": {"text": "true", "unless": "false"}}]}),
        json!({"role": "etcd-ready", "runs": "deployment", "at": "one etcd", "milestone": true, "apply": [],
               "inputs": {"endpoints": {"schema": {"type": "object"}, "from": "map etcd.client_url"},
                          "tls": input("files", "at etcd.server_tls_files"), "trust": input("trust", "etcd-ca.trust")},
               "outputs": {"endpoints": {"schema": {"type": "array"}, "value": "{{ endpoints }}"}}}),
    ]
}

fn fixture() -> Fixture {
    let workload = json!({
        "workload": "etcd-cluster",
        "parameters": {"type": "object", "additionalProperties": false,
                       "properties": {"data_dir": {"type": "string", "default": "/var/lib/etcd/default"}}},
        "groups": {"members": {"count": {"default": 3, "minimum": 1, "odd": true}}},
        "budgets": {"etcd": {"max_unavailable": 1, "quorum": true}},
        "roles": {"members": [{"etcd": {"with": {"data_dir": "{{ parameters.data_dir }}"}}}], "deployment": ["etcd-ready"]},
        "exports": {"endpoints": "etcd-ready.endpoints", "trust": "etcd-ca.trust"},
    });
    Fixture::new(catalog(tls().into_iter().chain(etcd()), [workload]), &[("members", 3)])
}

/// One line a role: name, parents with pairing.
fn print(graph: &Graph) -> String {
    let mut text = String::new();
    for name in &graph.order {
        let mut parents: Vec<String> = graph.roles[name]
            .parents
            .iter()
            .map(|edge| {
                let sign = match edge.pairing {
                    Pairing::Same => "",
                    Pairing::FromVirtual => "^",
                    Pairing::All => "*",
                    Pairing::Chosen => "?",
                };
                format!("{sign}{}", edge.parent)
            })
            .collect();
        parents.dedup();
        if parents.is_empty() {
            text.push_str(&format!("{name}\n"));
        } else {
            text.push_str(&format!("{name} <- {}\n", parents.join(", ")));
        }
    }
    text
}

#[test]
fn the_worked_bundle_compiles() {
    let compiled = fixture().compile().expect("compiles");
    insta::assert_snapshot!(print(&compiled.graph), @r"
    etcd-ca
    node-base
    etcd-account <- node-base
    etcd-identity <- node-base
    each etcd-identity.member <- *etcd-identity
    etcd-founding <- each etcd-identity.member
    etcd-membership <- ^etcd-founding, etcd-identity
    etcd-peer-tls-key <- etcd-account, node-base
    etcd-peer-tls-leaf <- etcd-account, ^etcd-ca, etcd-peer-tls-key
    etcd-peer-tls <- etcd-account, ^etcd-ca, etcd-peer-tls-key, etcd-peer-tls-leaf
    etcd-server-tls-key <- etcd-account, node-base
    etcd-server-tls-leaf <- etcd-account, ^etcd-ca, etcd-server-tls-key
    etcd-server-tls <- etcd-account, ^etcd-ca, etcd-server-tls-key, etcd-server-tls-leaf
    etcd <- ^etcd-ca, etcd-identity, etcd-membership, etcd-peer-tls, etcd-server-tls
    map etcd.client_url <- *etcd
    etcd-ready <- *etcd, etcd-ca, map etcd.client_url
    ");
    assert_eq!(compiled.warnings, []);
    let etcd = &compiled.graph.roles["etcd"];
    assert_eq!((etcd.timeout, &etcd.executor), (300, &Executor::Agent));
    assert_eq!(compiled.graph.roles["etcd-identity"].executor, Executor::Noop);
    assert_eq!(compiled.graph.exports["trust"], ("etcd-ca".to_owned(), "trust".to_owned()));
}

#[test]
fn uses_are_wired_through() {
    let graph = fixture().compile().expect("compiles").graph;
    let layers = |role: &str, input: &str| match &graph.roles[role].inputs[input].source {
        Source::Layers { base, .. } => base.clone().expect("a value"),
        other => panic!("{other:?}"),
    };
    let directory = layers("etcd-peer-tls-key", "directory");
    assert_eq!((directory.value, directory.layer), (json!("/etc/etcd/tls/peer"), Layer::Workload));
    assert_eq!(directory.by, "roles/etcd/role.yaml uses peer-tls");
    assert_eq!(layers("etcd-server-tls-key", "owner").value, json!("etcd"));
    assert_eq!(layers("etcd-ca", "common_name").by, "roles/etcd-ca/role.yaml");
    let source = |role: &str, input: &str| graph.roles[role].inputs[input].source.clone();
    assert!(matches!(source("etcd-peer-tls-leaf", "issuer"), Source::Output { role, .. } if role == "etcd-ca"));
    assert!(matches!(source("etcd-peer-tls-leaf", "names"), Source::Node { fact, .. } if fact == "names"));
    assert!(matches!(source("etcd-peer-tls-leaf", "csr"), Source::Output { role, .. } if role == "etcd-peer-tls-key"));
    let required = graph.roles["etcd-peer-tls"].parents.iter().any(|edge| edge.parent == "etcd-account");
    assert!(required, "a use's own `requires`");
}

#[test]
fn parameters_reach_inputs_and_set_beats_them() {
    let fixture = fixture().with(json!({
        "parameters": {"data_dir": "/srv/etcd"},
        "set": {"members": {"etcd-peer-tls.directory": "/elsewhere"}},
    }));
    let graph = fixture.compile().expect("compiles").graph;
    let Source::Layers { base, .. } = &graph.roles["etcd"].inputs["data_dir"].source else { panic!("layers") };
    let base = base.as_ref().expect("a value");
    assert_eq!(
        (&base.value, base.layer, base.by.as_str()),
        (&json!("/srv/etcd"), Layer::Workload, "workload etcd-cluster")
    );
    // What the user's input takes, the forwarded one takes too.
    let Source::Layers { groups, .. } = &graph.roles["etcd-peer-tls-key"].inputs["directory"].source else {
        panic!("layers")
    };
    assert_eq!(groups["members"].value, json!("/elsewhere"));
}
