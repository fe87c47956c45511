//! Authorities of a deployment that go over to another key.

use engine_core::graph::Graph;
use engine_core::view::{RotationView, Stage};
use sqlx::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;

use super::failed;
use crate::StoreError;
use crate::rotation::{NAMED, below, probed, unabsorbed, unproven};

/// Of whom, in which revision.
#[derive(Clone, Copy)]
pub(super) struct Of {
    pub(super) deployment: Uuid,
    pub(super) revision: i32,
}

/// Those that go over to another key, by role. A retired one counts until everybody below has heard.
pub(super) async fn rotations(connection: &mut PgConnection, of: Of) -> Result<Vec<RotationView>, StoreError> {
    let rows = sqlx::query!(
        r#"select v.role, a.generation, a.state, a.change, a.paused, a.absorbed_at, d.virtual_node,
                  s.generation as "signs?"
           from authority a join vertex v using (vertex_id) join deployment d on d.deployment_id = a.deployment_id
                left join authority s on s.vertex_id = a.vertex_id and s.state = 'active'
           where a.deployment_id = $1 and not v.gone
                 and (a.state in ('introduced', 'retiring')
                      or a.state = 'gone' and a.change >= (
                          select coalesce(min(since), 9223372036854775807) from vertex
                          where deployment_id = $1 and not gone and since is not null))
           order by v.role, a.change"#,
        of.deployment
    )
    .fetch_all(&mut *connection)
    .await
    .map_err(failed("reading rotations"))?;
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let graph = sqlx::query_scalar!(
        r#"select graph as "graph: Json<Graph>" from revision where deployment_id = $1 and number = $2"#,
        of.deployment,
        of.revision
    )
    .fetch_one(&mut *connection)
    .await
    .map_err(failed("reading a graph"))?;
    let mut all: Vec<RotationView> = Vec::new();
    for row in rows {
        let Some(signs) = row.signs else { continue };
        let below = below(&graph.0, &row.role);
        let at = (of.deployment, row.virtual_node);
        let mut waits_for = unabsorbed(connection, at, &below, row.change).await?;
        let absorbed = waits_for.is_empty();
        if let Some(since) = row.absorbed_at.filter(|_| absorbed) {
            let probed = probed(connection, of.deployment, of.revision, &below).await?;
            let unproven = unproven(connection, at, &probed, since).await?;
            waits_for = unproven
                .into_iter()
                .take(usize::from(NAMED))
                .map(|one| match one.says {
                    Some(says) => format!("{}: {says}", one.place),
                    None => one.place,
                })
                .collect();
        }
        let (stage, from, to) = match row.state.as_str() {
            "introduced" => (Stage::Introduce, signs, row.generation),
            "retiring" => (Stage::Switch, row.generation, signs),
            // What everybody has heard of is over.
            _ if absorbed => continue,
            _ => (Stage::Retire, row.generation, signs),
        };
        all.push(RotationView { authority: row.role, stage, from, to, paused: row.paused, absorbed, waits_for });
    }
    Ok(all)
}
