//! Changes: of a value, or of all that a deployment is; and what people do until everything is well.

use std::collections::BTreeSet;
use std::rc::Rc;

use engine_core::budget::found;
use engine_core::graph::{Graph, Source};
use engine_core::id::{NodeId, VertexId};
use engine_core::settle::commit::{concerned, keep_leavers, rewired};
use engine_core::settle::{Cause, Turn, Vertex};
use engine_core::state::{Event, Goal, State};
use engine_core::value::{Layer, Layered};
use serde_json::{Value, json};

use super::World;

impl World {
    /// What is counted is counted from here.
    pub(crate) fn begin_change(&mut self) {
        self.change += 1;
        self.applies.clear();
        self.ran.clear();
    }

    /// Changes one layered value somewhere and commits. Returns false where there is none.
    pub(crate) fn change_a_value(&mut self) -> bool {
        let mut graph = Graph::clone(&self.graph);
        let names: Vec<String> = graph.roles.keys().cloned().collect();
        let Some(name) = self.dice.pick(&names).cloned() else { return false };
        let value = json!(self.dice.below(1000));
        let role = graph.roles.get_mut(&name).expect("a role");
        let Some(base) = role.inputs.values_mut().find_map(|input| match &mut input.source {
            Source::Layers { base, .. } => Some(base),
            _ => None,
        }) else {
            return false;
        };
        *base = Some(Layered { value, layer: Layer::Deployment, by: "test".to_owned(), of: Vec::new() });
        let concerned = concerned(Some(&self.graph), &graph);
        assert!(concerned.bind.is_empty() && concerned.unbind.is_empty());
        self.graph = Rc::new(graph);
        self.begin_change();
        let ids: Vec<VertexId> = concerned.touch.keys().filter_map(|(role, node)| self.at(role, node)).collect();
        self.touch(&ids);
        true
    }

    fn touch(&mut self, ids: &[VertexId]) {
        let graph = Rc::clone(&self.graph);
        let mut turn = Turn::new(&graph, self.load(ids));
        for id in ids {
            turn.touch(*id, self.change, &Value::Null);
        }
        let written = turn.finish();
        self.write(written);
    }

    /// Commits another graph: some vertices come, some leave, all others are judged anew where they read them.
    pub(crate) fn commit(&mut self, mut graph: Graph) {
        found(Some(&self.graph), &mut graph, |role, node| {
            self.at(role, node).is_some_and(|id| self.vertices[&id].serving)
        });
        keep_leavers(&self.graph, &mut graph);
        let concerned = concerned(Some(&self.graph), &graph);
        // What was taken under a wider limit is kept until it is given back.
        self.borne = self.tokens.keys().cloned().collect();
        self.begin_change();
        let mut made = BTreeSet::new();
        for name in graph.nodes.keys() {
            if !self.nodes.contains_key(name) {
                let id = NodeId(self.id());
                self.nodes.insert(name.clone(), id);
                made.insert(name);
            }
        }
        for (role, node) in &concerned.bind {
            if self.at(role, node).is_none() {
                let id = VertexId(self.id());
                self.vertices.insert(id, Vertex::new(id, role.clone(), self.nodes[node]));
            }
        }
        let rewired = rewired(&self.graph, &graph);
        let mut moves = Vec::new();
        let unbind = concerned.unbind.iter().map(|place| (place, Event::Unbind));
        // Those on nodes that are made now are bound by themselves, after the others.
        let (fresh, bind): (Vec<_>, Vec<_>) = concerned.bind.iter().partition(|(_, node)| made.contains(node));
        let fresh: Vec<VertexId> =
            fresh.into_iter().map(|(role, node)| self.at(role, node).expect("a vertex")).collect();
        let bind = bind.into_iter().map(|place| (place, Event::Bind));
        let touch = concerned.touch.keys().map(|place| (place, Event::Touch));
        for ((role, node), event) in unbind.chain(bind).chain(touch) {
            // What was on a lost node is gone already.
            moves.extend(self.at(role, node).map(|id| (id, event)));
        }
        self.graph = Rc::new(graph);
        let ids: Vec<VertexId> = moves.iter().map(|(id, _)| *id).collect();
        let graph = Rc::clone(&self.graph);
        let mut turn = Turn::new(&graph, self.load(&ids));
        for (id, event) in moves {
            if event == Event::Touch {
                turn.touch(id, self.change, &Value::Null);
            } else {
                turn.event(id, event, self.change, Value::Null).expect("a legal event");
            }
        }
        let written = turn.finish();
        self.write(written);
        // As the store does at a commit.
        for vertex in self.vertices.values_mut().filter(|vertex| vertex.phase.state == State::Blocked) {
            vertex.wake |= self.sought.contains(&vertex.id) || rewired.contains(&vertex.role);
        }
        self.bind_made(&fresh);
    }

