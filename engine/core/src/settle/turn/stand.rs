//! What a turn does when the standing of a node changes.

use super::Turn;
use crate::id::{NodeId, VertexId};
use crate::settle::hood::Standing;
use crate::settle::{Cause, Tally};
use crate::state::State;

impl Turn<'_> {
    /// A node steps aside or comes back in; all its vertices must be loaded. On a node aside nothing begins, and nobody
    /// waits for what is stale there. Who gathers from it is to be touched besides ([`crate::settle::commit::readers_of_node`]).
    pub fn stand(&mut self, node: NodeId, standing: Standing) {
        let was = self.hood.standing(node);
        let Some(view) = self.hood.nodes.get_mut(&node) else { return };
        view.standing = standing;
        let mut on: Vec<VertexId> =
            self.hood.vertices.values().filter(|vertex| vertex.node == node).map(|vertex| vertex.id).collect();
        on.sort_unstable();
        for id in on {
            let vertex = &self.hood.vertices[&id];
            let (role, phase) = (vertex.role.clone(), vertex.phase);
            let (before, after) = (Tally::of(phase, was), Tally::of(phase, standing));
            self.hood.tallies.entry(role.clone()).or_default().shift(before, after);
            self.written.tallies.entry(role.clone()).or_default().shift(before, after);
            self.wake_roles(&role);
            self.stops(&role);
            if phase.state == State::Ready {
                self.enqueue(id);
            }
        }
        if standing == Standing::In {
            self.wake_key(&Cause::Node { node });
        }
        self.recount.insert(node);
    }
}
