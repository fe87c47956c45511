//! Why a deployment is where it is, and where the time of a revision went.

use std::collections::{BTreeMap, HashMap};

use engine_core::graph::{Graph, RoleName, VIRTUAL};
use engine_core::state::Goal;
use engine_core::timing::{Left, Ran, critical_path, remaining, slowest};
use engine_core::view::{DeploymentWhyView, HeldView, StatusView};
use sqlx::types::Json;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::status::status;
use super::{failed, moment};
use crate::StoreError;

/// So many of the longest jobs are shown.
const SLOWEST: usize = 5;
/// What such jobs usually take is told by so many that were over last, of all deployments.
const SAMPLE: i64 = 5000;

/// What was asked for is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRevision {
    /// No deployment of this name.
    Deployment,
    /// The deployment has no such revision.
    Revision,
}

/// Why a deployment is where it is; or where the time of one of its revisions went.
pub async fn why_deployment(
    pool: &PgPool,
    name: &str,
    number: Option<i32>,
) -> Result<Result<DeploymentWhyView, NoRevision>, StoreError> {
    let Some(status) = status(pool, name).await? else { return Ok(Err(NoRevision::Deployment)) };
    let mut tx = moment(pool).await?;
    let row = sqlx::query!(
        r#"select d.deployment_id, r.number, r.committed_by, r.committed_at, r.graph as "graph: Json<Graph>",
                  r.contents as "contents: Json<BTreeMap<RoleName, String>>",
                  coalesce(r.plan ->> 'what', 'applied') as "what!", r.number = d.revision as "current!"
           from deployment d join revision r using (deployment_id)
           where d.deployment_id = $1 and r.number = coalesce($2, d.revision)"#,
        status.deployment.id.0,
        number
    )
    .fetch_optional(&mut *tx)
    .await
    .map_err(failed("reading a revision"))?;
    let Some(row) = row else { return Ok(Err(NoRevision::Revision)) };
    let ran = ran(&mut tx, row.deployment_id, row.number).await?;
    let mut view = DeploymentWhyView {
        name: name.to_owned(),
        health: status.deployment.health,
        revision: row.number,
        current: row.current,
        what: row.what,
        committed_by: row.committed_by,
        committed_at: row.committed_at,
        held: Vec::new(),
        path: critical_path(&row.graph, row.committed_at, &ran),
        slowest: slowest(row.committed_at, &ran, SLOWEST),
        remaining: None,
        unknown: Vec::new(),
    };
    if row.current {
        view.held = held(&status);
        let left = left(&status);
        if !left.is_empty() {
            let usual = usual(&mut tx).await?;
            let of = |role: &str| usual.get(row.contents.get(role)?).copied();
            let (millis, unknown) = remaining(&row.graph, &left, of);
            (view.remaining, view.unknown) = (Some(millis), unknown.into_iter().collect());
        }
    }
    Ok(Ok(view))
}

/// The last success of each node role under a revision, and its remove.
async fn ran(connection: &mut PgConnection, deployment: Uuid, revision: i32) -> Result<Vec<Ran>, StoreError> {
    let rows = sqlx::query!(
        r#"select v.role, j.action, j.claimed_at, j.finished_at as "finished_at!",
                  case when n.state = 'virtual' then $3 else n.name end as "node!"
           from vertex v join node n using (node_id)
                cross join lateral (select * from job l where l.vertex_id = v.vertex_id and l.revision = $2
                                           and l.outcome = 'succeeded' and not l.beside and l.action <> 'check'
                                    order by l.claimed_at desc limit 1) j
           where v.deployment_id = $1"#,
        deployment,
        revision,
        VIRTUAL
    )
    .fetch_all(connection)
    .await
    .map_err(failed("reading the jobs of a revision"))?;
    let mut ran = Vec::new();
    for row in rows {
        let remove = row.action == "remove";
        ran.push(Ran {
            node: row.node,
            role: row.role,
            remove,
            claimed_at: row.claimed_at,
            finished_at: row.finished_at,
        });
    }
    Ok(ran)
}

/// What holds node roles, that which holds most of them first.
fn held(status: &StatusView) -> Vec<HeldView> {
    let mut by: BTreeMap<&str, HeldView> = BTreeMap::new();
    for row in &status.node_roles {
        let Some(cause) = &row.cause else { continue };
        let fresh = || HeldView { says: cause.says.clone(), count: 0, example: format!("{}/{}", row.node, row.role) };
        by.entry(&cause.says).or_insert_with(fresh).count += 1;
    }
    let mut held: Vec<HeldView> = by.into_values().collect();
    held.sort_by_key(|one| std::cmp::Reverse(one.count));
    held
}

/// What is still to be applied.
fn left(status: &StatusView) -> BTreeMap<RoleName, Left> {
    let mut left: BTreeMap<RoleName, Left> = BTreeMap::new();
    for row in status.node_roles.iter().filter(|row| row.goal == Goal::Present && row.state.is_stale()) {
        let of = left.entry(row.role.clone()).or_default();
        of.nodes += 1;
        of.serving += usize::from(row.serving);
    }
    left
}

/// Milliseconds that applies of a content usually take: the median.
async fn usual(connection: &mut PgConnection) -> Result<HashMap<String, u64>, StoreError> {
    let rows = sqlx::query!(
        r#"select content, percentile_disc(0.5) within group (order by millis) as "millis!"
           from (select content, millis from job
                 where outcome = 'succeeded' and action = 'apply' and not beside and millis is not null
                 order by job_id desc limit $1) newest
           group by content"#,
        SAMPLE
    )
    .fetch_all(connection)
    .await
    .map_err(failed("reading how long jobs take"))?;
    Ok(rows.into_iter().map(|row| (row.content, u64::try_from(row.millis).unwrap_or(0))).collect())
}
