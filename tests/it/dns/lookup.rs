//! Who needs a name waits until the resolver of its own node finds it, whatever servers say to others.

use serde_json::Value;

use super::lab::{Address, RESOLVED_ROLE};
use super::{Named, start_bind};
use crate::site::Site;

const NAME: &str = "web.lab.plinth.internal";

const BUNDLE: [(&str, &str); 5] = [
    RESOLVED_ROLE,
    (
        "roles/web/role.yaml",
        "role: web\nversion: 1.0.0\nabout: Serves.\nruns: node\nmilestone: true\nrequires: [node-base]\n\
         inputs: {address: {schema: {type: string, format: ipv4}, from: node.address}}\n\
         outputs: {address: {schema: {type: string, format: ipv4}, value: '{{ address }}'}}\n",
    ),
    (
        "roles/site/role.yaml",
        "role: site\nversion: 1.0.0\nabout: Those who serve, by name.\nruns: deployment\nmilestone: true\n\
         uses: {name: {role: dns-service, from: {addresses: map web.address}, with: {name: web}}}\n\
         inputs: {fqdn: {schema: {$ref: types/domain}, from: name.fqdn}}\n\
         outputs: {fqdn: {schema: {$ref: types/domain}, value: '{{ fqdn }}'}}\n",
    ),
    (
        "roles/asker/role.yaml",
        "role: asker\nversion: 1.0.0\nabout: Needs the name from its beginning.\nruns: node\nmilestone: true\n\
         uses: {lookup: {role: dns-lookup, from: {name: site.fqdn, addresses: map web.address}, requires: [dns-resolver]}}\n\
         inputs: {name: {schema: {$ref: types/domain}, from: lookup.fqdn}}\n\
         apply:\n  - run: {text: 'getent ahostsv4 {{ name }} >/etc/asked', creates: /etc/asked}\n",
    ),
    (
        "workloads/asking/workload.yaml",
        "workload: asking\nversion: 1.0.0\nabout: Two that serve, and two that ask, one of them by systemd-resolved.\n\
         parameters: {type: object, properties: {servers: {type: array, items: {type: string, format: ipv4}, maxItems: 2}}}\n\
         groups: {serve: {count: {default: 2}}, with: {count: {default: 1}}, without: {count: {default: 1}}}\n\
         roles:\n  serve: [web]\n\
         \x20 with: [resolved, asker, {dns-resolver: {with: {servers: '{{ parameters.servers }}'}}}]\n\
         \x20 without: [asker, {dns-resolver: {with: {servers: '{{ parameters.servers }}'}}}]\n\
         \x20 deployment: [site, {dns-zone: {with: {ttl: 2}}}]\n",
    ),
];

const ASKERS: [&str; 2] = ["lab-with-1", "lab-without-1"];

fn document(serve: u32, at: &Address) -> String {
    format!(
        "deployment: lab\nworkload: asking\nparameters: {{servers: [{at}]}}\nnodes: {{serve: {{provider: lab, count: {serve}}}, \
         with: {{provider: lab, count: 1}}, without: {{provider: lab, count: 1}}}}\n"
    )
}

/// A server that has the zone too, and knows it better.
fn liar(folder: &std::path::Path, at: &Address) -> Named {
    let path = folder.display();
    let zone =
        format!("$TTL 2\n@ IN SOA ns hostmaster 1 3600 600 604800 2\n@ IN NS ns\nns IN A {at}\nweb IN A 192.0.2.7\n");
    std::fs::write(folder.join("zone"), zone).expect("a file");
    let conf = format!(
        "options {{ directory \"{path}\"; pid-file \"{path}/pid\"; session-keyfile \"{path}/session\"; recursion no; dnssec-validation no;\n\
         managed-keys-directory \"{path}\"; listen-on port 53 {{ {at}; }}; listen-on-v6 {{ none; }}; }};\ncontrols {{ }};\n\
         zone \"lab.plinth.internal\" {{ type primary; file \"{path}/zone\"; }};\n"
    );
    std::fs::write(folder.join("named.conf"), conf).expect("a file");
    start_bind(folder)
}

fn of<'a>(status: &'a Value, node: &str, role: &str) -> &'a Value {
    let mut all = status["node_roles"].as_array().expect("node roles").iter();
    all.find(|one| one["node"] == node && one["role"] == role).unwrap_or(&Value::Null)
}

