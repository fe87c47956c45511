//! What a commit concerns: which vertices come, which leave, and which must be judged again.
//!
//! Compared per role, not per vertex: the result's size is that of what changed.

use std::collections::{BTreeMap, BTreeSet};

use crate::graph::{Edge, Gathered, Graph, GraphRole, Kind, NodeName, Pairing, RoleName, Source, Why};
use crate::identity;

/// Vertices that a commit concerns, by role and node name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Concerned {
    /// Bound by the new graph and not by the old one.
    pub bind: BTreeSet<(RoleName, NodeName)>,
    /// Bound by the old graph and not by the new one.
    pub unbind: BTreeSet<(RoleName, NodeName)>,
    /// Bound by both, and something that they read or are made of is declared otherwise; with what it is.
    pub touch: BTreeMap<(RoleName, NodeName), BTreeSet<String>>,
}

/// Compares two graphs of one deployment.
pub fn concerned(old: Option<&Graph>, new: &Graph) -> Concerned {
    let mut concerned = Concerned::default();
    let moved: BTreeSet<&NodeName> = old
        .into_iter()
        .flat_map(|old| &old.nodes)
        .filter(|(name, node)| new.nodes.get(*name).is_some_and(|now| now.group != node.group))
        .map(|(name, _)| name)
        .collect();
    for (name, role) in &new.roles {
        let Some(before) = old.and_then(|old| old.roles.get(name)) else {
            concerned.bind.extend(role.bound.iter().map(|node| (name.clone(), node.clone())));
            continue;
        };
        concerned.bind.extend(role.bound.difference(&before.bound).map(|node| (name.clone(), node.clone())));
        // Who reads and is made of the same, is concerned where its node is in another group.
        let others = members(old, before) != members(Some(new), role);
        let stays = |node: &&NodeName| before.bound.contains(*node);
        let looked_at: Vec<&NodeName> = if is_same(before, role) && !others {
            moved.iter().copied().filter(|node| role.bound.contains(*node)).filter(stays).collect()
        } else {
            role.bound.intersection(&before.bound).collect()
        };
        for node in looked_at {
            let mut reasons = reasons(before, role, node, (old, new));
            reasons.extend(others.then(|| "members".to_owned()));
            if !reasons.is_empty() {
                concerned.touch.insert((name.clone(), node.clone()), reasons);
            }
        }
    }
    for (name, role) in old.into_iter().flat_map(|old| &old.roles) {
        let gone: Vec<&NodeName> = match new.roles.get(name) {
            Some(now) => role.bound.difference(&now.bound).collect(),
            None => role.bound.iter().collect(),
        };
        concerned.unbind.extend(gone.into_iter().map(|node| (name.clone(), node.clone())));
    }
    concerned
}

fn is_same(old: &GraphRole, new: &GraphRole) -> bool {
    old.content == new.content && old.executor == new.executor && old.at == new.at && old.inputs == new.inputs
}

fn reasons(old: &GraphRole, new: &GraphRole, node: &str, graphs: (Option<&Graph>, &Graph)) -> BTreeSet<String> {
    let mut reasons = BTreeSet::new();
    if old.content != new.content || old.executor != new.executor || old.at != new.at {
        reasons.insert("content".to_owned());
    }
    for (name, input) in &new.inputs {
        let same = old.inputs.get(name).is_some_and(|before| {
            before.on_change == input.on_change
                && before.overrides.get(node).map(|by| &by.value) == input.overrides.get(node).map(|by| &by.value)
                && same_source(&before.source, &input.source, node, graphs)
        });
        if !same {
            reasons.insert(format!("input {name}"));
        }
    }
    for name in old.inputs.keys().filter(|name| !new.inputs.contains_key(*name)) {
        reasons.insert(format!("input {name}"));
    }
    reasons
}

/// Roles that a parent on their own node holds no more: whoever moves it does not have them at hand any longer.
pub fn rewired(old: &Graph, new: &Graph) -> BTreeSet<RoleName> {
    fn holders(role: &GraphRole) -> BTreeSet<&RoleName> {
        let holds = |edge: &&Edge| edge.pairing == Pairing::Same && !edge.is_soft();
        role.parents.iter().filter(holds).map(|edge| &edge.parent).collect()
    }
    let is_rewired =
        |role: &&GraphRole| old.roles.get(&role.name).is_some_and(|before| !holders(before).is_subset(&holders(role)));
    new.roles.values().filter(is_rewired).map(|role| role.name.clone()).collect()
}

/// Who reads one of these facts of a node: roles on it, and gathers of it.
pub fn readers_of_facts(graph: &Graph, node: &str, facts: &BTreeSet<String>) -> BTreeSet<(RoleName, NodeName)> {
    let facts = &identity::with_derived(facts);
    let group = graph.nodes.get(node).map(|node| node.group.as_str()).unwrap_or_default();
    let mut readers = BTreeSet::new();
    for (name, role) in &graph.roles {
        if let Kind::Gather { of: Gathered::Fact { fact, .. }, group: of, .. } = &role.kind
            && facts.contains(fact)
            && graph.nodes.contains_key(node)
            && of.as_ref().is_none_or(|of| of == group)
        {
            readers.extend(role.bound.iter().map(|on| (name.clone(), on.clone())));
        }
        let reads =
            |source: &Source| matches!(source.in_group(group), Some(Source::Node { fact, .. }) if facts.contains(fact));
        if role.bound.contains(node) && role.inputs.values().any(|input| reads(&input.source)) {
            readers.insert((name.clone(), node.to_owned()));
        }
    }
    readers
}

