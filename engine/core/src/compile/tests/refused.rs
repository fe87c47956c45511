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
    insta::assert_snapshot!(errors(&two(roles, json!({"a": ["x", "v"]}))), @r"
    error[cycle]: cycle: v -> z -> y -> x -> v: `v` precedes `z`, `y` reads `z.o` as `i`, `x` requires `y`, `v` requires `x`; expected an order: one of these edges must go
    ");
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
    let fixture =
        two(roles, bound).with(json!({"parameters": {"p": 1}, "set": {"nodes": {"x": {}}, "a": {"app.z": 1, "q": 2}}}));
    insta::assert_snapshot!(errors(&fixture), @r"
    error[unknown-parameter]: workload `w` has no parameter `p` (at /parameters/p); expected nothing: there is none
    error[unknown-input]: `app` has no input `z` (at /set/a/app.z); expected one of `far`, `none`, `other`, `typed`
    error[unknown-input]: `q` names no input (at /set/a/q); expected DEPLOYMENT-ROLE.INPUT
    error[unknown-node]: node `x` is not in this deployment (at /set/nodes/x)
    roles/app/role.yaml: error[no-supplier]: nobody binds `unbound`, which `each unbound.x` reads (at /inputs/far/from); expected a milestone that pulls it in, or an unscoped wire
    roles/app/role.yaml: error[no-source]: input `none` of `app` (bound by the workload on a) has no source on a (at /inputs/none); expected `with` or `from` where it is bound or used, `set: app.none`, or a default
    roles/app/role.yaml: error[unknown-output]: `base` has no output `nothing`, only `text` (at /inputs/other/from)
    roles/app/role.yaml: error[does-not-fit]: what `base.text` supplies does not fit input `typed` of `app`: it may be string, but only integer is taken (at /inputs/typed/from); expected what roles/app/role.yaml#/inputs/typed/schema says
    roles/app/role.yaml: error[unknown-role]: no role, interface or local name of `uses` is called `nobody` (at /requires/1)
    roles/app/role.yaml: error[ambiguous-provider]: `net` has more than one provider on `a` (required by app) (at /requires/2); expected `choose` one of `net-one`, `net-two`
    roles/net-two/role.yaml: error[conflict]: `net-two` conflicts with `base` on `a` (at /conflicts/0); expected one of the two on a node
    roles/net-two/role.yaml: error[two-providers]: `net-one` and `net-two` both provide `net` on `a` (at /provides); expected one provider on a node
    workloads/w/workload.yaml: error[not-a-milestone]: `base` is not a milestone (at /roles/a/3); expected a role with `milestone: true`
    workloads/w/workload.yaml: error[bound-twice]: `app` is bound twice on `a` (at /roles/a/4)
    workloads/w/workload.yaml: error[unknown-group]: no group `c` (at /roles/c); expected one of `a`, `b`, `deployment`
    ");
}

#[test]
fn a_role_of_the_deployment_can_not_read_one_of_nodes_without_saying_which() {
    let roles = [
        json!({"role": "all", "milestone": true, "runs": "deployment", "at": "engine", "driver": "d",
               "inputs": {"i": {"schema": {}, "from": "one-node.o"}, "n": {"schema": {}, "from": "node.name"}}}),
        json!({"role": "one-node", "milestone": true, "apply": [], "outputs": {"o": {"schema": string()}}}),
    ];
    insta::assert_snapshot!(errors(&two(roles, json!({"deployment": ["all"], "a": ["one-node"]}))), @r"
    roles/all/role.yaml: error[wrong-scope]: `all` runs once for the deployment, `one-node` on nodes: which one is meant? (at /inputs/i/from); expected `each`, `map` or `one`
    roles/all/role.yaml: error[wrong-scope]: `all` runs once for the deployment and has no node to read `node.name` of (at /inputs/n/from); expected `each` or `map`
    ");
}

#[test]
fn values_that_do_not_fit_name_their_layer() {
    let fixture = small().with(json!({"set": {"a": {"app.port": "x"}}}));
    insta::assert_snapshot!(errors(&fixture), @r"
    error[bad-value]: `app.port` can not be what deployment blue (group layer) says: the value is a string (at /set/a/app.port)
    ");
}
