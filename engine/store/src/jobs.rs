//! Jobs that run: what to send, what was heard, who follows them.

use std::collections::BTreeSet;

use engine_core::catalog::CatalogRole;
use engine_core::document::Object;
use engine_core::graph::VIRTUAL;
use engine_core::id::{DeploymentId, EngineId, JobId, NodeId, VertexId};
use engine_core::view::Progress;
use sqlx::PgPool;
use sqlx::types::Json;
use uuid::Uuid;

use crate::StoreError;
use crate::error::doing;
use crate::pass;

/// A job that runs, with all that is needed to run it.
#[derive(Clone, Debug)]
pub struct OpenJob {
    /// Its id.
    pub job: JobId,
    /// Its deployment.
    pub deployment: DeploymentId,
    /// Name of the deployment.
    pub deployment_name: String,
    /// Its vertex.
    pub vertex: VertexId,
    /// The deployment role.
    pub role: String,
    /// Where it is performed.
    pub node: NodeId,
    /// Name of the node that the vertex stands on.
    pub place: String,
    /// `apply`, `check` or `remove`.
    pub action: String,
    /// Beside the state of its vertex: nothing moves by what comes of it.
    pub beside: bool,
    /// Which attempt of its vertex.
    pub attempt: i32,
    /// Grows with every claim.
    pub fence: i64,
    /// Revision it was claimed under.
    pub revision: i32,
    /// Hash of its content row.
    pub content: String,
    /// Frozen inputs, with references to gathered values.
    pub inputs: Object,
    /// Inputs that differ from the last success.
    pub changed: BTreeSet<String>,
    /// The last event of its log that is recorded; 0 if it may never have been sent.
    pub seen: i64,
    /// Incarnation of the agent that it was handed to.
    pub incarnation: Option<String>,
    /// A person wants it stopped.
    pub cancelled: bool,
}

/// Takes jobs that nobody follows and that do not wait for their time, with a new fence.
pub async fn adopt(pool: &PgPool, engine: EngineId) -> Result<Vec<JobId>, StoreError> {
    let ids = sqlx::query_scalar!(
        "update job set engine_id = $1, fence = fence + 1
         where job_id in (select job_id from job where engine_id is null and finished_at is null and look_at is null
                          for update skip locked)
         returning job_id",
        engine.0
    )
    .fetch_all(pool)
    .await
    .map_err(doing("taking over jobs"))?;
    Ok(ids.into_iter().map(JobId).collect())
}

/// Loads jobs that this engine holds.
pub async fn load(pool: &PgPool, engine: EngineId, jobs: &[JobId]) -> Result<Vec<OpenJob>, StoreError> {
    let ids: Vec<Uuid> = jobs.iter().map(|job| job.0).collect();
    let rows = sqlx::query!(
        r#"select j.job_id, j.deployment_id, d.name as deployment_name, d.virtual_node, j.vertex_id, v.role, v.node_id as place_id,
                  n.name as place, j.node_id, j.action, j.attempt, j.beside, j.fence, j.revision, j.content,
                  j.inputs as "inputs: Json<Object>", j.changed as "changed: Json<BTreeSet<String>>", j.seen, j.incarnation, j.cancelled
           from job j
           join vertex v using (vertex_id)
           join node n on n.node_id = v.node_id
           join deployment d on d.deployment_id = j.deployment_id
           where j.job_id = any($1) and j.engine_id = $2 and j.finished_at is null"#,
        &ids,
        engine.0
    )
    .fetch_all(pool)
    .await
    .map_err(doing("loading jobs"))?;
    Ok(rows
        .into_iter()
        .map(|row| OpenJob {
            job: JobId(row.job_id),
            deployment: DeploymentId(row.deployment_id),
            deployment_name: row.deployment_name,
            vertex: VertexId(row.vertex_id),
            role: row.role,
            node: NodeId(row.node_id),
            place: if row.place_id == row.virtual_node { VIRTUAL.to_owned() } else { row.place },
            action: row.action,
            attempt: row.attempt,
            beside: row.beside,
            fence: row.fence,
            revision: row.revision,
            content: row.content,
            inputs: row.inputs.0,
            changed: row.changed.0,
            seen: row.seen,
            incarnation: row.incarnation,
            cancelled: row.cancelled,
        })
        .collect())
}