fn address(status: &Value, node: &str) -> String {
    let mut all = status["nodes"].as_array().expect("nodes").iter();
    let found = all.find(|one| one["name"] == node).expect("a node");
    found["address"].as_str().expect("an address").to_owned()
}

/// Addresses as they are shown, in order of their numbers.
fn places(status: &Value, nodes: &[&str]) -> String {
    let mut all: Vec<std::net::Ipv4Addr> =
        nodes.iter().map(|node| address(status, node).parse().expect("an address")).collect();
    all.sort_unstable();
    all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[test]
fn a_node_waits_until_it_finds_a_name_itself_and_who_leaves_until_it_does_no_more() {
    let (at, wrong) = (Address::new(57), Address::new(58));
    let mut site = Site::new(&BUNDLE);
    let _liar = liar(&tempfile::tempdir_in(site.folder()).expect("a folder").keep(), &wrong);
    site.start_with(&["--dns", &at.server()]);
    let run = |node: &str, script: &str| site.ok(&["exec", node, "--", "bash", "-c", script]);

    // The engine answers it, so for the engine it is there; nodes ask somebody else.
    site.apply(&document(2, &wrong));
    let status = site
        .until("lab", "asking", |status| ASKERS.iter().all(|node| of(status, node, "asker-lookup")["saw"].is_string()));
    let both = places(&status, &["lab-serve-1", "lab-serve-2"]);
    assert_eq!(of(&status, "deployment", "site-name")["state"], "active");
    for node in ASKERS {
        let lookup = of(&status, node, "asker-lookup");
        assert_eq!(lookup["saw"], format!("{NAME} leads to 192.0.2.7 here, and should lead to {both}"));
        assert_eq!((&lookup["state"], &of(&status, node, "asker")["state"]), (&"running".into(), &"blocked".into()));
    }
    site.apply(&document(2, &at));
    let status = site.until_active("lab");
    for node in ASKERS {
        let asked = run(node, "cat /etc/asked");
        for server in ["lab-serve-1", "lab-serve-2"] {
            assert!(asked.contains(&address(&status, server)), "{node} began with {asked}");
        }
    }

    // What another hand writes here is what programs here find, and nobody else.
    let pin = |addresses: &str| {
        let line = |address: &str| format!("echo {address} {NAME} >>/etc/hosts");
        let lines: Vec<String> = addresses.split(", ").map(line).collect();
        run(ASKERS[1], &lines.join("; "));
    };
    let unpin = || run(ASKERS[1], &format!("sed '/ {NAME}$/d' /etc/hosts >/tmp/hosts; cat /tmp/hosts >/etc/hosts"));
    let verdict = || {
        let told = site.run(&["drift", "lab", "--node", ASKERS[1], "--role", "asker-lookup", "-o", "json"]);
        let drift: Value = serde_json::from_slice(&told.stdout).expect("JSON");
        drift["node_roles"][0]["verdict"].as_str().expect("a verdict").to_owned()
    };
    pin("192.0.2.8");
    assert_eq!(verdict(), "drifted");
    unpin();
    assert_eq!(verdict(), "conform");

    // One leaves. As long as it is found by one that asks, it stays.
    pin(&both);
    let stays = address(&status, "lab-serve-1");
    site.apply(&document(1, &at));
    let status = site.until("lab", "with a leaver", |status| of(status, ASKERS[1], "asker-lookup")["saw"].is_string());
    let saw = format!("{NAME} leads to {both} here, and should lead to {stays}");
    assert_eq!(of(&status, ASKERS[1], "asker-lookup")["saw"], saw);
    let status = site
        .until("lab", "with one that is through", |status| of(status, ASKERS[0], "asker-lookup")["state"] == "active");
    assert_eq!(of(&status, ASKERS[1], "asker-lookup")["state"], "running");
    let leaver = of(&status, "lab-serve-2", "web");
    assert_eq!((&leaver["goal"], &leaver["serving"]), (&"absent".into(), &true.into()));
    unpin();
    site.until("lab", "without the leaver", |status| {
        status["deployment"]["health"] == "active" && status["nodes"].as_array().is_some_and(|nodes| nodes.len() == 3)
    });
    site.ok(&["destroy", "lab", "--yes", "--wait"]);
}
