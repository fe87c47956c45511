//! Budgets as the store would keep them, and invariant 8 by brute force.

use std::collections::{BTreeMap, BTreeSet};

use engine_core::budget::limit;
use engine_core::id::{NodeId, VertexId};
use engine_core::settle::Vertex;
use engine_core::settle::allowance::{Allowance, Token, is_founding};
use engine_core::settle::hood::Standing;
use engine_core::state::{Goal, State};

use crate::world::World;

impl World {
    /// As the store loads them.
    pub(crate) fn budgets(&self) -> BTreeMap<String, Allowance> {
        let mut budgets: BTreeMap<String, Allowance> = BTreeMap::new();
        for ((budget, node), token) in &self.tokens {
            budgets.entry(budget.clone()).or_default().held.insert(*node, *token);
        }
        for (name, budget) in &self.graph.budgets {
            let nodes = self.graph.founders.get(name).map(|founders| &founders.nodes).into_iter().flatten();
            let founders: Vec<NodeId> = nodes.map(|node| self.nodes[node]).collect();
            let serving: BTreeSet<NodeId> =
                self.disruptors(name).filter(|vertex| vertex.serving).map(|vertex| vertex.node).collect();
            let anew: Vec<NodeId> =
                self.disruptors(name).filter(|vertex| self.is_anew(vertex)).map(|vertex| vertex.node).collect();
            let aside = serving.iter().filter(|node| self.stands(**node) == Standing::Aside);
            budgets.entry(name.clone()).or_default().down.extend(anew.iter().chain(aside));
            if budget.quorum {
                let works: BTreeSet<NodeId> = self
                    .disruptors(name)
                    .filter(|v| matches!(v.phase.state, State::Ready | State::Running | State::Failed))
                    .map(|vertex| vertex.node)
                    .collect();
                let first =
                    |node: &NodeId| !serving.contains(node) && works.contains(node) && self.generation(*node) == 0;
                let missing = founders.into_iter().filter(first);
                budgets.entry(name.clone()).or_default().down.extend(missing);
            }
        }
        for name in self.graph.budgets.keys() {
            let allowance = budgets.entry(name.clone()).or_default();
            allowance.told = self.told.get(name).copied().unwrap_or_default();
            allowance.shared = self.elsewhere.get(name).cloned();
        }
        budgets
    }

    /// By brute force, and not as the graph says.
    fn members(&self, budget: &str) -> usize {
        let roles = self.graph.roles.values().filter(|role| role.disrupts.contains(budget));
        roles.flat_map(|role| &role.bound).collect::<BTreeSet<_>>().len()
    }

    fn disruptors<'w>(&'w self, budget: &'w str) -> impl Iterator<Item = &'w Vertex> {
        let disrupts = |role: &str| self.graph.roles.get(role).is_some_and(|role| role.disrupts.contains(budget));
        self.present().filter(move |vertex| disrupts(&vertex.role))
    }

    pub(crate) fn give(
        &mut self,
        tokens: BTreeMap<(String, NodeId), Option<Token>>,
        free: &BTreeMap<String, usize>,
        busy: &BTreeSet<(String, NodeId)>,
    ) -> Vec<VertexId> {
        for (place, token) in tokens {
            match token {
                Some(token) => {
                    if !self.tokens.contains_key(&place) && busy.contains(&place) {
                        self.borne.insert(place.clone());
                    }
                    self.tokens.insert(place, token);
                }
                None => {
                    self.borne.remove(&place);
                    self.tokens.remove(&place);
                }
            }
        }
        let mut woken = Vec::new();
        for (cause, count) in free {
            let held = |vertex: &&Vertex| vertex.cause.as_ref().is_some_and(|by| by.to_string() == *cause);
            let mut waiting: Vec<VertexId> =
                self.vertices.values().filter(held).filter(|vertex| !vertex.wake).map(|vertex| vertex.id).collect();
            waiting.sort_unstable();
            for id in waiting.into_iter().take(*count) {
                self.vertices.get_mut(&id).expect("a vertex").wake = true;
                woken.push(id);
            }
        }
        woken
    }

