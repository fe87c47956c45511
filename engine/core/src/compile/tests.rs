//! Examples: what compiles to what, and what is said of that which does not.

mod bundle;
mod nodes;
mod properties;
mod refused;

use serde_json::json;

use crate::graph::{Pairing, Source, VIRTUAL, Why};
use crate::testing::{Fixture, catalog};
use crate::value::{Layer, Layered};

fn string() -> serde_json::Value {
    json!({"type": "string"})
}

/// `base` <- `app` (bound), which reads every `base` and sets a port.
fn small() -> Fixture {
    let roles = [
        json!({"role": "base", "apply": [], "outputs": {"url": {"schema": string(), "value": "{{ address }}"}},
               "inputs": {"address": {"schema": {"type": "string", "format": "ipv4"}, "from": "node.address"}}}),
        json!({"role": "app", "milestone": true, "requires": ["base"], "apply": [],
               "inputs": {"own": {"schema": string(), "from": "base.url"},
                          "all": {"schema": {"type": "object"}, "from": "map base.url"},
                          "list": {"schema": {"type": "array"}, "from": "each base.url"},
                          "port": {"schema": {"type": "integer"}, "default": 80}}}),
    ];
    let workload = json!({"workload": "w", "groups": {"a": {}, "b": {}}, "roles": {"a": ["app"], "b": ["app"]}});
    Fixture::new(catalog(roles, [workload]), &[("a", 2), ("b", 1)])
}

#[test]
fn what_is_needed_is_pulled_in_and_gathers_are_shared() {
    let graph = small().compile().expect("compiles").graph;
    assert_eq!(graph.order, ["base", "each base.url", "map base.url", "app"]);
    let app = &graph.roles["app"];
    assert_eq!(app.bound.iter().collect::<Vec<_>>(), ["a-1", "a-2", "b-1"]);
    assert_eq!(graph.roles["base"].because, "required by app");
    assert_eq!(app.because, "bound by the workload on a");
    let edges: Vec<(&str, Pairing)> = app.parents.iter().map(|edge| (edge.parent.as_str(), edge.pairing)).collect();
    let expected = [
        ("base", Pairing::Same),
        ("base", Pairing::Same),
        ("each base.url", Pairing::FromVirtual),
        ("map base.url", Pairing::FromVirtual),
    ];
    assert_eq!(edges, expected);
    assert!(app.parents.iter().any(|edge| edge.why == Why::Requires));
    assert_eq!(graph.roles["map base.url"].bound.iter().collect::<Vec<_>>(), [VIRTUAL]);
    assert_eq!(graph.roles["map base.url"].parents[0].pairing, Pairing::All);
    assert!(app.above.anywhere.contains("base") && app.above.same.is_empty());
    assert_eq!(graph.vertex_count(), 3 + 3 + 2);
}

#[test]
fn layers_are_kept_apart_and_the_strongest_is_found() {
    let mut fixture = small().with(json!({
        "set": {"a": {"app.port": 2}, "nodes": {"a-2": {"app.port": 3}}, "deployment": {"app.port": 1}},
        "profiles": ["p"],
    }));
    fixture.profiles.insert("p".to_owned(), json!({"app.port": 9}).as_object().expect("object").clone());
    let graph = fixture.compile().expect("compiles").graph;
    let Source::Layers { base, groups, nodes } = &graph.roles["app"].inputs["port"].source else { panic!("layers") };
    let layered =
        |value: u32, layer| Layered { value: json!(value), layer, by: "deployment blue".to_owned(), of: Vec::new() };
    assert_eq!(base.as_ref(), Some(&layered(1, Layer::Deployment)));
    assert_eq!(groups["a"], layered(2, Layer::Group));
    assert_eq!(nodes["a-2"], layered(3, Layer::Node));
}

#[test]
fn a_wired_input_takes_an_override_alone() {
    let mut fixture = small();
    fixture.overrides.insert("a-1".to_owned(), json!({"app.own": "x"}).as_object().expect("object").clone());
    let graph = fixture.compile().expect("compiles").graph;
    let input = &graph.roles["app"].inputs["own"];
    assert!(matches!(&input.source, Source::Output { role, .. } if role == "base"));
    assert_eq!(input.overrides["a-1"].layer, Layer::NodeRole);
    let errors = small().with(json!({"set": {"a": {"app.own": "x"}}})).compile().expect_err("refused");
    assert_eq!(errors[0].code, "wired-input");
}
