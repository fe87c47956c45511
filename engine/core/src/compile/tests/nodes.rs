//! Binding of nodes.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::compile::bind::{BindInput, Bindings, ExistingNode, Selecting, bind_nodes};
use crate::diagnostic::Diagnostic;
use crate::graph::GraphNode;

fn bind(nodes: Value, existing: &BTreeMap<String, ExistingNode>, highest: u32) -> Result<Bindings, Vec<Diagnostic>> {
    let document =
        serde_json::from_value(json!({"deployment": "blue", "workload": "w", "nodes": nodes})).expect("document");
    let workload = serde_json::from_value(json!({
        "workload": "w", "version": "1.0.0",
        "groups": {"m": {"count": {"default": 3, "minimum": 1, "maximum": 5, "odd": true}}, "n": {}},
    }));
    let workload = workload.expect("workload");
    let highest = BTreeMap::from([("m".to_owned(), highest)]);
    let selecting = Selecting::Anew;
    bind_nodes(&BindInput { document: &document, workload: &workload, existing, highest: &highest, selecting })
}

fn node(facts: Value, used_by: Option<(&str, &str)>, created: bool) -> ExistingNode {
    let used_by = used_by.map(|(deployment, group)| (deployment.to_owned(), group.to_owned()));
    ExistingNode { facts: facts.as_object().expect("facts").clone(), used_by, created, lost: false }
}

fn codes(result: Result<Bindings, Vec<Diagnostic>>) -> Vec<String> {
    result.expect_err("refused").into_iter().map(|diagnostic| diagnostic.code).collect()
}

#[test]
fn created_nodes_keep_their_names_and_no_index_is_used_twice() {
    let first = bind(json!({"m": {"provider": "lab"}}), &BTreeMap::new(), 0).expect("binds");
    assert_eq!(first.groups["m"].create, ["blue-m-1", "blue-m-2", "blue-m-3"]);
    // One was destroyed since, and the count grew.
    let existing: BTreeMap<_, _> =
        ["blue-m-1", "blue-m-3"].map(|name| (name.to_owned(), node(json!({}), Some(("blue", "m")), true))).into();
    let grown = bind(json!({"m": {"provider": "lab", "count": 3}}), &existing, 4).expect("binds");
    assert_eq!(grown.groups["m"].existing, ["blue-m-1", "blue-m-3"]);
    assert_eq!((grown.groups["m"].create.as_slice(), grown.groups["m"].highest), (&["blue-m-5".to_owned()][..], 5));
    let shrunk = bind(json!({"m": {"provider": "lab", "count": 1}}), &existing, 4).expect("binds");
    assert_eq!((shrunk.groups["m"].existing.as_slice(), shrunk.groups["m"].highest), (&["blue-m-1".to_owned()][..], 4));
}

#[test]
fn a_selection_keeps_its_nodes_and_takes_free_ones_by_name() {
    let existing = BTreeMap::from([
        ("n1".to_owned(), node(json!({"rack": 7, "cpus": 16}), None, false)),
        ("n2".to_owned(), node(json!({"rack": 7, "cpus": 4}), None, false)),
        ("n3".to_owned(), node(json!({"rack": 7, "cpus": 8}), Some(("red", "m")), false)),
        ("n4".to_owned(), node(json!({"rack": 7, "cpus": 8}), Some(("blue", "m")), false)),
        ("n5".to_owned(), node(json!({"cpus": 8}), None, false)),
    ]);
    let select = |count: u32| json!({"m": {"select": "rack = 7 and cpus >= 8", "count": count}});
    assert_eq!(bind(select(1), &existing, 0).expect("binds").groups["m"].existing, ["n4"]);
    assert_eq!(codes(bind(select(3), &existing, 0)), ["even-count", "too-few-nodes"]);
    assert_eq!(codes(bind(json!({"m": {"select": "rack = ("}}), &existing, 0)), ["too-few-nodes", "bad-select"]);
}

