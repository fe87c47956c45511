//! The picture with a lane per node.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{States, layout, look};
use crate::graph::{Graph, Kind, Pairing, VIRTUAL};
use crate::state::State;

const WIDTH: usize = 170;
const HEIGHT: usize = 30;
const GAP: usize = 50;
const LEFT: usize = 130;

/// Places of the vertices.
struct Places<'g> {
    /// Role and node to the upper left corner.
    at: BTreeMap<(&'g str, &'g str), (usize, usize)>,
    /// Name, top and height of every lane.
    lanes: Vec<(&'g str, usize, usize)>,
    width: usize,
    height: usize,
}

/// An SVG of every vertex: a lane per node, a column per rank, colours by state.
pub fn svg(graph: &Graph, states: &States) -> String {
    let plan = layout(graph);
    let lanes: Vec<&str> = plan.lanes.iter().map(String::as_str).collect();
    let places = place(graph, &lanes, &plan.ranks, plan.columns);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{w}\" height=\"{h}\" viewBox=\"0 0 {w} {h}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n<title>{}</title>\n",
        escaped(&graph.deployment),
        w = places.width,
        h = places.height,
    );
    for (index, (name, top, height)) in places.lanes.iter().enumerate() {
        let fill = if index % 2 == 0 { "#f8fafc" } else { "#eef2f7" };
        let _ = writeln!(
            text,
            "<rect x=\"0\" y=\"{top}\" width=\"{}\" height=\"{height}\" fill=\"{fill}\"/>\
             <text x=\"8\" y=\"{}\" font-weight=\"bold\">{}</text>",
            places.width,
            top + 20,
            escaped(name),
        );
    }
    edges(graph, &places, &mut text);
    for ((role, node), (x, y)) in &places.at {
        let state = states.get(*role).and_then(|all| all.get(*node)).copied().unwrap_or(State::Proposed);
        let (icon, colour) = look(state);
        let radius = if graph.roles[*role].kind == Kind::Work { 4 } else { HEIGHT / 2 };
        let _ = writeln!(
            text,
            "<g><title>{} {state}</title><rect x=\"{x}\" y=\"{y}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" rx=\"{radius}\" \
             fill=\"white\" stroke=\"{colour}\" stroke-width=\"2\"/><text x=\"{}\" y=\"{}\">{icon} {}</text></g>",
            escaped(&format!("{node}/{role}")),
            x + 8,
            y + 19,
            escaped(&shortened(role)),
        );
    }
    text.push_str("</svg>\n");
    text
}

fn place<'g>(graph: &'g Graph, lanes: &[&'g str], ranks: &BTreeMap<String, usize>, columns: usize) -> Places<'g> {
    let mut stacked: BTreeMap<(&str, usize), usize> = BTreeMap::new();
    let mut deepest: BTreeMap<&str, usize> = BTreeMap::new();
    let mut rows: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for name in &graph.order {
        for node in &graph.roles[name].bound {
            let row = stacked.entry((node.as_str(), ranks[name])).or_default();
            rows.insert((name.as_str(), node.as_str()), *row);
            *row += 1;
            let deepest = deepest.entry(node).or_default();
            *deepest = (*deepest).max(*row);
        }
    }
    let mut tops = BTreeMap::new();
    let mut drawn = Vec::new();
    let mut top = 0;
    for lane in lanes {
        let deepest = deepest.get(lane).copied().unwrap_or(0);
        if *lane == VIRTUAL && deepest == 0 {
            continue;
        }
        let height = deepest.max(1) * (HEIGHT + 10) + 10;
        tops.insert(*lane, top);
        drawn.push((*lane, top, height));
        top += height;
    }
    let at = rows
        .into_iter()
        .filter_map(|((role, node), row)| {
            let x = LEFT + ranks[role] * (WIDTH + GAP);
            Some(((role, node), (x, tops.get(node)? + 10 + row * (HEIGHT + 10))))
        })
        .collect();
    Places { at, lanes: drawn, width: LEFT + columns * (WIDTH + GAP), height: top }
}

fn edges(graph: &Graph, places: &Places, text: &mut String) {
    for name in &graph.order {
        let role = &graph.roles[name];
        for edge in &role.parents {
            let Some(parent) = graph.roles.get(&edge.parent) else { continue };
            let dashes = if edge.is_soft() { " stroke-dasharray=\"4 3\"" } else { "" };
            for node in &role.bound {
                let from: Vec<&str> = match edge.pairing {
                    Pairing::Same => vec![node.as_str()],
                    Pairing::FromVirtual => vec![VIRTUAL],
                    Pairing::All => parent.bound.iter().map(String::as_str).collect(),
                    // Which one is known only when it is chosen; the chooser's own edge is drawn.
                    Pairing::Chosen => Vec::new(),
                };
                for from in from {
                    let ends =
                        (places.at.get(&(parent.name.as_str(), from)), places.at.get(&(name.as_str(), node.as_str())));
                    let (Some((x1, y1)), Some((x2, y2))) = ends else { continue };
                    let (x1, y1, y2) = (x1 + WIDTH, y1 + HEIGHT / 2, y2 + HEIGHT / 2);
                    let middle = usize::midpoint(x1, *x2);
                    let _ = writeln!(
                        text,
                        "<path d=\"M{x1} {y1} C{middle} {y1} {middle} {y2} {x2} {y2}\" fill=\"none\" stroke=\"#94a3b8\"{dashes}/>"
                    );
                }
            }
        }
    }
}

fn shortened(name: &str) -> String {
    const LONGEST: usize = 24;
    if name.chars().count() <= LONGEST {
        return name.to_owned();
    }
    let cut: String = name.chars().take(LONGEST - 1).collect();
    format!("{cut}…")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
