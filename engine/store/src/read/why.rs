//! Why a node role is where it is: what holds it, what it read, what it was tried with.

use std::collections::BTreeMap;

use engine_core::document::Object;
use engine_core::graph::GraphRole;
use engine_core::state::State;
use engine_core::value::Layered;
use engine_core::view::{InputView, SetView, WhyView};
use engine_core::why::{self, Known};
use serde_json::Value;
use sqlx::types::Json;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::{events, failed, jobs, moment, vertices};
use crate::StoreError;

/// How many attempts and events are shown.
const NEWEST: i64 = 10;
/// How many revisions are looked at for who set a value.
const REVISIONS: i64 = 50;
/// Gathered values larger than this (in bytes, as stored) are shown as a reference.
const LARGEST: i32 = 65_536;

/// Why a node role is where it is; with a revision: why it was where it was when the next one was committed.
pub async fn why(
    pool: &PgPool,
    deployment: &str,
    node: &str,
    role: &str,
    revision: Option<i32>,
) -> Result<Option<WhyView>, StoreError> {
    let mut tx = moment(pool).await?;
    let Some(row) = vertices::at(&mut tx, deployment, node, role).await? else { return Ok(None) };
    if let Some(revision) = revision {
        return was(&mut tx, row, revision).await;
    }
    let mut known = Known::default();
    let chain = vertices::chain(&mut tx, &row, &mut known).await?;
    let links = why::links(&chain, &known);
    let jobs = jobs::of_vertex(&mut tx, row.id, i32::MAX, NEWEST).await?;
    let events = events::of_vertex(&mut tx, row.id, None, NEWEST).await?;
    let drawn = graph_role(&mut tx, row.deployment_id, role, jobs.first().map(|job| job.revision)).await?;
    let kept = kept(&mut tx, row.id, i32::MAX).await?;
    let because = drawn.as_ref().map_or_else(|| "bound no longer".to_owned(), |role| role.because.clone());
    let (mut inputs, mut outputs) = (Vec::new(), Object::new());
    if let Some(drawn) = drawn {
        let frozen = resolved(&mut tx, kept.inputs).await?;
        let place =
            Place { deployment: row.deployment_id, role, node, group: kept.group.as_deref().unwrap_or_default() };
        inputs = views(&mut tx, &drawn, frozen, place, i32::MAX).await?;
        outputs = kept.outputs;
        outputs.retain(|name, _| drawn.outputs.get(name).is_some_and(|output| !output.secret));
    }
    let node_role = row.view(|| why::says(&chain, &known));
    let outputs = Value::Object(outputs);
    Ok(Some(WhyView { node_role, chain: links, because, inputs, outputs, jobs, events }))
}

/// How it was under a revision, when the next one was committed. What it output and what held it then is not kept.
async fn was(connection: &mut PgConnection, row: vertices::Row, revision: i32) -> Result<Option<WhyView>, StoreError> {
    let found = sqlx::query!(
        r#"select r.graph -> 'roles' -> $3 as "role: Json<GraphRole>",
                  (select n.committed_at from revision n where n.deployment_id = $1 and n.number = $2 + 1) as until
           from revision r where r.deployment_id = $1 and r.number = $2"#,
        row.deployment_id,
        revision,
        row.role
    )
    .fetch_optional(&mut *connection)
    .await
    .map_err(failed("reading a revision"))?;
    let Some(found) = found else { return Ok(None) };
    let jobs = jobs::of_vertex(connection, row.id, revision, NEWEST).await?;
    let events = events::of_vertex(connection, row.id, found.until, NEWEST).await?;
    let kept = kept(connection, row.id, revision).await?;
    let drawn = found.role.map(|json| json.0);
    let because = drawn.as_ref().map_or_else(|| "not bound".to_owned(), |role| role.because.clone());
    let inputs = match &drawn {
        Some(drawn) => {
            let frozen = resolved(connection, kept.inputs).await?;
            let group = kept.group.as_deref().unwrap_or_default();
            let place = Place { deployment: row.deployment_id, role: &row.role, node: &row.node, group };
            views(connection, drawn, frozen, place, revision).await?
        }
        None => Vec::new(),
    };
    let moved = events.iter().find_map(|event| Some((event.at, event.detail.get("to")?.as_str()?)));
    let mut node_role = row.view(String::new);
    (node_role.cause, node_role.job, node_role.progress, node_role.saw) = (None, None, None, None);
    if let Some((at, state)) = moved {
        node_role.changed_at = at;
        node_role.state = State::parse(state).unwrap_or(State::Proposed);
    }
    let last = jobs.first().filter(|_| node_role.state == State::Failed);
    node_role.code = last.and_then(|job| job.code.clone());
    node_role.message = last.and_then(|job| job.message.clone());
    node_role.attempts = jobs.first().map_or(0, |job| job.attempt);
    Ok(Some(WhyView { node_role, chain: Vec::new(), because, inputs, outputs: Value::Null, jobs, events }))
}

