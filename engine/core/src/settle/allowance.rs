//! Who holds what of a budget, and may a node be taken out of service now?
//!
//! A node takes every budget of a role, and of the role's descendants on it, at once or none of them. It gives them
//! back when nothing of them runs there or is failed, and what is left can not go on there at once.

use std::collections::{BTreeMap, BTreeSet};

use super::{Cause, Hood, Vertex};
use crate::budget::limit;
use crate::document::Budget;
use crate::graph::{Graph, GraphRole, NodeName};
use crate::id::NodeId;
use crate::settle::hood::Standing;
use crate::state::{Goal, State};

/// What a node that holds of a budget is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Token {
    /// Something of the budget is failed there.
    pub failed: bool,
    /// It joins or leaves: with a quorum one node does at a time.
    pub member: bool,
}

/// What counts of a budget, in one deployment or in several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Nodes with a role that disrupts it.
    pub members: usize,
    /// Those of them that are out of service.
    pub unavailable: usize,
    /// Those of them on which something of it is failed.
    pub failed: usize,
}

/// A budget that deployments share, as one of them sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shared {
    /// What it allows.
    pub budget: Budget,
    /// What counts in the others.
    pub elsewhere: Count,
}

impl Shared {
    /// How many nodes more may be taken out of service, where this much counts in the deployment itself.
    pub fn room(&self, own: Count) -> usize {
        let failed = own.failed + self.elsewhere.failed;
        if failed > usize::try_from(self.budget.failures).unwrap_or(usize::MAX) {
            return 0;
        }
        limit(&self.budget, own.members + self.elsewhere.members)
            .saturating_sub(own.unavailable + self.elsewhere.unavailable)
    }
}

/// One budget of a deployment at the moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowance {
    /// Nodes that hold of it.
    pub held: BTreeMap<NodeId, Token>,
    /// Nodes that serve and do not answer, or stand aside; those that are being made anew; with a quorum also founders that
    /// are just being created, or failed at it.
    pub down: BTreeSet<NodeId>,
    /// Nodes on which something of it serves and fails its checks. They may be well: what a check looks at can be another node.
    pub failing: BTreeSet<NodeId>,
    /// What others were told that counts of it here.
    pub told: Count,
    /// The one of all deployments of the same name, if there is one.
    pub shared: Option<Shared>,
}

impl Allowance {
    /// Is this node worked on already, or dead to its users?
    pub fn has(&self, node: NodeId) -> bool {
        self.held.contains_key(&node) || self.down.contains(&node)
    }

    /// Nodes that are worked on or dead, and not only fail their checks.
    fn out(&self) -> usize {
        self.held.len() + self.down.iter().filter(|node| !self.held.contains_key(node)).count()
    }

    /// Nodes out of service.
    pub fn unavailable(&self) -> usize {
        self.out() + self.failing.iter().filter(|node| !self.has(**node)).count()
    }

    /// May a node that fails its checks, and is not worked on, be begun? It is out of service already, so it needs no room; but as it may
    /// serve all the same, it has to be the only one that is worked on, or one of those for which there is room anyway.
    pub fn may_mend(&self, graph: &Graph, name: &str) -> bool {
        let Some(budget) = graph.budgets.get(name) else { return true };
        let members = graph.members.get(name).copied().unwrap_or(0);
        self.held.is_empty() || (!self.is_open(budget) && limit(budget, members) + 1 > self.unavailable())
    }

    /// What counts of it.
    pub fn count(&self, graph: &Graph, name: &str) -> Count {
        Count {
            members: graph.members.get(name).copied().unwrap_or(0),
            unavailable: self.unavailable(),
            failed: self.held.values().filter(|token| token.failed).count(),
        }
    }

    /// Are more nodes failed than are borne? Computed, never stored: it closes when they are repaired.
    pub fn is_open(&self, budget: &Budget) -> bool {
        let failed = self.held.values().filter(|token| token.failed).count();
        failed > usize::try_from(budget.failures).unwrap_or(usize::MAX)
    }

    /// How many nodes more this deployment allows to be taken out of service now.
    pub fn own_room(&self, graph: &Graph, name: &str) -> usize {
        let Some(budget) = graph.budgets.get(name).filter(|budget| !self.is_open(budget)) else { return 0 };
        let members = graph.members.get(name).copied().unwrap_or(0);
        limit(budget, members).saturating_sub(self.unavailable())
    }

    /// How many nodes more may be taken out of service now, by this deployment and by all together.
    pub fn room(&self, graph: &Graph, name: &str) -> usize {
        let own = self.own_room(graph, name);
        self.shared.as_ref().map_or(own, |shared| own.min(shared.room(self.count(graph, name))))
    }

