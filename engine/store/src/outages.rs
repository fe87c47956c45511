//! Budgets that deployments share: what counts of them in each deployment, and who may go on when there is room.
//!
//! Turns write what counts with what they decide. What changes from outside of turns is marked, and counted by whoever looks
//! next. Nobody ever holds the rows of two deployments.

use std::collections::BTreeMap;

use engine_core::document::setting::BudgetDoc;
use engine_core::graph::Graph;
use engine_core::id::DeploymentId;
use engine_core::settle::Cause;
use engine_core::settle::allowance::{Count, Shared};
use sqlx::types::Json;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::StoreError;
use crate::error::doing;
use crate::pass::{self, Locked, Revisions};

/// Marks that what counts of a deployment's budgets may not be what its turns wrote; of those that are shared, for nobody else asks.
pub(crate) async fn count_again(connection: &mut PgConnection, deployment: Uuid) -> Result<(), StoreError> {
    sqlx::query!(
        "update outage o set counted = false
         where o.deployment_id = $1 and o.counted and exists (select from setting where kind = 'budget' and name = o.budget)",
        deployment
    )
    .execute(connection)
    .await
    .map_err(doing("marking what counts of budgets"))?;
    Ok(())
}

/// A budget is shared from now on: what counts of it is to be counted everywhere.
pub(crate) async fn count_everywhere(connection: &mut PgConnection, budget: &str) -> Result<(), StoreError> {
    sqlx::query!("update outage set counted = false where budget = $1 and counted", budget)
        .execute(connection)
        .await
        .map_err(doing("marking what counts of a budget"))?;
    Ok(())
}

impl Locked {
    /// The budgets of a revision, and no others, are to be counted.
    pub(crate) async fn bind_budgets(&mut self, graph: &Graph) -> Result<(), StoreError> {
        let failed = doing("noting the budgets of a revision");
        let names: Vec<&str> = graph.budgets.keys().map(String::as_str).collect();
        sqlx::query!("delete from outage where deployment_id = $1 and budget <> all($2)", self.id.0, &names as &[&str])
            .execute(&mut *self.tx)
            .await
            .map_err(&failed)?;
        sqlx::query!(
            "insert into outage as o (deployment_id, budget, counted)
             select $1, u.name, not exists (select from setting s where s.kind = 'budget' and s.name = u.name)
             from unnest($2::text[]) as u(name)
             on conflict (deployment_id, budget) do update set counted = o.counted and excluded.counted",
            self.id.0,
            &names as &[&str]
        )
        .execute(&mut *self.tx)
        .await
        .map_err(&failed)?;
        Ok(())
    }
}

/// Counts what was marked; whether anything was.
pub async fn count(pool: &PgPool, known: &Revisions) -> Result<bool, StoreError> {
    let marked = sqlx::query_scalar!("select distinct deployment_id from outage where not counted")
        .fetch_all(pool)
        .await
        .map_err(doing("looking for what counts of budgets"))?;
    let any = !marked.is_empty();
    for deployment in marked {
        let Some(mut locked) = pass::lock_beside(pool, DeploymentId(deployment)).await? else { continue };
        let revision = locked.revision(known).await?;
        locked.hold_budgets(&revision.graph).await?;
        let budgets = locked.budgets(&revision.graph).await?;
        let counts: BTreeMap<String, Count> =
            budgets.iter().map(|(name, allowance)| (name.clone(), allowance.count(&revision.graph, name))).collect();
        locked.write_counts(&counts, budgets.values().any(|allowance| allowance.shared.is_some())).await?;
        locked.commit().await?;
    }
    Ok(any)
}