/// The role as compiled; of one that the revision has no more, as it was at its last attempt.
async fn graph_role(
    connection: &mut PgConnection,
    deployment: Uuid,
    role: &str,
    attempted: Option<i32>,
) -> Result<Option<GraphRole>, StoreError> {
    let row = sqlx::query_scalar!(
        r#"select r.graph -> 'roles' -> $2 as "role: Json<GraphRole>"
           from deployment d join revision r on r.deployment_id = d.deployment_id and r.number in (d.revision, $3)
           where d.deployment_id = $1 and r.graph -> 'roles' -> $2 is not null
           order by r.number = d.revision desc limit 1"#,
        deployment,
        role,
        attempted
    )
    .fetch_optional(connection)
    .await
    .map_err(failed("reading a role of a graph"))?;
    Ok(row.flatten().map(|json| json.0))
}

struct Kept {
    inputs: Object,
    outputs: Object,
    group: Option<String>,
}

/// `newest`: inputs of no attempt under a later revision.
async fn kept(connection: &mut PgConnection, vertex: Uuid, newest: i32) -> Result<Kept, StoreError> {
    let row = sqlx::query!(
        r#"select v.outputs as "outputs: Json<Object>", n.group_name,
                  (select j.inputs from job j where j.vertex_id = v.vertex_id and j.revision <= $2 order by j.claimed_at desc limit 1)
                  as "inputs: Json<Object>"
           from vertex v join node n on n.node_id = v.node_id where v.vertex_id = $1"#,
        vertex,
        newest
    )
    .fetch_one(connection)
    .await
    .map_err(failed("reading what a node role read"))?;
    let inputs = row.inputs.map(|json| json.0).unwrap_or_default();
    Ok(Kept { inputs, outputs: row.outputs.0, group: row.group_name })
}

/// Puts gathered values where inputs refer to them.
async fn resolved(connection: &mut PgConnection, mut inputs: Object) -> Result<Object, StoreError> {
    let reference = |value: &Value| value.get("$digest").and_then(Value::as_str).map(str::to_owned);
    let digests: Vec<String> = inputs.values().filter_map(reference).collect();
    if digests.is_empty() {
        return Ok(inputs);
    }
    let rows = sqlx::query!(
        "select digest, body from value where digest = any($1) and pg_column_size(body) <= $2",
        &digests,
        LARGEST
    )
    .fetch_all(connection)
    .await
    .map_err(failed("reading gathered values"))?;
    let mut bodies: BTreeMap<String, Value> = rows.into_iter().map(|row| (row.digest, row.body)).collect();
    for value in inputs.values_mut() {
        if let Some(body) = reference(value).and_then(|digest| bodies.remove(&digest)) {
            *value = body;
        }
    }
    Ok(inputs)
}

/// A node role that is asked for.
#[derive(Clone, Copy)]
struct Place<'a> {
    deployment: Uuid,
    role: &'a str,
    node: &'a str,
    group: &'a str,
}

/// `newest`: no later revision is looked at.
async fn views(
    connection: &mut PgConnection,
    role: &GraphRole,
    mut frozen: Object,
    place: Place<'_>,
    newest: i32,
) -> Result<Vec<InputView>, StoreError> {
    let mut since = set_since(connection, role, place, newest).await?;
    let mut views = Vec::new();
    for (name, input) in &role.inputs {
        let (source, by) = role.origin(name, place.node, place.group);
        let value = frozen.remove(name).filter(|_| !input.secret);
        let since = since.remove(name.as_str());
        views.push(InputView { name: name.clone(), value, secret: input.secret, source, by, since });
    }
    Ok(views)
}

/// By input the oldest revision, of all up to the newest one, since which a layer sets it as it does.
async fn set_since<'r>(
    connection: &mut PgConnection,
    role: &'r GraphRole,
    place: Place<'_>,
    newest: i32,
) -> Result<BTreeMap<&'r str, SetView>, StoreError> {
    let layered = |role: &'r GraphRole, name: &'r str| Some((name, role.layered(name, place.node, place.group)?));
    let mut open: BTreeMap<&str, &Layered> = role.inputs.keys().filter_map(|name| layered(role, name)).collect();
    let mut since = BTreeMap::new();
    if open.is_empty() {
        return Ok(since);
    }
    let rows = sqlx::query!(
        r#"select number, committed_by, committed_at, graph -> 'roles' -> $2 as "role: Json<GraphRole>"
           from revision where deployment_id = $1 and number <= $3 order by number desc limit $4"#,
        place.deployment,
        place.role,
        newest,
        REVISIONS
    )
    .fetch_all(connection)
    .await
    .map_err(failed("reading who set values"))?;
    let is_cut = i64::try_from(rows.len()).is_ok_and(|count| count >= REVISIONS);
    for row in rows {
        let Some(Json(then)) = row.role else {
            open.clear();
            break;
        };
        let is_so = |name: &str, now: &Layered| {
            let was = then.layered(name, place.node, place.group);
            was.is_some_and(|was| was.value == now.value && was.layer == now.layer)
        };
        open.retain(|name, now| is_so(name, now));
        for name in open.keys() {
            since.insert(*name, SetView { revision: row.number, by: row.committed_by.clone(), at: row.committed_at });
        }
        if open.is_empty() {
            break;
        }
    }
    if is_cut {
        // It may be so for longer, by somebody else.
        since.retain(|name, _| !open.contains_key(name));
    }
    Ok(since)
}
