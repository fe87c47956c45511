//! Lists of what authorities do not stand by any more: one of everything for the nodes of a deployment, and one cut into parts
//! for everybody else. A part is for so many certificates, in the order in which they were signed, and stays small for good.

use engine_core::id::VertexId;
use engine_core::request::RevocationReason;
use sqlx::PgPool;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Authority, AuthorityRow};
use crate::StoreError;
use crate::error::doing;

/// Certificates of one part. An entry has 50 bytes at most, so that a part with all of them revoked has 820 kB; those who sign
/// at the same moment may go a little beyond.
const PART: i64 = 16_384;

/// The part of the next certificate of an authority that has signed so many.
pub fn part(issued: i64) -> i32 {
    i32::try_from(issued / PART).unwrap_or(i32::MAX)
}

/// A certificate that a list has: its serial number, since when it is revoked, and why.
pub type Listed = (String, OffsetDateTime, RevocationReason);

/// All that an authority has to list: what was revoked and has not ended, of all its generations that somebody may still trust. One that was retired is
/// trusted until everybody in its deployment has heard of that; what it signed is refused without a list then. From now on it counts as listed; if we die before
/// the list is told, whoever goes on with the job lists all of it again.
pub async fn listed(pool: &PgPool, vertex: VertexId) -> Result<Vec<Listed>, StoreError> {
    let rows = sqlx::query!(
        r#"with marked as (
             update certificate set listed_at = now()
             where authority_id in (select authority_id from authority where vertex_id = $1)
                   and revoked_at is not null and listed_at is null
             returning serial)
           select c.serial, c.revoked_at as "revoked_at!", c.reason as "reason!"
           from certificate c join authority a using (authority_id)
           where a.vertex_id = $1 and c.revoked_at is not null and c.not_after > now()
                 and (a.state <> 'gone' or exists (select from vertex v where v.deployment_id = a.deployment_id and not v.gone
                                                   and v.since <= a.change))
           order by c.revoked_at, c.serial"#,
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

/// A part as it was last signed.
#[derive(Clone, Debug)]
pub struct List {
    /// In DER.
    pub body: Vec<u8>,
    /// Another one is to be signed: something was revoked since, or its time has come.
    pub is_old: bool,
}

/// An authority whose lists can be had: one that is trusted.
pub async fn parted(pool: &PgPool, id: Uuid) -> Result<Option<Authority>, StoreError> {
    let row = sqlx::query_as!(
        AuthorityRow,
        r#"select authority_id, generation, founded_as, certificate, above, key as "key!", not_after, issued, d.name as deployment
           from authority a join deployment d using (deployment_id) where authority_id = $1 and a.state <> 'gone'"#,
        id
    )
    .fetch_optional(pool)
    .await
    .map_err(doing("loading an authority"))?;
    Ok(row.map(Authority::from))
}

/// What was last signed of a part. One look at an index, whose cost is that of the part at most.
pub async fn listed_part(pool: &PgPool, authority: Uuid, part: i32) -> Result<Option<List>, StoreError> {
    let row = sqlx::query!(
        r#"select l.body, l.renew_at <= now() or l.known <> (
                      select count(*) from certificate
                      where authority_id = $1 and part = $2 and revoked_at is not null) as "is_old!"
           from revocation_list l join authority a using (authority_id)
           where l.authority_id = $1 and l.part = $2 and a.state <> 'gone'"#,
        authority,
        part
    )
    .fetch_optional(pool)
    .await
    .map_err(doing("reading a list of what was revoked"))?;
    Ok(row.map(|row| List { body: row.body, is_old: row.is_old }))
}

/// What was revoked of a part.
#[derive(Clone, Debug)]
pub struct Part {
    /// What has not ended, in the order in which it was revoked.
    pub listed: Vec<Listed>,
    /// How many revocations there were, ended ones included.
    pub known: i64,
}

/// What a part has to list.
pub async fn of_part(pool: &PgPool, authority: Uuid, part: i32) -> Result<Part, StoreError> {
    let rows = sqlx::query!(
        r#"select serial, revoked_at as "revoked_at!", reason as "reason!", not_after > now() as "is_listed!" from certificate
           where authority_id = $1 and part = $2 and revoked_at is not null order by revoked_at, serial"#,
        authority,
        part
    )
    .fetch_all(pool)
    .await
    .map_err(doing("listing what was revoked of a part"))?;
    let known = i64::try_from(rows.len()).unwrap_or(i64::MAX);
    let listed = rows.into_iter().filter(|row| row.is_listed);
    let listed =
        listed.map(|row| (row.serial, row.revoked_at, RevocationReason::parse(&row.reason).unwrap_or_default()));
    Ok(Part { listed: listed.collect(), known })
}

/// Keeps a part that was signed, for so many revocations.
pub async fn put_part(
    pool: &PgPool,
    (authority, part): (Uuid, i32),
    (body, known): (&[u8], i64),
    renew_at: OffsetDateTime,
) -> Result<(), StoreError> {
    sqlx::query!(
        "insert into revocation_list (authority_id, part, body, known, renew_at) values ($1, $2, $3, $4, $5)
         on conflict (authority_id, part) do update set body = $3, known = $4, renew_at = $5
         where revocation_list.known <= $4",
        authority,
        part,
        body,
        known,
        renew_at
    )
    .execute(pool)
    .await
    .map_err(doing("keeping a list of what was revoked"))?;
    Ok(())
}
