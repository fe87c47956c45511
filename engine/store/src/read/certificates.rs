//! What authorities of a deployment signed.

use engine_core::view::{CertificateView, CertificatesView};
use serde_json::Value;
use sqlx::{PgConnection, PgPool};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{MOST, failed};
use crate::StoreError;

struct Row {
    serial: String,
    node: String,
    role: Option<String>,
    authority: String,
    names: Value,
    usages: Value,
    body: String,
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
    renew_at: OffsetDateTime,
    revoked_at: Option<OffsetDateTime>,
    reason: Option<String>,
}

impl From<Row> for CertificateView {
    fn from(row: Row) -> Self {
        let list = |value: Value| serde_json::from_value(value).unwrap_or_default();
        Self {
            serial: row.serial,
            node: row.node,
            role: row.role,
            authority: row.authority,
            names: list(row.names),
            usages: list(row.usages),
            certificate: row.body,
            not_before: row.not_before,
            not_after: row.not_after,
            renew_at: row.renew_at,
            revoked_at: row.revoked_at,
            reason: row.reason,
        }
    }
}

/// Certificates, as far as what follows says.
macro_rules! certificates {
    ($rest:literal, $($argument:expr),+) => {
        sqlx::query_as!(
            Row,
            r#"select c.serial, c.node, v.role as "role?", s.role as authority, c.names, c.usages, c.body, c.not_before,
                      c.not_after, c.renew_at, coalesce(c.revoked_at, a.revoked_at) as revoked_at,
                      coalesce(c.reason, a.reason) as reason
               from certificate c join authority a using (authority_id) join vertex s on s.vertex_id = a.vertex_id
                    left join vertex v on v.vertex_id = c.vertex_id "# + $rest,
            $($argument),+
        )
    };
}

/// The certificates of a deployment that have not ended, by node and end.
pub async fn certificates(pool: &PgPool, name: &str) -> Result<Option<Vec<CertificateView>>, StoreError> {
    let known = sqlx::query_scalar!("select deployment_id from deployment where name = $1 and state <> 'gone'", name)
        .fetch_optional(pool)
        .await
        .map_err(failed("looking for a deployment"))?;
    let Some(id) = known else { return Ok(None) };
    let rows = certificates!(
        "where a.deployment_id = $1 and c.not_after > now() order by c.node, v.role, c.not_after limit $2",
        id,
        MOST
    )
    .fetch_all(pool)
    .await
    .map_err(failed("reading certificates"))?;
    Ok(Some(rows.into_iter().map(Into::into).collect()))
}

/// One certificate, also one that has ended.
pub async fn certificate(pool: &PgPool, serial: &str) -> Result<Option<CertificateView>, StoreError> {
    let row = certificates!("where c.serial = $1", serial)
        .fetch_optional(pool)
        .await
        .map_err(failed("reading a certificate"))?;
    Ok(row.map(Into::into))
}

/// What the nodes of a deployment hold.
pub(super) async fn held(
    connection: &mut PgConnection,
    deployment: Uuid,
) -> Result<Option<CertificatesView>, StoreError> {
    let row = sqlx::query!(
        r#"select count(*) as "all!", count(*) filter (where c.not_after > now() and not c.revoked) as "in_force!",
                  count(*) filter (where c.not_after > now() and not c.revoked and c.renew_at <= now()) as "overdue!",
                  min(c.not_after) filter (where c.not_after > now() and not c.revoked) as next_end
           from vertex v cross join lateral (
               select not_after, renew_at, revoked_at is not null as revoked from certificate
               where vertex_id = v.vertex_id order by not_after desc limit 1) c
           where v.deployment_id = $1 and not v.gone and v.goal = 'present' and v.renew_at is not null"#,
        deployment
    )
    .fetch_one(connection)
    .await
    .map_err(failed("counting certificates"))?;
    let (in_force, overdue, ended) = (row.in_force, row.overdue, row.all - row.in_force);
    Ok((row.all > 0).then_some(CertificatesView { in_force, overdue, ended, next_end: row.next_end }))
}
