//! What is refused, and in which words.

use serde_json::{Value, json};

use super::{small, string};
use crate::testing::{Fixture, catalog};

fn errors(fixture: &Fixture) -> String {
    let found = fixture.compile().expect_err("refused");
    found.iter().map(|diagnostic| format!("{diagnostic}\n")).collect()
}

fn two(roles: impl IntoIterator<Item = Value>, bound: Value) -> Fixture {
    let workload = json!({"workload": "w", "groups": {"a": {}, "b": {}}, "roles": bound});
    Fixture::new(catalog(roles, [workload]), &[("a", 1), ("b", 1)])
}

#[test]
fn a_cycle_is_printed_whole_soft_edges_included() {
    let roles = [
        json!({"role": "x", "milestone": true, "requires": ["y"], "apply": []}),
        json!({"role": "y", "apply": [], "inputs": {"i": {"schema": {}, "from": "z.o"}}}),
        json!({"role": "z", "apply": [], "outputs": {"o": {"schema": string()}}}),
        json!({"role": "v", "milestone": true, "requires": ["x"], "precedes": ["z"], "apply": []}),
    ];
    insta::assert_snapshot!(errors(&two(roles, json!({"a": ["x", "v"]}))));
}

#[test]
fn all_problems_come_at_once() {
    let roles = [
        json!({"role": "app", "milestone": true, "requires": ["base", "nobody", "net"], "apply": [],
               "inputs": {"none": {"schema": string()}, "typed": {"schema": {"type": "integer"}, "from": "base.text"},
                          "other": {"schema": string(), "from": "base.nothing"},
                          "far": {"schema": {}, "from": "each unbound.x"}}}),
        json!({"role": "base", "apply": [], "outputs": {"text": {"schema": string()}}}),
        json!({"role": "unbound", "apply": [], "outputs": {"x": {"schema": string()}}}),
        json!({"role": "net-one", "milestone": true, "provides": ["net"], "apply": []}),
        json!({"role": "net-two", "milestone": true, "provides": ["net"], "conflicts": ["base"], "apply": []}),
    ];
    let bound = json!({"a": ["app", "net-one", "net-two", "base", {"app": {"with": {"zz": 1}}}], "c": ["app"]});
    let fixture = two(roles, bound).with(json!({"parameters": {"p": 1}, "set": {"nodes": {"x": {}}, "a": {"app.z": 1, "q": 2}}}));
    insta::assert_snapshot!(errors(&fixture));
}

#[test]
fn a_role_of_the_deployment_can_not_read_one_of_nodes_without_saying_which() {
    let roles = [
        json!({"role": "all", "milestone": true, "runs": "deployment", "at": "engine", "driver": "d",
               "inputs": {"i": {"schema": {}, "from": "one-node.o"}, "n": {"schema": {}, "from": "node.name"}}}),
        json!({"role": "one-node", "milestone": true, "apply": [], "outputs": {"o": {"schema": string()}}}),
    ];
    insta::assert_snapshot!(errors(&two(roles, json!({"deployment": ["all"], "a": ["one-node"]}))));
}

#[test]
fn values_that_do_not_fit_name_their_layer() {
    let fixture = small().with(json!({"set": {"a": {"app.port": "x"}}}));
    insta::assert_snapshot!(errors(&fixture));
}
