//! Pictures of a small graph.

use std::collections::BTreeMap;

use serde_json::json;

use super::{States, dot, json, layout, mermaid, svg};
use crate::graph::{Graph, VIRTUAL};
use crate::state::State;
use crate::testing::{Fixture, catalog, generate};

fn graph() -> (Graph, States) {
    let text = json!({"type": "string"});
    let roles = [
        json!({"role": "base", "precedes": ["app"], "apply": [], "outputs": {"url": {"schema": text}}}),
        json!({"role": "app", "milestone": true, "apply": [], "requires": ["base"],
               "inputs": {"own": {"schema": text, "from": "base.url"}, "all": {"schema": {}, "from": "map base.url"},
                          "first": {"schema": text, "from": "one base.url"}}}),
    ];
    let workload = json!({"workload": "w", "groups": {"g": {}}, "roles": {"g": ["app"]}});
    let graph = Fixture::new(catalog(roles, [workload]), &[("g", 2)]).compile().expect("compiles").graph;
    let state = |all: &[(&str, State)]| all.iter().map(|(node, state)| ((*node).to_owned(), *state)).collect();
    let states = BTreeMap::from([
        ("base".to_owned(), state(&[("g-1", State::Active), ("g-2", State::Failed)])),
        ("app".to_owned(), state(&[("g-1", State::Running), ("g-2", State::Blocked)])),
        ("one base".to_owned(), state(&[(VIRTUAL, State::Active)])),
    ]);
    (graph, states)
}

#[test]
fn as_dot_mermaid_and_svg() {
    let (graph, states) = graph();
    insta::assert_snapshot!("dot", dot(&graph, &states));
    insta::assert_snapshot!("mermaid", mermaid(&graph, &states));
    insta::assert_snapshot!("svg", svg(&graph, &states));
}

#[test]
fn as_data() {
    let (graph, states) = graph();
    let data = json(&graph, &states);
    assert_eq!(data["lanes"], json!(["deployment", "g-1", "g-2"]));
    let app = data["roles"].as_array().expect("roles").last().expect("app");
    assert_eq!((&app["name"], &app["rank"]), (&json!("app"), &json!(2)));
    assert_eq!(app["vertices"], json!({"g-1": "running", "g-2": "blocked"}));
}

#[test]
fn children_stand_right_of_their_parents() {
    for seed in 0..50 {
        let graph = generate(seed).compile().expect("compiles").graph;
        let layout = layout(&graph);
        assert_eq!(layout.lanes.len(), graph.nodes.len() + 1);
        for role in graph.roles.values() {
            assert!(layout.ranks[&role.name] < layout.columns);
            for edge in &role.parents {
                assert!(layout.ranks[&edge.parent] < layout.ranks[&role.name]);
            }
        }
    }
}
