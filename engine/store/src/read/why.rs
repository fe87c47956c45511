//! Why a node role is where it is: what holds it, what it read, what it was tried with.

use std::collections::BTreeMap;

use engine_core::document::Object;
use engine_core::graph::GraphRole;
use engine_core::view::{InputView, WhyView};
use engine_core::why::{self, Known};
use serde_json::Value;
use sqlx::types::Json;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::{events, failed, jobs, moment, vertices};
use crate::StoreError;

/// How many attempts and events are shown.
const NEWEST: i64 = 10;
/// Gathered values larger than this (in bytes, as stored) are shown as a reference.
const LARGEST: i32 = 65_536;

/// Why a node role is where it is.
pub async fn why(pool: &PgPool, deployment: &str, node: &str, role: &str) -> Result<Option<WhyView>, StoreError> {
    let mut tx = moment(pool).await?;
    let Some(row) = vertices::at(&mut tx, deployment, node, role).await? else { return Ok(None) };
    let mut known = Known::default();
    let chain = vertices::chain(&mut tx, &row, &mut known).await?;
    let links = why::links(&chain, &known);
    let jobs = jobs::of_vertex(&mut tx, row.id, NEWEST).await?;
    let events = events::of_vertex(&mut tx, row.id, NEWEST).await?;
    let drawn = graph_role(&mut tx, row.deployment_id, role, jobs.first().map(|job| job.revision)).await?;
    let kept = kept(&mut tx, row.id).await?;
    let because = drawn.as_ref().map_or_else(|| "bound no longer".to_owned(), |role| role.because.clone());
    let (mut inputs, mut outputs) = (Vec::new(), Object::new());
    if let Some(drawn) = drawn {
        let frozen = resolved(&mut tx, kept.inputs).await?;
        inputs = views(&drawn, frozen, node, kept.group.as_deref().unwrap_or_default());
        outputs = kept.outputs;
        outputs.retain(|name, _| drawn.outputs.get(name).is_some_and(|output| !output.secret));
    }
    let node_role = row.view(|| why::says(&chain, &known));
    let outputs = Value::Object(outputs);
    Ok(Some(WhyView { node_role, chain: links, because, inputs, outputs, jobs, events }))
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

async fn kept(connection: &mut PgConnection, vertex: Uuid) -> Result<Kept, StoreError> {
    let row = sqlx::query!(
        r#"select v.outputs as "outputs: Json<Object>", n.group_name,
                  (select j.inputs from job j where j.vertex_id = v.vertex_id order by j.claimed_at desc limit 1)
                  as "inputs: Json<Object>"
           from vertex v join node n on n.node_id = v.node_id where v.vertex_id = $1"#,
        vertex
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

fn views(role: &GraphRole, mut frozen: Object, node: &str, group: &str) -> Vec<InputView> {
    let mut views = Vec::new();
    for (name, input) in &role.inputs {
        let (source, by) = role.origin(name, node, group);
        let value = frozen.remove(name).filter(|_| !input.secret);
        views.push(InputView { name: name.clone(), value, secret: input.secret, source, by });
    }
    views
}
