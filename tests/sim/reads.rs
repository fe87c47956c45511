//! Who still has a leaver's values in what it holds: kept by brute force beside the engine's own decisions, from what
//! was there when each vertex last came to rest or was claimed.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use engine_core::document::Object;
use engine_core::graph::{Gathered, Graph, Kind, Pairing, Source, VIRTUAL, Why};
use engine_core::id::{NodeId, VertexId};
use engine_core::settle::Vertex;
use engine_core::state::{Goal, State};

/// Vertices by id.
pub(crate) type Vertices = HashMap<VertexId, Vertex>;

/// What one vertex holds of others.
#[derive(Clone, Default)]
struct Held {
    /// Parents.
    direct: BTreeSet<VertexId>,
    /// A helper that is read, what it said then, and who was behind it.
    through: Vec<(VertexId, Object, BTreeSet<VertexId>)>,
}

/// By reader.
#[derive(Default)]
pub(crate) struct Reads(HashMap<VertexId, Held>);

impl Reads {
    /// These have moved: who rests holds what is there now, whose job runs may hold either.
    pub(crate) fn moved(
        &mut self,
        graph: &Graph,
        vertices: &Vertices,
        nodes: &BTreeMap<String, NodeId>,
        moved: &[VertexId],
    ) {
        let mut places: HashMap<&str, Vec<&Vertex>> = HashMap::new();
        for vertex in vertices.values().filter(|vertex| vertex.phase.state != State::Gone) {
            places.entry(&vertex.role).or_default().push(vertex);
        }
        // Helpers first: their readers look through them.
        let is_work = |id: &&VertexId| graph.roles.get(&vertices[*id].role).is_none_or(|role| role.kind == Kind::Work);
        let (work, helpers): (Vec<&VertexId>, Vec<&VertexId>) = moved.iter().partition(is_work);
        for id in helpers.into_iter().chain(work) {
            let vertex = &vertices[id];
            match vertex.phase.state {
                State::Gone => drop(self.0.remove(id)),
                State::Active => {
                    let now = self.now(graph, &places, nodes, vertex);
                    self.0.insert(*id, now);
                }
                State::Running if vertex.phase.applying => {
                    let now = self.now(graph, &places, nodes, vertex);
                    let held = self.0.entry(*id).or_default();
                    held.direct.extend(now.direct);
                    held.through.extend(now.through);
                }
                _ => {}
            }
        }
    }

    /// What a vertex holds values of.
    pub(crate) fn of(&self, reader: VertexId) -> impl Iterator<Item = VertexId> + '_ {
        self.0.get(&reader).into_iter().flat_map(|held| held.direct.iter().copied())
    }

    /// What a vertex reads as things are.
    fn now(
        &self,
        graph: &Graph,
        places: &HashMap<&str, Vec<&Vertex>>,
        nodes: &BTreeMap<String, NodeId>,
        vertex: &Vertex,
    ) -> Held {
        let mut held = Held::default();
        let Some(role) = graph.roles.get(&vertex.role) else { return held };
        let group_of = |node: NodeId| {
            let named = nodes.iter().find(|(_, id)| **id == node);
            named.and_then(|(name, _)| graph.nodes.get(name)).map(|node| node.group.clone())
        };
        for edge in role.parents.iter().filter(|edge| matches!(edge.why, Why::Data { .. })) {
            let instances = places.get(edge.parent.as_str()).into_iter().flatten();
            for parent in instances.filter(|parent| parent.phase.goal == Goal::Present) {
                let is_read = match (&edge.pairing, &role.kind) {
                    (Pairing::Same, _) => parent.node == vertex.node,
                    (Pairing::FromVirtual, _) => parent.node == nodes[VIRTUAL],
                    (Pairing::All, Kind::Gather { of: Gathered::Output { .. }, group: Some(group), .. }) => {
                        group_of(parent.node).as_ref() == Some(group)
                    }
                    (Pairing::All, _) => is_performed_at(role, &edge.why, parent, places, nodes),
                    (Pairing::Chosen, _) => {
                        chosen(role, &edge.why, places).is_some_and(|name| nodes.get(&name) == Some(&parent.node))
                    }
                };
                if !is_read {
                    continue;
                }
                held.direct.insert(parent.id);
                if graph.roles.get(&parent.role).is_some_and(|role| role.kind != Kind::Work) {
                    let behind = self.0.get(&parent.id).map(|held| held.direct.clone()).unwrap_or_default();
                    held.through.push((parent.id, parent.outputs.clone(), behind));
                }
            }
        }
        held
    }

    /// Somebody who still holds something of this leaver, or leaves too and goes before it.
    pub(crate) fn reader_of(&self, graph: &Graph, vertices: &Vertices, leaver: VertexId) -> Option<VertexId> {
        let parent = &vertices[&leaver];
        let goes_before = |vertex: &Vertex| {
            let edges = graph.roles.get(&vertex.role).into_iter().flat_map(|role| &role.parents);
            let mut edges = edges.filter(|edge| !edge.is_soft() && edge.parent == parent.role);
            vertex.phase.goal == Goal::Absent
                && vertex.phase.state != State::Gone
                && edges.any(|edge| edge.pairing != Pairing::Same || vertex.node == parent.node)
        };
        let holds = |vertex: &Vertex| {
            let Some(held) = self.0.get(&vertex.id) else { return false };
            let mut behind = held.through.iter().filter(|(.., behind)| behind.contains(&leaver));
            // Who stays holds a value; one that came out equal without the leaver is not the leaver's.
            let is_other = |helper: &VertexId, said: &Object| {
                vertex.phase.goal == Goal::Absent || vertices[helper].outputs != *said
            };
            held.direct.contains(&leaver) || behind.any(|(helper, said, _)| is_other(helper, said))
        };
        let found = vertices.values().find(|vertex| vertex.id != leaver && (goes_before(vertex) || holds(vertex)));
        found.map(|vertex| vertex.id)
    }
}

/// `at ROLE.OUTPUT` is that of the first active by name; an edge without data is from all.
fn is_performed_at(
    role: &engine_core::graph::GraphRole,
    why: &Why,
    parent: &Vertex,
    places: &HashMap<&str, Vec<&Vertex>>,
    nodes: &BTreeMap<String, NodeId>,
) -> bool {
    let Why::Data { input, .. } = why else { return true };
    if !matches!(role.inputs.get(input).map(|input| &input.source), Some(Source::At { .. })) {
        return true;
    }
    let instances = places.get(parent.role.as_str()).into_iter().flatten();
    let active = instances.filter(|vertex| vertex.phase.state == State::Active && vertex.phase.goal == Goal::Present);
    let named = |node: NodeId| nodes.iter().find(|(_, id)| **id == node).map(|(name, _)| name.clone());
    active.map(|vertex| named(vertex.node)).min() == Some(named(parent.node))
}

/// The node that the chooser behind an input has chosen.
fn chosen(role: &engine_core::graph::GraphRole, why: &Why, places: &HashMap<&str, Vec<&Vertex>>) -> Option<String> {
    let Why::Data { input, .. } = why else { return None };
    let Source::Chosen { helper, .. } = &role.inputs.get(input)?.source else { return None };
    let chooser = places.get(helper.as_str())?.first()?;
    chooser.outputs.get("node")?.as_str().map(str::to_owned)
}
