//! Jobs beside the state of their vertex: checks, and removes that empty a node for a redeploy. What comes of them moves
//! no vertex; they are claimed, followed, taken over and reported like all others.

use std::collections::{HashMap, HashSet};

use engine_core::id::{DeploymentId, EngineId, JobId, NodeId, VertexId};
use serde_json::{Value, json};
use sqlx::PgPool;
use uuid::Uuid;

use crate::StoreError;
use crate::error::doing;
use crate::nodes::wake_waiting;
use crate::pass::{self, EVENTS, Locked, Revisions};

/// Begins checks that are due, at most so many. Those that can not be made now are answered with `unknown`.
pub async fn begin_checks(
    pool: &PgPool,
    engine: EngineId,
    deployment: DeploymentId,
    limit: i64,
) -> Result<Vec<JobId>, StoreError> {
    let failed = doing("beginning checks");
    // Never in the way of a turn: whoever holds the deployment has more important things to do.
    let Some(mut locked) = pass::lock_if_free(pool, deployment).await? else { return Ok(Vec::new()) };
    let refused = sqlx::query!(
        r#"update drift f set due = false, verdict = 'unknown', job_id = null, diffs = '[]', checked_at = clock_timestamp(),
                  code = case when v.state = 'active' then 'node-not-ready' else 'not-active' end,
                  message = case when v.state <> 'active' then 'it is ' || v.state
                                 when n.standing <> 'in' then 'its node stands ' || n.standing else 'its node is ' || n.state end
           from vertex v join node n using (node_id)
           where f.deployment_id = $1 and f.due and v.vertex_id = f.vertex_id
                 and not (v.state = 'active' and v.goal = 'present' and n.state in ('up', 'virtual') and not n.rebuild
                          and n.standing = 'in')"#,
        deployment.0
    )
    .execute(&mut *locked.tx)
    .await
    .map_err(&failed)?;
    let due = sqlx::query_scalar!(
        "select f.vertex_id from drift f
         where f.deployment_id = $1 and f.due
               and not exists (select from job j where j.vertex_id = f.vertex_id and j.beside and j.finished_at is null)
         order by f.vertex_id limit $2",
        deployment.0,
        limit
    )
    .fetch_all(&mut *locked.tx)
    .await
    .map_err(&failed)?;
    let jobs: Vec<Uuid> = due.iter().map(|_| Uuid::now_v7()).collect();
    // What is in force is what the last success made.
    sqlx::query!(
        "with u as (select * from unnest($2::uuid[], $3::uuid[]) as u(job_id, vertex_id)),
              begun as (
                  insert into job (job_id, deployment_id, vertex_id, node_id, action, attempt, beside, engine_id, fence,
                                   revision, content, digest, inputs, claimed_at)
                  select u.job_id, $1, u.vertex_id, l.node_id, 'check', v.attempts, true, $4, 1, $5, l.content, l.digest,
                         l.inputs, clock_timestamp()
                  from u join vertex v using (vertex_id)
                  cross join lateral (
                      select node_id, content, digest, inputs from job
                      where vertex_id = u.vertex_id and action = 'apply' and outcome = 'succeeded'
                      order by claimed_at desc limit 1
                  ) l)
         update drift f set due = false, job_id = u.job_id from u where f.vertex_id = u.vertex_id",
        deployment.0,
        &jobs,
        &due,
        engine.0,
        locked.revision
    )
    .execute(&mut *locked.tx)
    .await
    .map_err(&failed)?;
    if refused.rows_affected() > 0 {
        locked.notify(EVENTS).await?;
    }
    locked.commit().await?;
    Ok(jobs.into_iter().map(JobId).collect())
}

/// How many checks of this engine run.
pub async fn running_checks(pool: &PgPool, engine: EngineId) -> Result<i64, StoreError> {
    sqlx::query_scalar!(
        r#"select count(*) as "count!" from job where engine_id = $1 and finished_at is null and action = 'check'"#,
        engine.0
    )
    .fetch_one(pool)
    .await
    .map_err(doing("counting checks"))
}