    /// Nodes that are out of service already, by budget: something of it runs there or is failed.
    pub(crate) fn busy(&self) -> BTreeSet<(String, NodeId)> {
        let works = |vertex: &&Vertex| is_out(vertex);
        let of = |budget: &String| {
            let nodes = self.disruptors(budget).filter(works).map(|vertex| (budget.clone(), vertex.node));
            nodes.collect::<Vec<_>>()
        };
        let budgets = self.budgets();
        let down = budgets.iter().flat_map(|(name, all)| all.down.iter().map(|node| (name.clone(), *node)));
        self.graph.budgets.keys().flat_map(of).chain(down).collect()
    }

    /// A job begins: does it take something that serves out of service?
    pub(crate) fn disturb(&mut self, id: VertexId) {
        let vertex = &self.vertices[&id];
        if self.graph.budgets.keys().any(|budget| self.is_out(vertex, budget)) {
            self.disturbing.insert(id);
        } else {
            self.disturbing.remove(&id);
        }
    }

    /// Invariant 8: nodes that serve and on which something of a budget runs, or failed, are no more than may be.
    pub(crate) fn assert_budgets(&self) {
        if self.graph.budgets.is_empty() {
            return;
        }
        let hood = self.whole_hood();
        for (name, budget) in &self.graph.budgets {
            let out: BTreeSet<NodeId> = self
                .disruptors(name)
                .filter(|vertex| self.disturbing.contains(&vertex.id) && self.is_out(vertex, name))
                .map(|v| v.node)
                // Who is aside is so by a person's decision, for which no room is needed.
                .filter(|node| self.stands(*node) == Standing::In)
                .filter(|node| !self.borne.contains(&(name.clone(), *node)))
                .collect();
            let limit = limit(budget, self.members(name));
            assert!(
                out.len() <= limit,
                "{} nodes of {name} are out of service, at most {limit} may be: {:?}\n{}",
                out.len(),
                self.tokens,
                self.table()
            );
            let changing = self
                .disruptors(name)
                .filter(|vertex| {
                    let joins = budget.quorum && !vertex.anew && !self.serves(name, vertex.node);
                    joins && vertex.phase.state == State::Running
                })
                .filter(|vertex| vertex.phase.goal == Goal::Present && !is_founding(&self.graph, &hood, vertex, name));
            let changing: BTreeSet<NodeId> = changing.map(|vertex| vertex.node).collect();
            assert!(changing.len() <= 1, "{} nodes join {name} at once:\n{}", changing.len(), self.table());
        }
    }

    /// It is made anew, and something goes on there.
    fn is_anew(&self, vertex: &Vertex) -> bool {
        let works = |on: &Vertex| {
            on.node == vertex.node && matches!(on.phase.state, State::Ready | State::Running | State::Failed)
        };
        vertex.anew && vertex.phase.goal == Goal::Present && self.present().any(works)
    }

    fn serves(&self, budget: &str, node: NodeId) -> bool {
        self.disruptors(budget).any(|vertex| vertex.node == node && vertex.serving)
    }

    /// What is made anew is out of service by a person's decision, for which there was room; it is not counted here.
    fn is_out(&self, vertex: &Vertex, budget: &str) -> bool {
        let works = is_out(vertex);
        let stays = |v: &Vertex| v.node == vertex.node && v.serving && v.phase.goal == Goal::Present;
        let anew = |v: &Vertex| v.node == vertex.node && v.anew && v.phase.goal == Goal::Present;
        works && vertex.serving && self.disruptors(budget).any(stays) && !self.disruptors(budget).any(anew)
    }
}

/// A job of it runs, or it failed and nobody accepted that.
fn is_out(vertex: &Vertex) -> bool {
    matches!(vertex.phase.state, State::Running | State::Failed) && !vertex.phase.accepted
}
