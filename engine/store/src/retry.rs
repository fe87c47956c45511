//! What failed and is tried again by itself: when, and that it is.

use engine_core::id::{DeploymentId, VertexId};
use engine_core::settle::Turn;
use sqlx::PgPool;
use time::OffsetDateTime;

use crate::StoreError;
use crate::error::doing;
use crate::pass::{self, Revisions};

/// When the next of them is tried again; in the past if it is time.
pub async fn next(pool: &PgPool) -> Result<Option<OffsetDateTime>, StoreError> {
    sqlx::query_scalar!("select min(retry_at) from vertex where broken and retry_at is not null")
        .fetch_one(pool)
        .await
        .map_err(doing("looking for what is tried again"))
}

/// Deployments in which something is to be tried again now.
pub async fn due(pool: &PgPool, now: OffsetDateTime) -> Result<Vec<DeploymentId>, StoreError> {
    let ids = sqlx::query_scalar!("select distinct deployment_id from vertex where broken and retry_at <= $1", now)
        .fetch_all(pool)
        .await
        .map_err(doing("looking for what is tried again"))?;
    Ok(ids.into_iter().map(DeploymentId).collect())
}

/// Lets all of a deployment be judged again whose time has come. If we die before the end, nothing has happened.
/// `known`: revisions at hand.
pub async fn again(
    pool: &PgPool,
    deployment: DeploymentId,
    now: OffsetDateTime,
    known: &Revisions,
) -> Result<(), StoreError> {
    let Some(mut locked) = pass::lock(pool, deployment).await? else { return Ok(()) };
    let ids = sqlx::query_scalar!(
        "select vertex_id from vertex where deployment_id = $1 and broken and retry_at <= $2",
        deployment.0,
        now
    )
    .fetch_all(&mut *locked.tx)
    .await
    .map_err(doing("looking for what is tried again"))?;
    let ids: Vec<VertexId> = ids.into_iter().map(VertexId).collect();
    if ids.is_empty() {
        return locked.roll_back().await;
    }
    let again = |turn: &mut Turn<'_>| {
        for id in &ids {
            turn.try_again(*id, now);
        }
        true
    };
    locked.turn_apart(&ids, known, "engine", again).await?;
    locked.commit().await
}
