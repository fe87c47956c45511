//! What shows that everybody below an authority has absorbed a stage: nobody is stale by it, and the checks of all that have
//! some have passed since. Checks of consumers shake hands with their suppliers.

use engine_core::graph::{RoleName, VIRTUAL};
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::StoreError;
use crate::error::doing;

/// What a rotation waits for is named up to this number.
pub(crate) const NAMED: u8 = 10;

/// Somebody whose check has not passed yet.
pub(crate) struct Unproven {
    pub(crate) vertex: Uuid,
    /// `NODE/ROLE`.
    pub(crate) place: String,
    /// What its last check found, if it began late enough.
    pub(crate) says: Option<String>,
    /// Its check can be made, is not under way, and was not made just before.
    pub(crate) may_ask: bool,
}

/// Of these roles, those with a check of their own.
pub(crate) async fn probed(
    connection: &mut PgConnection,
    deployment: Uuid,
    revision: i32,
    roles: &[RoleName],
) -> Result<Vec<RoleName>, StoreError> {
    sqlx::query_scalar!(
        r#"select e.key as "role!" from revision r cross join lateral jsonb_each_text(r.contents) e
                  join content c on c.hash = e.value
           where r.deployment_id = $1 and r.number = $2 and e.key = any($3)
                 and jsonb_typeof(c.body #> '{doc,check}') = 'array' and c.body #> '{doc,check}' <> '[]'"#,
        deployment,
        revision,
        roles
    )
    .fetch_all(connection)
    .await
    .map_err(doing("looking for roles with checks"))
}

/// Node roles that have still to absorb a change, or an older one; the first of them by name.
pub(crate) async fn unabsorbed(
    connection: &mut PgConnection,
    (deployment, virtual_node): (Uuid, Uuid),
    roles: &[RoleName],
    change: i64,
) -> Result<Vec<String>, StoreError> {
    sqlx::query_scalar!(
        r#"select case when v.node_id = $4 then $6::text else n.name end || '/' || v.role as "place!"
           from vertex v join node n using (node_id)
           where v.deployment_id = $1 and v.role = any($2) and not v.gone and v.since <= $3 and v.role not like '% %'
           order by 1 limit $5"#,
        deployment,
        roles,
        change,
        virtual_node,
        i64::from(NAMED),
        VIRTUAL
    )
    .fetch_all(connection)
    .await
    .map_err(doing("looking for what a rotation waits for"))
}

/// Node roles of these whose last check did not begin after `since`, or did not pass. Nodes aside are not asked.
pub(crate) async fn unproven(
    connection: &mut PgConnection,
    (deployment, virtual_node): (Uuid, Uuid),
    roles: &[RoleName],
    since: OffsetDateTime,
) -> Result<Vec<Unproven>, StoreError> {
    if roles.is_empty() {
        return Ok(Vec::new());
    }
    sqlx::query_as!(
        Unproven,
        r#"select v.vertex_id as vertex, case when v.node_id = $4 then $5::text else n.name end || '/' || v.role as "place!",
                  case when j.claimed_at >= $3 then coalesce(f.message, f.code, f.verdict) end as says,
                  v.state = 'active' and n.state in ('up', 'virtual') and not n.rebuild and not coalesce(f.due, false)
                  and not exists (select from job o where o.vertex_id = v.vertex_id and o.beside and o.finished_at is null)
                  and not coalesce(j.claimed_at >= $3 and f.checked_at > clock_timestamp() - interval '2 s', false) as "may_ask!"
           from vertex v join node n using (node_id) left join drift f on f.vertex_id = v.vertex_id
                left join job j on j.job_id = f.job_id
           where v.deployment_id = $1 and v.role = any($2) and not v.gone and v.goal = 'present' and n.standing = 'in'
                 and not coalesce(f.verdict = 'conform' and not f.due and j.claimed_at >= $3 and j.finished_at is not null,
                                  false)
           order by 2"#,
        deployment,
        roles,
        since,
        virtual_node,
        VIRTUAL
    )
    .fetch_all(connection)
    .await
    .map_err(doing("looking for what proves a stage of a rotation"))
}
