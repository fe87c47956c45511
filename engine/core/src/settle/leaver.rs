//! When a leaver may be removed: who still holds what it told?
//!
//! Those who stay let go by being judged without it: they rest then. Among leavers the order is reversed.

use super::judge::{stale_anywhere, stale_at};
use super::{Cause, Hood, Vertex};
use crate::graph::{Graph, Kind, Pairing};

/// Somebody who may still hold what a leaver told, directly or through a helper.
pub(super) fn reader(graph: &Graph, hood: &Hood, leaver: &Vertex) -> Option<Cause> {
    let mut queue: Vec<&str> = vec![&leaver.role];
    while let Some(parent) = queue.pop() {
        if let Some(cause) = chooser(graph, hood, parent) {
            return Some(cause);
        }
        for (child, edge) in graph.readers(parent).filter(|(_, edge)| !edge.is_soft()) {
            let held = if edge.pairing == Pairing::Same && parent == leaver.role {
                let reader = hood.at(&child.name, leaver.node).filter(|reader| reader.phase.is_stale());
                reader.map(|reader| Cause::Vertex { vertex: reader.id })
            } else if hood.tally(&child.name).leaving > 0 {
                Some(Cause::Leaving { role: child.name.clone() })
            } else {
                stale_anywhere(hood, &child.name)
            };
            if held.is_some() {
                return held;
            }
            // Whoever reads through a helper reads the leaver too.
            if child.kind != Kind::Work {
                queue.push(&child.name);
            }
        }
    }
    None
}

/// A chooser that has not chosen anew yet. It has no edge from the role that it chooses from; who reads its choice is
/// touched only when it has.
fn chooser(graph: &Graph, hood: &Hood, of: &str) -> Option<Cause> {
    let choosers =
        graph.roles.values().filter(|role| matches!(&role.kind, Kind::Chooser { of: from, .. } if from == of));
    let node = hood.virtual_node?;
    choosers.into_iter().find_map(|role| stale_at(hood, &role.name, node))
}
