//! What is done to deployments that run, on lab nodes: made anew.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::site::Site;

const KEEPER: [(&str, &str); 2] = [
    (
        "roles/keeper/role.yaml",
        "role: keeper
version: 1.0.0
about: A file that says who it is for, and data that a program writes.
runs: node
milestone: true
inputs:
  name: {schema: {type: string}, from: node.name}
  address: {schema: {type: string}, from: node.address}
  word: {schema: {type: string}, default: hello}
outputs:
  sentence: {schema: {type: string}, value: '{{ word }} from {{ name }}'}
  at: {schema: {type: string}, value: '{{ address }}'}
destroys: [/srv/keeper]
apply:
  - file: {path: /etc/keeper.conf, content: \"word = {{ word }}\\nname = {{ name }}\\n\", mode: '0640'}
  - run: {text: 'mkdir -p /srv/keeper; echo {{ word }} >/srv/keeper/data', unless: 'grep -qx {{ word }} /srv/keeper/data'}
check:
  - run: {text: 'test -s /srv/keeper/data', about: there is data}
",
    ),
    (
        "workloads/keepers/workload.yaml",
        "workload: keepers\nversion: 1.0.0\nabout: Keepers.\nparameters: {type: object, additionalProperties: false, properties: {word: {type: string, default: hello}}}\n\
         groups: {all: {count: {default: 1, minimum: 1}}}\nroles: {all: [{keeper: {with: {word: '{{ parameters.word }}'}}}]}\n",
    ),
];

fn keepers(count: u32, more: &str) -> String {
    format!("deployment: it\nworkload: keepers\nnodes: {{all: {{provider: lab, count: {count}}}}}\n{more}")
}

/// Digests of the files of all nodes, and outputs without what only tells which machine it is.
fn made(site: &Site, count: u32) -> BTreeMap<String, (String, Value)> {
    let mut all = BTreeMap::new();
    for node in (1..=count).map(|index| format!("it-all-{index}")) {
        let sums = site.ok(&["exec", &node, "--", "sha256sum", "/etc/keeper.conf", "/srv/keeper/data"]);
        let mut outputs = site.json(&["why", "it", &format!("{node}/keeper")])["outputs"].clone();
        outputs.as_object_mut().expect("outputs").remove("at");
        all.insert(node, (sums, outputs));
    }
    all
}

fn machine(site: &Site, node: &str) -> String {
    site.ok(&["exec", node, "--", "cat", "/etc/machine-id"])
}

#[test]
fn made_anew_twice_in_a_row_it_is_the_same() {
    let mut site = Site::new(&KEEPER);
    site.start();
    site.apply(&keepers(2, ""));
    site.until_active("it");
    let (before, mut last) = (made(&site, 2), machine(&site, "it-all-1"));
    for revision in [2, 3] {
        site.ok(&["redeploy", "it", "--yes", "--wait"]);
        let status = site.until_active("it");
        assert_eq!(status["deployment"]["revision"], revision);
        assert_eq!(made(&site, 2), before);
        let now = machine(&site, "it-all-1");
        assert_ne!(now, last, "another machine under the same name");
        last = now;
        let file = site.folder().join("applied.yaml").display().to_string();
        site.ok(&["plan", &file, "--detailed-exitcode"]);
    }
    let other = machine(&site, "it-all-1");
    site.ok(&["redeploy", "it", "--node", "it-all-2", "--yes", "--wait"]);
    assert_eq!((made(&site, 2), machine(&site, "it-all-1")), (before, other));
    let history = site.ok(&["history", "it"]);
    assert!(history.contains("redeployed it-all-2"), "{history}");
    assert_eq!(site.json(&["history", "it"]).as_array().map(Vec::len), Some(4));
}
