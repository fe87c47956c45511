//! What was told for a time only: when the next of it is to be made anew, and that it is. An authority is made to tell anew
//! also when something of it was revoked that no list of it has.

use engine_core::id::{DeploymentId, VertexId};
use engine_core::settle::Turn;
use sqlx::PgPool;
use time::OffsetDateTime;

use crate::StoreError;
use crate::error::doing;
use crate::pass::{self, Revisions};

/// When the next time comes; in the past if it has come. What moves already is not asked for.
pub async fn next(pool: &PgPool) -> Result<Option<OffsetDateTime>, StoreError> {
    sqlx::query_scalar!(
        r#"select renew_at as "renew_at!" from vertex
           where renew_at is not null and state = 'active' and goal = 'present' order by renew_at limit 1"#
    )
    .fetch_optional(pool)
    .await
    .map_err(doing("looking for what is to be renewed"))
}

/// Deployments in which something is to be made anew now.
pub async fn due(pool: &PgPool, now: OffsetDateTime) -> Result<Vec<DeploymentId>, StoreError> {
    let ids = sqlx::query_scalar!(
        r#"select deployment_id as "deployment_id!" from vertex
           where renew_at <= $1 and state = 'active' and goal = 'present'
           union
           select v.deployment_id from certificate c join authority a using (authority_id)
                  join vertex v on v.vertex_id = a.vertex_id
           where c.revoked_at is not null and c.listed_at is null and a.state <> 'gone'
                 and v.state = 'active' and v.goal = 'present'"#,
        now
    )
    .fetch_all(pool)
    .await
    .map_err(doing("looking for what is to be renewed"))?;
    Ok(ids.into_iter().map(DeploymentId).collect())
}

/// Lets all of a deployment run again whose time has come, as one change. If we die before the end, nothing has happened.
/// `known`: revisions at hand.
pub async fn renew(
    pool: &PgPool,
    deployment: DeploymentId,
    now: OffsetDateTime,
    known: &Revisions,
) -> Result<(), StoreError> {
    let Some(mut locked) = pass::lock(pool, deployment).await? else { return Ok(()) };
    let ids = sqlx::query_scalar!(
        r#"select vertex_id as "vertex_id!" from vertex
           where deployment_id = $1 and renew_at <= $2 and state = 'active' and goal = 'present'
           union
           select v.vertex_id from certificate c join authority a using (authority_id)
                  join vertex v on v.vertex_id = a.vertex_id
           where c.revoked_at is not null and c.listed_at is null and a.state <> 'gone' and a.deployment_id = $1
                 and v.state = 'active' and v.goal = 'present'"#,
        deployment.0,
        now
    )
    .fetch_all(&mut *locked.tx)
    .await
    .map_err(doing("looking for what is to be renewed"))?;
    let ids: Vec<VertexId> = ids.into_iter().map(VertexId).collect();
    if ids.is_empty() {
        return locked.roll_back().await;
    }
    let change = locked.next_change().await?;
    let renew = |turn: &mut Turn<'_>| {
        for id in &ids {
            turn.renew(*id, change);
        }
        true
    };
    locked.turn_apart(&ids, known, "renewal", renew).await?;
    locked.commit().await
}
