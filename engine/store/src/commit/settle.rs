//! The vertices of a revision: those that were there are moved, the others are made, many at a time.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use engine_core::graph::{NodeName, RoleName, VIRTUAL};
use engine_core::id::{NodeId, VertexId};
use engine_core::settle::commit::Concerned;
use engine_core::settle::hood::Standing;
use engine_core::settle::{Hood, NodeView, Tally, Turn, Vertex};
use engine_core::state::{Event, State};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::StoreError;
use crate::error::doing;
use crate::pass::{self, Locked, Revision};

/// Vertices made in one turn, roughly: what is held in memory at once.
const AT_ONCE: usize = 20_000;

type Place<'c> = (&'c RoleName, &'c NodeName);

/// Moves the vertices that the commit concerns. `made`: nodes that it made.
pub(super) async fn settle(
    locked: &mut Locked,
    revision: &Revision,
    concerned: &Concerned,
    made: &BTreeMap<NodeName, NodeId>,
    by: &str,
) -> Result<(), StoreError> {
    let nodes = nodes(locked, concerned, made).await?;
    let places = places(locked, concerned, made, &nodes).await?;
    let place = |(role, node): &(RoleName, NodeName)| places.get(&(role.as_str(), node.as_str())).copied();
    let why = json!({"revision": revision.number});
    let change = locked.change;
    let leaving: BTreeSet<RoleName> = concerned.unbind.iter().map(|(role, _)| role.clone()).collect();
    let unheard = locked.unheard(&revision.graph, &leaving).await?;
    let left = |(role, _): &(RoleName, NodeName)| unheard.get(role).map_or(change, |since| change.min(*since));
    let mut moves: Vec<(VertexId, Event, i64, Value)> = Vec::new();
    moves.extend(concerned.unbind.iter().filter_map(|at| Some((place(at)?, Event::Unbind, left(at), why.clone()))));
    moves.extend(concerned.bind.iter().filter_map(|at| Some((place(at)?, Event::Bind, change, why.clone()))));
    moves.extend(concerned.touch.iter().filter_map(|(at, reasons)| {
        Some((place(at)?, Event::Touch, change, json!({"revision": revision.number, "changed": reasons})))
    }));
    shift(locked, revision, moves, by).await?;
    // What is on nodes that are made now waits for them, whoever judges it: the rest is left to turns.
    let mut fresh: BTreeMap<(bool, &NodeName), Vec<&RoleName>> = BTreeMap::new();
    for at @ (role, node) in &concerned.bind {
        if place(at).is_none() && nodes.contains_key(node.as_str()) {
            fresh.entry((made.contains_key(node), node)).or_default().push(role);
        }
    }
    let mut later: HashMap<&RoleName, i64> = HashMap::new();
    for role in fresh.values().flatten() {
        *later.entry(*role).or_default() += 1;
    }
    let mut chunk: Vec<(NodeId, &NodeName, Vec<&RoleName>)> = Vec::new();
    let (mut size, mut judged) = (0, false);
    for ((is_made, node), roles) in fresh {
        if size >= AT_ONCE || is_made != judged {
            create(locked, revision, std::mem::take(&mut chunk), judged, &mut later, by).await?;
            (size, judged) = (0, is_made);
        }
        size += roles.len();
        chunk.push((nodes[node.as_str()], node, roles));
    }
    create(locked, revision, chunk, judged, &mut later, by).await
}

/// Moves those that are there.
async fn shift(
    locked: &mut Locked,
    revision: &Revision,
    moves: Vec<(VertexId, Event, i64, Value)>,
    by: &str,
) -> Result<(), StoreError> {
    if moves.is_empty() {
        return Ok(());
    }
    let ids: Vec<VertexId> = moves.iter().map(|(id, ..)| *id).collect();
    let mut hood = Hood::default();
    locked.near(&mut hood, &revision.graph, &ids).await?;
    let mut turn = Turn::new(&revision.graph, hood);
    for (id, what, since, why) in moves {
        if what == Event::Touch {
            turn.touch(id, since, &why);
        } else if let Err(illegal) = turn.event(id, what, since, why) {
            tracing::debug!(%illegal, "a commit asks for what is so already");
        }
    }
    let written = turn.finish();
    locked.write(&written, revision, None, by).await?;
    Ok(())
}

