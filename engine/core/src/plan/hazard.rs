//! What makes a plan impossible: an order with a cycle, two roles that destroy the same place, a move that is none.

use std::collections::{BTreeMap, BTreeSet};

use petgraph::algo::tarjan_scc;
use petgraph::graph::{DiGraph, NodeIndex};

use super::predict::Predictor;
use super::{Action, Item, PlanInput, effects, stays};
use crate::catalog::CatalogRole;
use crate::diagnostic::Diagnostic;
use crate::graph::{Graph, Kind, NodeName, Pairing, RoleName, VIRTUAL};

/// Does `moved` name what was there and what is wanted?
pub(super) fn moves(input: &PlanInput) -> Vec<Diagnostic> {
    let mut problems = Vec::new();
    let Some(current) = input.current else { return problems };
    for (old, new) in input.moved {
        let mut wrong = |reason: String| {
            let pointer = format!("/moved/{}", old.replace('~', "~0").replace('/', "~1"));
            problems.push(Diagnostic::error("bad-move", pointer, format!("`{old}` can not become `{new}`: {reason}")));
        };
        let Some(before) = current.graph.roles.get(old) else { continue };
        match input.desired.roles.get(new) {
            _ if input.desired.roles.contains_key(old) => wrong(format!("`{old}` is still wanted")),
            _ if current.graph.roles.contains_key(new) => wrong(format!("`{new}` is already there")),
            None => wrong(format!("there is no `{new}`")),
            Some(after) if after.on_virtual != before.on_virtual => {
                wrong("one runs on nodes, the other once for the deployment".to_owned());
            }
            Some(_) => {}
        }
    }
    problems
}

/// Paths that two roles of a node would destroy.
pub(super) fn destroys(input: &PlanInput, predictor: &Predictor) -> Vec<Diagnostic> {
    let mut paths: BTreeMap<&str, Vec<(String, &str)>> = BTreeMap::new();
    for ((node, role), inputs) in &predictor.inputs {
        let found = &input.desired.roles[*role];
        let templates = input.contents.role(&found.role, &found.content).map(|role| &role.doc.destroys);
        for template in templates.into_iter().flatten() {
            if let Some(path) = effects::path_of(template, inputs) {
                paths.entry(node).or_default().push((path, role));
            }
        }
    }
    if let Some(current) = input.current {
        for (name, nodes) in current.vertices {
            let Some(role) = current.graph.roles.get(name).filter(|role| role.kind == Kind::Work) else { continue };
            for (node, seen) in nodes.iter().filter(|(node, _)| !stays(input, name, node)) {
                let templates = input.contents.role(&role.role, &seen.content).map(|role| &role.doc.destroys);
                for template in templates.into_iter().flatten() {
                    if let Some(path) = effects::path_of(template, &seen.inputs) {
                        paths.entry(node).or_default().push((path, name));
                    }
                }
            }
        }
    }
    let mut problems = Vec::new();
    for (node, mut paths) in paths.into_iter().filter(|(node, _)| *node != VIRTUAL) {
        paths.sort();
        for (index, (path, role)) in paths.iter().enumerate() {
            let inside = paths[index + 1..].iter().filter(|(other, by)| by != role && is_inside(other, path));
            for (other, by) in inside {
                let message = format!("`{role}` destroys {path} on `{node}`, and `{by}` destroys {other} there");
                problems.push(
                    Diagnostic::error("overlapping-destroys", "", message).expected("a place of its own for each"),
                );
            }
        }
    }
    problems
}

