//! Neighbourhoods as the store loads them, and as turns keep them.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use engine_core::document::Object;
use engine_core::graph::VIRTUAL;
use engine_core::id::{NodeId, VertexId};
use engine_core::settle::hood::Standing;
use engine_core::settle::turn::Wants;
use engine_core::settle::{Hood, NodeView, Scope, Turn, Vertex};
use engine_core::state::Goal;
use serde_json::{Value, json};

use crate::world::World;

impl World {
    pub(crate) fn view(&self, name: &str, id: NodeId) -> NodeView {
        let group = self.graph.nodes.get(name).map(|node| node.group.clone()).unwrap_or_default();
        let generation = self.generations.get(&id).copied().unwrap_or_default();
        // A machine that is made anew may come back under another address, or under the same.
        let address = format!("10.0.{}.{}", generation / 2, id.0.as_u128() % 250);
        let facts = json!({"name": name, "address": address, "generation": generation});
        let Value::Object(facts) = facts else { unreachable!("an object") };
        NodeView { id, name: name.to_owned(), group, standing: self.stands(id), ready: true, facts }
    }

    /// Loads as the store does: the virtual node, and whole nodes of the vertices in question.
    pub(crate) fn load(&self, vertices: &[VertexId]) -> Hood {
        let virtual_node = self.nodes[VIRTUAL];
        let whole: BTreeSet<NodeId> = vertices.iter().map(|id| self.vertices[id].node).chain([virtual_node]).collect();
        let mut hood = Hood {
            virtual_node: Some(virtual_node),
            tallies: self.tallies.clone().into_iter().collect(),
            budgets: self.budgets(),
            deployment: Object::from_iter([("name".to_owned(), json!("blue"))]),
            ..Hood::default()
        };
        let roles = vertices.iter().map(|id| self.vertices[id].role.clone()).collect();
        let scope = Scope::of(&self.graph, &roles);
        let is_loaded = |vertex: &Vertex| match &scope {
            _ if vertex.node == virtual_node => true,
            None => true,
            Some(scope) => {
                let moves = vertex.since.is_some() || vertex.phase.goal == Goal::Absent;
                scope.roles.contains(&vertex.role) || (moves && scope.stale.contains(&vertex.role))
            }
        };
        for vertex in self.present().filter(|vertex| whole.contains(&vertex.node) && is_loaded(vertex)) {
            hood.add(vertex.clone());
        }
        for (name, id) in self.seen().filter(|(_, id)| whole.contains(id)) {
            hood.nodes.insert(*id, self.view(name, *id));
        }
        match scope {
            Some(scope) => {
                let scope = Arc::new(scope);
                hood.near = whole.into_iter().map(|node| (node, Arc::clone(&scope))).collect();
            }
            None => hood.whole = whole,
        }
        hood
    }

    /// Nodes of the deployment; those that are lost are not.
    fn seen(&self) -> impl Iterator<Item = (&String, &NodeId)> {
        self.nodes.iter().filter(|(_, id)| self.stands(**id) != Standing::Lost)
    }

    /// All of the nodes of some vertices.
    pub(crate) fn load_all_of(&self, vertices: &[VertexId]) -> Hood {
        let mut hood = self.load(vertices);
        let whole: BTreeSet<NodeId> = hood.nodes.keys().copied().collect();
        for vertex in self.present().filter(|vertex| whole.contains(&vertex.node)) {
            hood.add(vertex.clone());
        }
        hood.near.clear();
        hood.whole = whole;
        hood
    }

    /// Adds to what an earlier turn saw, as the store does: all of a node that it comes back to.
    pub(crate) fn load_into(&self, hood: &mut Hood, vertices: &[VertexId]) {
        let fresh = self.load(vertices);
        let whole = fresh.whole.iter().chain(fresh.near.keys().filter(|node| hood.near.contains_key(*node))).copied();
        let whole: BTreeSet<NodeId> = whole.collect();
        for vertex in fresh.vertices.into_values() {
            hood.add(*vertex);
        }
        for vertex in self.present().filter(|vertex| whole.contains(&vertex.node)) {
            hood.add(vertex.clone());
        }
        hood.budgets = fresh.budgets;
        hood.nodes.extend(fresh.nodes);
        for (node, scope) in fresh.near {
            hood.near.entry(node).or_insert(scope);
        }
        hood.whole.extend(whole);
    }

    /// What a turn keeps is what the rows say.
    pub(crate) fn keep(&mut self, hood: Hood) {
        for (id, vertex) in &hood.vertices {
            assert_eq!(**vertex, self.vertices[id], "a kept vertex is as its row");
        }
        let tallies: HashMap<_, _> = hood
            .tallies
            .iter()
            .filter(|(_, tally)| !tally.is_zero())
            .map(|(role, tally)| (role.clone(), *tally))
            .collect();
        assert_eq!(tallies, self.tallies, "kept tallies are as the rows");
        self.kept = Some(hood);
    }

    pub(crate) fn whole_hood(&self) -> Hood {
        let all: Vec<VertexId> = self.present().map(|vertex| vertex.id).collect();
        let mut hood = self.load(&all);
        self.load_all_nodes(&mut hood);
        hood.whole = self.nodes.values().copied().collect();
        hood.all_of = self.graph.roles.keys().cloned().collect();
        hood
    }

    pub(crate) fn load_all_nodes(&self, hood: &mut Hood) {
        for (name, id) in self.seen() {
            hood.nodes.entry(*id).or_insert_with(|| self.view(name, *id));
        }
        hood.all_nodes = true;
    }

    /// Drives a turn's judgements to their end, loading what they want.
    pub(crate) fn drive(&self, turn: &mut Turn<'_>) {
        loop {
            let wants = turn.judge_all();
            if wants.is_empty() {
                return;
            }
            self.load_more(turn, wants);
        }
    }

    pub(crate) fn load_more(&self, turn: &mut Turn<'_>, wants: Wants) {
        for vertex in self.present().filter(|vertex| wants.roles.contains(&vertex.role)) {
            turn.hood.add(vertex.clone());
        }
        for id in wants.whole.iter().map(|name| self.nodes[name]) {
            for vertex in self.present().filter(|vertex| vertex.node == id) {
                turn.hood.add(vertex.clone());
            }
            turn.hood.whole.insert(id);
        }
        self.load_all_nodes(&mut turn.hood);
        turn.loaded(wants.roles, wants.nodes);
    }
}
