//! The graph as a picture: where everything stands, and as dot, mermaid, svg or json.
//!
//! A role is drawn once on each node it is bound on only in the svg, which has a lane per node. Everything here is
//! text in, text out; colours and icons follow from the states that the caller gives.

mod svg;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::graph::{Edge, Graph, GraphRole, Kind, NodeName, RoleName, VIRTUAL, Why};
use crate::state::State;

pub use svg::svg;

/// State of every vertex; missing ones are drawn as proposed.
pub type States = BTreeMap<RoleName, BTreeMap<NodeName, State>>;

/// Where everything stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Layout {
    /// Lanes from top to bottom: the virtual node, then nodes by group and name.
    pub lanes: Vec<NodeName>,
    /// Columns from left to right: the longest path to a role.
    pub ranks: BTreeMap<RoleName, usize>,
    /// Number of columns.
    pub columns: usize,
}

/// Lanes and ranks. Linear in roles, edges and nodes.
pub fn layout(graph: &Graph) -> Layout {
    let mut nodes: Vec<(&str, &NodeName)> =
        graph.nodes.iter().map(|(name, node)| (node.group.as_str(), name)).collect();
    nodes.sort_unstable();
    let lanes = std::iter::once(VIRTUAL.to_owned()).chain(nodes.into_iter().map(|(_, name)| name.clone())).collect();
    let mut ranks: BTreeMap<RoleName, usize> = BTreeMap::new();
    for name in &graph.order {
        let Some(role) = graph.roles.get(name) else { continue };
        let rank = role.parents.iter().filter_map(|edge| ranks.get(&edge.parent)).map(|rank| rank + 1).max();
        ranks.insert(name.clone(), rank.unwrap_or(0));
    }
    let columns = ranks.values().max().map_or(0, |last| last + 1);
    Layout { lanes, ranks, columns }
}

/// How a state looks.
pub(crate) fn look(state: State) -> (&'static str, &'static str) {
    match state {
        State::Proposed => ("○", "#9ca3af"),
        State::Blocked => ("◌", "#d97706"),
        State::Ready => ("◔", "#0891b2"),
        State::Running => ("▶", "#2563eb"),
        State::Active => ("●", "#16a34a"),
        State::Failed => ("✕", "#dc2626"),
        State::Gone => ("·", "#6b7280"),
    }
}

/// The state that stands for all instances: the one that needs most attention.
fn worst(role: &GraphRole, states: &States) -> State {
    const ATTENTION: [State; 6] =
        [State::Failed, State::Running, State::Blocked, State::Ready, State::Proposed, State::Active];
    let all = states.get(&role.name);
    let state = |node: &NodeName| all.and_then(|all| all.get(node)).copied().unwrap_or(State::Proposed);
    ATTENTION.into_iter().find(|wanted| role.bound.iter().any(|node| state(node) == *wanted)).unwrap_or(State::Gone)
}

/// Name, number of instances, and how many of them are active.
fn label(role: &GraphRole, states: &States) -> String {
    let icon = look(worst(role, states)).0;
    if role.on_virtual {
        return format!("{icon} {}", role.name);
    }
    let all = states.get(&role.name);
    let active = role.bound.iter().filter(|node| all.and_then(|all| all.get(*node)) == Some(&State::Active)).count();
    format!("{icon} {} {active}/{}", role.name, role.bound.len())
}

/// Edges as drawn: one from parent to child for all reasons together.
fn drawn(role: &GraphRole) -> BTreeMap<&str, (Vec<String>, bool)> {
    let mut drawn: BTreeMap<&str, (Vec<String>, bool)> = BTreeMap::new();
    let reason = |edge: &Edge| match &edge.why {
        Why::Data { input, .. } => input.clone(),
        Why::Requires => "requires".to_owned(),
        Why::Precedes => "precedes".to_owned(),
    };
    for edge in &role.parents {
        let (reasons, soft) = drawn.entry(&edge.parent).or_insert_with(|| (Vec::new(), true));
        reasons.push(reason(edge));
        *soft &= edge.is_soft();
    }
    if let Kind::Chooser { of, .. } = &role.kind {
        drawn.insert(of, (vec!["candidates".to_owned()], true));
    }
    drawn
}

/// Graphviz, a node a role.
pub fn dot(graph: &Graph, states: &States) -> String {
    let mut text =
        format!("digraph {} {{\n  rankdir=LR;\n  node [fontname=\"sans-serif\"];\n", quoted(&graph.deployment));
    for name in &graph.order {
        let role = &graph.roles[name];
        let shape = match role.kind {
            Kind::Work => "box",
            Kind::Gather { .. } => "invtrapezium",
            Kind::Chooser { .. } => "diamond",
        };
        let colour = look(worst(role, states)).1;
        let (name, label) = (quoted(name), quoted(&label(role, states)));
        let _ = writeln!(text, "  {name} [label={label}, shape={shape}, color=\"{colour}\"];");
    }
    for name in &graph.order {
        for (parent, (reasons, soft)) in drawn(&graph.roles[name]) {
            let style = if soft { ", style=dashed" } else { "" };
            let (parent, child, reasons) = (quoted(parent), quoted(name), quoted(&reasons.join(", ")));
            let _ = writeln!(text, "  {parent} -> {child} [label={reasons}{style}];");
        }
    }
    text.push_str("}\n");
    text
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Mermaid, a node a role.
pub fn mermaid(graph: &Graph, states: &States) -> String {
    let mut text = "flowchart LR\n".to_owned();
    let ids: BTreeMap<&str, String> =
        graph.order.iter().enumerate().map(|(index, name)| (name.as_str(), format!("r{index}"))).collect();
    for name in &graph.order {
        let role = &graph.roles[name];
        let (open, close) = match role.kind {
            Kind::Work => ("[", "]"),
            Kind::Gather { .. } => ("[\\", "/]"),
            Kind::Chooser { .. } => ("{", "}"),
        };
        let label = label(role, states).replace('"', "#quot;");
        let (id, colour) = (&ids[name.as_str()], look(worst(role, states)).1);
        let _ = writeln!(text, "  {id}{open}\"{label}\"{close}\n  style {id} stroke:{colour}");
    }
    for name in &graph.order {
        for (parent, (_, soft)) in drawn(&graph.roles[name]) {
            let Some(parent) = ids.get(parent) else { continue };
            let arrow = if soft { "-.->" } else { "-->" };
            let _ = writeln!(text, "  {parent} {arrow} {}", ids[name.as_str()]);
        }
    }
    text
}

/// Everything as data: roles with their edges and states, and where they stand.
pub fn data(graph: &Graph, states: &States) -> Value {
    let layout = layout(graph);
    let roles: Vec<Value> = graph
        .order
        .iter()
        .map(|name| {
            let role = &graph.roles[name];
            let none = BTreeMap::new();
            let own = states.get(name).unwrap_or(&none);
            let vertices: BTreeMap<&NodeName, State> =
                role.bound.iter().map(|node| (node, own.get(node).copied().unwrap_or(State::Proposed))).collect();
            let kind = match role.kind {
                Kind::Work => "work",
                Kind::Gather { .. } => "gather",
                Kind::Chooser { .. } => "chooser",
            };
            json!({
                "name": name, "kind": kind, "role": role.role, "because": role.because, "rank": layout.ranks[name],
                "parents": role.parents, "vertices": vertices,
            })
        })
        .collect();
    json!({"deployment": graph.deployment, "workload": graph.workload, "lanes": layout.lanes, "roles": roles})
}

#[cfg(test)]
mod tests;
