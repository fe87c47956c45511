//! What the last checks of a deployment found.

use engine_core::graph::VIRTUAL;
use engine_core::id::JobId;
use engine_core::view::{DriftDiff, DriftReport, DriftView};
use sqlx::PgPool;
use sqlx::types::Json;

use super::failed;
use crate::StoreError;

/// What the last checks of a deployment found; node roles that were never checked are left out.
pub async fn drift(pool: &PgPool, name: &str) -> Result<Option<DriftReport>, StoreError> {
    let known = sqlx::query!(
        r#"select deployment_id, virtual_node, schedule, on_drift,
                  case when isfinite(check_at) then check_at end as check_at
           from deployment where name = $1"#,
        name
    )
    .fetch_optional(pool)
    .await
    .map_err(failed("looking for a deployment"))?;
    let Some(known) = known else { return Ok(None) };
    let rows = sqlx::query!(
        r#"select case when v.node_id = $2 then $3 else n.name end as "node!", v.role,
                  f.due or coalesce(j.finished_at is null and j.job_id is not null, false) as "pending!",
                  f.verdict, f.code, f.message, f.diffs as "diffs: Json<Vec<DriftDiff>>", f.job_id, f.checked_at
           from drift f
           join vertex v using (vertex_id)
           join node n using (node_id)
           left join job j on j.job_id = f.job_id
           where f.deployment_id = $1 and not v.gone
           order by 1, 2"#,
        known.deployment_id,
        known.virtual_node,
        VIRTUAL
    )
    .fetch_all(pool)
    .await
    .map_err(failed("reading what checks found"))?;
    let view = rows.into_iter().map(|row| DriftView {
        node: row.node,
        role: row.role,
        pending: row.pending,
        verdict: row.verdict,
        code: row.code,
        message: row.message,
        diffs: row.diffs.0,
        job: row.job_id.map(JobId),
        checked_at: row.checked_at,
    });
    Ok(Some(DriftReport {
        node_roles: view.collect(),
        schedule: known.schedule,
        next_at: known.check_at,
        on_drift: known.on_drift,
    }))
}
