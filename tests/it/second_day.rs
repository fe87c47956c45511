//! What is done to deployments that run, on lab nodes: made anew, taken away without a trace, kept as they were made.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::site::Site;

const KEEPER: [(&str, &str); 3] = [
    (
        "roles/ground/role.yaml",
        "role: ground
version: 1.0.0
about: Stands below; its removal, which comes last, may write where nothing is to be any more.
runs: node
milestone: true
inputs:
  plants: {schema: {type: boolean}, default: false}
apply:
  - run: {text: 'true', unless: 'true'}
remove:
  - run: {text: 'mkdir -p /srv/keeper; echo x >/srv/keeper/planted'}
    when: plants
",
    ),
    (
        "roles/keeper/role.yaml",
        "role: keeper
version: 1.0.0
about: A file that says who it is for, and data that a program writes.
runs: node
milestone: true
requires: [ground]
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
        "workload: keepers\nversion: 1.0.0\nabout: Keepers.\nparameters: {type: object, additionalProperties: false, properties: {word: {type: string, default: hello}, plants: {type: boolean, default: false}}}\n\
         groups: {all: {count: {default: 1, minimum: 1}}}\nroles: {all: [{ground: {with: {plants: '{{ parameters.plants }}'}}}, {keeper: {with: {word: '{{ parameters.word }}'}}}]}\n",
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

#[test]
fn a_destroyed_deployment_leaves_nothing_and_a_planted_leftover_is_found() {
    let mut site = Site::new(&KEEPER);
    site.start();
    site.apply(&keepers(1, ""));
    site.until_active("it");
    let told = site.run(&["destroy", "it", "--yes", "--wait"]);
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    assert!(String::from_utf8_lossy(&told.stderr).contains("it: no residue"));
    assert!(site.ok(&["residue", "it"]).contains("no residue"));

    site.apply(&keepers(1, "parameters: {plants: true}\n"));
    site.until("it", "active again", |status| {
        status["deployment"]["health"] == "active" && status["deployment"]["revision"] == 3
    });
    let node = site.json(&["status", "it"])["nodes"][0]["name"].as_str().expect("a node").to_owned();
    let told = site.run(&["destroy", "it", "--yes", "--wait"]);
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    let said = String::from_utf8_lossy(&told.stderr);
    assert!(said.contains("path:/srv/keeper"), "it is said at the end: {said}");
    // It is known when everything else is gone.
    let left = site.run(&["residue", "it", "-o", "json"]);
    assert_eq!(left.status.code(), Some(1));
    let left: Value = serde_json::from_slice(&left.stdout).expect("JSON");
    let all = left.as_array().expect("a list");
    assert!(
        !all.is_empty() && all.iter().all(|one| one["node"] == node.as_str() && one["role"] == "keeper"),
        "{left:#}"
    );
    let things: Vec<&Value> = all.iter().flat_map(|one| one["things"].as_array().expect("things")).collect();
    assert_eq!(things, ["path:/srv/keeper"], "told once: {left:#}");
    assert!(!site.json(&["status", "it"]).is_null() || site.status("it").is_none());
}

#[test]
fn what_was_changed_by_hand_is_shown_and_repaired_if_that_is_wanted() {
    let mut site = Site::new(&KEEPER);
    site.start();
    site.apply(&keepers(1, ""));
    site.until_active("it");
    assert_eq!(site.json(&["drift", "it"])["node_roles"][0]["verdict"], "conform");
    let jobs = |site: &Site| site.json(&["why", "it", "it-all-1/keeper"])["jobs"].as_array().map(Vec::len);
    let sums = made(&site, 1);
    // What a change would do there is told by the node, and not done.
    let file = site.write("other.yaml", &keepers(1, "parameters: {word: bye}\n"));
    let told = site.ok(&["plan", &file, "--dry-run"]);
    for line in
        ["it-all-1/keeper\n", "/etc/keeper.conf", "-word = hello", "+word = bye", " name = it-all-1", "would run"]
    {
        assert!(told.contains(line), "no `{line}` in {told}");
    }
    assert!(!told.contains("it-all-1/ground"), "it does not run again: {told}");
    assert_eq!((made(&site, 1), jobs(&site)), (sums.clone(), Some(2)), "nothing was done");
    site.ok(&["exec", "it-all-1", "--", "sed", "-i", "s/hello/by hand/", "/etc/keeper.conf"]);
    let told = site.run(&["drift", "it"]);
    assert_eq!(told.status.code(), Some(1));
    let text = String::from_utf8_lossy(&told.stdout).into_owned();
    for line in ["drifted", "/etc/keeper.conf", "-word = by hand", "+word = hello"] {
        assert!(text.contains(line), "no `{line}` in {text}");
    }
    assert_ne!(made(&site, 1), sums, "it is only told");
    assert_eq!(jobs(&site), Some(3), "an apply and two checks");
    // The same with a policy that repairs; a probe that fails is drift, too.
    site.apply(&keepers(1, "check: {on_drift: repair}\n"));
    site.ok(&["exec", "it-all-1", "--", "truncate", "--size=0", "/srv/keeper/data"]);
    let told = site.run(&["drift", "it"]);
    assert_eq!(told.status.code(), Some(1), "{}", String::from_utf8_lossy(&told.stdout));
    site.until_so("repaired and looked at again", || {
        let report = site.run(&["drift", "it", "--last", "-o", "json"]);
        let report: Value = serde_json::from_slice(&report.stdout).map_err(|error| error.to_string())?;
        let one = &report["node_roles"][0];
        if one["verdict"] == "conform" && one["pending"] == false { Ok(()) } else { Err(format!("{report:#}")) }
    });
    site.until_active("it");
    assert_eq!(made(&site, 1), sums);
}