/// What a check found.
#[derive(Clone, Debug)]
pub struct Checked {
    /// The check.
    pub job: JobId,
    /// Which attempt was the newest when it began.
    pub attempt: i32,
    /// `conform`, `drifted` or `unknown`.
    pub verdict: &'static str,
    /// Code of why it is unknown, or of the probe that failed.
    pub code: Option<String>,
    /// The same in words.
    pub message: Option<String>,
    /// What differs.
    pub diffs: Value,
    /// A probe failed: it does not do what it is there for.
    pub failing: bool,
}

impl Locked {
    /// Closes what goes on beside these vertices: it was about what is not there any more.
    pub(crate) async fn abandon_beside(&mut self, vertices: &[VertexId]) -> Result<(), StoreError> {
        let ids: Vec<Uuid> = vertices.iter().map(|vertex| vertex.0).collect();
        sqlx::query!(
            "update job set finished_at = now(), look_at = null, outcome = 'abandoned', fence = fence + 1
             where vertex_id = any($1) and beside and finished_at is null",
            &ids
        )
        .execute(&mut *self.tx)
        .await
        .map_err(doing("closing jobs beside vertices"))?;
        Ok(())
    }

    /// Of these, the vertices that may be repaired: not those that were repaired just before.
    pub async fn repairable(&mut self, vertices: &[VertexId]) -> Result<HashSet<VertexId>, StoreError> {
        let ids: Vec<Uuid> = vertices.iter().map(|vertex| vertex.0).collect();
        let rows = sqlx::query_scalar!("select vertex_id from drift where vertex_id = any($1) and not again", &ids)
            .fetch_all(&mut *self.tx)
            .await
            .map_err(doing("looking for what may be repaired"))?;
        Ok(rows.into_iter().map(VertexId).collect())
    }

    /// Records what checks found, with an event where the verdict is another one than before.
    pub async fn record_checks(&mut self, found: &[(VertexId, Checked)]) -> Result<(), StoreError> {
        if found.is_empty() {
            return Ok(());
        }
        let row = |(vertex, found): &(VertexId, Checked)| {
            let failing = found.failing.then_some(found.attempt);
            json!({"vertex_id": vertex, "job_id": found.job, "verdict": found.verdict, "code": found.code,
                   "message": found.message, "diffs": found.diffs, "failing": failing})
        };
        let rows = Value::Array(found.iter().map(row).collect());
        let counts = sqlx::query_scalar!(
            r#"select exists (select from jsonb_to_recordset($1) as u(vertex_id uuid, job_id uuid, verdict text, failing integer)
                              join drift f using (vertex_id, job_id)
                              where u.verdict <> 'unknown' and f.failing is distinct from u.failing) as "counts!""#,
            rows
        )
        .fetch_one(&mut *self.tx)
        .await
        .map_err(doing("comparing what checks found"))?;
        sqlx::query!(
            "with u as (select * from jsonb_to_recordset($2) as u(vertex_id uuid, job_id uuid, verdict text, code text,
                                                                  message text, diffs jsonb, failing integer)),
                  old as (select f.vertex_id, f.verdict from drift f join u using (vertex_id)),
                  done as (
                      update drift f set verdict = u.verdict, code = u.code, message = u.message, diffs = u.diffs,
                             failing = case when u.verdict = 'unknown' then f.failing else u.failing end,
                             checked_at = clock_timestamp()
                      from u where f.vertex_id = u.vertex_id and f.job_id = u.job_id
                      returning f.vertex_id, f.job_id, f.verdict, f.message)
             insert into event (at, kind, deployment_id, node_id, vertex_id, job_id, principal, detail)
             select clock_timestamp(), 'node-role.' || done.verdict, $1, v.node_id, done.vertex_id, done.job_id, 'engine',
                    jsonb_build_object('before', old.verdict, 'message', done.message)
             from done join old using (vertex_id) join vertex v using (vertex_id)
             where old.verdict is distinct from done.verdict",
            self.id.0,
            rows
        )
        .execute(&mut *self.tx)
        .await
        .map_err(doing("recording what checks found"))?;
        if counts {
            // Who waits for a budget may not have to any more.
            wake_waiting(&mut self.tx, self.id.0, std::iter::empty()).await?;
            self.notify_work().await?;
        }
        self.notify(EVENTS).await
    }
}

