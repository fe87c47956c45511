//! Authorities that somebody else signs: keys that wait for a certificate, and what becomes of them.

use engine_core::id::{DeploymentId, JobId, VertexId};
use serde_json::{Value, json};
use sqlx::PgPool;
use uuid::Uuid;

use super::{Authority, Work};
use crate::StoreError;
use crate::error::doing;
use crate::pass::EVENTS;
use crate::seal::{Place, Sealed};

/// A key that waits for its certificate.
#[derive(Clone, Debug)]
pub struct Requested {
    /// Whose work it was.
    pub of: Work,
    /// What the authority is asked to be.
    pub founded_as: Value,
    /// In PEM.
    pub request: String,
    /// PKCS #8, sealed at [`place_of_request`].
    pub key: Sealed,
}

/// Where the key of a request stands, for sealing.
pub fn place_of_request(vertex: &str) -> Place<'_> {
    Place { table: "authority_request", row: vertex, column: "key" }
}

/// Keeps a request, and gives the one that waits: another engine may have been faster.
pub async fn request(pool: &PgPool, made: &Requested) -> Result<Option<Requested>, StoreError> {
    let Work { deployment, vertex, job } = made.of;
    sqlx::query!(
        "with made as (
             insert into authority_request (vertex_id, deployment_id, founded_as, request, key, job_id, made_at)
             values ($1, $2, $3, $4, $5, $6, now()) on conflict do nothing returning vertex_id)
         insert into event (at, kind, deployment_id, vertex_id, job_id, principal, detail)
         select clock_timestamp(), 'authority.requested', $2, $1, $6, 'engine', '{}' from made",
        vertex.0,
        deployment.0,
        made.founded_as,
        made.request,
        made.key.bytes(),
        job.0
    )
    .execute(pool)
    .await
    .map_err(doing("keeping the request of an authority"))?;
    requested(pool, vertex).await
}

/// The request of a vertex that waits.
pub async fn requested(pool: &PgPool, vertex: VertexId) -> Result<Option<Requested>, StoreError> {
    let row = sqlx::query!(
        "select deployment_id, founded_as, request, key, job_id from authority_request where vertex_id = $1",
        vertex.0
    )
    .fetch_optional(pool)
    .await
    .map_err(doing("looking for the request of an authority"))?;
    Ok(row.map(|row| Requested {
        of: Work { deployment: DeploymentId(row.deployment_id), vertex, job: JobId(row.job_id) },
        founded_as: row.founded_as,
        request: row.request,
        key: Sealed::stored(row.key),
    }))
}

/// Nobody waits for it any more.
pub async fn forget_request(pool: &PgPool, vertex: VertexId) -> Result<(), StoreError> {
    sqlx::query!("delete from authority_request where vertex_id = $1", vertex.0)
        .execute(pool)
        .await
        .map_err(doing("forgetting the request of an authority"))?;
    Ok(())
}

/// The first key of an authority that waited for its certificate signs from now on; the job that waits for it is looked at at
/// once. `false`: it waits no more, and nothing was changed.
pub async fn import(pool: &PgPool, of: &Requested, made: &Authority, by: &str) -> Result<bool, StoreError> {
    let failed = doing("taking the certificate of an authority");
    let mut tx = pool.begin().await.map_err(&failed)?;
    let waited = sqlx::query_scalar!(
        "delete from authority_request where vertex_id = $1 and request = $2 returning job_id",
        of.of.vertex.0,
        of.request
    )
    .fetch_optional(&mut *tx)
    .await
    .map_err(&failed)?;
    if waited.is_none() {
        tx.rollback().await.map_err(&failed)?;
        return Ok(false);
    }
    let id: Option<Uuid> = sqlx::query_scalar!(
        "insert into authority (authority_id, deployment_id, vertex_id, generation, state, change, founded_as,
                                certificate, above, key, not_after, job_id, made_at)
         values ($1, $2, $3, $4, 'active', 0, $5, $6, $7, $8, $9, $10, now())
         on conflict do nothing returning authority_id",
        made.id,
        of.of.deployment.0,
        of.of.vertex.0,
        made.generation,
        made.founded_as,
        made.certificate,
        made.above,
        made.key.bytes(),
        made.not_after,
        of.of.job.0
    )
    .fetch_optional(&mut *tx)
    .await
    .map_err(&failed)?;
    if id.is_none() {
        tx.rollback().await.map_err(&failed)?;
        return Ok(false);
    }
    sqlx::query!(
        "insert into event (at, kind, deployment_id, vertex_id, job_id, principal, detail)
         values (clock_timestamp(), 'authority.imported', $1, $2, $3, $4, $5)",
        of.of.deployment.0,
        of.of.vertex.0,
        of.of.job.0,
        by,
        json!({"authority": made.id, "generation": made.generation})
    )
    .execute(&mut *tx)
    .await
    .map_err(&failed)?;
    sqlx::query!(
        "update job set look_at = clock_timestamp()
         where vertex_id = $1 and look_at is not null",
        of.of.vertex.0
    )
    .execute(&mut *tx)
    .await
    .map_err(&failed)?;
    sqlx::query!("select pg_notify($1, $2)", EVENTS, of.of.job.0.to_string())
        .execute(&mut *tx)
        .await
        .map_err(&failed)?;
    tx.commit().await.map_err(&failed)?;
    Ok(true)
}
