//! Machines that are made anew, and what must be so afterwards.

use std::collections::BTreeSet;
use std::rc::Rc;

use engine_core::document::Object;
use engine_core::graph::{Kind, VIRTUAL};
use engine_core::id::{NodeId, VertexId};
use engine_core::settle::allowance::too_many;
use engine_core::settle::commit::readers_of_facts;
use engine_core::settle::hood::Standing;
use engine_core::settle::judge::freeze;
use engine_core::settle::{Turn, Vertex};
use serde_json::Value;

use super::World;

impl World {
    /// Makes machines anew: those of some nodes, as many as budgets allow, or all of the deployment.
    pub(crate) fn redeploy(&mut self, whole: bool) {
        let some = if whole { 100 } else { 40 };
        let mut names: Vec<String> = self.graph.nodes.keys().cloned().collect();
        names.retain(|name| self.stands(self.nodes[name]) != Standing::Lost);
        names.retain(|_| self.dice.chance(some));
        if !whole {
            // One more at a time, as long as there is room.
            let hood = self.whole_hood();
            let mut chosen = BTreeSet::new();
            names.retain(|name| {
                chosen.insert(self.nodes[name]);
                let fits = too_many(&self.graph, &hood, &chosen).is_none();
                if !fits {
                    chosen.remove(&self.nodes[name]);
                }
                fits
            });
        }
        let nodes: BTreeSet<NodeId> = names.iter().map(|name| self.nodes[name]).collect();
        self.begin_change();
        for node in &nodes {
            *self.generations.entry(*node).or_default() += 1;
        }
        if whole {
            self.generations.clear();
        }
        let on_virtual = self.nodes[VIRTUAL];
        let is_work = |role: &str| self.graph.roles.get(role).is_none_or(|role| role.kind == Kind::Work);
        let anew: Vec<VertexId> = self
            .present()
            .filter(|vertex| nodes.contains(&vertex.node) || (whole && vertex.node == on_virtual))
            .filter(|vertex| is_work(&vertex.role))
            .map(|vertex| vertex.id)
            .collect();
        for vertex in &anew {
            self.machine.remove(vertex);
        }
        let facts: BTreeSet<String> = ["address", "generation"].map(str::to_owned).into();
        let mut readers = Vec::new();
        for (role, node) in names.iter().flat_map(|name| readers_of_facts(&self.graph, name, &facts)) {
            readers.extend(self.at(&role, &node));
        }
        let graph = Rc::clone(&self.graph);
        let concerned: Vec<VertexId> = anew.iter().chain(&readers).copied().collect();
        let mut turn = Turn::new(&graph, self.load(&concerned));
        for id in anew {
            let on_node = self.vertices[&id].node != on_virtual;
            turn.redeploy(id, self.change, on_node, whole, &Value::Null);
        }
        for id in readers {
            turn.touch(id, self.change, &Value::Null);
        }
        let written = turn.finish();
        self.write(written);
    }

    /// Each node role that was made anew ran; values of `on_change: ignore` inputs are those of today.
    pub(crate) fn assert_made_anew(&self) {
        let hood = self.whole_hood();
        for vertex in self.present() {
            let role = &self.graph.roles[&vertex.role];
            if role.kind == Kind::Work {
                assert!(self.applies.contains_key(&vertex.id), "{} did not run:\n{}", vertex.role, self.table());
                let forgetful = Vertex { kept: Object::new(), ..vertex.clone() };
                let today = freeze(&hood, &forgetful, role);
                for (name, kept) in &vertex.kept {
                    assert_eq!(today.values.get(name), Some(kept), "{} keeps an old {name}", vertex.role);
                }
            }
        }
    }
}
