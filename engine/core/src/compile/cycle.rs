//! Order of the roles, and cycles printed whole.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};

use petgraph::algo::tarjan_scc;
use petgraph::graph::{DiGraph, NodeIndex};

use super::Findings;
use crate::diagnostic::Diagnostic;
use crate::graph::{Edge, GraphRole, RoleName, Why};

/// All roles, parents before children, equals by name. A cycle (soft edges included) is a finding.
pub(super) fn order(roles: &BTreeMap<RoleName, GraphRole>, findings: &mut Findings) -> Vec<RoleName> {
    let mut missing: BTreeMap<&str, usize> = BTreeMap::new();
    let mut children: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for role in roles.values() {
        let parents: BTreeSet<&str> = parents(role, roles).map(|edge| edge.parent.as_str()).collect();
        missing.insert(&role.name, parents.len());
        for parent in parents {
            children.entry(parent).or_default().push(&role.name);
        }
    }
    let mut free: BinaryHeap<Reverse<&str>> =
        missing.iter().filter(|(_, count)| **count == 0).map(|(name, _)| Reverse(*name)).collect();
    let mut order = Vec::with_capacity(roles.len());
    while let Some(Reverse(name)) = free.pop() {
        order.push(name.to_owned());
        for child in children.get(name).into_iter().flatten() {
            let count = missing.get_mut(child).expect("every role is counted");
            *count -= 1;
            if *count == 0 {
                free.push(Reverse(*child));
            }
        }
    }
    if order.len() < roles.len() {
        report(roles, findings);
    }
    order
}

fn parents<'g>(role: &'g GraphRole, roles: &'g BTreeMap<RoleName, GraphRole>) -> impl Iterator<Item = &'g Edge> {
    role.parents.iter().filter(|edge| roles.contains_key(&edge.parent))
}

fn report(roles: &BTreeMap<RoleName, GraphRole>, findings: &mut Findings) {
    let mut graph = DiGraph::<&str, ()>::new();
    let index: BTreeMap<&str, NodeIndex> = roles.keys().map(|name| (name.as_str(), graph.add_node(name))).collect();
    for role in roles.values() {
        for edge in parents(role, roles) {
            graph.add_edge(index[edge.parent.as_str()], index[role.name.as_str()], ());
        }
    }
    for component in tarjan_scc(&graph) {
        let members: BTreeSet<&str> = component.iter().map(|index| graph[*index]).collect();
        let Some(cycle) = shortest(roles, &members) else { continue };
        let names: Vec<&str> = cycle.iter().map(|(name, _)| *name).chain([cycle[0].0]).collect();
        let mut reasons = Vec::new();
        for (position, (parent, edge)) in cycle.iter().enumerate() {
            let child = names[position + 1];
            reasons.push(match &edge.why {
                Why::Data { input, wire } => format!("`{child}` reads `{wire}` as `{input}`"),
                Why::Requires => format!("`{child}` requires `{parent}`"),
                Why::Precedes => format!("`{parent}` precedes `{child}`"),
            });
        }
        let message = format!("cycle: {}: {}", names.join(" -> "), reasons.join(", "));
        findings.push(Diagnostic::error("cycle", "", message).expected("an order: one of these edges must go"));
    }
}

/// The shortest cycle through the first member by name that is on one: each parent with the edge to the next.
fn shortest<'g>(
    roles: &'g BTreeMap<RoleName, GraphRole>,
    members: &BTreeSet<&'g str>,
) -> Option<Vec<(&'g str, &'g Edge)>> {
    members.iter().find_map(|start| back_to(roles, members, start))
}

/// Breadth first from a role up through its parents until it is met again.
fn back_to<'g>(
    roles: &'g BTreeMap<RoleName, GraphRole>,
    members: &BTreeSet<&'g str>,
    start: &'g str,
) -> Option<Vec<(&'g str, &'g Edge)>> {
    let mut via: BTreeMap<&str, (&str, &Edge)> = BTreeMap::new();
    let mut queue = VecDeque::from([start]);
    while let Some(child) = queue.pop_front() {
        for edge in parents(&roles[child], roles).filter(|edge| members.contains(edge.parent.as_str())) {
            if edge.parent == start {
                let mut cycle = vec![(edge.parent.as_str(), edge)];
                let mut at = child;
                while at != start {
                    let (next, edge) = via[at];
                    cycle.push((at, edge));
                    at = next;
                }
                return Some(cycle);
            }
            if !via.contains_key(edge.parent.as_str()) {
                via.insert(&edge.parent, (child, edge));
                queue.push_back(&edge.parent);
            }
        }
    }
    None
}
