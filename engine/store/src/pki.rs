//! Authorities and what they signed. A certificate is written down before anybody is told it, once for each job.

use engine_core::id::{DeploymentId, JobId, VertexId};
use engine_core::request::RevocationReason;
use serde_json::{Value, json};
use sqlx::PgPool;
use time::OffsetDateTime;
use uuid::Uuid;

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
    /// PKCS #8, sealed at [`place`].
    pub key: Sealed,
    /// Its end.
    pub not_after: OffsetDateTime,
}

/// A certificate as it was signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// In hexadecimal digits.
    pub serial: String,
    /// The node that it is for.
    pub node: String,
    /// DNS names and addresses.
    pub names: Vec<String>,
    /// `server`, `client`.
    pub usages: Vec<String>,
    /// In PEM.
    pub body: String,
    /// Its beginning.
    pub not_before: OffsetDateTime,
    /// Its end.
    pub not_after: OffsetDateTime,
    /// When another one is asked for.
    pub renew_at: OffsetDateTime,
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
    let id =
        sqlx::query_scalar!("select authority_id from authority where vertex_id = $1 and state = 'active'", vertex.0)
            .fetch_optional(pool)
            .await
            .map_err(doing("looking for an authority"))?;
    match id {
        Some(id) => authority(pool, id).await,
        None => Ok(None),
    }
}

/// An authority that signs, or did until a moment ago. `None`: there is none, or not any more.
pub async fn authority(pool: &PgPool, id: Uuid) -> Result<Option<Authority>, StoreError> {
    let row = sqlx::query_as!(
        AuthorityRow,
        r#"select authority_id, generation, founded_as, certificate, key as "key!", not_after
           from authority where authority_id = $1 and state in ('active', 'retiring')"#,
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
        r#"select authority_id, generation, founded_as, certificate, key as "key!", not_after
           from authority where vertex_id = $1 and state <> 'gone' order by generation"#,
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
    key: Vec<u8>,
    not_after: OffsetDateTime,
}

impl From<AuthorityRow> for Authority {
    fn from(row: AuthorityRow) -> Self {
        Self {
            id: row.authority_id,
            generation: row.generation,
            founded_as: row.founded_as,
            certificate: row.certificate,
            key: Sealed::stored(row.key),
            not_after: row.not_after,
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
             returning authority_id)
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

/// What a job signed.
pub async fn signed_by(pool: &PgPool, job: JobId) -> Result<Option<Certificate>, StoreError> {
    let row = sqlx::query!(
        "select serial, node, names, usages, body, not_before, not_after, renew_at from certificate where job_id = $1",
        job.0
    )
    .fetch_optional(pool)
    .await
    .map_err(doing("looking for what a job signed"))?;
    let list = |value: Value| serde_json::from_value(value).unwrap_or_default();
    Ok(row.map(|row| Certificate {
        serial: row.serial,
        node: row.node,
        names: list(row.names),
        usages: list(row.usages),
        body: row.body,
        not_before: row.not_before,
        not_after: row.not_after,
        renew_at: row.renew_at,
    }))
}

/// Keeps what a job signed, unless it has signed already.
pub async fn keep(pool: &PgPool, of: Work, authority: Uuid, signed: &Certificate) -> Result<(), StoreError> {
    sqlx::query!(
        "with kept as (
             insert into certificate (serial, authority_id, vertex_id, node, names, usages, body, not_before, not_after,
                                      renew_at, job_id, issued_at)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, now())
             on conflict (job_id) do nothing returning serial)
         insert into event (at, kind, deployment_id, vertex_id, job_id, principal, detail)
         select clock_timestamp(), 'certificate.issued', $12, $3, $11, 'engine', $13 from kept",
        signed.serial,
        authority,
        of.vertex.0,
        signed.node,
        json!(signed.names),
        json!(signed.usages),
        signed.body,
        signed.not_before,
        signed.not_after,
        signed.renew_at,
        of.job.0,
        of.deployment.0,
        json!({"serial": signed.serial, "authority": authority, "names": signed.names})
    )
    .execute(pool)
    .await
    .map_err(doing("keeping a certificate"))?;
    Ok(())
}

/// Revokes all that a vertex still holds. Its authority lists it as soon as it can.
pub async fn revoke(pool: &PgPool, of: Work, reason: RevocationReason) -> Result<(), StoreError> {
    sqlx::query!(
        "with revoked as (
             update certificate set revoked_at = now(), reason = $2
             where vertex_id = $1 and revoked_at is null and not_after > now() returning serial)
         insert into event (at, kind, deployment_id, vertex_id, job_id, principal, detail)
         select clock_timestamp(), 'certificate.revoked', $3, $1, $4, 'engine',
                jsonb_build_object('serial', serial, 'reason', $2::text)
         from revoked",
        of.vertex.0,
        reason.as_str(),
        of.deployment.0,
        of.job.0
    )
    .execute(pool)
    .await
    .map_err(doing("revoking certificates"))?;
    Ok(())
}

