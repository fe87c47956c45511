//! What nodes hold of budgets, moved with their vertices.

use std::collections::BTreeMap;

use super::Turn;
use crate::id::{NodeId, VertexId};
use crate::settle::allowance::{Allowance, Token, is_down, is_founding, recount, serves, token};
use crate::settle::{Cause, Hood};

/// Who holds of which budget.
pub(super) fn tokens(hood: &Hood) -> BTreeMap<(String, NodeId), Token> {
    let of = |(name, allowance): (&String, &Allowance)| {
        allowance.held.iter().map(|(node, token)| ((name.clone(), *node), *token)).collect::<Vec<_>>()
    };
    hood.budgets.iter().flat_map(of).collect()
}

impl Turn<'_> {
    /// A vertex begins: its node takes every budget of the role at once. That it may was just judged.
    pub(super) fn take_budgets(&mut self, id: VertexId) {
        let vertex = &self.hood.vertices[&id];
        let Some(role) = self.graph.roles.get(&vertex.role) else { return };
        let node = vertex.node;
        let tokens: Vec<(String, Token)> = role
            .takes
            .iter()
            .filter_map(|name| Some((name.clone(), token(self.graph, &self.hood, vertex, name)?)))
            .collect();
        let founding = |name: &&String| {
            is_founding(self.graph, &self.hood, vertex, name) && !serves(self.graph, &self.hood, name, node)
        };
        let founding: Vec<String> = role.takes.iter().filter(founding).cloned().collect();
        for name in founding {
            if self.graph.budgets.get(&name).is_some_and(|budget| budget.quorum) {
                self.hood.budgets.entry(name).or_default().down.insert(node);
            }
        }
        for (name, token) in tokens {
            self.hood.budgets.entry(name.clone()).or_default().held.entry(node).or_insert(token);
            self.moved_budgets.insert(name);
        }
    }

    /// What a vertex made failed its check: its node is out of service, whatever else is decided in this turn.
    pub fn fails(&mut self, id: VertexId) {
        let Some(vertex) = self.hood.vertices.get(&id).filter(|vertex| vertex.serving) else { return };
        let Some(role) = self.graph.roles.get(&vertex.role) else { return };
        for name in role.disrupts.iter().filter(|name| self.graph.budgets.contains_key(*name)) {
            self.hood.budgets.entry(name.clone()).or_default().failing.insert(vertex.node);
        }
    }

    /// Counts again what nodes hold on which something moved, and says who may be woken for what became free.
    pub(super) fn count_budgets(&mut self) {
        for node in std::mem::take(&mut self.recount) {
            // Seen in part only: what was moved there is judged by the next turn, which sees it whole.
            if !self.hood.is_whole(node) {
                continue;
            }
            for name in self.graph.budgets.keys() {
                let is_down = is_down(self.graph, &self.hood, name, node);
                let allowance = self.hood.budgets.entry(name.clone()).or_default();
                let moved = if is_down { allowance.down.insert(node) } else { allowance.down.remove(&node) };
                let held = allowance.held.get(&node).copied();
                let holds = held.and_then(|token| recount(self.graph, &self.hood, name, node, token));
                if held != holds {
                    let held = &mut self.hood.budgets.entry(name.clone()).or_default().held;
                    match holds {
                        Some(token) => held.insert(node, token),
                        None => held.remove(&node),
                    };
                }
                if moved || held != holds {
                    self.moved_budgets.insert(name.clone());
                }
            }
        }
        for name in std::mem::take(&mut self.moved_budgets) {
            let allowance = self.hood.budgets.entry(name.clone()).or_default();
            let room = allowance.own_room(self.graph, &name);
            let changing = allowance.is_changing();
            if !allowance.failing.is_empty() && allowance.may_mend(self.graph, &name) {
                self.written.free.insert(Cause::InTurn { budget: name.clone() }.to_string(), 1);
            }
            if room > 0 {
                self.written.free.insert(Cause::Budget { budget: name.clone() }.to_string(), room);
            }
            // Who waits softly for those that wait for this budget waits for what moves, which they do no more.
            let fails = |token: Option<&Token>| token.is_some_and(|token| token.failed);
            let newly = self.hood.budgets[&name]
                .held
                .iter()
                .any(|(node, token)| token.failed && !fails(self.tokens.get(&(name.clone(), *node))));
            if self.any_soft && newly {
                self.written.wake.insert(Cause::Budget { budget: name.clone() }.to_string());
                self.written.wake.insert(Cause::Member { budget: name.clone() }.to_string());
            }
            // Also where there is no room: it waits for that then.
            if !changing {
                self.written.free.insert(Cause::Member { budget: name }.to_string(), 1);
            }
        }
        for name in self.graph.budgets.keys() {
            let nothing = Allowance::default();
            let allowance = self.hood.budgets.get(name).unwrap_or(&nothing);
            let count = allowance.count(self.graph, name);
            if count != allowance.told {
                let less = count.unavailable < allowance.told.unavailable || count.failed < allowance.told.failed;
                self.written.lets_go |= less && allowance.shared.is_some();
                self.written.counts.insert(name.clone(), count);
            }
        }
        let now = tokens(&self.hood);
        for (place, was) in &self.tokens {
            match now.get(place) {
                None => {
                    self.written.tokens.insert(place.clone(), None);
                }
                Some(is) if is != was => {
                    self.written.tokens.insert(place.clone(), Some(*is));
                }
                Some(_) => {}
            }
        }
        let fresh = now.into_iter().filter(|(place, _)| !self.tokens.contains_key(place));
        self.written.tokens.extend(fresh.map(|(place, token)| (place, Some(token))));
    }
}
