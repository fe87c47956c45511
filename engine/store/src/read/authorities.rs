//! Authorities of a deployment, and how far they are in going over to another key.

use engine_core::graph::Graph;
use engine_core::view::AuthorityView;
use sqlx::PgPool;
use sqlx::types::Json;

use super::{failed, moment};
use crate::StoreError;
use crate::rotation::below;

/// Node roles that a rotation waits for are named up to this number.
const NAMED: i64 = 10;

/// The authorities of a deployment that are trusted, by role and generation.
pub async fn authorities(pool: &PgPool, name: &str) -> Result<Option<Vec<AuthorityView>>, StoreError> {
    let mut tx = moment(pool).await?;
    let known = sqlx::query!(
        r#"select d.deployment_id, d.virtual_node, r.graph as "graph: Json<Graph>"
           from deployment d join revision r on r.deployment_id = d.deployment_id and r.number = d.revision
           where d.name = $1 and d.state <> 'gone'"#,
        name
    )
    .fetch_optional(&mut *tx)
    .await
    .map_err(failed("looking for a deployment"))?;
    let Some(known) = known else { return Ok(None) };
    let rows = sqlx::query!(
        "select a.authority_id, v.role, a.generation, a.state, a.change, a.certificate, a.not_after
         from authority a join vertex v using (vertex_id)
         where a.deployment_id = $1 and a.state <> 'gone' order by v.role, a.generation",
        known.deployment_id
    )
    .fetch_all(&mut *tx)
    .await
    .map_err(failed("reading authorities"))?;
    let mut all = Vec::new();
    for row in rows {
        let mut waits_for = Vec::new();
        if row.state != "active" {
            waits_for = sqlx::query_scalar!(
                r#"select case when v.node_id = $4 then 'deployment' else n.name end || '/' || v.role as "place!"
                   from vertex v join node n using (node_id)
                   where v.deployment_id = $1 and v.role = any($2) and not v.gone and v.since <= $3 and v.role not like '% %'
                   order by 1 limit $5"#,
                known.deployment_id,
                &below(&known.graph.0, &row.role),
                row.change,
                known.virtual_node,
                NAMED
            )
            .fetch_all(&mut *tx)
            .await
            .map_err(failed("looking for what a rotation waits for"))?;
        }
        all.push(AuthorityView {
            id: row.authority_id,
            role: row.role,
            generation: row.generation,
            state: row.state,
            not_after: row.not_after,
            certificate: row.certificate,
            waits_for,
        });
    }
    Ok(Some(all))
}
