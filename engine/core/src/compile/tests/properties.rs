//! What holds for every deployment that compiles.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use crate::compile::CompileNode;
use crate::graph::{Graph, Kind, Pairing, Source, VIRTUAL};
use crate::testing::{Dice, generate};

type Vertex<'g> = (&'g str, &'g str);

/// Some choice for every chooser.
fn choices<'g>(graph: &'g Graph, dice: &mut Dice) -> BTreeMap<&'g str, &'g str> {
    let mut choices = BTreeMap::new();
    for role in graph.roles.values() {
        if let Kind::Chooser { of, group } = &role.kind {
            let all: Vec<&str> = graph.roles[of]
                .bound
                .iter()
                .filter(|node| group.as_ref().is_none_or(|group| graph.nodes[*node].group == *group))
                .map(String::as_str)
                .collect();
            if let Some(choice) = dice.pick(&all) {
                choices.insert(role.name.as_str(), *choice);
            }
        }
    }
    choices
}

/// Direct parents of a vertex on the expanded graph.
fn parents<'g>(graph: &'g Graph, vertex: Vertex<'g>, choices: &BTreeMap<&'g str, &'g str>) -> Vec<Vertex<'g>> {
    let role = &graph.roles[vertex.0];
    let mut found = Vec::new();
    for edge in role.parents.iter().filter(|edge| !edge.is_soft()) {
        let parent = &graph.roles[&edge.parent];
        let nodes: Vec<&str> = match edge.pairing {
            Pairing::Same => vec![vertex.1],
            Pairing::FromVirtual => vec![VIRTUAL],
            Pairing::All => parent.bound.iter().map(String::as_str).collect(),
            Pairing::Chosen => {
                let crate::graph::Why::Data { input, .. } = &edge.why else { panic!("a choice is data") };
                let Source::Chosen { helper, .. } = &role.inputs[input].source else { panic!("a chooser") };
                choices.get(helper.as_str()).copied().into_iter().collect()
            }
        };
        let in_group = |node: &str| match &role.kind {
            Kind::Gather { group: Some(group), .. } => graph.nodes[node].group == *group,
            _ => true,
        };
        found.extend(
            nodes
                .into_iter()
                .filter(|node| parent.bound.contains(*node) && in_group(node))
                .map(|node| (parent.name.as_str(), node)),
        );
    }
    found
}

fn brute_force<'g>(graph: &'g Graph, vertex: Vertex<'g>, choices: &BTreeMap<&'g str, &'g str>) -> BTreeSet<Vertex<'g>> {
    let mut above = BTreeSet::new();
    let mut queue = vec![vertex];
    while let Some(at) = queue.pop() {
        queue.extend(parents(graph, at, choices).into_iter().filter(|parent| above.insert(*parent)));
    }
    above
}

fn by_keys<'g>(graph: &'g Graph, vertex: Vertex<'g>, choices: &BTreeMap<&'g str, &'g str>) -> BTreeSet<Vertex<'g>> {
    let keys = &graph.roles[vertex.0].above;
    let mut above: BTreeSet<Vertex> = keys.same.iter().map(|role| (role.as_str(), vertex.1)).collect();
    for role in &keys.anywhere {
        let nodes = graph.roles[role]
            .bound
            .iter()
            .filter(|node| keys.within.get(role).is_none_or(|groups| groups.contains(&graph.nodes[*node].group)));
        above.extend(nodes.map(|node| (role.as_str(), node.as_str())));
    }
    for (chooser, roles) in &keys.chosen {
        if let Some(node) = choices.get(chooser.as_str()) {
            above.extend(roles.iter().map(|role| (role.as_str(), *node)));
        }
    }
    above
}

proptest! {
    #[test]
    fn generated_deployments_compile_to_the_same_graph_every_time(seed in any::<u64>()) {
        let fixture = generate(seed);
        let one = fixture.compile().map_err(|errors| TestCaseError::fail(format!("{seed}: {errors:#?}")))?;
        prop_assert_eq!(&one, &fixture.compile().expect("it did before"));
        let text = serde_json::to_string(&one.graph).expect("plain data");
        prop_assert_eq!(serde_json::from_str::<Graph>(&text).expect("plain data"), one.graph);
    }

    #[test]
    fn the_keys_above_equal_reachability_on_the_expanded_graph(seed in any::<u64>()) {
        let graph = generate(seed).compile().expect("compiles").graph;
        let choices = choices(&graph, &mut Dice::new(seed));
        for role in graph.roles.values() {
            for node in &role.bound {
                let vertex = (role.name.as_str(), node.as_str());
                let brute_force = brute_force(&graph, vertex, &choices);
                prop_assert_eq!(by_keys(&graph, vertex, &choices), brute_force, "{} {:?} {:#?}", seed, vertex, role.above);
            }
        }
    }

    #[test]
    fn parents_come_before_children_in_the_order(seed in any::<u64>()) {
        let graph = generate(seed).compile().expect("compiles").graph;
        prop_assert_eq!(graph.order.len(), graph.roles.len());
        let rank: BTreeMap<&str, usize> = graph.order.iter().enumerate().map(|(rank, name)| (name.as_str(), rank)).collect();
        for role in graph.roles.values() {
            for edge in &role.parents {
                prop_assert!(rank[edge.parent.as_str()] < rank[role.name.as_str()]);
            }
        }
    }

    #[test]
    fn a_new_node_changes_no_source_and_no_role(seed in any::<u64>()) {
        let mut fixture = generate(seed);
        let before = fixture.compile().expect("compiles").graph;
        fixture.nodes.insert("a-9".to_owned(), CompileNode { group: "a".to_owned(), ..CompileNode::default() });
        let after = fixture.compile().expect("compiles").graph;
        for (name, role) in &before.roles {
            let mut now = after.roles[name].clone();
            now.bound.remove("a-9");
            prop_assert_eq!(&role.inputs, &now.inputs);
            prop_assert_eq!((&role.parents, &role.bound, &role.content), (&now.parents, &now.bound, &now.content));
        }
    }

    #[test]
    fn a_role_that_waits_for_its_own_child_is_refused(seed in any::<u64>()) {
        let mut fixture = generate(seed);
        let graph = fixture.compile().expect("compiles").graph;
        let edge = graph.roles.values().find_map(|child| {
            let work = |name: &str| fixture.catalog.roles.contains_key(name) && graph.roles[name].on_virtual == child.on_virtual;
            let parent = child.parents.iter().find(|edge| work(&edge.parent) && work(&child.name))?;
            Some((parent.parent.clone(), child.name.clone()))
        });
        if let Some((parent, child)) = edge {
            fixture.catalog.roles.get_mut(&parent).expect("there").doc.requires.push(child);
            let errors = fixture.compile().expect_err("a cycle");
            prop_assert!(errors.iter().any(|error| error.code == "cycle"), "{errors:#?}");
        }
    }
}
