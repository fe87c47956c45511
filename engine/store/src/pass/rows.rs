//! Rows to what core works on.

use std::collections::{BTreeMap, BTreeSet};

use engine_core::document::Object;
use engine_core::graph::VIRTUAL;
use engine_core::id::{DeploymentId, JobId, NodeId, VertexId};
use engine_core::settle::hood::Standing;
use engine_core::settle::{NodeView, Scope, Vertex};
use engine_core::state::{Goal, Phase, State};
use sqlx::types::Json;
use sqlx::{PgConnection, types::JsonValue};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::StoreError;
use crate::error::doing;

pub(super) struct VertexRow {
    vertex_id: Uuid,
    role: String,
    node_id: Uuid,
    state: String,
    goal: String,
    armed: bool,
    touched: bool,
    rebound: bool,
    applying: bool,
    started: bool,
    accepted: bool,
    since: Option<i64>,
    cause: Option<String>,
    wake: bool,
    paused: bool,
    applied: Option<String>,
    failed: Option<String>,
    frozen: Option<String>,
    read: Json<BTreeMap<String, String>>,
    kept: Json<Object>,
    outputs: Json<Object>,
    serving: bool,
    anew: bool,
    job_id: Option<Uuid>,
    content: Option<String>,
    approved: Option<String>,
    attempts: i32,
    code: Option<String>,
    tries: i32,
    retry_at: Option<OffsetDateTime>,
    renew_at: Option<OffsetDateTime>,
}

impl TryFrom<VertexRow> for Vertex {
    type Error = StoreError;

    fn try_from(row: VertexRow) -> Result<Self, StoreError> {
        let strange = |what: &'static str| StoreError::Database {
            doing: "reading a vertex",
            source: sqlx::Error::Decode(format!("{what} of vertex {} is not one that we know", row.vertex_id).into()),
        };
        let state = State::parse(&row.state).ok_or_else(|| strange("state"))?;
        let goal = if row.goal == "absent" { Goal::Absent } else { Goal::Present };
        let cause = row.cause.as_deref().map(str::parse).transpose().map_err(|_| strange("cause"))?;
        Ok(Self {
            id: VertexId(row.vertex_id),
            role: row.role,
            node: NodeId(row.node_id),
            phase: Phase {
                state,
                goal,
                armed: row.armed,
                touched: row.touched,
                rebound: row.rebound,
                applying: row.applying,
                started: row.started,
                accepted: row.accepted,
            },
            since: row.since,
            cause,
            wake: row.wake,
            paused: row.paused,
            applied: row.applied,
            failed: row.failed,
            frozen: row.frozen,
            read: row.read.0,
            kept: row.kept.0,
            outputs: row.outputs.0,
            serving: row.serving,
            anew: row.anew,
            job: row.job_id.map(JobId),
            content: row.content,
            approved: row.approved,
            attempts: row.attempts,
            code: row.code,
            tries: row.tries,
            retry_at: row.retry_at,
            renew_at: row.renew_at,
        })
    }
}

macro_rules! rows {
    ($which:literal, $($value:expr),* $(,)?) => {
        sqlx::query_as!(
            VertexRow,
            r#"select vertex_id, role, node_id, state, goal, armed, touched, rebound, applying, started, accepted, since, cause,
                      wake, paused, applied, failed, frozen, read as "read: Json<BTreeMap<String, String>>",
                      kept as "kept: Json<Object>", outputs as "outputs: Json<Object>", serving, anew, job_id, content,
                      approved, attempts, code, tries, retry_at, renew_at
               from vertex where deployment_id = $1 and not gone and "# + $which,
            $($value),*
        )
    };
}

/// All vertices on some nodes that are not gone.
pub async fn load_vertices(
    connection: &mut PgConnection,
    deployment: DeploymentId,
    nodes: &[Uuid],
) -> Result<Vec<Vertex>, StoreError> {
    let rows = rows!("node_id = any($2)", deployment.0, nodes)
        .fetch_all(connection)
        .await
        .map_err(doing("loading vertices of nodes"))?;
    rows.into_iter().map(Vertex::try_from).collect()
}

/// Vertices on some nodes, as far as a scope reaches.
pub async fn load_near(
    connection: &mut PgConnection,
    deployment: DeploymentId,
    nodes: &[Uuid],
    scope: &Scope,
) -> Result<Vec<Vertex>, StoreError> {
    let list = |roles: &BTreeSet<String>| roles.iter().cloned().collect::<Vec<_>>();
    let rows = rows!(
        "node_id = any($2) and (role = any($3) or role = any($4) and (since is not null or goal = 'absent'))",
        deployment.0,
        nodes,
        &list(&scope.roles),
        &list(&scope.stale)
    )
    .fetch_all(connection)
    .await
    .map_err(doing("loading vertices near others"))?;
    rows.into_iter().map(Vertex::try_from).collect()
}

/// All instances of a role that are not gone.
pub async fn load_role(
    connection: &mut PgConnection,
    deployment: DeploymentId,
    role: &str,
) -> Result<Vec<Vertex>, StoreError> {
    let rows = rows!("role = $2", deployment.0, role)
        .fetch_all(connection)
        .await
        .map_err(doing("loading the instances of a role"))?;
    rows.into_iter().map(Vertex::try_from).collect()
}

/// Nodes of a deployment: these, or all. The virtual one is always named [`VIRTUAL`] here.
pub async fn load_nodes(
    connection: &mut PgConnection,
    deployment: DeploymentId,
    virtual_node: NodeId,
    only: Option<&[Uuid]>,
) -> Result<Vec<NodeView>, StoreError> {
    let rows = sqlx::query!(
        r#"select node_id, name, group_name, standing, state, rebuild,
                  ruled || labels || facts || jsonb_build_object('generation', generation) as "facts!: JsonValue"
           from node where (deployment_id = $1 or node_id = $2) and ($3::uuid[] is null or node_id = any($3))"#,
        deployment.0,
        virtual_node.0,
        only
    )
    .fetch_all(connection)
    .await
    .map_err(doing("loading nodes"))?;
    let view = |row_facts: JsonValue| match row_facts {
        JsonValue::Object(facts) => facts,
        _ => Object::new(),
    };
    Ok(rows
        .into_iter()
        .map(|row| NodeView {
            id: NodeId(row.node_id),
            name: if row.node_id == virtual_node.0 { VIRTUAL.to_owned() } else { row.name },
            group: row.group_name.unwrap_or_default(),
            standing: match row.standing.as_str() {
                "aside" => Standing::Aside,
                "lost" => Standing::Lost,
                _ => Standing::In,
            },
            ready: matches!(row.state.as_str(), "up" | "virtual") && !row.rebuild,
            facts: view(row.facts),
        })
        .collect())
}
