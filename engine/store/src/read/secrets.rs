//! Secrets of a deployment, and whom they reached.

use std::collections::BTreeMap;

use engine_core::graph::{Graph, VIRTUAL};
use engine_core::secret::lineage;
use engine_core::view::{SecretReader, SecretView};
use sqlx::PgPool;
use sqlx::types::Json;
use time::OffsetDateTime;

use super::{failed, moment};
use crate::StoreError;

/// All secrets of a deployment by name, with the node roles that they reach; `None` if there is no such deployment.
pub async fn secrets(pool: &PgPool, name: &str) -> Result<Option<Vec<SecretView>>, StoreError> {
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
    let lineage = lineage(&known.graph.0);
    let mut roles: Vec<String> = lineage.values().flatten().map(|(role, _)| role.clone()).collect();
    roles.dedup();
    let rows = sqlx::query!(
        r#"select v.role, case when v.node_id = $3 then $4 else n.name end as "node!", j.claimed_at as "claimed_at?"
           from vertex v join node n using (node_id) left join lateral (
               select claimed_at from job where vertex_id = v.vertex_id and action = 'apply' order by claimed_at desc limit 1
           ) j on true
           where v.deployment_id = $1 and v.role = any($2) and not v.gone order by 2"#,
        known.deployment_id,
        &roles,
        known.virtual_node,
        VIRTUAL
    )
    .fetch_all(&mut *tx)
    .await
    .map_err(failed("looking for who reads secrets"))?;
    let mut on: BTreeMap<String, Vec<(String, Option<OffsetDateTime>)>> = BTreeMap::new();
    for row in rows {
        on.entry(row.role).or_default().push((row.node, row.claimed_at));
    }
    let all = lineage.into_iter().map(|(name, readers)| {
        let mut found = Vec::new();
        for (role, input) in readers {
            for (node, given_at) in on.get(&role).into_iter().flatten() {
                let (role, input, node) = (role.clone(), input.clone(), node.clone());
                found.push(SecretReader { node, role, input, given_at: *given_at });
            }
        }
        SecretView { name, readers: found }
    });
    Ok(Some(all.collect()))
}