/// Who reads one of these imports (`IMPORT.EXPORT`).
pub fn readers_of_imports(graph: &Graph, imports: &BTreeSet<String>) -> BTreeSet<(RoleName, NodeName)> {
    fn reads(source: &Source, imports: &BTreeSet<String>) -> bool {
        match source {
            Source::Import { import, output, .. } => imports.contains(&format!("{import}.{output}")),
            Source::ByGroup { groups } => groups.values().any(|source| reads(source, imports)),
            _ => false,
        }
    }
    let readers = graph.roles.values().filter(|role| role.inputs.values().any(|input| reads(&input.source, imports)));
    readers.flat_map(|role| role.bound.iter().map(|on| (role.name.clone(), on.clone()))).collect()
}

/// Who gathers from, or chooses, or works at, what stands on a node: they are to be judged when it is lost.
pub fn readers_of_node(graph: &Graph, node: &str) -> BTreeSet<(RoleName, NodeName)> {
    let concerns = |role: &&GraphRole| members(Some(graph), role).contains(node);
    let readers = graph.roles.values().filter(concerns);
    readers.flat_map(|role| role.bound.iter().map(|on| (role.name.clone(), on.clone()))).collect()
}

/// Do both sources say the same for this node?
fn same_source(old: &Source, new: &Source, node: &str, graphs: (Option<&Graph>, &Graph)) -> bool {
    match (old, new) {
        (
            Source::Layers { base, groups, nodes },
            Source::Layers { base: new_base, groups: new_groups, nodes: new_nodes },
        ) => {
            let group = |graph: Option<&Graph>| {
                graph.and_then(|graph| graph.nodes.get(node)).map(|node| node.group.clone()).unwrap_or_default()
            };
            let (was, is) = (group(graphs.0), group(Some(graphs.1)));
            base.as_ref().map(|v| &v.value) == new_base.as_ref().map(|v| &v.value)
                && groups.get(&was).map(|v| &v.value) == new_groups.get(&is).map(|v| &v.value)
                && nodes.get(node).map(|v| &v.value) == new_nodes.get(node).map(|v| &v.value)
        }
        (old, new) => old == new,
    }
}

/// Who feeds a helper, or may be the one at whose node a role is performed; empty for other roles with work.
fn members<'g>(graph: Option<&'g Graph>, role: &'g GraphRole) -> BTreeSet<&'g str> {
    let Some(graph) = graph else { return BTreeSet::new() };
    let in_group = |node: &str, group: &Option<String>| {
        group.as_ref().is_none_or(|group| graph.nodes.get(node).is_some_and(|node| node.group == *group))
    };
    match &role.kind {
        Kind::Work => {
            let there = role.inputs.values().find_map(|input| match &input.source {
                Source::At { role, .. } => graph.roles.get(role),
                _ => None,
            });
            there.into_iter().flat_map(|role| &role.bound).map(String::as_str).collect()
        }
        Kind::Gather { of: Gathered::Fact { .. }, group, .. } => {
            graph.nodes.keys().filter(|node| in_group(node, group)).map(String::as_str).collect()
        }
        Kind::Gather { of: Gathered::Output { role: of, .. }, group, .. } | Kind::Chooser { of, group } => graph
            .roles
            .get(of)
            .into_iter()
            .flat_map(|role| &role.bound)
            .filter(|node| in_group(node, group))
            .map(String::as_str)
            .collect(),
    }
}

/// Takes over from the old graph what those who leave need, so that they leave in order: roles that have no other
/// vertices any more, and edges to readers that are wired otherwise now.
pub fn keep_leavers(old: &Graph, new: &mut Graph) {
    for name in &old.order {
        if let Some(role) = old.roles.get(name)
            && !new.roles.contains_key(name)
        {
            new.roles.insert(name.clone(), GraphRole { bound: BTreeSet::new(), ..role.clone() });
            new.order.push(name.clone());
        }
    }
    let mut dropped: Vec<(&RoleName, &Edge)> = Vec::new();
    for (name, role) in &old.roles {
        let edges = role.parents.iter().filter(|edge| matches!(edge.why, Why::Data { .. }));
        dropped.extend(edges.chain(old.dropped.get(name).into_iter().flatten()).map(|edge| (name, edge)));
    }
    for (child, edge) in dropped {
        let drawn = |other: &Edge| !other.is_soft() && (&other.parent, other.pairing) == (&edge.parent, edge.pairing);
        let is_drawn = new.roles.get(child).is_none_or(|role| role.parents.iter().any(drawn));
        // Where the new graph has it the other way round, the order of those who leave is the new one.
        if !is_drawn && new.roles.contains_key(&edge.parent) && !is_above(new, child, &edge.parent) {
            new.dropped.entry(child.clone()).or_default().insert(edge.clone());
        }
    }
}

/// Does one role stand above another, over drawn and dropped edges?
fn is_above(graph: &Graph, upper: &str, lower: &str) -> bool {
    let (mut queue, mut seen) = (vec![lower], BTreeSet::new());
    while let Some(role) = queue.pop() {
        if role == upper {
            return true;
        }
        if seen.insert(role) {
            let drawn = graph.roles.get(role).into_iter().flat_map(|role| &role.parents);
            let edges = drawn.chain(graph.dropped.get(role).into_iter().flatten());
            queue.extend(edges.filter(|edge| !edge.is_soft()).map(|edge| edge.parent.as_str()));
        }
    }
    false
}