    /// Node roles on nodes that nobody has reached yet are judged as they are bound, as far as that goes without loading
    /// more. Then the nodes answer.
    fn bind_made(&mut self, fresh: &[VertexId]) {
        let graph = Rc::clone(&self.graph);
        let mut hood = self.load(fresh);
        let nodes: BTreeSet<NodeId> = fresh.iter().map(|id| self.vertices[id].node).collect();
        for node in &nodes {
            hood.nodes.get_mut(node).expect("loaded").ready = false;
            hood.whole.insert(*node);
        }
        let mut turn = Turn::new(&graph, hood);
        for id in fresh {
            turn.event(*id, Event::Bind, self.change, Value::Null).expect("a new vertex may be bound");
        }
        turn.judge_all();
        let written = turn.finish();
        assert!(written.vertices.iter().all(|vertex| vertex.phase.state == State::Blocked), "nobody answers there");
        self.write(written);
        for id in &self.sought {
            let vertex = self.vertices.get_mut(id).expect("what is sought is there");
            vertex.wake |= matches!(&vertex.cause, Some(Cause::Node { node }) if nodes.contains(node));
        }
    }

    /// The faults are mended, a person retries what failed and approves what waits for it, until there is no such thing.
    /// Once is not always enough: what was held while it failed comes back as failed when its inputs turn out to be the same.
    pub(crate) fn heal(&mut self) {
        self.failing = 0;
        for _ in 0..=2 * self.graph.order.len() {
            let failed = self.vertices.values().any(|v| v.phase.state == State::Failed);
            if failed {
                self.retry(100);
            }
            if !self.approve(100) && !failed {
                return;
            }
            self.settle();
        }
        panic!("retrying does not heal:\n{}", self.table());
    }

    /// A person asks again for removals that failed.
    pub(crate) fn retry_leavers(&mut self) {
        let failed = |v: &&Vertex| v.phase.state == State::Failed && v.phase.goal == Goal::Absent;
        let mut failed: Vec<VertexId> = self.vertices.values().filter(failed).map(|v| v.id).collect();
        failed.sort_unstable();
        self.change += 1;
        self.events(&failed, Event::Retry);
    }

    /// Sets a value of one node role on this node.
    pub(crate) fn set_on(&mut self, name: &str) -> bool {
        let mut graph = Graph::clone(&self.graph);
        let names: Vec<String> =
            graph.roles.values().filter(|role| role.bound.contains(name)).map(|role| role.name.clone()).collect();
        let Some(role) = names.last() else { return true };
        let role = graph.roles.get_mut(role).expect("a role");
        let Some(nodes) = role.inputs.values_mut().find_map(|input| match &mut input.source {
            Source::Layers { nodes, .. } => Some(nodes),
            _ => None,
        }) else {
            return false;
        };
        let layered = Layered { value: json!(4711), layer: Layer::Node, by: "test".to_owned(), of: Vec::new() };
        nodes.insert(name.to_owned(), layered);
        let concerned = concerned(Some(&self.graph), &graph);
        self.graph = Rc::new(graph);
        self.begin_change();
        let ids: Vec<VertexId> = concerned.touch.keys().filter_map(|(role, node)| self.at(role, node)).collect();
        self.touch(&ids);
        true
    }
}
