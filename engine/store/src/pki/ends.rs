//! What ends soon: certificates of nodes that have not been renewed, and keys that sign, which a person has to see to.

use sqlx::PgPool;
use time::OffsetDateTime;

use crate::StoreError;
use crate::error::doing;

/// Tells of each certificate, once, that half of the time between its renewal and its end is over, and no other one stands in
/// its place; and of each authority that two thirds of its life are.
pub async fn tell_of_ends(pool: &PgPool, now: OffsetDateTime) -> Result<(), StoreError> {
    sqlx::query!(
        "with due as (
             update certificate set told_at = $1
             where vertex_id is not null and told_at is null and revoked_at is null and renew_at <= $1
                   and renew_at + (not_after - renew_at) / 2 <= $1
             returning serial, authority_id, vertex_id, node, not_after)
         insert into event (at, kind, deployment_id, vertex_id, principal, detail)
         select clock_timestamp(), 'certificate.ends-soon', a.deployment_id, d.vertex_id, 'engine',
                jsonb_build_object('serial', d.serial, 'node', d.node, 'not_after', d.not_after)
         from due d join authority a using (authority_id) join vertex v on v.vertex_id = d.vertex_id
         where not v.gone and a.state <> 'gone'
               and not exists (select from certificate c where c.vertex_id = d.vertex_id and c.revoked_at is null
                                                               and c.not_after > d.not_after)",
        now
    )
    .execute(pool)
    .await
    .map_err(doing("telling of certificates that end"))?;
    sqlx::query!(
        "with due as (
             update authority set told_at = $1
             where state = 'active' and told_at is null and made_at + (not_after - made_at) * 2 / 3 <= $1
             returning authority_id, deployment_id, vertex_id, generation, not_after)
         insert into event (at, kind, deployment_id, vertex_id, principal, detail)
         select clock_timestamp(), 'authority.ends-soon', deployment_id, vertex_id, 'engine',
                jsonb_build_object('authority', authority_id, 'generation', generation, 'not_after', not_after)
         from due",
        now
    )
    .execute(pool)
    .await
    .map_err(doing("telling of authorities that end"))?;
    Ok(())
}