/// The role behind the hash of a content row.
pub async fn content(pool: &PgPool, hash: &str) -> Result<CatalogRole, StoreError> {
    let row = sqlx::query_scalar!(r#"select body as "body: Json<CatalogRole>" from content where hash = $1"#, hash)
        .fetch_one(pool)
        .await
        .map_err(doing("loading a role"))?;
    Ok(row.0)
}

/// A line of a job's log.
#[derive(Clone, Debug)]
pub struct Line {
    /// Number of the agent's event.
    pub seq: i64,
    /// `stdout`, `stderr` or `agent`.
    pub stream: String,
    /// The line.
    pub line: String,
}

/// What was heard of a job since the last time.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    /// Lines of its log.
    pub lines: Vec<Line>,
    /// Number of the newest event.
    pub seen: i64,
    /// How far it is.
    pub progress: Option<Progress>,
    /// Incarnation of the agent that runs it.
    pub incarnation: Option<String>,
}

/// Records what was heard of a job. `false`: somebody else follows it by now, or it is over.
pub async fn hear(pool: &PgPool, engine: EngineId, job: (JobId, i64), heard: &Heard) -> Result<bool, StoreError> {
    let failed = doing("recording a job's log");
    let mut tx = pool.begin().await.map_err(&failed)?;
    let ours = sqlx::query!(
        "update job set seen = greatest(seen, $4), progress = coalesce($5, progress),
                incarnation = coalesce($6, incarnation)
         where job_id = $1 and fence = $2 and engine_id = $3 and finished_at is null",
        job.0.0,
        job.1,
        engine.0,
        heard.seen,
        heard.progress.as_ref().map(|progress| serde_json::json!(progress)),
        heard.incarnation
    )
    .execute(&mut *tx)
    .await
    .map_err(&failed)?;
    if ours.rows_affected() == 0 {
        return Ok(false);
    }
    if !heard.lines.is_empty() {
        let seqs: Vec<i64> = heard.lines.iter().map(|line| line.seq).collect();
        let streams: Vec<String> = heard.lines.iter().map(|line| line.stream.clone()).collect();
        // Postgres keeps no NUL in text.
        let lines: Vec<String> = heard.lines.iter().map(|line| line.line.replace('\0', "\u{fffd}")).collect();
        sqlx::query!(
            "insert into job_log (job_id, seq, at, stream, line)
             select $1, u.seq, clock_timestamp(), u.stream, u.line
             from unnest($2::bigint[], $3::text[], $4::text[]) as u(seq, stream, line) on conflict do nothing",
            job.0.0,
            &seqs,
            &streams,
            &lines
        )
        .execute(&mut *tx)
        .await
        .map_err(&failed)?;
    }
    sqlx::query!("select pg_notify($1, $2)", pass::EVENTS, job.0.to_string())
        .execute(&mut *tx)
        .await
        .map_err(&failed)?;
    tx.commit().await.map_err(&failed)?;
    Ok(true)
}

/// Jobs of this engine that a person wants stopped.
pub async fn cancelled(pool: &PgPool, engine: EngineId) -> Result<Vec<JobId>, StoreError> {
    let ids = sqlx::query_scalar!(
        "select job_id from job where engine_id = $1 and finished_at is null and cancelled",
        engine.0
    )
    .fetch_all(pool)
    .await
    .map_err(doing("looking for cancelled jobs"))?;
    Ok(ids.into_iter().map(JobId).collect())
}

/// Jobs that this engine holds and that are not over.
pub async fn held(pool: &PgPool, engine: EngineId) -> Result<Vec<(JobId, i64)>, StoreError> {
    let rows = sqlx::query!("select job_id, fence from job where engine_id = $1 and finished_at is null", engine.0)
        .fetch_all(pool)
        .await
        .map_err(doing("looking for our jobs"))?;
    Ok(rows.into_iter().map(|row| (JobId(row.job_id), row.fence)).collect())
}

/// Does this engine still hold a job under this fence?
pub async fn is_held(pool: &PgPool, engine: EngineId, job: (JobId, i64)) -> Result<bool, StoreError> {
    sqlx::query_scalar!(
        r#"select exists (select from job where job_id = $1 and fence = $2 and engine_id = $3 and finished_at is null)
           as "held!""#,
        job.0.0,
        job.1,
        engine.0
    )
    .fetch_one(pool)
    .await
    .map_err(doing("looking whether a job is ours"))
}

/// Does any of these inputs refer to a gathered value?
pub fn refers(inputs: &Object) -> bool {
    inputs.values().any(|input| pass::reference(input).is_some())
}

/// Puts gathered values where inputs refer to them.
pub async fn resolve(pool: &PgPool, inputs: &mut Object) -> Result<(), StoreError> {
    let digests: BTreeSet<String> = inputs.values().filter_map(pass::reference).collect();
    if digests.is_empty() {
        return Ok(());
    }
    let digests: Vec<String> = digests.into_iter().collect();
    let values = pass::values(pool, &digests).await?;
    for input in inputs.values_mut() {
        if let Some(value) = pass::reference(input).and_then(|digest| values.get(&digest)) {
            *input = value.clone();
        }
    }
    Ok(())
}