    /// Is a node joining or leaving?
    pub fn is_changing(&self) -> bool {
        self.held.values().any(|token| token.member)
    }
}

/// Does a node serve in a budget: a success of a role that disrupts it is in force there.
pub fn serves(graph: &Graph, hood: &Hood, budget: &str, node: NodeId) -> bool {
    graph.disruptors(budget).any(|role| hood.at(&role.name, node).is_some_and(|vertex| vertex.serving))
}

/// What a job of this vertex would hold of a budget; nothing where it disturbs nobody. First runs are wide, unless they
/// join a quorum, and so is whole destruction.
pub(super) fn token(graph: &Graph, hood: &Hood, vertex: &Vertex, budget: &str) -> Option<Token> {
    let node = hood.nodes.get(&vertex.node)?;
    let quorum = graph.budgets.get(budget)?.quorum;
    let (work, member) = (Some(Token::default()), Some(Token { member: true, ..Token::default() }));
    let serves = serves(graph, hood, budget, vertex.node);
    if vertex.phase.goal == Goal::Absent {
        let stays = |role: &GraphRole| {
            let there = hood.at(&role.name, vertex.node);
            there.is_some_and(|there| there.serving && there.phase.goal == Goal::Present)
        };
        let is_other = |other: &NodeName| *other != node.name;
        return if graph.disruptors(budget).any(stays) {
            work
        } else if quorum && graph.disruptors(budget).flat_map(|role| &role.bound).any(is_other) {
            member
        } else {
            None
        };
    }
    let joins = quorum && !serves && !is_founding(graph, hood, vertex, budget);
    match (vertex.serving, joins) {
        (true, _) => work,
        (false, true) => member,
        (false, false) => None,
    }
}

/// Is it created for the first time, together with the others of its budget?
pub fn is_founding(graph: &Graph, hood: &Hood, vertex: &Vertex, budget: &str) -> bool {
    let node = hood.nodes.get(&vertex.node);
    let fact = |name| node.and_then(|node| node.facts.get(name)).and_then(serde_json::Value::as_i64);
    !vertex.serving
        && fact("generation").unwrap_or(0) == 0
        && graph.founders.get(budget).is_some_and(|founders| {
            founders.roles.contains(&vertex.role) && node.is_some_and(|node| founders.nodes.contains(&node.name))
        })
}

/// Which budget keeps a vertex from beginning, if one does. A node that is out of service already may be worked on.
pub(super) fn gate(graph: &Graph, hood: &Hood, vertex: &Vertex, role: &GraphRole) -> Option<Cause> {
    role.takes.iter().find_map(|name| {
        let token = token(graph, hood, vertex, name)?;
        let nothing = Allowance::default();
        let allowance = hood.budgets.get(name).unwrap_or(&nothing);
        if allowance.held.contains_key(&vertex.node) {
            None
        } else if allowance.failing.contains(&vertex.node) && !allowance.has(vertex.node) {
            (!allowance.may_mend(graph, name)).then(|| Cause::InTurn { budget: name.clone() })
        } else if !allowance.has(vertex.node) && allowance.own_room(graph, name) == 0 {
            Some(Cause::Budget { budget: name.clone() })
        } else if !allowance.has(vertex.node) && allowance.room(graph, name) == 0 {
            Some(Cause::Shared { budget: name.clone() })
        } else if token.member && allowance.is_changing() {
            Some(Cause::Member { budget: name.clone() })
        } else {
            None
        }
    })
}

/// The budget that has no room for these nodes to be made anew at once, if there is one. Nodes that are out of service
/// already may always be.
pub fn too_many(graph: &Graph, hood: &Hood, nodes: &BTreeSet<NodeId>) -> Option<String> {
    let nothing = Allowance::default();
    let takes_out = |name: &&String| {
        let allowance = hood.budgets.get(*name).unwrap_or(&nothing);
        let begun = |node: &NodeId| {
            let mut vertices = graph.disruptors(name).filter_map(|role| hood.at(&role.name, *node));
            vertices.any(|vertex| vertex.attempts > 0 && vertex.phase.goal == Goal::Present)
        };
        // A person who makes anew what fails its checks mends it: that takes no room besides its own.
        let failing = nodes.iter().filter(|node| allowance.failing.contains(node) && !allowance.has(**node)).count();
        let count = nodes.iter().filter(|node| !allowance.has(**node) && begun(node)).count();
        count > allowance.room(graph, name) + failing
    };
    graph.budgets.keys().find(takes_out).cloned()
}

