//! What was promised to go and is still there.

use engine_core::view::ResidueView;
use sqlx::PgPool;
use sqlx::types::Json;

use super::{MOST, failed};
use crate::StoreError;

/// The residue of a deployment since it was last begun, oldest first; also of one that is gone.
pub async fn residue_of(pool: &PgPool, name: &str) -> Result<Option<Vec<ResidueView>>, StoreError> {
    let known = sqlx::query!("select deployment_id, revision from deployment where name = $1", name)
        .fetch_optional(pool)
        .await
        .map_err(failed("looking for a deployment"))?;
    let Some(known) = known else { return Ok(None) };
    let rows = sqlx::query!(
        r#"select node, role, kind, things as "things: Json<Vec<String>>", reason, job_id, found_at from residue
           where deployment_id = $1
                 and found_at >= coalesce((
                     select max(committed_at) from revision r
                     where r.deployment_id = $1 and r.number < $2 and r.plan ->> 'what' = 'destroyed'), '-infinity')
           order by residue_id limit $3"#,
        known.deployment_id,
        known.revision,
        MOST
    )
    .fetch_all(pool)
    .await
    .map_err(failed("reading residue"))?;
    let view = rows.into_iter().map(|row| ResidueView {
        node: row.node,
        role: row.role,
        kind: row.kind,
        things: row.things.0,
        reason: row.reason,
        job: row.job_id.map(engine_core::id::JobId),
        found_at: row.found_at,
    });
    Ok(Some(view.collect()))
}