/// What came of revoking a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revocation {
    /// It is revoked now, or was before.
    Done,
    /// There is no such certificate.
    Unknown,
}

/// Revokes one certificate for a person. Its authority lists it as soon as it can.
pub async fn revoke_one(
    pool: &PgPool,
    serial: &str,
    reason: RevocationReason,
    by: &str,
) -> Result<Revocation, StoreError> {
    let failed = doing("revoking a certificate");
    let known = sqlx::query_scalar!(
        r#"with revoked as (
             update certificate set revoked_at = now(), reason = $2 where serial = $1 and revoked_at is null
             returning serial, authority_id, vertex_id),
           told as (
             insert into event (at, kind, deployment_id, vertex_id, principal, detail)
             select clock_timestamp(), 'certificate.revoked', a.deployment_id, r.vertex_id, $3,
                    jsonb_build_object('serial', serial, 'reason', $2::text)
             from revoked r join authority a using (authority_id))
           select exists (select from certificate where serial = $1) as "known!""#,
        serial,
        reason.as_str(),
        by
    )
    .fetch_one(pool)
    .await
    .map_err(&failed)?;
    Ok(if known { Revocation::Done } else { Revocation::Unknown })
}

/// A certificate that a list has: its serial number, since when it is revoked, and why.
pub type Listed = (String, OffsetDateTime, RevocationReason);

/// All that an authority has to list, of all its generations: what was revoked and has not ended. From now on it counts as listed; if we die before the list
/// is told, whoever goes on with the job lists all of it again.
pub async fn listed(pool: &PgPool, vertex: VertexId) -> Result<Vec<Listed>, StoreError> {
    let rows = sqlx::query!(
        r#"with marked as (
             update certificate set listed_at = now()
             where authority_id in (select authority_id from authority where vertex_id = $1)
                   and revoked_at is not null and listed_at is null
             returning serial)
           select c.serial, c.revoked_at as "revoked_at!", c.reason as "reason!"
           from certificate c join authority a using (authority_id)
           where a.vertex_id = $1 and c.revoked_at is not null and c.not_after > now() order by c.revoked_at, c.serial"#,
        vertex.0
    )
    .fetch_all(pool)
    .await
    .map_err(doing("listing what was revoked"))?;
    Ok(rows
        .into_iter()
        .map(|row| (row.serial, row.revoked_at, RevocationReason::parse(&row.reason).unwrap_or_default()))
        .collect())
}

/// Is a certificate of a vertex in force?
pub async fn holds(pool: &PgPool, vertex: VertexId) -> Result<bool, StoreError> {
    sqlx::query_scalar!(
        r#"select exists (select from certificate where vertex_id = $1 and revoked_at is null and not_after > now())
           as "holds!""#,
        vertex.0
    )
    .fetch_one(pool)
    .await
    .map_err(doing("looking for a certificate in force"))
}
