//! Events, in an order in which none is ever passed over.
//!
//! The order is that of transactions, and numbers within them. Only what is older than every transaction still running
//! is read: whatever commits later comes later in this order.

use engine_core::graph::{VIRTUAL, is_helper};
use engine_core::id::JobId;
use engine_core::view::EventView;
use serde_json::Value;
use sqlx::{PgConnection, PgPool};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{failed, limited};
use crate::StoreError;

pub(super) struct Row {
    seq: i64,
    at: OffsetDateTime,
    kind: String,
    deployment: Option<String>,
    node: Option<String>,
    role: Option<String>,
    job: Option<Uuid>,
    principal: String,
    detail: Value,
}

impl Row {
    pub(super) fn view(self) -> EventView {
        EventView {
            seq: self.seq,
            at: self.at,
            kind: self.kind,
            deployment: self.deployment,
            node: self.node,
            role: self.role,
            job: self.job.map(JobId),
            principal: self.principal,
            detail: self.detail,
        }
    }
}

/// What is shown of the events of a subquery `e`, which says which ones and how many.
macro_rules! rows {
    ($which:literal, $order:literal, $($value:expr),*) => {
        sqlx::query_as!(
            Row,
            r#"select e.seq, e.at, e.kind, d.name as "deployment?", v.role as "role?", e.job_id as job, e.principal,
                      e.detail, case when n.state = 'virtual' then $1 else n.name end as node
               from "# + $which + r#"
               left join deployment d on d.deployment_id = e.deployment_id
               left join vertex v on v.vertex_id = e.vertex_id
               left join node n on n.node_id = coalesce(e.node_id, v.node_id)
               where v.role is null or v.role not like '% %'
               order by "# + $order,
            VIRTUAL,
            $($value),*
        )
    };
}

/// Events after the one with the number `after`, oldest first; of all deployments, or of the one of this name.
pub async fn events(
    pool: &PgPool,
    after: i64,
    deployment: Option<&str>,
    limit: i64,
) -> Result<Vec<EventView>, StoreError> {
    let doing = failed("reading events");
    let limit = limited(limit);
    let rows = match deployment {
        None => {
            rows!(
                r"(select * from event
                   where (tx, seq) > (coalesce((select tx from event where seq <= $2 order by seq desc limit 1), '0'), $2)
                         and tx < pg_snapshot_xmin(pg_current_snapshot())
                   order by tx, seq limit $3) e",
                "e.tx, e.seq",
                after,
                limit
            )
            .fetch_all(pool)
            .await
        }
        Some(name) => {
            rows!(
                r"(select * from event
                   where (tx, seq) > (coalesce((select tx from event where seq <= $2 order by seq desc limit 1), '0'), $2)
                         and tx < pg_snapshot_xmin(pg_current_snapshot())
                         and deployment_id = (select deployment_id from deployment where name = $4)
                   order by tx, seq limit $3) e",
                "e.tx, e.seq",
                after,
                limit,
                name
            )
            .fetch_all(pool)
            .await
        }
    };
    Ok(rows.map_err(doing)?.into_iter().map(Row::view).collect())
}

/// What comes after the event with the number `after`, in order, with its number; nothing is shown of events of helpers.
pub async fn outbox(pool: &PgPool, after: i64, limit: i64) -> Result<Vec<(i64, Option<EventView>)>, StoreError> {
    let rows = sqlx::query_as!(
        Row,
        r#"select e.seq as "seq!", e.at as "at!", e.kind as "kind!", d.name as "deployment?", v.role as "role?", e.job_id as job,
                  e.principal as "principal!", e.detail as "detail!", case when n.state = 'virtual' then $1 else n.name end as node
           from (select * from event
                 where (tx, seq) > (coalesce((select tx from event where seq <= $2 order by seq desc limit 1), '0'), $2)
                       and tx < pg_snapshot_xmin(pg_current_snapshot())
                 order by tx, seq limit $3) e
           left join deployment d on d.deployment_id = e.deployment_id
           left join vertex v on v.vertex_id = e.vertex_id
           left join node n on n.node_id = coalesce(e.node_id, v.node_id)
           order by e.tx, e.seq"#,
        VIRTUAL,
        after,
        limited(limit)
    )
    .fetch_all(pool)
    .await
    .map_err(failed("reading events"))?;
    let shown = |row: Row| (row.seq, (!row.role.as_deref().is_some_and(is_helper)).then(|| row.view()));
    Ok(rows.into_iter().map(shown).collect())
}

/// The newest events, oldest first; of all deployments, or of the one of this name.
pub async fn latest_events(pool: &PgPool, deployment: Option<&str>, limit: i64) -> Result<Vec<EventView>, StoreError> {
    let doing = failed("reading events");
    let limit = limited(limit);
    let rows = match deployment {
        None => {
            rows!(
                r"(select * from event where tx < pg_snapshot_xmin(pg_current_snapshot())
                   order by tx desc, seq desc limit $2) e",
                "e.tx, e.seq",
                limit
            )
            .fetch_all(pool)
            .await
        }
        Some(name) => {
            rows!(
                r"(select * from event where tx < pg_snapshot_xmin(pg_current_snapshot())
                          and deployment_id = (select deployment_id from deployment where name = $3)
                   order by tx desc, seq desc limit $2) e",
                "e.tx, e.seq",
                limit,
                name
            )
            .fetch_all(pool)
            .await
        }
    };
    Ok(rows.map_err(doing)?.into_iter().map(Row::view).collect())
}

/// What last moved a vertex, newest first; nothing from `until` on.
pub(super) async fn of_vertex(
    connection: &mut PgConnection,
    vertex: Uuid,
    until: Option<OffsetDateTime>,
    limit: i64,
) -> Result<Vec<EventView>, StoreError> {
    let rows = rows!(
        "(select * from event where vertex_id = $2 and ($3::timestamptz is null or at < $3) order by seq desc limit $4) e",
        "e.seq desc",
        vertex,
        until,
        limit
    )
    .fetch_all(connection)
    .await
    .map_err(failed("reading the events of a node role"))?;
    Ok(rows.into_iter().map(Row::view).collect())
}

/// The number of the newest event that [`events`] would return; 0 if there is none.
pub async fn head(pool: &PgPool) -> Result<i64, StoreError> {
    let mut connection = pool.acquire().await.map_err(failed("reading events"))?;
    head_of(&mut connection).await
}

pub(super) async fn head_of(connection: &mut PgConnection) -> Result<i64, StoreError> {
    let head = sqlx::query_scalar!(
        "select seq from event where tx < pg_snapshot_xmin(pg_current_snapshot()) order by tx desc, seq desc limit 1"
    )
    .fetch_optional(connection)
    .await
    .map_err(failed("reading events"))?;
    Ok(head.unwrap_or(0))
}