#[test]
fn nodes_that_can_not_be_bound_are_all_named() {
    let existing = BTreeMap::from([
        ("n1".to_owned(), node(json!({}), None, false)),
        ("n2".to_owned(), node(json!({}), Some(("red", "m")), false)),
    ]);
    let nodes = json!({"m": ["n1", "n1", "n2", "n9"], "n": ["n1"], "zz": []});
    let found = codes(bind(nodes, &existing, 0));
    assert_eq!(found, ["duplicate-node", "node-in-use", "unknown-node", "node-in-two-groups", "unknown-group"]);
    assert_eq!(codes(bind(json!({}), &existing, 0)), ["too-few-nodes"]);
    assert_eq!(codes(bind(json!({"m": {"provider": "lab", "count": 7}}), &existing, 0)), ["too-many-nodes"]);
}

#[test]
fn nodes_join_groups_that_want_it_and_whoever_is_there_stays() {
    let rack = |rack: u32| json!({"rack": rack});
    let existing = BTreeMap::from([
        ("a".to_owned(), node(rack(7), Some(("blue", "m")), false)),
        ("moved".to_owned(), node(rack(8), Some(("blue", "m")), false)),
        ("free-1".to_owned(), node(rack(7), None, false)),
        ("free-2".to_owned(), node(rack(7), None, false)),
        ("free-3".to_owned(), node(rack(7), None, false)),
        ("elsewhere".to_owned(), node(rack(7), Some(("green", "m")), false)),
        ("other".to_owned(), node(rack(8), None, false)),
    ]);
    let groups = |count: Option<u32>, join: bool| {
        let mut nodes = json!({"n": {"select": "rack = 7", "join": join}});
        if let Some(count) = count {
            nodes["n"]["count"] = json!(count);
        }
        let document = serde_json::from_value(json!({"deployment": "blue", "workload": "w", "nodes": nodes}));
        let workload =
            json!({"workload": "w", "version": "1.0.0", "groups": {"n": {"count": {"default": 1, "maximum": 4}}}});
        (document.expect("a document"), serde_json::from_value(workload).expect("a workload"))
    };
    let committed: BTreeMap<String, GraphNode> =
        ["a", "moved", "lost"].map(|name| (name.to_owned(), GraphNode { group: "n".to_owned() })).into();
    let mut existing = existing;
    for name in ["a", "moved"] {
        existing.get_mut(name).expect("a node").used_by = Some(("blue".to_owned(), "n".to_owned()));
    }
    let highest = BTreeMap::new();
    let bound = |count: Option<u32>, join: bool, selecting: Selecting<'_>| {
        let (document, workload) = groups(count, join);
        let input =
            BindInput { document: &document, workload: &workload, existing: &existing, highest: &highest, selecting };
        bind_nodes(&input).expect("binds").groups["n"].existing.join(" ")
    };
    let free = ["elsewhere", "free-1", "free-3", "other"].map(str::to_owned).into();
    let nobody = BTreeSet::new();
    assert_eq!(bound(None, true, Selecting::AsCommitted(&committed)), "a lost moved");
    assert_eq!(bound(None, true, Selecting::Joining(&committed, &free)), "a free-1 free-3 moved");
    assert_eq!(bound(Some(3), true, Selecting::Joining(&committed, &free)), "a free-1 moved", "no more than said");
    assert_eq!(bound(Some(1), true, Selecting::Joining(&committed, &free)), "a moved", "nobody goes");
    assert_eq!(bound(None, true, Selecting::Joining(&committed, &nobody)), "a moved");
    assert_eq!(bound(None, false, Selecting::Joining(&committed, &free)), "a moved", "it does not want it");
    // A person's apply looks who matches now: as many as the workload bears, those first that are there.
    assert_eq!(bound(None, true, Selecting::Anew), "a free-1 free-2 free-3");
    assert_eq!(bound(Some(2), true, Selecting::Anew), "a free-1");
    assert_eq!(bound(None, false, Selecting::Anew), "a", "the default of the group");
}
