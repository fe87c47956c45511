//! When a leaver may be removed: who still holds what it told?
//!
//! Those who stay let go by being judged without it: they rest then. Among leavers the order is reversed.

use serde_json::{Value, json};

use super::judge::{stale_anywhere, stale_at};
use super::{Cause, Hood, Vertex};
use crate::document::Object;
use crate::graph::{Gathered, Graph, GraphRole, Kind, Pairing, Source};
use crate::state::Goal;

/// What holds back the removal of a leaver: somebody who may still hold what it told, or a gather that it reads and that
/// does not say yet who stays.
pub(super) fn held(graph: &Graph, hood: &Hood, leaver: &Vertex) -> Option<Cause> {
    reader(graph, hood, leaver).or_else(|| {
        let node = hood.virtual_node?;
        gathers(graph, leaver).find_map(|(_, helper)| stale_at(hood, &helper.name, node))
    })
}

/// A leaver that has to make room on the node before this vertex may begin there.
pub(super) fn in_the_way(graph: &Graph, hood: &Hood, newcomer: &Vertex, role: &GraphRole) -> Option<Cause> {
    let found = graph.rivals(role).filter_map(|rival| hood.at(&rival.name, newcomer.node));
    let mut leaves = found.filter(|rival| rival.phase.goal == Goal::Absent && !rival.is_gone());
    leaves.next().map(|rival| Cause::Vertex { vertex: rival.id })
}

/// Does somebody wait for this leaver to make room? Readers on the node wait for the newcomer then, so it does not wait
/// for them.
fn hands_over(graph: &Graph, hood: &Hood, leaver: &Vertex) -> bool {
    let Some(role) = graph.roles.get(&leaver.role) else { return false };
    let mut rivals = graph.rivals(role).filter_map(|rival| hood.at(&rival.name, leaver.node));
    rivals.any(|rival| rival.phase.holds_readers())
}

/// Inputs that a removal gets anew: gathers, cut down to those who stay.
pub(super) fn inputs(graph: &Graph, hood: &Hood, leaver: &Vertex) -> Object {
    let value = |helper: &GraphRole| {
        let stays = hood.on_virtual(&helper.name).filter(|found| found.phase.goal == Goal::Present);
        match stays.and_then(|found| found.outputs.get("value")) {
            Some(value) => value.clone(),
            None if matches!(helper.kind, Kind::Gather { map: true, .. }) => json!({}),
            None => Value::Array(Vec::new()),
        }
    };
    gathers(graph, leaver).map(|(input, helper)| (input.clone(), value(helper))).collect()
}

/// Gathers of outputs that feed inputs of a leaver.
fn gathers<'g>(graph: &'g Graph, leaver: &Vertex) -> impl Iterator<Item = (&'g String, &'g GraphRole)> {
    let inputs = graph.roles.get(&leaver.role).into_iter().flat_map(|role| &role.inputs);
    inputs.filter_map(|(name, input)| {
        let Source::Gather { helper } = &input.source else { return None };
        let helper = graph.roles.get(helper)?;
        matches!(helper.kind, Kind::Gather { of: Gathered::Output { .. }, .. }).then_some((name, helper))
    })
}

/// Somebody who may still hold what a leaver told, directly or through a helper.
fn reader(graph: &Graph, hood: &Hood, leaver: &Vertex) -> Option<Cause> {
    let mut queue: Vec<&str> = vec![&leaver.role];
    while let Some(parent) = queue.pop() {
        if let Some(cause) = chooser(graph, hood, parent) {
            return Some(cause);
        }
        for (child, edge) in graph.readers(parent).filter(|(_, edge)| !edge.is_soft()) {
            let held = if edge.pairing == Pairing::Same && parent == leaver.role {
                let reader = hood.at(&child.name, leaver.node).filter(|reader| reader.phase.is_stale());
                let waits = |reader: &&Vertex| reader.phase.goal == Goal::Absent || !hands_over(graph, hood, leaver);
                reader.filter(waits).map(|reader| Cause::Vertex { vertex: reader.id })
            } else if hood.tally(&child.name).leaving > 0 {
                Some(Cause::Leaving { role: child.name.clone() })
            } else {
                unsettled_anywhere(hood, &child.name)
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

/// Somebody who stays and was not judged without the leaver yet, also where nobody else waits for him.
fn unsettled_anywhere(hood: &Hood, role: &str) -> Option<Cause> {
    let waits = || (hood.tally(role).unawaited > 0).then(|| Cause::Role { role: role.to_owned() });
    stale_anywhere(hood, role).or_else(waits)
}

/// A chooser that has not chosen anew yet. It has no edge from the role that it chooses from; who reads its choice is
/// touched only when it has.
fn chooser(graph: &Graph, hood: &Hood, of: &str) -> Option<Cause> {
    let choosers =
        graph.roles.values().filter(|role| matches!(&role.kind, Kind::Chooser { of: from, .. } if from == of));
    let node = hood.virtual_node?;
    choosers.into_iter().find_map(|role| stale_at(hood, &role.name, node))
}