fn is_inside(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Move<'a> {
    Apply(&'a str),
    Remove(&'a str),
}

/// Is there an order of applies, removes and hand-overs?
pub(super) fn order(input: &PlanInput, items: &[Item]) -> Vec<Diagnostic> {
    let Some(current) = input.current else { return Vec::new() };
    let mut applies: BTreeMap<&str, BTreeSet<&NodeName>> = BTreeMap::new();
    let mut leaves: BTreeMap<&str, BTreeSet<&NodeName>> = BTreeMap::new();
    for item in items {
        match item.action {
            Action::Create | Action::ReRun => applies.entry(&item.role).or_default().insert(&item.node),
            Action::Leave => leaves.entry(&item.role).or_default().insert(&item.node),
            Action::Outdated | Action::Untouched => false,
        };
    }
    if leaves.is_empty() {
        return Vec::new();
    }
    let mut edges: BTreeSet<(Move, Move)> = BTreeSet::new();
    for (child, parent, _) in reads(input.desired) {
        if applies.contains_key(child) && applies.contains_key(parent) {
            edges.insert((Move::Apply(parent), Move::Apply(child)));
        }
    }
    for leaver in leaves.keys().copied() {
        let newcomers = newcomers(input, leaver, &leaves, &applies);
        for (reader, _, pairing) in reads(current.graph).filter(|(_, parent, _)| *parent == leaver) {
            if leaves.contains_key(reader) {
                edges.insert((Move::Remove(reader), Move::Remove(leaver)));
            }
            // A hand-over does not wait for readers on its own node.
            if applies.contains_key(reader) && (pairing != Pairing::Same || newcomers.is_empty()) {
                edges.insert((Move::Apply(reader), Move::Remove(leaver)));
            }
        }
        for newcomer in newcomers {
            edges.insert((Move::Remove(leaver), Move::Apply(newcomer)));
        }
    }
    cycles(&edges)
}

/// Child, parent and pairing of every hard edge between roles with work; those through helpers included.
fn reads(graph: &Graph) -> impl Iterator<Item = (&str, &str, Pairing)> {
    graph.roles.values().filter(|role| role.kind == Kind::Work).flat_map(move |child| {
        child.parents.iter().filter(|edge| !edge.is_soft()).flat_map(move |edge| {
            let parent = graph.roles.get(&edge.parent);
            let through: Vec<(&str, &str, Pairing)> = match parent {
                Some(helper) if helper.kind != Kind::Work => helper
                    .parents
                    .iter()
                    .map(|edge| (child.name.as_str(), edge.parent.as_str(), Pairing::All))
                    .collect(),
                _ => vec![(child.name.as_str(), edge.parent.as_str(), edge.pairing)],
            };
            through
        })
    })
}

/// Roles that come where a leaver in conflict with them goes.
fn newcomers<'a>(
    input: &PlanInput<'a>,
    leaver: &str,
    leaves: &BTreeMap<&str, BTreeSet<&NodeName>>,
    applies: &BTreeMap<&str, BTreeSet<&NodeName>>,
) -> Vec<&'a str> {
    let Some(old) = document(input, leaver, false) else { return Vec::new() };
    let roles = input.desired.roles.keys().filter(|name| {
        let Some(nodes) = applies.get(name.as_str()) else { return false };
        let is_new = |node: &&NodeName| leaves[leaver].contains(*node) && input.seen(name, node).is_none();
        nodes.iter().any(is_new) && document(input, name, true).is_some_and(|new| in_conflict(old, new))
    });
    roles.map(RoleName::as_str).collect()
}

fn document<'a>(input: &PlanInput<'a>, name: &str, desired: bool) -> Option<&'a CatalogRole> {
    let graph = if desired { input.desired } else { input.current?.graph };
    let role = graph.roles.get(name)?;
    input.contents.role(&role.role, &role.content)
}

fn in_conflict(one: &CatalogRole, two: &CatalogRole) -> bool {
    let names = |by: &CatalogRole, of: &CatalogRole| {
        by.doc.conflicts.iter().any(|name| *name == of.doc.role || of.doc.provides.contains(name))
    };
    one.doc.provides.iter().any(|name| two.doc.provides.contains(name)) || names(one, two) || names(two, one)
}

fn cycles(edges: &BTreeSet<(Move, Move)>) -> Vec<Diagnostic> {
    let mut graph = DiGraph::<Move, ()>::new();
    let mut index: BTreeMap<Move, NodeIndex> = BTreeMap::new();
    for (from, to) in edges {
        let from = *index.entry(*from).or_insert_with(|| graph.add_node(*from));
        let to = *index.entry(*to).or_insert_with(|| graph.add_node(*to));
        graph.add_edge(from, to, ());
    }
    let mut problems = Vec::new();
    for component in tarjan_scc(&graph).into_iter().filter(|component| component.len() > 1) {
        let mut names: Vec<String> = component
            .iter()
            .map(|index| match graph[*index] {
                Move::Apply(role) => format!("apply {role}"),
                Move::Remove(role) => format!("remove {role}"),
            })
            .collect();
        names.sort();
        let message = format!("no order of change: each of these waits for another: {}", names.join(", "));
        problems.push(
            Diagnostic::error("change-cycle", "", message).expected("two deployments of it, one after the other"),
        );
    }
    problems.sort();
    problems
}
