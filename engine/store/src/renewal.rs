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

/// What came of asking for another certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewed {
    /// It is made as soon as there is room for it.
    Done,
    /// There is no such certificate.
    Unknown,
    /// Nobody of a deployment holds it any more, or it was asked for over the API: whoever holds it asks for another one.
    Unheld,
    /// The node role that has it signed runs, waits or leaves at the moment.
    NotAtRest,
}

/// Lets whoever had a certificate signed have another one signed. If we die before the end, nothing has happened.
pub async fn renew_one(pool: &PgPool, serial: &str, by: &str, known: &Revisions) -> Result<Renewed, StoreError> {
    let row = sqlx::query!(
        r#"select v.vertex_id as "vertex?", v.deployment_id as "deployment?" from certificate c
           left join vertex v on v.vertex_id = c.vertex_id and not v.gone where c.serial = $1"#,
        serial
    )
    .fetch_optional(pool)
    .await
    .map_err(doing("looking for a certificate"))?;
    let Some(row) = row else { return Ok(Renewed::Unknown) };
    let (Some(vertex), Some(deployment)) = (row.vertex, row.deployment) else { return Ok(Renewed::Unheld) };
    let vertex = VertexId(vertex);
    let Some(mut locked) = pass::lock(pool, DeploymentId(deployment)).await? else { return Ok(Renewed::Unheld) };
    let change = locked.next_change().await?;
    let renew = |turn: &mut Turn<'_>| turn.hood.vertices.contains_key(&vertex) && turn.renew(vertex, change);
    if locked.turn_apart(&[vertex], known, by, renew).await? {
        locked.commit().await?;
        return Ok(Renewed::Done);
    }
    locked.roll_back().await?;
    Ok(Renewed::NotAtRest)
}
