//! Deployments. Counts come from the tallies, so that a list does not look at every node role.

use engine_core::document::Object;
use engine_core::graph::RoleName;
use engine_core::id::DeploymentId;
use engine_core::view::{Counts, DeploymentDetail, DeploymentView, Health};
use serde_json::Value;
use sqlx::types::Json;
use sqlx::{PgConnection, PgPool};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{MOST, failed, limited, moment};
use crate::StoreError;

/// A row of the list.
pub(super) struct Row {
    pub(super) id: Uuid,
    name: String,
    workload: String,
    pub(super) state: String,
    pub(super) paused: bool,
    pub(super) revision: i32,
    nodes: i64,
    pub(super) broken: bool,
    stale: i64,
    failed: i64,
    leaving: i64,
    active: i64,
    ready: i64,
    running: i64,
    created_at: OffsetDateTime,
    changed_at: OffsetDateTime,
}

impl Row {
    fn counts(&self) -> Counts {
        Counts {
            blocked: (self.stale - self.failed - self.ready - self.running).max(0),
            ready: self.ready,
            running: self.running,
            active: self.active,
            failed: self.failed,
            leaving: self.leaving,
        }
    }

    pub(super) fn view(self, counts: Option<Counts>) -> DeploymentView {
        let counts = counts.unwrap_or_else(|| self.counts());
        DeploymentView {
            health: Health::of(&self.state, self.paused, counts, self.broken),
            id: DeploymentId(self.id),
            name: self.name,
            workload: self.workload,
            paused: self.paused,
            revision: self.revision,
            nodes: self.nodes,
            counts,
            created_at: self.created_at,
            changed_at: self.changed_at,
        }
    }
}

/// Deployments by name, those that are gone left out; `after` is the last name of the page before.
pub async fn deployments(pool: &PgPool, after: Option<&str>, limit: i64) -> Result<Vec<DeploymentView>, StoreError> {
    let mut connection = pool.acquire().await.map_err(failed("reading deployments"))?;
    let rows = rows(&mut connection, None, after, limited(limit)).await?;
    Ok(rows.into_iter().map(|row| row.view(None)).collect())
}

/// All deployments that are not gone.
pub(super) async fn all(connection: &mut PgConnection) -> Result<Vec<DeploymentView>, StoreError> {
    let mut all: Vec<DeploymentView> = Vec::new();
    loop {
        let after = all.last().map(|last| last.name.clone());
        let rows = rows(connection, None, after.as_deref(), MOST).await?;
        if rows.is_empty() {
            return Ok(all);
        }
        all.extend(rows.into_iter().map(|row| row.view(None)));
    }
}

/// One deployment with its committed document; also one that is gone.
pub async fn deployment(pool: &PgPool, name: &str) -> Result<Option<DeploymentDetail>, StoreError> {
    let mut tx = moment(pool).await?;
    let Some(row) = row(&mut tx, name).await? else { return Ok(None) };
    let revision = sqlx::query!(
        r#"select document, committed_by, committed_at, graph -> 'exports' as "exports: Json<Exports>"
           from revision where deployment_id = $1 and number = $2"#,
        row.id,
        row.revision
    )
    .fetch_one(&mut *tx)
    .await
    .map_err(failed("reading a revision"))?;
    let exports = exports(&mut tx, row.id, revision.exports.map(|json| json.0).unwrap_or_default()).await?;
    Ok(Some(DeploymentDetail {
        deployment: row.view(None),
        document: revision.document,
        committed_by: revision.committed_by,
        committed_at: revision.committed_at,
        exports,
    }))
}

/// Export name to role and output.
type Exports = std::collections::BTreeMap<String, (RoleName, String)>;

/// What is known of the exports, which are outputs on the virtual node; secret ones are not shown.
async fn exports(connection: &mut PgConnection, id: Uuid, exports: Exports) -> Result<Value, StoreError> {
    let (names, places): (Vec<String>, Vec<(RoleName, String)>) = exports.into_iter().unzip();
    let (roles, outputs): (Vec<String>, Vec<String>) = places.into_iter().unzip();
    let rows = sqlx::query!(
        r#"select e.name as "name!", v.outputs -> e.output as value
           from unnest($2::text[], $3::text[], $4::text[]) as e(name, role, output)
           join deployment d on d.deployment_id = $1
           join revision r on r.deployment_id = d.deployment_id and r.number = d.revision
           join vertex v on v.deployment_id = $1 and v.role = e.role and v.node_id = d.virtual_node and not v.gone
           where not coalesce((r.graph #>> array['roles', e.role, 'outputs', e.output, 'secret'])::boolean, true)"#,
        id,
        &names,
        &roles,
        &outputs
    )
    .fetch_all(connection)
    .await
    .map_err(failed("reading exports"))?;
    let known: Object = rows.into_iter().filter_map(|row| Some((row.name, row.value?))).collect();
    Ok(Value::Object(known))
}

/// The row of one deployment; one that is there rather than one that is gone.
pub(super) async fn row(connection: &mut PgConnection, name: &str) -> Result<Option<Row>, StoreError> {
    Ok(rows(connection, Some(name), None, 1).await?.pop())
}

async fn rows(
    connection: &mut PgConnection,
    name: Option<&str>,
    after: Option<&str>,
    limit: i64,
) -> Result<Vec<Row>, StoreError> {
    // What runs is found by the open jobs and what is ready by its own index: neither grows with the deployments.
    sqlx::query_as!(
        Row,
        r#"with open as (
               select v.deployment_id, count(*) as running
               from job j join vertex v on v.job_id = j.job_id and v.vertex_id = j.vertex_id
               where j.finished_at is null and v.state = 'running' and v.goal = 'present' and v.role not like '% %'
               group by v.deployment_id
           )
           select d.deployment_id as id, d.name, d.workload, d.state, d.paused, d.revision, d.created_at, d.changed_at,
                  n.nodes as "nodes!", coalesce(t.stale, 0)::bigint as "stale!", coalesce(t.failed, 0)::bigint as "failed!",
                  coalesce(t.leaving, 0)::bigint as "leaving!", coalesce(t.active, 0)::bigint as "active!",
                  coalesce(o.running, 0) as "running!",
                  (select count(*) from vertex v
                   where v.deployment_id = d.deployment_id and v.ready and v.goal = 'present'
                         and v.role not like '% %') as "ready!",
                  n.broken or (coalesce(t.leaving, 0) > 0 and exists (
                      select from vertex v
                      where v.deployment_id = d.deployment_id and v.broken and v.goal = 'absent')) as "broken!"
           from deployment d
           left join open o on o.deployment_id = d.deployment_id
           cross join lateral (
               select count(*) as nodes, coalesce(bool_or(n.state = 'failed'), false) as broken
               from node n where n.deployment_id = d.deployment_id and n.state not in ('virtual', 'gone')) n
           cross join lateral (
               select sum(t.stale) as stale, sum(t.failed) as failed, sum(t.leaving) as leaving, sum(t.active) as active
               from tally t where t.deployment_id = d.deployment_id and t.role not like '% %') t
           where case when $1::text is null then d.state <> 'gone' else d.name = $1 end
                 and ($2::text is null or d.name > $2)
           order by d.state = 'gone', d.name limit $3"#,
        name,
        after,
        limit
    )
    .fetch_all(connection)
    .await
    .map_err(failed("reading deployments"))
}
