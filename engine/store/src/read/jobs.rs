//! Jobs and their logs.

use engine_core::graph::VIRTUAL;
use engine_core::id::{JobId, VertexId};
use engine_core::view::{JobView, LogLine, Progress};
use serde_json::Value;
use sqlx::types::Json;
use sqlx::{PgConnection, PgPool};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{failed, limited};
use crate::StoreError;

struct Row {
    job_id: Uuid,
    vertex_id: Uuid,
    node: String,
    role: String,
    action: String,
    attempt: i32,
    revision: i32,
    claimed_at: OffsetDateTime,
    finished_at: Option<OffsetDateTime>,
    outcome: Option<String>,
    code: Option<String>,
    message: Option<String>,
    millis: Option<i64>,
    progress: Option<Json<Progress>>,
    saw: Option<String>,
    look_at: Option<OffsetDateTime>,
    steps: Option<Value>,
}

impl Row {
    fn view(self) -> JobView {
        JobView {
            id: JobId(self.job_id),
            vertex: VertexId(self.vertex_id),
            node: self.node,
            role: self.role,
            action: self.action,
            attempt: self.attempt,
            revision: self.revision,
            claimed_at: self.claimed_at,
            finished_at: self.finished_at,
            outcome: self.outcome,
            code: self.code,
            message: self.message,
            millis: self.millis,
            progress: self.progress.map(|json| json.0),
            saw: self.saw,
            look_at: self.look_at,
            steps: self.steps.unwrap_or_default(),
        }
    }
}

macro_rules! rows {
    ($which:literal, $($value:expr),*) => {
        sqlx::query_as!(
            Row,
            r#"select j.job_id, j.vertex_id, v.role, j.action, j.attempt, j.revision, j.claimed_at, j.finished_at,
                      j.outcome, j.code, j.message, j.millis, j.progress as "progress: Json<Progress>", j.saw, j.look_at, j.steps,
                      case when n.state = 'virtual' then $1 else n.name end as "node!"
               from job j join vertex v using (vertex_id) join node n on n.node_id = v.node_id where "# + $which,
            VIRTUAL,
            $($value),*
        )
    };
}

/// The attempts of a node role, newest first; without the results of their steps, which [`job`] has.
pub async fn jobs(pool: &PgPool, vertex: VertexId, limit: i64) -> Result<Vec<JobView>, StoreError> {
    let mut connection = pool.acquire().await.map_err(failed("reading jobs"))?;
    of_vertex(&mut connection, vertex.0, i32::MAX, limited(limit)).await
}

/// None of a later revision than `newest`.
pub(super) async fn of_vertex(
    connection: &mut PgConnection,
    vertex: Uuid,
    newest: i32,
    limit: i64,
) -> Result<Vec<JobView>, StoreError> {
    let rows =
        rows!("j.vertex_id = $2 and j.revision <= $3 order by j.claimed_at desc limit $4", vertex, newest, limit)
            .fetch_all(connection)
            .await
            .map_err(failed("reading jobs"))?;
    Ok(rows.into_iter().map(|row| JobView { steps: Value::Null, ..row.view() }).collect())
}

/// One attempt with the results of its steps.
pub async fn job(pool: &PgPool, job: JobId) -> Result<Option<JobView>, StoreError> {
    let row = rows!("j.job_id = $2", job.0).fetch_optional(pool).await.map_err(failed("reading a job"))?;
    Ok(row.map(Row::view))
}

/// The newest attempt of a node role, and whether it still runs.
pub async fn latest_job(pool: &PgPool, vertex: VertexId) -> Result<Option<(JobId, bool)>, StoreError> {
    let row = sqlx::query!(
        r#"select job_id, finished_at is null as "open!" from job where vertex_id = $1 order by claimed_at desc limit 1"#,
        vertex.0
    )
    .fetch_optional(pool)
    .await
    .map_err(failed("looking for the newest job"))?;
    Ok(row.map(|row| (JobId(row.job_id), row.open)))
}

/// Lines of a job's log after the one with this number.
pub async fn log(pool: &PgPool, job: JobId, after: i64, limit: i64) -> Result<Vec<LogLine>, StoreError> {
    let rows = sqlx::query!(
        "select seq, at, stream, line from job_log where job_id = $1 and seq > $2 order by seq limit $3",
        job.0,
        after,
        limited(limit)
    )
    .fetch_all(pool)
    .await
    .map_err(failed("reading a log"))?;
    let line = |seq, at, stream, line| LogLine { job, seq, at, stream, line };
    Ok(rows.into_iter().map(|row| line(row.seq, row.at, row.stream, row.line)).collect())
}

/// What a remove promised to take away and left, as JSON text; nothing if all went.
pub async fn residue(pool: &PgPool, job: JobId) -> Result<Option<String>, StoreError> {
    let residue = sqlx::query_scalar!("select residue::text from job where job_id = $1", job.0)
        .fetch_optional(pool)
        .await
        .map_err(failed("reading residue"))?;
    Ok(residue.flatten().filter(|residue| residue != "null"))
}
