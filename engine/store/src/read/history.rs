//! The revisions of a deployment.

use engine_core::plan::Totals;
use engine_core::view::RevisionView;
use sqlx::PgPool;
use sqlx::types::Json;

use super::{failed, limited};
use crate::StoreError;

/// The revisions of a deployment, newest first, from below number `before`; also of one that is gone.
pub async fn revisions(
    pool: &PgPool,
    name: &str,
    before: Option<i32>,
    limit: i64,
) -> Result<Option<Vec<RevisionView>>, StoreError> {
    let known = sqlx::query_scalar!("select deployment_id from deployment where name = $1", name)
        .fetch_optional(pool)
        .await
        .map_err(failed("looking for a deployment"))?;
    let Some(id) = known else { return Ok(None) };
    let rows = sqlx::query!(
        r#"select number, committed_by, committed_at, coalesce(plan ->> 'what', 'applied') as "what!",
                  case when plan ->> 'whole' = 'false' then plan -> 'nodes' end as "nodes: Json<Vec<String>>",
                  plan -> 'totals' as "totals: Json<Totals>"
           from revision where deployment_id = $1 and ($2::int is null or number < $2)
           order by number desc limit $3"#,
        id,
        before,
        limited(limit)
    )
    .fetch_all(pool)
    .await
    .map_err(failed("reading the revisions of a deployment"))?;
    let view = rows.into_iter().map(|row| RevisionView {
        number: row.number,
        what: row.what,
        nodes: row.nodes.map(|json| json.0).unwrap_or_default(),
        committed_by: row.committed_by,
        committed_at: row.committed_at,
        totals: row.totals.map(|json| json.0).unwrap_or_default(),
    });
    Ok(Some(view.collect()))
}