/// Wakes who waits for a budget of all deployments, as many as there is room for: repairs first, then who waits longest. All of
/// them, if there is no such budget any more. Whether there was anybody.
pub async fn let_go(pool: &PgPool) -> Result<bool, StoreError> {
    let failed = doing("looking for who waits for a budget of all deployments");
    let causes = sqlx::query_scalar!(r#"select distinct sought as "sought!" from vertex where sought like 'g:%'"#)
        .fetch_all(pool)
        .await
        .map_err(&failed)?;
    let mut any = false;
    for cause in causes {
        let Ok(Cause::Shared { budget }) = cause.parse() else { continue };
        let room = room(pool, &budget).await?;
        let woken = sqlx::query!(
            "select v.vertex_id, v.deployment_id from vertex v join node n using (node_id)
             where v.sought = $1 and not v.wake order by v.code is null, v.changed_at, n.name, v.role
             limit greatest(0, $2 - (select count(*) from vertex o where o.sought = $1 and o.wake))",
            cause,
            room
        )
        .fetch_all(pool)
        .await
        .map_err(&failed)?;
        let mut by_deployment: BTreeMap<Uuid, Vec<Uuid>> = BTreeMap::new();
        for row in woken {
            by_deployment.entry(row.deployment_id).or_default().push(row.vertex_id);
        }
        any |= !by_deployment.is_empty();
        for (deployment, vertices) in by_deployment {
            wake(pool, DeploymentId(deployment), &cause, &vertices).await?;
        }
    }
    Ok(any)
}

async fn wake(pool: &PgPool, deployment: DeploymentId, cause: &str, vertices: &[Uuid]) -> Result<(), StoreError> {
    let Some(mut locked) = pass::lock(pool, deployment).await? else { return Ok(()) };
    sqlx::query!(
        "update vertex set wake = true where vertex_id = any($1) and sought = $2 and not wake",
        vertices,
        cause
    )
    .execute(&mut *locked.tx)
    .await
    .map_err(doing("waking who waits for a budget of all deployments"))?;
    locked.notify_work().await?;
    locked.commit().await
}

/// How many nodes more may be taken out of service.
async fn room(pool: &PgPool, budget: &str) -> Result<i64, StoreError> {
    let row = sqlx::query!(
        r#"select s.document as "document: Json<BudgetDoc>", coalesce(sum(o.members), 0)::bigint as "members!",
                  coalesce(sum(o.unavailable), 0)::bigint as "unavailable!", coalesce(sum(o.failed), 0)::bigint as "failed!"
           from setting s left join (outage o join deployment d on d.deployment_id = o.deployment_id and d.state <> 'gone')
                on o.budget = s.name
           where s.kind = 'budget' and s.name = $1 group by s.document"#,
        budget
    )
    .fetch_optional(pool)
    .await
    .map_err(doing("counting a budget of all deployments"))?;
    let Some(row) = row else { return Ok(i64::MAX) };
    let number = |count: i64| usize::try_from(count).unwrap_or(0);
    let elsewhere =
        Count { members: number(row.members), unavailable: number(row.unavailable), failed: number(row.failed) };
    let room = Shared { budget: row.document.0.budget(), elsewhere }.room(Count::default());
    Ok(i64::try_from(room).unwrap_or(i64::MAX))
}

/// By budget the deployments that have nodes out of service, with how many.
pub async fn out_of_service(pool: &PgPool, budget: &str) -> Result<Vec<(String, i64)>, StoreError> {
    let mut connection = pool.acquire().await.map_err(doing("reading what counts of a budget"))?;
    elsewhere(&mut connection, budget).await
}

pub(crate) async fn elsewhere(connection: &mut PgConnection, budget: &str) -> Result<Vec<(String, i64)>, StoreError> {
    let rows = sqlx::query!(
        "select d.name, o.unavailable from outage o join deployment d using (deployment_id)
         where o.budget = $1 and o.unavailable > 0 and d.state <> 'gone' order by d.name",
        budget
    )
    .fetch_all(connection)
    .await
    .map_err(doing("reading what counts of a budget"))?;
    Ok(rows.into_iter().map(|row| (row.name, row.unavailable)).collect())
}
