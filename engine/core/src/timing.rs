//! Where the time of a revision went: the chain of jobs that decided when it was over, and how long what is left may take.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use time::OffsetDateTime;

use crate::budget::limit;
use crate::graph::{Graph, GraphRole, Kind, NodeName, Pairing, RoleName, Why};
use crate::view::PathStep;

/// An attempt that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// The node of its node role.
    pub node: NodeName,
    /// Its deployment role.
    pub role: RoleName,
    /// It removed; else it applied.
    pub remove: bool,
    /// When it was claimed.
    pub claimed_at: OffsetDateTime,
    /// When its outcome was recorded.
    pub finished_at: OffsetDateTime,
}

impl Ran {
    /// The step of a path that it is, after `before`, or after the commit.
    fn step(&self, since: OffsetDateTime, before: Option<(&Self, String)>) -> PathStep {
        let began = before.as_ref().map_or(since, |(before, _)| before.finished_at);
        let millis = |from: OffsetDateTime, to: OffsetDateTime| {
            i64::try_from((to - from).whole_milliseconds()).unwrap_or(i64::MAX)
        };
        PathStep {
            node: self.node.clone(),
            role: self.role.clone(),
            action: if self.remove { "remove" } else { "apply" }.to_owned(),
            waited: millis(began, self.claimed_at),
            took: millis(self.claimed_at, self.finished_at),
            after: before.as_ref().map(|(before, _)| format!("{}/{}", before.node, before.role)),
            because: before.map_or_else(|| "the commit".to_owned(), |(_, why)| why),
        }
    }
}

/// The longest jobs, longest first.
pub fn slowest(since: OffsetDateTime, ran: &[Ran], count: usize) -> Vec<PathStep> {
    let mut all: Vec<&Ran> = ran.iter().collect();
    all.sort_by_key(|one| (std::cmp::Reverse(one.finished_at - one.claimed_at), &one.role, &one.node));
    all.into_iter().take(count).map(|one| one.step(since, None)).collect()
}

/// The chain of jobs that decided when a revision was over, first to last: from the last one back, each time to that of
/// those it had to wait for which was over last. `since`: when the revision was committed.
pub fn critical_path(graph: &Graph, since: OffsetDateTime, ran: &[Ran]) -> Vec<PathStep> {
    let mut by_role: HashMap<(&str, bool), Vec<&Ran>> = HashMap::new();
    for one in ran {
        by_role.entry((&one.role, one.remove)).or_default().push(one);
    }
    let mut steps = Vec::new();
    let mut passed = BTreeSet::new();
    let mut at = ran.iter().max_by_key(|one| (one.finished_at, one.claimed_at));
    while let Some(current) = at {
        passed.insert((&current.role, &current.node));
        let earlier = awaited(graph, current, &by_role)
            .into_iter()
            .filter(|(one, _)| one.finished_at <= current.claimed_at && !passed.contains(&(&one.role, &one.node)));
        let before = earlier.max_by_key(|(one, _)| one.finished_at);
        at = before.as_ref().map(|(one, _)| *one);
        steps.push(current.step(since, before));
    }
    steps.reverse();
    steps
}

/// Jobs that one may have waited for, each with why.
fn awaited<'r>(graph: &Graph, current: &Ran, by_role: &HashMap<(&str, bool), Vec<&'r Ran>>) -> Vec<(&'r Ran, String)> {
    let Some(role) = graph.roles.get(&current.role) else { return Vec::new() };
    let mut found = Vec::new();
    let mut take = |other: &str, node: Option<&str>, why: &str| {
        let there = by_role.get(&(other, current.remove)).into_iter().flatten();
        found.extend(there.filter(|one| node.is_none_or(|node| one.node == node)).map(|one| (*one, why.to_owned())));
    };
    if current.remove {
        for (child, edge) in graph.readers(&current.role) {
            let node = (edge.pairing == Pairing::Same).then_some(current.node.as_str());
            for (name, node) in through(graph, child, node, &|role| {
                graph.readers(&role.name).map(|(child, _)| child.name.clone()).collect()
            }) {
                take(&name, node, "it had to leave first");
            }
        }
        return found;
    }
    for edge in &role.parents {
        let why = match &edge.why {
            Why::Data { input, .. } => format!("input {input}"),
            Why::Requires => "required".to_owned(),
            Why::Precedes => "goes first".to_owned(),
        };
        let Some(parent) = graph.roles.get(&edge.parent) else { continue };
        let node = (edge.pairing == Pairing::Same).then_some(current.node.as_str());
        for (name, node) in
            through(graph, parent, node, &|role| role.parents.iter().map(|edge| edge.parent.clone()).collect())
        {
            take(&name, node, &why);
        }
    }
    for other in graph.roles.values().filter(|other| !role.takes.is_disjoint(&other.takes)) {
        let shared = role.takes.intersection(&other.takes).next().map(String::as_str).unwrap_or_default();
        take(&other.name, None, &format!("budget {shared}"));
    }
    found
}

/// A role, or those that stand behind it if it is a helper: helpers have no jobs.
fn through<'n>(
    graph: &Graph,
    role: &GraphRole,
    node: Option<&'n str>,
    next: &dyn Fn(&GraphRole) -> Vec<RoleName>,
) -> Vec<(RoleName, Option<&'n str>)> {
    if role.kind == Kind::Work {
        return vec![(role.name.clone(), node)];
    }
    let behind = next(role);
    behind.iter().filter_map(|name| graph.roles.get(name)).flat_map(|role| through(graph, role, None, next)).collect()
}

/// What of a role is still to be done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// On how many nodes.
    pub nodes: usize,
    /// On how many of them it is in service meanwhile: only these take from budgets.
    pub serving: usize,
}

/// How many milliseconds what is left will take, if every job takes as long as `usual` says of its role: the longest chain
/// of roles, each as often one after the other as its budgets ask for. Roles of which nothing is known count as nothing;
/// their names come along.
pub fn remaining(
    graph: &Graph,
    left: &BTreeMap<RoleName, Left>,
    usual: impl Fn(&str) -> Option<u64>,
) -> (u64, BTreeSet<RoleName>) {
    let (mut ends, mut unknown): (HashMap<&str, u64>, BTreeSet<RoleName>) = (HashMap::new(), BTreeSet::new());
    for name in &graph.order {
        let Some(role) = graph.roles.get(name) else { continue };
        let begins = role.parents.iter().filter_map(|edge| ends.get(edge.parent.as_str())).max().copied().unwrap_or(0);
        let own = match left.get(name).filter(|left| left.nodes > 0 && role.kind == Kind::Work) {
            None => 0,
            Some(left) => match usual(name) {
                Some(usual) => usual.saturating_mul(rounds(graph, role, *left)),
                None => {
                    unknown.insert(name.clone());
                    0
                }
            },
        };
        ends.insert(name, begins.saturating_add(own));
    }
    (ends.into_values().max().unwrap_or(0), unknown)
}

/// How often one after the other.
fn rounds(graph: &Graph, role: &GraphRole, left: Left) -> u64 {
    let of = |name: &String| {
        let budget = graph.budgets.get(name)?;
        let at_once = limit(budget, graph.members.get(name).copied().unwrap_or(0)).max(1);
        u64::try_from(left.serving.div_ceil(at_once)).ok()
    };
    role.takes.iter().filter_map(of).max().unwrap_or(1).max(1)
}

#[cfg(test)]
mod tests;
