//! What may happen to a node, its connection and its engines while a job runs, on lab nodes. Each job counts its steps on
//! the node, so that a step done twice is seen.

use std::time::{Duration, Instant};

use crate::site::{LIMIT, Site};

const COUNTING: [(&str, &str); 2] = [
    (
        "roles/counting/role.yaml",
        "role: counting
version: 1.0.0
about: Says on the node how often each of its steps was done.
runs: node
milestone: true
inputs:
  seconds: {schema: {type: integer}, default: 8}
  reboots: {schema: {type: boolean}, default: false}
  plain: {schema: {type: boolean}, default: false}
timeout: 5m
apply:
  - run: {text: 'echo one >>/var/lib/count', creates: /var/lib/never-there}
  - run: {text: 'sleep {{ seconds }}; echo two >>/var/lib/count', creates: /var/lib/never-there}
    when: not plain
  - run: {text: 'sleep {{ seconds }}; echo two >>/var/lib/count'}
    when: plain
  - reboot: {within: 90s}
    when: reboots
  - run: {text: 'echo three >>/var/lib/count', creates: /var/lib/never-there}
",
    ),
    (
        "workloads/counting/workload.yaml",
        "workload: counting\nversion: 1.0.0\nabout: Counts.\nparameters: {type: object, additionalProperties: false, properties: {seconds: {type: integer, default: 8}, reboots: {type: boolean, default: false}, plain: {type: boolean, default: false}}}\n\
         groups: {all: {count: {default: 1, minimum: 1}}}\n\
         roles: {all: [{counting: {with: {seconds: '{{ parameters.seconds }}', reboots: '{{ parameters.reboots }}', plain: '{{ parameters.plain }}'}}}]}\n",
    ),
];

fn site() -> Site {
    Site::new(&COUNTING)
}

fn apply(site: &Site, parameters: &str) {
    site.apply(&format!(
        "deployment: it\nworkload: counting\nnodes: {{all: {{provider: lab, count: 1}}}}\nparameters: {parameters}\n"
    ));
}

/// Until the step that takes time has begun.
fn until_busy(site: &Site) {
    site.until("it", "in step 2", |status| {
        status["node_roles"][0]["progress"]["step"].as_u64() == Some(2) && status["node_roles"][0]["state"] == "running"
    });
}

fn assert_once(site: &Site) {
    let count = site.ok(&["exec", "it-all-1", "--", "cat", "/var/lib/count"]);
    let words: Vec<&str> = count.lines().map(|line| line.rsplit(' ').next().unwrap_or_default()).collect();
    assert_eq!(words, ["one", "two", "three"], "each step once");
    let why = site.json(&["why", "it", "it-all-1/counting"]);
    assert_eq!(why["jobs"].as_array().map(Vec::len), Some(1), "one attempt: {why:#}");
}

#[test]
fn a_killed_engine_finds_its_job_again_and_no_step_is_done_twice() {
    let mut site = site();
    let engine = site.start();
    apply(&site, "{seconds: 8}");
    until_busy(&site);
    site.kill(engine);
    site.start();
    site.until_active("it");
    assert_once(&site);
    // And then everything goes, twice if need be.
    site.ok(&["destroy", "it", "--yes", "--wait"]);
    assert_eq!(site.ok(&["node", "list", "-o", "name"]).trim(), "");
    assert!(!site.data().join("lab/nodes/it-all-1").exists(), "nothing is left of the machine");
}

#[test]
fn a_cut_connection_and_a_reboot_repeat_nothing() {
    let mut site = site();
    site.start();
    apply(&site, "{seconds: 6, reboots: true}");
    until_busy(&site);
    // Every session of the node's sshd ends, ours too.
    let _ = site.run(&["exec", "it-all-1", "--", "pkill", "-KILL", "-f", "^sshd: "]);
    site.until_active("it");
    assert_once(&site);
}

#[test]
fn a_second_engine_takes_over_from_one_that_stands_still() {
    let mut site = site();
    let first = site.start();
    apply(&site, "{seconds: 25}");
    until_busy(&site);
    site.signal(first, "-STOP");
    site.start();
    site.until_active("it");
    site.signal(first, "-CONT");
    // It finds that its lease is lost, and begins anew.
    let end = Instant::now() + LIMIT;
    while !site.log().contains("the lease was lost") {
        assert!(Instant::now() < end, "the first engine did not notice:\n{}", site.log());
        std::thread::sleep(Duration::from_millis(100));
    }
    site.until_active("it");
    assert_once(&site);
}

#[test]
fn a_node_that_dies_in_a_plain_step_leaves_the_outcome_unknown_until_a_person_retries() {
    let mut site = site();
    site.start();
    apply(&site, "{seconds: 20, plain: true}");
    site.until("it", "in the plain step", |status| status["node_roles"][0]["progress"]["step"].as_u64() == Some(3));
    // As if the plug was pulled; the machine comes back by itself.
    let _ = site.run(&["exec", "it-all-1", "--timeout", "5s", "--", "systemctl", "reboot", "--force", "--force"]);
    let status = site.until("it", "failed", |status| status["deployment"]["counts"]["failed"] == 1);
    assert_eq!(status["node_roles"][0]["code"], "outcome-unknown", "{status:#}");
    site.ok(&["retry", "it"]);
    site.until_active("it");
}