/// Makes the vertices of these nodes. `judged`: nobody answers there yet, so that each is held by what is above it, or by
/// its node; that is found out here, and spares turns all of them. `later`: those by role that are still to be made.
async fn create<'c>(
    locked: &mut Locked,
    revision: &Revision,
    nodes: Vec<(NodeId, &NodeName, Vec<&'c RoleName>)>,
    judged: bool,
    later: &mut HashMap<&'c RoleName, i64>,
    by: &str,
) -> Result<(), StoreError> {
    if nodes.is_empty() {
        return Ok(());
    }
    let mut hood = Hood::default();
    if judged {
        locked.begin(&mut hood).await?;
    } else {
        // What stands aside is not waited for from the beginning.
        let ids: Vec<Uuid> = nodes.iter().map(|(node, ..)| node.0).collect();
        let views = pass::load_nodes(&mut locked.tx, locked.id, locked.virtual_node, Some(&ids)).await?;
        hood.nodes.extend(views.into_iter().map(|view| (view.id, view)));
    }
    let mut ids = Vec::new();
    for (node, name, roles) in nodes {
        if judged {
            let group = revision.graph.nodes.get(name).map(|node| node.group.clone()).unwrap_or_default();
            let (name, standing) = (name.clone(), Standing::In);
            let view = NodeView { id: node, name, group, standing, ready: false, facts: serde_json::Map::new() };
            hood.nodes.insert(node, view);
            hood.whole.insert(node);
        }
        for role in roles {
            let vertex = Vertex::new(VertexId(Uuid::now_v7()), role.clone(), node);
            ids.push(vertex.id);
            hood.add(vertex);
            *later.entry(role).or_default() -= 1;
        }
    }
    // Those still to come are stale as well.
    for (role, count) in later {
        hood.tallies
            .entry((*role).clone())
            .or_default()
            .shift(Tally::default(), Tally { stale: *count, ..Tally::default() });
    }
    let (change, mut turn) = (locked.change, Turn::new(&revision.graph, hood));
    for id in ids {
        let bound = turn.event(id, Event::Bind, change, json!({"revision": revision.number}));
        debug_assert!(bound.is_ok(), "a new vertex may be bound");
    }
    if judged {
        // What would have to be loaded is judged by a turn.
        turn.judge_all();
    }
    let written = turn.finish();
    let waits = |vertex: &Vertex| vertex.phase.state == State::Blocked;
    assert!(written.vertices.iter().all(waits), "what was just bound does not run yet");
    locked.write_bound(&written, by).await
}

/// The nodes that a commit speaks of, by name.
async fn nodes(
    locked: &mut Locked,
    concerned: &Concerned,
    made: &BTreeMap<NodeName, NodeId>,
) -> Result<HashMap<String, NodeId>, StoreError> {
    let named = concerned.bind.iter().chain(&concerned.unbind).chain(concerned.touch.keys()).map(|(_, node)| node);
    let known = named.filter(|node| *node != VIRTUAL && !made.contains_key(*node)).collect::<BTreeSet<_>>();
    let names: Vec<&str> = known.into_iter().map(String::as_str).collect();
    let mut nodes: HashMap<String, NodeId> = HashMap::new();
    if !names.is_empty() {
        let rows = sqlx::query!(
            "select name, node_id from node
             where name = any($2) and state not in ('gone', 'virtual') and deployment_id = $1",
            locked.id.0,
            &names as &[&str]
        )
        .fetch_all(&mut *locked.tx)
        .await
        .map_err(doing("looking for the nodes that a revision speaks of"))?;
        nodes.extend(rows.into_iter().map(|row| (row.name, NodeId(row.node_id))));
    }
    nodes.extend(made.iter().map(|(name, id)| (name.clone(), *id)));
    nodes.insert(VIRTUAL.to_owned(), locked.virtual_node);
    Ok(nodes)
}

/// The vertices that are there already.
async fn places<'c>(
    locked: &mut Locked,
    concerned: &'c Concerned,
    made: &BTreeMap<NodeName, NodeId>,
    nodes: &HashMap<String, NodeId>,
) -> Result<HashMap<(&'c str, &'c str), VertexId>, StoreError> {
    let all = concerned.bind.iter().chain(&concerned.unbind).chain(concerned.touch.keys());
    let mut wanted: HashMap<(Uuid, &str), Place<'c>> = HashMap::new();
    for (role, node) in all.filter(|(_, node)| !made.contains_key(node)) {
        if let Some(id) = nodes.get(node.as_str()) {
            wanted.insert((id.0, role.as_str()), (role, node));
        }
    }
    if wanted.is_empty() {
        return Ok(HashMap::new());
    }
    let (on, roles): (Vec<Uuid>, Vec<&str>) = wanted.keys().copied().unzip();
    let rows = sqlx::query!(
        "select v.vertex_id, v.role, v.node_id from unnest($2::uuid[], $3::text[]) as p(node_id, role)
         join vertex v on v.deployment_id = $1 and v.role = p.role and v.node_id = p.node_id and not v.gone",
        locked.id.0,
        &on,
        &roles as &[&str]
    )
    .fetch_all(&mut *locked.tx)
    .await
    .map_err(doing("looking for what a revision concerns"))?;
    let found = rows.into_iter().filter_map(|row| {
        let (role, node) = wanted.get(&(row.node_id, row.role.as_str()))?;
        Some(((role.as_str(), node.as_str()), VertexId(row.vertex_id)))
    });
    Ok(found.collect())
}