/// Budgets that have no room for this node to be taken out of service by a person, who may do it all the same.
pub fn beyond(graph: &Graph, hood: &Hood, node: NodeId) -> Vec<String> {
    let nothing = Allowance::default();
    let exceeded = |name: &&String| {
        let allowance = hood.budgets.get(*name).unwrap_or(&nothing);
        let is_out = allowance.has(node) || allowance.failing.contains(&node);
        serves(graph, hood, name, node) && !is_out && allowance.room(graph, name) == 0
    };
    graph.budgets.keys().filter(exceeded).cloned().collect()
}

/// What a node that holds of a budget is to hold from now on.
pub(super) fn recount(graph: &Graph, hood: &Hood, budget: &str, node: NodeId, token: Token) -> Option<Token> {
    let of = graph.roles.values().filter(|role| role.takes.contains(budget));
    let vertices: Vec<&Vertex> =
        of.filter_map(|role| hood.at(&role.name, node)).filter(|vertex| !vertex.is_gone()).collect();
    let failed = vertices.iter().any(|vertex| vertex.phase.state == State::Failed && !vertex.phase.accepted);
    let goes_on = vertices.iter().any(|vertex| goes_on(hood, vertex));
    // What failed on a node that stands aside is out of service as the node is, and keeps nobody else.
    let counts = failed && hood.standing(node) != Standing::Aside;
    (failed || goes_on).then_some(Token { failed: counts, ..token })
}

/// Runs, or will without waiting for another node.
fn goes_on(hood: &Hood, vertex: &Vertex) -> bool {
    let mut at = vertex;
    let mut seen = BTreeSet::new();
    while seen.insert(at.id) {
        match (at.phase.state, &at.cause) {
            (State::Ready | State::Running, _) => return true,
            (State::Blocked, _) if at.wake => return true,
            (State::Blocked, Some(Cause::Vertex { vertex } | Cause::Before { vertex })) => {
                match hood.vertices.get(vertex).filter(|above| above.node == at.node) {
                    Some(above) => at = above,
                    None => return false,
                }
            }
            _ => return false,
        }
    }
    false
}

/// Is a node out of service without holding anything: it serves and does not answer or take part, it is made anew and
/// does not serve again yet, or with a quorum it is a founder that is being created, or failed at it.
pub(super) fn is_down(graph: &Graph, hood: &Hood, budget: &str, node: NodeId) -> bool {
    let Some(view) = hood.nodes.get(&node) else { return false };
    let is_anew = |vertex: &Vertex| vertex.anew && vertex.phase.goal == Goal::Present;
    let works = || {
        let on = hood.vertices.values().filter(|vertex| vertex.node == node);
        on.into_iter().any(|on| matches!(on.phase.state, State::Ready | State::Running | State::Failed))
    };
    // One that waits for other nodes does not count: they may need what it would keep from them.
    if graph.disruptors(budget).filter_map(|role| hood.at(&role.name, node)).any(is_anew) && (!view.ready || works()) {
        return true;
    }
    if serves(graph, hood, budget, node) {
        return !view.ready || view.standing != Standing::In;
    }
    graph.budgets.get(budget).is_some_and(|budget| budget.quorum)
        && graph.disruptors(budget).filter_map(|role| hood.at(&role.name, node)).any(|vertex| {
            matches!(vertex.phase.state, State::Ready | State::Running | State::Failed)
                && is_founding(graph, hood, vertex, budget)
        })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Count, Shared};
    use crate::document::Budget;

    #[test]
    fn what_counts_elsewhere_leaves_the_less_room() {
        let room = |max_unavailable: Value, failures, own, elsewhere| {
            let count = |(members, unavailable, failed)| Count { members, unavailable, failed };
            let budget = Budget { max_unavailable, failures, quorum: false };
            Shared { budget, elsewhere: count(elsewhere) }.room(count(own))
        };
        let figures = [
            room(json!(3), 0, (4, 0, 0), (8, 0, 0)),
            room(json!(3), 0, (4, 1, 0), (8, 1, 0)),
            room(json!(3), 0, (4, 2, 0), (8, 2, 0)),
            // Of twelve nodes, not of four.
            room(json!("25%"), 0, (4, 0, 0), (8, 1, 0)),
            // Failures of both are borne together.
            room(json!(3), 0, (4, 0, 0), (8, 1, 1)),
            room(json!(3), 1, (4, 0, 0), (8, 1, 1)),
            room(json!(3), 1, (4, 1, 1), (8, 1, 1)),
        ];
        assert_eq!(figures, [3, 1, 0, 2, 0, 2, 0]);
    }
}
