//! Nodes that are lost, step aside and come back, and what people approve.

use std::collections::BTreeSet;
use std::rc::Rc;

use engine_core::graph::VIRTUAL;
use engine_core::id::{NodeId, VertexId};
use engine_core::settle::allowance::beyond;
use engine_core::settle::commit::readers_of_node;
use engine_core::settle::hood::Standing;
use engine_core::settle::{Cause, Turn};
use engine_core::state::{Event, Goal, State};
use serde_json::Value;

use super::World;

impl World {
    pub(crate) fn stands(&self, node: NodeId) -> Standing {
        self.standing.get(&node).copied().unwrap_or_default()
    }

    /// Names of nodes that are lost.
    pub(crate) fn lost(&self) -> BTreeSet<String> {
        let is_lost = |id: &NodeId| self.stands(*id) == Standing::Lost;
        self.nodes.iter().filter(|(_, id)| is_lost(id)).map(|(name, _)| name.clone()).collect()
    }

    /// Some node of the deployment that stands so.
    pub(crate) fn some_node(&mut self, standing: Standing) -> Option<String> {
        let all = self.graph.nodes.keys().filter(|name| self.stands(self.nodes[*name]) == standing);
        let all: Vec<String> = all.cloned().collect();
        self.dice.pick(&all).cloned()
    }

    fn on(&self, node: NodeId) -> Vec<VertexId> {
        let mut on: Vec<VertexId> =
            self.present().filter(|vertex| vertex.node == node).map(|vertex| vertex.id).collect();
        on.sort_unstable();
        on
    }

    fn readers_of(&self, name: &str) -> Vec<VertexId> {
        readers_of_node(&self.graph, name).iter().filter_map(|(role, node)| self.at(role, node)).collect()
    }

    /// A node is given up, as the store does it.
    pub(crate) fn lose(&mut self, name: &str) {
        let node = self.nodes[name];
        let (gone, readers) = (self.on(node), self.readers_of(name));
        self.begin_change();
        let graph = Rc::clone(&self.graph);
        let all: Vec<VertexId> = gone.iter().chain(&readers).copied().collect();
        let mut turn = Turn::new(&graph, self.load_all_of(&all));
        self.standing.insert(node, Standing::Lost);
        for id in &gone {
            turn.event(*id, Event::Lost, self.change, Value::Null).expect("a legal event");
            self.machine.remove(id);
        }
        for id in readers {
            turn.touch(id, self.change, &Value::Null);
        }
        let written = turn.finish();
        self.write(written);
        self.wake_waiting(node);
    }

    /// A node steps aside or comes back, as the store does it.
    pub(crate) fn stand(&mut self, name: &str, standing: Standing) {
        let node = self.nodes[name];
        let (on, readers) = (self.on(node), self.readers_of(name));
        self.begin_change();
        let graph = Rc::clone(&self.graph);
        let all: Vec<VertexId> = on.iter().chain(&readers).copied().collect();
        let mut turn = Turn::new(&graph, self.load_all_of(&all));
        let told = beyond(&graph, &turn.hood, node);
        for budget in &told {
            assert!(self.budgets()[budget].room(&graph, budget) == 0, "{budget} has room");
        }
        turn.stand(node, standing);
        self.standing.insert(node, standing);
        for id in readers {
            turn.touch(id, self.change, &Value::Null);
        }
        let written = turn.finish();
        self.write(written);
        self.wake_waiting(node);
    }

    fn wake_waiting(&mut self, node: NodeId) {
        self.kept = None;
        for vertex in self.vertices.values_mut() {
            let waits = |cause: &Cause| match cause {
                Cause::Node { node: by } => *by == node,
                Cause::Budget { .. } | Cause::Member { .. } => true,
                _ => false,
            };
            vertex.wake |= vertex.cause.as_ref().is_some_and(waits);
        }
    }

    /// A person approves what waits for it: each, or some. Returns whether anything did.
    pub(crate) fn approve(&mut self, percent: usize) -> bool {
        self.kept = None;
        let mut waiting: Vec<VertexId> = self
            .vertices
            .values()
            .filter(|vertex| matches!(vertex.cause, Some(Cause::Approval { .. })))
            .map(|vertex| vertex.id)
            .collect();
        waiting.sort_unstable();
        waiting.retain(|_| self.dice.chance(percent));
        for id in &waiting {
            let vertex = self.vertices.get_mut(id).expect("a vertex");
            let Some(Cause::Approval { digest, .. }) = &vertex.cause else { unreachable!("it waits for an approval") };
            vertex.approved = Some(digest.clone());
            vertex.wake = true;
        }
        !waiting.is_empty()
    }

    /// A person asks again for what failed, all of it or some.
    pub(crate) fn retry(&mut self, percent: usize) {
        let mut failed: Vec<VertexId> =
            self.vertices.values().filter(|v| v.phase.state == State::Failed).map(|v| v.id).collect();
        failed.sort_unstable();
        failed.retain(|_| self.dice.chance(percent));
        self.change += 1;
        self.events(&failed, Event::Retry);
    }

    /// A person accepts some of what failed.
    pub(crate) fn accept(&mut self, percent: usize) {
        let mut failed: Vec<VertexId> =
            self.vertices.values().filter(|v| v.phase.state == State::Failed).map(|v| v.id).collect();
        failed.sort_unstable();
        failed.retain(|_| self.dice.chance(percent));
        let graph = Rc::clone(&self.graph);
        let mut turn = Turn::new(&graph, self.load(&failed));
        for id in failed {
            let may = self.vertices[&id].serving && self.vertices[&id].phase.goal == Goal::Present;
            let taken = turn.accept(id, Value::Null);
            assert!(may || !taken, "what never succeeded, or leaves, is not accepted");
        }
        let written = turn.finish();
        self.write(written);
    }

    /// All nodes that stand aside come back.
    pub(crate) fn all_in(&mut self) {
        let aside: Vec<String> = self
            .nodes
            .iter()
            .filter(|(name, id)| *name != VIRTUAL && self.stands(**id) == Standing::Aside)
            .map(|(name, _)| name.clone())
            .collect();
        for name in aside {
            self.stand(&name, Standing::In);
        }
    }

    /// No job began on this node since the last change, and others wait for it only to leave.
    pub(crate) fn assert_quiet_on(&self, name: &str) {
        assert!(self.ran_on(name) == 0, "a job began on {name}, which stands aside:\n{}", self.table());
        let node = self.nodes[name];
        for vertex in self.present().filter(|vertex| vertex.node != node && vertex.phase.goal == Goal::Present) {
            // Who is aside may be all that a budget bears.
            let held = !self.graph.budgets.is_empty() && vertex.phase.state == State::Blocked;
            assert!(held || vertex.phase.state == State::Active, "{} is not active:\n{}", vertex.role, self.table());
        }
    }
}
