//! Authorities, what they signed, and what they do not stand by any more.

mod certificates;
mod ends;
mod lists;
mod requests;

use engine_core::id::{DeploymentId, JobId, VertexId};
use serde_json::{Value, json};
use sqlx::PgPool;
use time::OffsetDateTime;
use uuid::Uuid;

pub use self::certificates::{Certificate, Request, Revocation, holds, keep, keep_all, revoke, revoke_one, signed_by};
pub use self::ends::tell_of_ends;
pub use self::lists::{List, Listed, Part, listed, listed_part, of_part, part, parted, put_part};
pub use self::requests::{Requested, forget_request, import, place_of_request, request, requested};

use crate::StoreError;
use crate::error::doing;
use crate::seal::{Place, Sealed};

/// An authority that signs.
#[derive(Clone, Debug)]
pub struct Authority {
    /// Its id.
    pub id: Uuid,
    /// Of its vertex, from 1.
    pub generation: i32,
    /// What it was asked to be.
    pub founded_as: Value,
    /// In PEM.
    pub certificate: String,
    /// What follows all that it signs, in PEM: itself and those above it, if it did not sign itself.
    pub above: String,
    /// PKCS #8, sealed at [`place`].
    pub key: Sealed,
    /// Its end.
    pub not_after: OffsetDateTime,
    /// Name of its deployment.
    pub deployment: String,
    /// How many certificates it had signed when it was loaded.
    pub issued: i64,
}

/// Whose work something is.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    /// The deployment.
    pub deployment: DeploymentId,
    /// The vertex.
    pub vertex: VertexId,
    /// Its job.
    pub job: JobId,
}

/// Where the key of an authority stands, for sealing.
pub fn place(id: &str) -> Place<'_> {
    Place { table: "authority", row: id, column: "key" }
}

/// The authority of a vertex that signs.
pub async fn of_vertex(pool: &PgPool, vertex: VertexId) -> Result<Option<Authority>, StoreError> {
    Ok(signs_for(pool, vertex).await?.map(|(authority, _)| authority))
}

/// The authority of a vertex that signs, and whose work it was.
pub async fn signs_for(pool: &PgPool, vertex: VertexId) -> Result<Option<(Authority, Work)>, StoreError> {
    let row = sqlx::query!(
        "select authority_id, deployment_id, job_id from authority where vertex_id = $1 and state = 'active'",
        vertex.0
    )
    .fetch_optional(pool)
    .await
    .map_err(doing("looking for an authority"))?;
    let Some(row) = row else { return Ok(None) };
    let work = Work { deployment: DeploymentId(row.deployment_id), vertex, job: JobId(row.job_id) };
    Ok(authority(pool, row.authority_id).await?.map(|authority| (authority, work)))
}

/// An authority that signs, or did until a moment ago. `None`: there is none, or not any more.
pub async fn authority(pool: &PgPool, id: Uuid) -> Result<Option<Authority>, StoreError> {
    let row = sqlx::query_as!(
        AuthorityRow,
        r#"select authority_id, generation, founded_as, certificate, above, key as "key!", not_after, issued, d.name as deployment
           from authority a join deployment d using (deployment_id)
           where authority_id = $1 and a.state in ('active', 'retiring')"#,
        id
    )
    .fetch_optional(pool)
    .await
    .map_err(doing("loading an authority"))?;
    Ok(row.map(Authority::from))
}

/// All generations of an authority that are trusted, oldest first.
pub async fn trusted(pool: &PgPool, vertex: VertexId) -> Result<Vec<Authority>, StoreError> {
    let rows = sqlx::query_as!(
        AuthorityRow,
        r#"select authority_id, generation, founded_as, certificate, above, key as "key!", not_after, issued, d.name as deployment
           from authority a join deployment d using (deployment_id)
           where vertex_id = $1 and a.state <> 'gone' order by generation"#,
        vertex.0
    )
    .fetch_all(pool)
    .await
    .map_err(doing("loading what is trusted"))?;
    Ok(rows.into_iter().map(Authority::from).collect())
}

struct AuthorityRow {
    authority_id: Uuid,
    generation: i32,
    founded_as: Value,
    certificate: String,
    above: String,
    key: Vec<u8>,
    not_after: OffsetDateTime,
    issued: i64,
    deployment: String,
}

impl From<AuthorityRow> for Authority {
    fn from(row: AuthorityRow) -> Self {
        Self {
            id: row.authority_id,
            generation: row.generation,
            founded_as: row.founded_as,
            certificate: row.certificate,
            above: row.above,
            key: Sealed::stored(row.key),
            not_after: row.not_after,
            issued: row.issued,
            deployment: row.deployment,
        }
    }
}

/// Keeps a new authority, and gives the one that signs: another engine may have been faster.
pub async fn found(pool: &PgPool, of: Work, made: &Authority) -> Result<Option<Authority>, StoreError> {
    sqlx::query!(
        "with made as (
             insert into authority (authority_id, deployment_id, vertex_id, generation, state, change, founded_as,
                                    certificate, key, not_after, job_id, made_at)
             values ($1, $2, $3, $4, 'active', 0, $5, $6, $7, $8, $9, now())
             on conflict do nothing returning authority_id)
         insert into event (at, kind, deployment_id, vertex_id, job_id, principal, detail)
         select clock_timestamp(), 'authority.made', $2, $3, $9, 'engine', $10 from made",
        made.id,
        of.deployment.0,
        of.vertex.0,
        made.generation,
        made.founded_as,
        made.certificate,
        made.key.bytes(),
        made.not_after,
        of.job.0,
        json!({"authority": made.id, "generation": made.generation})
    )
    .execute(pool)
    .await
    .map_err(doing("keeping an authority"))?;
    of_vertex(pool, of.vertex).await
}

/// Nobody can sign with the authority of a vertex any more: its key is forgotten.
pub async fn end(pool: &PgPool, of: Work) -> Result<(), StoreError> {
    sqlx::query!(
        "with ended as (
             update authority set state = 'gone', key = null, paused = false where vertex_id = $1 and state <> 'gone'
             returning authority_id),
           forgotten as (delete from authority_request where vertex_id = $1)
         insert into event (at, kind, deployment_id, vertex_id, job_id, principal, detail)
         select clock_timestamp(), 'authority.ended', $2, $1, $3, 'engine', jsonb_build_object('authority', authority_id)
         from ended",
        of.vertex.0,
        of.deployment.0,
        of.job.0
    )
    .execute(pool)
    .await
    .map_err(doing("ending an authority"))?;
    Ok(())
}
