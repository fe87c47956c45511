//! Names on lab nodes: their own resolvers ask the engine, as do others on this machine with `dig`.

use std::net::Ipv4Addr;
use std::process::Command;

use serde_json::json;

use crate::site::Site;

/// An address of this machine for a test alone, of a range for examples.
pub(crate) struct Address(Ipv4Addr);

impl Address {
    pub(crate) fn new(last: u8) -> Self {
        let address = Self(Ipv4Addr::new(198, 51, 100, last));
        address.ip("replace");
        address
    }

    /// Where resolvers ask.
    pub(crate) fn server(&self) -> String {
        format!("{}:53", self.0)
    }

    fn ip(&self, what: &str) {
        let address = format!("{}/32", self.0);
        let done = Command::new("ip").args(["address", what, &address, "dev", "lo"]).status().expect("ip");
        assert!(done.success() || what == "delete", "{what} {address}");
    }
}

impl Drop for Address {
    fn drop(&mut self) {
        self.ip("delete");
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// What `dig` says: the status, and the values.
fn dig(at: &Address, words: &[&str]) -> (String, Vec<String>) {
    let asked = Command::new("dig").arg(format!("@{at}")).args(["+tries=1", "+time=5"]).args(words).output();
    let text = String::from_utf8(asked.expect("tests/packages.sh installs it").stdout).expect("text");
    let status = text.split("status: ").nth(1).and_then(|rest| rest.split(',').next()).unwrap_or("none").to_owned();
    let answers =
        text.split(";; ANSWER SECTION:\n").nth(1).and_then(|rest| rest.split("\n\n").next()).unwrap_or_default();
    (status, answers.lines().filter_map(|line| line.split_whitespace().last().map(str::to_owned)).collect())
}

fn named(count: u32, at: &Address) -> String {
    format!(
        "deployment: lab\nworkload: named-nodes\nparameters: {{servers: [{at}]}}\n\
         nodes: {{members: {{provider: lab, count: {count}}}}}\n"
    )
}

#[test]
fn nodes_find_each_other_by_name_and_who_leaves_is_found_no_more() {
    let at = Address::new(53);
    let mut site = Site::new(&[]);
    let engine = site.start_with(&["--dns", &at.server()]);
    site.apply(&named(3, &at));
    let status = site.until_active("lab");
    let address = |node: &str| {
        let nodes = status["nodes"].as_array().expect("nodes");
        let found = nodes.iter().find(|found| found["name"] == node).expect("a node");
        found["address"].as_str().expect("an address").to_owned()
    };
    for node in ["lab-members-1", "lab-members-2", "lab-members-3"] {
        let (name, wanted) = (format!("{node}.lab.plinth.internal"), ("NOERROR".to_owned(), vec![address(node)]));
        assert_eq!(dig(&at, &[&name]), wanted);
        assert_eq!(dig(&at, &["+tcp", &name]), wanted);
        // From another node, by its own resolver.
        let other = if node == "lab-members-1" { "lab-members-2" } else { "lab-members-1" };
        let found = site.ok(&["exec", other, "--", "getent", "ahostsv4", &name]);
        assert!(found.contains(&address(node)), "{found}");
    }
    let zones = site.json(&["dns", "zones"]);
    assert_eq!(
        (&zones[0]["name"], &zones[0]["deployment"], &zones[0]["names"]),
        (&json!("lab.plinth.internal"), &json!("lab"), &json!(3))
    );
    let records = site.json(&["dns", "records", "lab.plinth.internal"]);
    assert_eq!(records.as_array().map(Vec::len), Some(3), "{records:#}");
    assert_eq!(
        (&records[0]["values"][0], &records[0]["node_role"]),
        (&json!(address("lab-members-1")), &json!("lab-members-1/dns-name"))
    );
    assert!(site.ok(&["dns", "records", "lab.plinth.internal"]).contains("lab-members-2.lab.plinth.internal"));
    assert!(site.fails(&["dns", "records", "other.internal"]).contains("unknown-zone"));
    // Whatever else there is, is asked of the servers of before.
    let kept = site.ok(&["exec", "lab-members-1", "--", "cat", "/etc/resolv.conf"]);
    assert!(kept.contains("# Those above are answered by Plinth."), "{kept}");
    for words in [&["+notcp", "AXFR", "lab.plinth.internal"][..], &["AXFR", "lab.plinth.internal"]] {
        assert!(!dig(&at, words).1.iter().any(|value| *value == address("lab-members-1")), "{words:?}");
    }
    assert_eq!(dig(&at, &["example.com"]).0, "REFUSED");

    // An engine that is killed answers again what it answered before.
    site.kill(engine);
    assert_eq!(dig(&at, &["lab-members-1.lab.plinth.internal"]).0, "none");
    site.start_with(&["--dns", &at.server()]);
    assert_eq!(
        dig(&at, &["lab-members-1.lab.plinth.internal"]),
        ("NOERROR".to_owned(), vec![address("lab-members-1")])
    );

    // A member leaves: its name is gone while its machine is still there.
    site.apply(&named(2, &at));
    let machine = site.data().join("lab/nodes/lab-members-3");
    site.until_so("without the name", || match dig(&at, &["lab-members-3.lab.plinth.internal"]).0 {
        code if code == "NXDOMAIN" => Ok(()),
        code => Err(code),
    });
    assert!(machine.exists(), "its machine went before its name");
    site.until_so("without the machine", || if machine.exists() { Err("it is there".to_owned()) } else { Ok(()) });
    site.until_active("lab");
    site.ok(&["destroy", "lab", "--yes", "--wait"]);
    assert_eq!(dig(&at, &["lab-members-1.lab.plinth.internal"]).0, "REFUSED");
}

/// Debian's systemd-resolved, which the lab's machines come without.
pub(crate) const RESOLVED_ROLE: (&str, &str) = (
    "roles/resolved/role.yaml",
    "role: resolved\nversion: 1.0.0\nabout: systemd-resolved answers for the node.\nruns: node\nmilestone: true\n\
     precedes: [dns-resolver]\nrequires: [node-base]\nsupports: {os: [debian-12], arch: [amd64]}\napply:\n\
     \x20 - package: {names: [systemd-resolved]}\n\
     \x20 - run:\n\
     \x20     text: |\n\
     \x20       systemctl unmask systemd-resolved.service\n\
     \x20       systemctl restart systemd-resolved.service\n\
     \x20     unless: systemctl is-active --quiet systemd-resolved.service\n",
);

const RESOLVED: [(&str, &str); 3] = [
    RESOLVED_ROLE,
    (
        "workloads/resolved/workload.yaml",
        "workload: resolved\nversion: 1.0.0\nabout: One node with systemd-resolved, and one without.\n\
         parameters: {type: object, properties: {servers: {type: array, items: {type: string, format: ipv4}, maxItems: 2}}}\n\
         groups: {with: {count: {default: 1}}, without: {count: {default: 1}}}\n\
         roles:\n  with: [resolved, dns-name, {dns-resolver: {with: {servers: '{{ parameters.servers }}'}}}]\n\
         \x20 without: [dns-name, {dns-resolver: {with: {servers: '{{ parameters.servers }}'}}}]\n\
         \x20 deployment: [{dns-zone: {with: {subnets: [192.0.2.0/24]}}}]\n",
    ),
    (
        "workloads/untold/workload.yaml",
        "workload: untold\nversion: 1.0.0\nabout: The same without resolvers.\n\
         groups: {with: {count: {default: 1}}, without: {count: {default: 1}}}\n\
         roles: {with: [resolved, dns-name], without: [dns-name], deployment: [dns-zone]}\n",
    ),
];

#[test]
fn a_node_with_systemd_resolved_asks_by_it_for_names_of_the_deployment_alone() {
    let at = Address::new(54);
    let mut site = Site::new(&RESOLVED);
    site.start_with(&["--dns", &at.server()]);
    let document = |servers: &str| {
        format!(
            "deployment: both\nworkload: resolved\nparameters: {{servers: [{servers}]}}\n\
             nodes: {{with: {{provider: lab, count: 1}}, without: {{provider: lab, count: 1}}}}\n"
        )
    };
    site.apply(&document(&at.to_string()));
    let status = site.until_active("both");
    let address = |node: &str| {
        let mut nodes = status["nodes"].as_array().expect("nodes").iter();
        let found = nodes.find(|found| found["name"] == node).expect("a node");
        found["address"].as_str().expect("an address").to_owned()
    };
    let run = |node: &str, script: &str| site.ok(&["exec", node, "--", "bash", "-c", script]);
    let (with, without) = ("both-with-1", "both-without-1");
    for (node, other) in [(with, without), (without, with)] {
        let found = run(node, &format!("getent ahostsv4 {other}.both.plinth.internal"));
        assert!(found.contains(&address(other)), "{node}: {found}");
    }
    // It is systemd-resolved that found it, and it was told of no other names.
    let found = run(with, &format!("resolvectl query --cache=no {without}.both.plinth.internal"));
    assert!(found.contains(&address(without)), "{found}");
    let told = run(
        with,
        "resolvectl domain; resolvectl dns; readlink -f /etc/resolv.conf; cat /etc/systemd/resolved.conf.d/plinth.conf",
    );
    for line in [
        "~both.plinth.internal",
        "~2.0.192.in-addr.arpa",
        &format!("Global: {at}"),
        "/run/systemd/resolve/stub-resolv.conf",
    ] {
        assert!(told.contains(line), "{line}: {told}");
    }
    let plain = run(without, "cat /etc/resolv.conf; ls /etc/systemd/resolved.conf.d 2>&1 || true");
    assert!(plain.contains(&format!("nameserver {at}\n")) && !plain.contains("plinth.conf"), "{plain}");
    // A second look changes nothing, and another server is told to it.
    let before = run(with, "systemctl show --property=ActiveEnterTimestampMonotonic systemd-resolved.service");
    let drift = site.json(&["drift", "both", "--node", with, "--role", "dns-resolver"]);
    assert_eq!(drift["node_roles"][0]["verdict"], "conform", "{drift:#}");
    assert_eq!(run(with, "systemctl show --property=ActiveEnterTimestampMonotonic systemd-resolved.service"), before);
    let two = format!("{at}, 192.0.2.1");
    site.apply(&document(&two));
    site.until_active("both");
    let told = run(with, "resolvectl dns");
    assert!(told.contains(&format!("Global: {at} 192.0.2.1")), "{told}");
    // Without the role all is as it was before.
    site.apply(
        "deployment: both\nworkload: untold\n\
         nodes: {with: {provider: lab, count: 1}, without: {provider: lab, count: 1}}\n",
    );
    site.until_so("taken back", || {
        let status = site.json(&["status", "both"]);
        let mut all = status["node_roles"].as_array().expect("node roles").iter();
        if all.any(|one| one["role"] == "dns-resolver") { Err(status.to_string()) } else { Ok(()) }
    });
    let told = run(with, "resolvectl domain; ls /etc/systemd");
    assert!(!told.contains('~') && !told.contains("resolved.conf.d"), "{told}");
    let plain = run(without, "cat /etc/resolv.conf");
    assert!(!plain.contains(&at.to_string()), "{plain}");
    site.ok(&["destroy", "both", "--yes", "--wait"]);
}
