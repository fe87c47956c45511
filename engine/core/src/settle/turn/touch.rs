//! Whom an output that changed concerns.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::Turn;
use crate::graph::{Gathered, GraphRole, Kind, Pairing, RoleName, Source, Why};
use crate::id::VertexId;
use crate::state::{Event, Goal, State};

impl Turn<'_> {
    /// Direct readers of outputs that changed are touched with the writer's `since`. Nobody else is.
    pub(super) fn touch_readers(&mut self, id: VertexId, changed: &BTreeSet<String>, since: Option<i64>) {
        if changed.is_empty() {
            return;
        }
        let writer = self.hood.vertices[&id].clone();
        let since = since.unwrap_or_default();
        let children: Vec<(RoleName, Pairing)> = self
            .graph
            .children(&writer.role)
            .filter(|(child, edge)| reads(child, &edge.why, &writer.role, changed))
            .map(|(child, edge)| (child.name.clone(), edge.pairing))
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect();
        for (child, pairing) in children {
            let why = json!({"by": writer.id, "role": writer.role, "outputs": changed});
            match pairing {
                Pairing::Same => {
                    if let Some(reader) = self.hood.at(&child, writer.node).map(|reader| reader.id) {
                        self.touch_one(reader, since, &why);
                    }
                }
                Pairing::All if self.graph.roles.get(&child).is_some_and(|child| child.on_virtual) => {
                    if let Some(reader) = self.hood.on_virtual(&child).map(|reader| reader.id) {
                        self.touch_one(reader, since, &why);
                    }
                }
                Pairing::All | Pairing::FromVirtual | Pairing::Chosen => {
                    self.touches.push((child, since, why.to_string()));
                }
            }
        }
    }

    /// Touches that concern all instances of a role wait until those are loaded.
    pub(super) fn apply_touches(&mut self) {
        for (role, since, why) in std::mem::take(&mut self.touches) {
            if !self.hood.all_of.contains(&role) {
                self.wants.roles.insert(role.clone());
                self.touches.push((role, since, why));
                continue;
            }
            let why: Value = serde_json::from_str(&why).unwrap_or_default();
            let readers: Vec<VertexId> = self.hood.place.get(&role).into_iter().flatten().map(|(_, id)| *id).collect();
            for reader in readers {
                self.touch_one(reader, since, &why);
            }
        }
    }

    pub(super) fn touch_one(&mut self, id: VertexId, since: i64, why: &Value) {
        let phase = self.hood.vertices[&id].phase;
        if phase.goal == Goal::Absent || phase.state == State::Gone || phase.state == State::Proposed {
            return;
        }
        let vertex = self.vertex(id);
        vertex.since = Some(vertex.since.map_or(since, |old| old.min(since)));
        self.moved(id, Event::Touch, why.clone());
        if self.hood.vertices[&id].phase.state == State::Blocked {
            self.vertex(id).wake = true;
            self.enqueue(id);
        }
    }
}

/// Does this edge read one of the outputs?
fn reads(child: &GraphRole, why: &Why, parent: &str, outputs: &BTreeSet<String>) -> bool {
    let Why::Data { input, .. } = why else { return false };
    let named = |output: Option<&String>| output.is_none_or(|output| outputs.contains(output));
    match (&child.kind, child.inputs.get(input)) {
        (Kind::Gather { of: Gathered::Output { role, output, .. }, .. }, _) => role == parent && named(output.as_ref()),
        (Kind::Chooser { .. }, _) => false,
        (_, Some(input)) => names(&input.source, parent, &named),
        (_, None) => true,
    }
}

fn names(source: &Source, parent: &str, named: &impl Fn(Option<&String>) -> bool) -> bool {
    match source {
        Source::Chosen { helper, .. } if helper == parent => true,
        Source::Output { output, .. } | Source::Chosen { output, .. } => named(output.as_ref()),
        Source::At { output, .. } => named(Some(output)),
        Source::Gather { .. } => true,
        Source::ByGroup { groups } => groups.values().any(|source| names(source, parent, named)),
        _ => false,
    }
}
