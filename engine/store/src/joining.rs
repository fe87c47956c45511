//! Free nodes and the deployments that they may join by themselves.
//!
//! A node counts how often something came up for which it might join: it is known, it is known otherwise, it is free again, or a deployment
//! that nodes join was committed. Who has looked notes how far the count was then, so nothing that comes up meanwhile is missed.

use engine_core::document::Object;
use engine_core::id::DeploymentId;
use serde_json::Value;
use sqlx::types::Json;
use sqlx::{PgConnection, PgPool};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::StoreError;
use crate::error::doing;
use crate::pass::EVENTS;

/// A deployment that nodes join by themselves.
#[derive(Clone, Debug)]
pub struct Joined {
    /// The deployment.
    pub id: DeploymentId,
    /// Its name.
    pub name: String,
    /// The committed revision.
    pub revision: i32,
    /// Its document.
    pub document: Value,
    /// When it destroys itself.
    pub expires_at: Option<OffsetDateTime>,
    /// Held back by a person.
    pub paused: bool,
}

/// A node that no deployment uses.
#[derive(Clone, Debug)]
pub struct Free {
    id: Uuid,
    due: i64,
    /// Its name.
    pub name: String,
    /// Facts and labels.
    pub known: Object,
}

/// Deployments that nodes join, by name.
pub async fn deployments(pool: &PgPool) -> Result<Vec<Joined>, StoreError> {
    let rows = sqlx::query!(
        "select d.deployment_id, d.name, d.revision, r.document, d.expires_at, d.paused
         from deployment d join revision r on r.deployment_id = d.deployment_id and r.number = d.revision
         where d.joins and d.state = 'active' order by d.name"
    )
    .fetch_all(pool)
    .await
    .map_err(doing("looking for deployments that nodes join"))?;
    let joined = rows.into_iter().map(|row| Joined {
        id: DeploymentId(row.deployment_id),
        name: row.name,
        revision: row.revision,
        document: row.document,
        expires_at: row.expires_at,
        paused: row.paused,
    });
    Ok(joined.collect())
}

/// Free nodes that nobody has looked at since something came up, by name; `after` is the last name of those before. Those
/// that answer, take part, and that rules went through; none if there is nothing to join.
pub async fn free(pool: &PgPool, after: &str, limit: i64) -> Result<Vec<Free>, StoreError> {
    let rows = sqlx::query!(
        r#"select node_id, name, join_due,
                  ruled || labels || facts || jsonb_build_object('generation', generation) as "known!: Json<Object>"
           from node
           where deployment_id is null and state = 'up' and standing = 'in' and not rebuild and join_due > join_seen
                 and owned_by is null and exists (select from deployment where joins and state = 'active')
                 and (not to_rule or not exists (select from setting where kind = 'rule')) and name > $1
           order by name limit $2"#,
        after,
        limit
    )
    .fetch_all(pool)
    .await
    .map_err(doing("looking for free nodes"))?;
    let free =
        rows.into_iter().map(|row| Free { id: row.node_id, due: row.join_due, name: row.name, known: row.known.0 });
    Ok(free.collect())
}

/// They were looked at, as they were seen. `refused`: what deployments can not take some of them, and why; of two engines that
/// looked at once, one tells it.
pub async fn looked(
    pool: &PgPool,
    nodes: &[&Free],
    by: &str,
    refused: &[(DeploymentId, Value)],
) -> Result<(), StoreError> {
    let failed = doing("noting which free nodes were looked at");
    let mut tx = pool.begin().await.map_err(&failed)?;
    let noted = sqlx::query!(
        "with mine as (
             select n.node_id, u.due from node n join unnest($1::uuid[], $2::bigint[]) as u(id, due) on n.node_id = u.id
             where n.join_seen < u.due order by n.node_id for update of n)
         update node n set join_seen = mine.due from mine where n.node_id = mine.node_id",
        &nodes.iter().map(|node| node.id).collect::<Vec<_>>(),
        &nodes.iter().map(|node| node.due).collect::<Vec<_>>()
    );
    let noted = noted.execute(&mut *tx).await.map_err(&failed)?.rows_affected() > 0;
    for (deployment, detail) in refused.iter().filter(|_| noted) {
        sqlx::query!(
            "insert into event (at, kind, deployment_id, principal, detail)
             values (clock_timestamp(), 'deployment.join-refused', $1, $2, $3)",
            deployment.0,
            by,
            detail
        )
        .execute(&mut *tx)
        .await
        .map_err(&failed)?;
        sqlx::query!("select pg_notify($1, '')", EVENTS).execute(&mut *tx).await.map_err(&failed)?;
    }
    tx.commit().await.map_err(&failed)
}

/// A deployment that nodes join is committed: all that are free may be what it wants. In one order for all, so that of two commits
/// at once one waits for the other.
pub(crate) async fn look_again(connection: &mut PgConnection) -> Result<(), StoreError> {
    sqlx::query!(
        "with free as (
             select node_id from node where deployment_id is null and state not in ('virtual', 'gone')
             order by node_id for update)
         update node n set join_due = n.join_due + 1 from free where n.node_id = free.node_id"
    )
    .execute(connection)
    .await
    .map_err(doing("letting free nodes be looked at again"))?;
    Ok(())
}

/// A deployment has a place less filled: if nodes join it, one that is free may be what it wants.
pub(crate) async fn look_again_for(connection: &mut PgConnection, deployment: Uuid) -> Result<(), StoreError> {
    let joins = sqlx::query_scalar!("select joins from deployment where deployment_id = $1", deployment)
        .fetch_one(&mut *connection)
        .await
        .map_err(doing("looking whether nodes join"))?;
    if joins { look_again(connection).await } else { Ok(()) }
}
