//! Which node roles are to be checked, and when.

use engine_core::graph::VIRTUAL;
use engine_core::id::DeploymentId;
use serde_json::json;
use sqlx::PgPool;
use time::OffsetDateTime;

use crate::StoreError;
use crate::ask::Asked;
use crate::commit::event;
use crate::error::doing;
use crate::pass::{self, EVENTS};

/// Which node roles of a deployment.
#[derive(Clone, Debug, Default)]
pub struct Which {
    /// Deployment roles that there is something to be checked of.
    pub roles: Vec<String>,
    /// Only this node; `deployment` for those that run once.
    pub node: Option<String>,
}

/// Asks for checks. They begin as soon as there is room for them.
pub async fn ask(pool: &PgPool, name: &str, which: &Which, by: &str) -> Result<Asked, StoreError> {
    let failed = doing("asking for checks");
    let id = sqlx::query_scalar!("select deployment_id from deployment where name = $1 and state <> 'gone'", name)
        .fetch_optional(pool)
        .await
        .map_err(&failed)?;
    let Some(id) = id else { return Ok(Asked::NoDeployment) };
    let Some(mut locked) = pass::lock(pool, DeploymentId(id)).await? else { return Ok(Asked::NoDeployment) };
    let rows = sqlx::query!(
        r#"with wanted as (
               select v.vertex_id, v.role, case when v.node_id = $3 then $4 else n.name end as node
               from vertex v join node n using (node_id)
               where v.deployment_id = $1 and not v.gone and v.goal = 'present' and v.role = any($2)),
           asked as (
               insert into drift (vertex_id, deployment_id, due)
               select vertex_id, $1, true from wanted where $5::text is null or node = $5
               on conflict (vertex_id) do update set due = true, again = false returning vertex_id)
           select w.node as "node!", w.role from wanted w join asked using (vertex_id) order by 1, 2"#,
        locked.id.0,
        &which.roles,
        locked.virtual_node.0,
        VIRTUAL,
        which.node
    )
    .fetch_all(&mut *locked.tx)
    .await
    .map_err(&failed)?;
    if rows.is_empty() {
        locked.roll_back().await?;
        return Ok(Asked::NoNodeRole);
    }
    let places: Vec<String> = rows.into_iter().map(|row| format!("{}/{}", row.node, row.role)).collect();
    event(&mut locked, "deployment.check-asked", by, json!({"node_roles": places.len()})).await?;
    locked.notify(EVENTS).await?;
    locked.commit().await?;
    Ok(Asked::Done(places))
}

/// Deployments in which checks are due.
pub async fn due(pool: &PgPool) -> Result<Vec<DeploymentId>, StoreError> {
    let rows = sqlx::query_scalar!("select distinct deployment_id from drift where due")
        .fetch_all(pool)
        .await
        .map_err(doing("looking for checks that are due"))?;
    Ok(rows.into_iter().map(DeploymentId).collect())
}

/// Asks for another check of what had drifted and was applied since.
pub async fn look_again(pool: &PgPool) -> Result<(), StoreError> {
    sqlx::query!(
        "update drift f set due = true, again = true
         where f.verdict = 'drifted' and not f.due
               and exists (select from job j where j.vertex_id = f.vertex_id and j.action = 'apply'
                                  and j.outcome = 'succeeded' and j.claimed_at > f.checked_at)
               and not exists (select from job j where j.job_id = f.job_id and j.finished_at is null)"
    )
    .execute(pool)
    .await
    .map_err(doing("looking for what was repaired"))?;
    Ok(())
}

/// A deployment whose time to be checked has come, or is not known yet.
#[derive(Clone, Debug)]
pub struct Scheduled {
    /// Which.
    pub id: DeploymentId,
    /// Its name.
    pub name: String,
    /// The cron expression.
    pub schedule: String,
    /// It has come.
    pub due: bool,
}

/// Deployments whose time to be checked has come, or is not known yet.
pub async fn scheduled(pool: &PgPool) -> Result<Vec<Scheduled>, StoreError> {
    let rows = sqlx::query!(
        r#"select deployment_id, name, schedule as "schedule!", check_at is not null as "due!" from deployment
           where state = 'active' and schedule is not null and (check_at is null or check_at <= now())"#
    )
    .fetch_all(pool)
    .await
    .map_err(doing("looking for schedules"))?;
    Ok(rows
        .into_iter()
        .map(|row| Scheduled {
            id: DeploymentId(row.deployment_id),
            name: row.name,
            schedule: row.schedule,
            due: row.due,
        })
        .collect())
}

/// Sets the next time of a schedule. `false`: another engine was faster, or the schedule is another one.
pub async fn set_next(pool: &PgPool, of: &Scheduled, at: Option<OffsetDateTime>) -> Result<bool, StoreError> {
    let done = sqlx::query!(
        "update deployment set check_at = coalesce($3, 'infinity'::timestamptz)
         where deployment_id = $1 and schedule = $2 and (check_at is null or check_at <= now())",
        of.id.0,
        of.schedule,
        at
    )
    .execute(pool)
    .await
    .map_err(doing("setting the next time of a schedule"))?;
    Ok(done.rows_affected() > 0)
}
