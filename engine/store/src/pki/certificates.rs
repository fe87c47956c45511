//! What authorities signed. It is written down before anybody is told it, once for each job.

use std::collections::HashSet;

use engine_core::id::{JobId, VertexId};
use engine_core::request::RevocationReason;
use serde_json::{Value, json};
use sqlx::{PgConnection, PgPool};
use time::OffsetDateTime;
use uuid::Uuid;

use super::Work;
use crate::StoreError;
use crate::error::doing;

/// A certificate as it was signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// In hexadecimal digits.
    pub serial: String,
    /// The node, or whoever else it is for.
    pub node: String,
    /// DNS names and addresses.
    pub names: Vec<String>,
    /// `server`, `client`.
    pub usages: Vec<String>,
    /// In PEM.
    pub body: String,
    /// What stands between it and those who are trusted elsewhere, in PEM: its authority and those above, if others signed it.
    pub above: String,
    /// Its beginning.
    pub not_before: OffsetDateTime,
    /// Its end.
    pub not_after: OffsetDateTime,
    /// When another one is asked for.
    pub renew_at: OffsetDateTime,
    /// Which list of its authority has it when it is revoked.
    pub part: i32,
}

/// What a job signed.
pub async fn signed_by(pool: &PgPool, job: JobId) -> Result<Option<Certificate>, StoreError> {
    let row = sqlx::query!(
        "select c.serial, c.node, c.names, c.usages, c.body, a.above, c.not_before, c.not_after, c.renew_at, c.part
         from certificate c join authority a using (authority_id) where c.job_id = $1",
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
        above: row.above,
        not_before: row.not_before,
        not_after: row.not_after,
        renew_at: row.renew_at,
        part: row.part,
    }))
}

/// Keeps what a job signed, unless it has signed already.
pub async fn keep(pool: &PgPool, of: Work, authority: Uuid, signed: &Certificate) -> Result<(), StoreError> {
    sqlx::query!(
        "with kept as (
             insert into certificate (serial, authority_id, vertex_id, node, names, usages, body, not_before, not_after,
                                      renew_at, job_id, issued_at, part)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, now(), $14)
             on conflict (job_id) do nothing returning serial),
           counted as (
             update authority set issued = issued + 1 where authority_id = $2 and exists (select from kept))
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
        json!({"serial": signed.serial, "authority": authority, "names": signed.names}),
        signed.part
    )
    .execute(pool)
    .await
    .map_err(doing("keeping a certificate"))?;
    Ok(())
}

/// A certificate that somebody asked for over the API, and who.
#[derive(Clone, Debug)]
pub struct Request {
    /// Who signed it.
    pub authority: Uuid,
    /// Who asked.
    pub by: String,
    /// What was signed.
    pub signed: Certificate,
}

/// Keeps what was signed for people who asked over the API, all in one transaction: a commit is what costs. Each of them that
/// its authority stands by at this moment is kept; of the others nothing is, and nobody may be told of them.
pub async fn keep_all(connection: &mut PgConnection, all: &[Request]) -> Result<HashSet<String>, StoreError> {
    let row = |one: &Request| {
        let signed = &one.signed;
        json!({"serial": signed.serial, "authority_id": one.authority, "principal": one.by, "node": signed.node,
               "names": signed.names, "usages": signed.usages, "body": signed.body, "part": signed.part,
               "not_before": signed.not_before.unix_timestamp(), "not_after": signed.not_after.unix_timestamp(),
               "renew_at": signed.renew_at.unix_timestamp()})
    };
    let kept = sqlx::query_scalar!(
        r#"with u as (select * from jsonb_to_recordset($1) as u(serial text, authority_id uuid, principal text, node text,
                             names jsonb, usages jsonb, body text, part integer, not_before bigint, not_after bigint,
                             renew_at bigint)),
             counted as (
               update authority a set issued = a.issued + n.count
               from (select authority_id, count(*) as count from u group by authority_id) n
               where a.authority_id = n.authority_id and a.state = 'active'
               returning a.authority_id, a.deployment_id, a.vertex_id),
             kept as (
               insert into certificate (serial, authority_id, node, names, usages, body, not_before, not_after, renew_at,
                                        issued_at, part)
               select serial, authority_id, node, names, usages, body, to_timestamp(not_before), to_timestamp(not_after),
                      to_timestamp(renew_at), now(), part
               from u join counted using (authority_id)
               returning serial),
             told as (
               insert into event (at, kind, deployment_id, vertex_id, principal, detail)
               select clock_timestamp(), 'certificate.issued', c.deployment_id, c.vertex_id, u.principal,
                      jsonb_build_object('serial', u.serial, 'authority', u.authority_id, 'names', u.names)
               from u join counted c using (authority_id))
           select serial as "serial!" from kept"#,
        Value::Array(all.iter().map(row).collect())
    )
    .fetch_all(connection)
    .await
    .map_err(doing("keeping certificates"))?;
    Ok(kept.into_iter().collect())
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
