//! Pictures of a small graph.

use std::collections::BTreeMap;

use serde_json::json;

use super::{States, data, dot, layout, mermaid, svg};
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
    let state = |all: &[(&str, State)]| -> BTreeMap<String, State> {
        all.iter().map(|(node, state)| ((*node).to_owned(), *state)).collect()
    };
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
    insta::assert_snapshot!(dot(&graph, &states), @r##"
    digraph "blue" {
      rankdir=LR;
      node [fontname="sans-serif"];
      "base" [label="✕ base 1/2", shape=box, color="#dc2626"];
      "map base.url" [label="○ map base.url", shape=invtrapezium, color="#9ca3af"];
      "one base" [label="● one base", shape=diamond, color="#16a34a"];
      "app" [label="▶ app 0/2", shape=box, color="#2563eb"];
      "base" -> "map base.url" [label="members"];
      "base" -> "one base" [label="candidates", style=dashed];
      "base" -> "app" [label="own, requires, precedes, first"];
      "map base.url" -> "app" [label="all"];
      "one base" -> "app" [label="first"];
    }
    "##);
    insta::assert_snapshot!(mermaid(&graph, &states), @r##"
    flowchart LR
      r0["✕ base 1/2"]
      style r0 stroke:#dc2626
      r1[\"○ map base.url"/]
      style r1 stroke:#9ca3af
      r2{"● one base"}
      style r2 stroke:#16a34a
      r3["▶ app 0/2"]
      style r3 stroke:#2563eb
      r0 --> r1
      r0 -.-> r2
      r0 --> r3
      r1 --> r3
      r2 --> r3
    "##);
    let picture = svg(&graph, &states);
    assert!(picture.starts_with("<svg ") && picture.ends_with("</svg>\n"), "{picture}");
    assert_eq!(picture.matches("<g>").count(), graph.vertex_count());
    assert!(picture.contains("<title>g-2/base failed</title>"), "{picture}");
    assert_eq!(picture.matches("stroke-dasharray").count(), 2, "precedes, on two nodes");
}

#[test]
fn as_data() {
    let (graph, states) = graph();
    let data = data(&graph, &states);
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
