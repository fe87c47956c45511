//! What must be so, and what is told of a world that it is not.

use std::collections::BTreeMap;

use engine_core::graph::Kind;
use engine_core::id::NodeId;
use engine_core::settle::Vertex;
use engine_core::settle::hood::Standing;
use engine_core::settle::judge::freeze;
use engine_core::state::{Goal, State};

use super::{World, outputs};

impl World {
    /// The nodes that choosers have chosen.
    pub(crate) fn choices(&self) -> BTreeMap<String, String> {
        let chooser = |vertex: &&Vertex| {
            self.graph.roles.get(&vertex.role).is_some_and(|role| matches!(role.kind, Kind::Chooser { .. }))
        };
        let chosen = |vertex: &Vertex| Some((vertex.role.clone(), vertex.outputs.get("node")?.as_str()?.to_owned()));
        self.present().filter(chooser).filter_map(chosen).collect()
    }

    /// Invariant 12: who was chosen stays chosen while it may be.
    pub(crate) fn assert_choices_kept(&self, before: &BTreeMap<String, String>) {
        let now = self.choices();
        for (chooser, node) in before {
            let Some(Kind::Chooser { of, group }) = self.graph.roles.get(chooser).map(|role| &role.kind) else {
                continue;
            };
            // Who steps aside, or is lost, is not chosen any more.
            if self.nodes.get(node).is_none_or(|id| self.stands(*id) != Standing::In) {
                continue;
            }
            let in_group = |of: &str| group.as_ref().is_none_or(|group| self.graph.nodes[of].group == *group);
            if self.graph.roles[of].bound.contains(node) && in_group(node) {
                assert_eq!(now.get(chooser), Some(node), "{chooser} chose anew without need:\n{}", self.table());
            }
        }
    }

    /// What the vertices of these nodes have applied, by role and node name.
    pub(crate) fn applied(&self) -> BTreeMap<(String, NodeId), Option<String>> {
        self.present().map(|vertex| ((vertex.role.clone(), vertex.node), vertex.applied.clone())).collect()
    }

    /// Who applied since the last change did so because its inputs are others now.
    pub(crate) fn assert_no_run_without_a_cause(&self, before: &BTreeMap<(String, NodeId), Option<String>>) {
        for (id, count) in &self.applies {
            let vertex = &self.vertices[id];
            assert_eq!(*count, 1, "{} ran {count} times for one change", vertex.role);
            if let Some(Some(applied)) = before.get(&(vertex.role.clone(), vertex.node)) {
                assert_ne!(vertex.applied.as_ref(), Some(applied), "{} ran again with the same inputs", vertex.role);
            }
        }
    }

    /// Invariants at rest, everything healed: all active, no cause left, machines hold what an ideal evaluation says.
    pub(crate) fn assert_converged(&self) {
        let hood = self.whole_hood();
        for vertex in self.present() {
            assert_eq!(vertex.phase.state, State::Active, "{} is not active:\n{}", vertex.role, self.table());
            assert!(vertex.cause.is_none() && vertex.job.is_none());
            let role = &self.graph.roles[&vertex.role];
            if role.kind == Kind::Work {
                assert_eq!(self.machine.get(&vertex.id), vertex.applied.as_ref(), "{} is what it says", vertex.role);
                let ideal = freeze(&hood, vertex, role);
                // What is destructive runs once; it may be outdated and says so in the plan.
                if !role.destructive {
                    assert_eq!(vertex.applied.as_ref(), Some(&ideal.digest), "{} holds what is wanted", vertex.role);
                    let ideal = outputs(role, &self.resolved(&ideal.values), &ideal.digest);
                    assert_eq!(vertex.outputs, ideal, "{} tells what it is", vertex.role);
                }
            }
        }
        assert!(self.counted.values().all(|count| *count == 1), "each job is counted once");
        assert!(self.tokens.is_empty(), "nobody holds of a budget at rest: {:?}", self.tokens);
    }

    /// Nothing is left.
    pub(crate) fn assert_gone(&self) {
        let left = self.vertices.values().filter(|v| v.phase.state != State::Gone || v.phase.goal != Goal::Absent);
        assert_eq!(left.count(), 0, "{}", self.table());
    }

    pub(crate) fn table(&self) -> String {
        let name = |id: NodeId| self.nodes.iter().find(|(_, node)| **node == id).map(|(name, _)| name.clone());
        let mut rows: Vec<String> = self
            .vertices
            .values()
            .map(|v| {
                let cause = v.cause.as_ref().map(ToString::to_string).unwrap_or_default();
                let node = name(v.node).unwrap_or_default();
                format!(
                    "{:x} {}/{} {}{}{} {cause} wake={} serving={} anew={}",
                    v.id.0.as_u128(),
                    node,
                    v.role,
                    v.phase.state,
                    if v.phase.goal == Goal::Absent { "↓" } else { "" },
                    if v.phase.armed { " a" } else { "" },
                    v.wake,
                    v.serving,
                    v.anew
                )
            })
            .collect();
        rows.sort();
        rows.join("\n")
    }
}