/// How far the emptying of a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Emptying {
    /// This remove begins.
    Begun(JobId),
    /// One runs.
    Waits,
    /// One failed, and nobody has asked for another try since.
    Failed {
        /// Of which deployment role.
        role: String,
        /// Its code.
        code: String,
        /// Its message.
        message: String,
    },
    /// Nothing of what stands on it is left to be removed.
    Done,
}

/// Goes on with emptying a node: removes what stands on it one by one, children before parents, by the content and inputs
/// of the last attempt. `known`: revisions at hand.
pub async fn empty(pool: &PgPool, engine: EngineId, node: NodeId, known: &Revisions) -> Result<Emptying, StoreError> {
    let failed = doing("emptying a node");
    let Some(mut locked) = pass::lock_of_node(pool, node).await? else { return Ok(Emptying::Done) };
    let revision = locked.revision(known).await?;
    let mut rows = sqlx::query!(
        r#"select v.vertex_id, v.role, a.job_id as applied, r.finished_at is null and r.claimed_at > a.claimed_at as "runs?",
                  r.outcome = 'succeeded' and r.claimed_at > a.claimed_at as "done?",
                  r.outcome <> 'succeeded' and r.finished_at > n.changed_at as "failed?", r.code, r.message
           from vertex v
           join node n using (node_id)
           cross join lateral (
               select job_id, claimed_at from job where vertex_id = v.vertex_id and action = 'apply'
               order by claimed_at desc limit 1
           ) a
           left join lateral (
               select * from job where vertex_id = v.vertex_id and action = 'remove' and beside
               order by claimed_at desc limit 1
           ) r on true
           where v.node_id = $1 and v.deployment_id = $2 and not v.gone and v.goal = 'present'"#,
        node.0,
        locked.id.0
    )
    .fetch_all(&mut *locked.tx)
    .await
    .map_err(&failed)?;
    let rank: HashMap<&str, usize> =
        revision.graph.order.iter().enumerate().map(|(rank, role)| (role.as_str(), rank)).collect();
    rows.retain(|row| row.done != Some(true));
    rows.sort_by_key(|row| std::cmp::Reverse(rank.get(row.role.as_str()).copied()));
    let Some(next) = rows.into_iter().next() else {
        locked.roll_back().await?;
        return Ok(Emptying::Done);
    };
    if next.runs == Some(true) {
        locked.roll_back().await?;
        return Ok(Emptying::Waits);
    }
    if next.failed == Some(true) {
        locked.roll_back().await?;
        let code = next.code.unwrap_or_else(|| "step-failed".to_owned());
        return Ok(Emptying::Failed { role: next.role, code, message: next.message.unwrap_or_default() });
    }
    let job = Uuid::now_v7();
    sqlx::query!(
        "insert into job (job_id, deployment_id, vertex_id, node_id, action, attempt, beside, engine_id, fence, revision,
                          content, digest, inputs, claimed_at)
         select $1, deployment_id, vertex_id, node_id, 'remove', attempt, true, $3, 1, $4, content, digest, inputs,
                clock_timestamp()
         from job where job_id = $2",
        job,
        next.applied,
        engine.0,
        locked.revision
    )
    .execute(&mut *locked.tx)
    .await
    .map_err(&failed)?;
    locked.notify(EVENTS).await?;
    locked.commit().await?;
    Ok(Emptying::Begun(JobId(job)))
}

/// Jobs that were taken from under a node and may still go on there, with the fence that ends them.
pub async fn abandoned_on(pool: &PgPool, node: NodeId) -> Result<Vec<(JobId, i64)>, StoreError> {
    let rows = sqlx::query!(
        "select j.job_id, j.fence from job j
         where j.node_id = $1 and j.outcome = 'abandoned' and j.finished_at > now() - interval '1 day'
         order by j.finished_at desc limit 100",
        node.0
    )
    .fetch_all(pool)
    .await
    .map_err(doing("looking for abandoned jobs"))?;
    Ok(rows.into_iter().map(|row| (JobId(row.job_id), row.fence)).collect())
}
