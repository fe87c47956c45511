//! What authorities of a deployment signed.

use engine_core::view::CertificateView;
use sqlx::PgPool;
use sqlx::types::Json;

use super::{MOST, failed};
use crate::StoreError;

/// The certificates of a deployment that have not ended, by node and end.
pub async fn certificates(pool: &PgPool, name: &str) -> Result<Option<Vec<CertificateView>>, StoreError> {
    let known = sqlx::query_scalar!("select deployment_id from deployment where name = $1 and state <> 'gone'", name)
        .fetch_optional(pool)
        .await
        .map_err(failed("looking for a deployment"))?;
    let Some(id) = known else { return Ok(None) };
    let rows = sqlx::query!(
        r#"select c.serial, c.node, v.role, s.role as authority, c.names as "names: Json<Vec<String>>",
                  c.usages as "usages: Json<Vec<String>>", c.body, c.not_before, c.not_after, c.renew_at, c.revoked_at, c.reason
           from certificate c join authority a using (authority_id) join vertex v on v.vertex_id = c.vertex_id
                join vertex s on s.vertex_id = a.vertex_id
           where a.deployment_id = $1 and c.not_after > now() order by c.node, v.role, c.not_after limit $2"#,
        id,
        MOST
    )
    .fetch_all(pool)
    .await
    .map_err(failed("reading certificates"))?;
    let view = rows.into_iter().map(|row| CertificateView {
        serial: row.serial,
        node: row.node,
        role: row.role,
        authority: row.authority,
        names: row.names.0,
        usages: row.usages.0,
        certificate: row.body,
        not_before: row.not_before,
        not_after: row.not_after,
        renew_at: row.renew_at,
        revoked_at: row.revoked_at,
        reason: row.reason,
    });
    Ok(Some(view.collect()))
}
