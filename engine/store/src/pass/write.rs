//! What a turn decided, written down: vertices, tallies, values, jobs, events and wake-ups, each kind in one statement.

use std::collections::BTreeMap;

use engine_core::graph::RoleName;
use engine_core::id::{EngineId, JobId, VertexId};
use engine_core::settle::turn::Moved;
use engine_core::settle::{Claim, Tally, Vertex, Written};
use engine_core::state::Event;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{EVENTS, Locked, Revision, WORK};
use crate::StoreError;
use crate::error::doing;

/// How a job ended, for its row.
#[derive(Clone, Debug, PartialEq)]
pub struct Finished {
    /// Which.
    pub job: JobId,
    /// `succeeded`, `failed`, `cancelled`, `unknown`.
    pub outcome: &'static str,
    /// Code of a failure.
    pub code: Option<String>,
    /// What failed.
    pub message: Option<String>,
    /// Results of its steps.
    pub steps: Value,
    /// What a remove left.
    pub residue: Value,
    /// On the agent's monotonic clock.
    pub millis: Option<i64>,
}

impl Locked {
    /// Closes the rows of jobs. Those that do not run any more are left as they are.
    pub async fn finish_jobs(&mut self, finished: &[Finished]) -> Result<(), StoreError> {
        if finished.is_empty() {
            return Ok(());
        }
        let rows: Vec<Value> = finished
            .iter()
            .map(|job| {
                json!({"job_id": job.job, "outcome": job.outcome, "code": job.code, "message": job.message,
                       "steps": job.steps, "residue": job.residue, "millis": job.millis})
            })
            .collect();
        sqlx::query!(
            "update job j set finished_at = now(), outcome = u.outcome, code = u.code, message = u.message,
                    steps = u.steps, residue = u.residue, millis = u.millis
             from jsonb_to_recordset($1) as u(job_id uuid, outcome text, code text, message text, steps jsonb,
                                              residue jsonb, millis bigint)
             where j.job_id = u.job_id and j.finished_at is null",
            Value::Array(rows)
        )
        .execute(&mut *self.tx)
        .await
        .map_err(doing("recording how jobs ended"))?;
        let left: Vec<JobId> = finished.iter().filter(|job| !job.residue.is_null()).map(|job| job.job).collect();
        self.note_left(&left).await
    }

    /// Writes what a turn decided. Claims become jobs of `engine`; without one there must be none.
    pub async fn write(
        &mut self,
        written: &Written,
        revision: &Revision,
        engine: Option<EngineId>,
        principal: &str,
    ) -> Result<(), StoreError> {
        self.write_values(&written.values).await?;
        self.write_vertices(&written.vertices).await?;
        self.write_tallies(&written.tallies).await?;
        if let Some(engine) = engine {
            self.write_claims(&written.claims, &written.vertices, revision, engine).await?;
        }
        self.abandon_jobs(written).await?;
        self.write_tokens(&written.tokens).await?;
        self.note_skipped(&skipped(written)).await?;
        self.write_wakes(written).await?;
        self.wake_some(&written.free).await?;
        self.write_events(&written.events, principal).await?;
        if !written.events.is_empty() {
            self.notify(EVENTS).await?;
        }
        Ok(())
    }

    /// Says on a channel that something of this deployment changed. Sent with the commit.
    pub async fn notify(&mut self, channel: &str) -> Result<(), StoreError> {
        sqlx::query!("select pg_notify($1, $2)", channel, self.id.to_string())
            .execute(&mut *self.tx)
            .await
            .map_err(doing("notifying"))?;
        Ok(())
    }

    /// Says that there is work here.
    pub async fn notify_work(&mut self) -> Result<(), StoreError> {
        self.notify(WORK).await
    }

    async fn write_values(&mut self, values: &BTreeMap<String, Value>) -> Result<(), StoreError> {
        if values.is_empty() {
            return Ok(());
        }
        let (digests, bodies): (Vec<String>, Vec<Value>) = values.iter().map(|(d, v)| (d.clone(), v.clone())).unzip();
        sqlx::query!(
            "insert into value (digest, body) select * from unnest($1::text[], $2::jsonb[]) on conflict do nothing",
            &digests,
            &bodies
        )
        .execute(&mut *self.tx)
        .await
        .map_err(doing("keeping gathered values"))?;
        Ok(())
    }

    async fn write_vertices(&mut self, vertices: &[Vertex]) -> Result<(), StoreError> {
        if vertices.is_empty() {
            return Ok(());
        }
        let rows = Value::Array(vertices.iter().map(row).collect());
        sqlx::query!(
            "update vertex v set
                 changed_at = case when v.state <> u.state or v.goal <> u.goal then now() else v.changed_at end,
                 state = u.state, goal = u.goal, armed = u.armed, touched = u.touched, rebound = u.rebound,
                 applying = u.applying, started = u.started, since = u.since, cause = u.cause, wake = u.wake,
                 paused = u.paused, applied = u.applied, failed = u.failed, frozen = u.frozen, read = u.read,
                 kept = u.kept, outputs = u.outputs, serving = u.serving, anew = u.anew, job_id = u.job_id, content = u.content,
                 approved = u.approved, attempts = u.attempts, code = u.code
             from jsonb_to_recordset($1) as u(
                 vertex_id uuid, state text, goal text, armed bool, touched bool, rebound bool, applying bool,
                 started bool, since bigint, cause text, wake bool, paused bool, applied text, failed text, frozen text,
                 read jsonb, kept jsonb, outputs jsonb, serving bool, anew bool, job_id uuid, content text, approved text,
                 attempts int, code text)
             where v.vertex_id = u.vertex_id",
            rows
        )
        .execute(&mut *self.tx)
        .await
        .map_err(doing("writing vertices"))?;
        Ok(())
    }

    async fn write_tallies(&mut self, tallies: &BTreeMap<RoleName, Tally>) -> Result<(), StoreError> {
        if tallies.is_empty() {
            return Ok(());
        }
        let rows = tallies
            .iter()
            .map(|(role, t)| {
                json!({"role": role, "stale": t.stale, "failed": t.failed, "leaving": t.leaving, "active": t.active})
            })
            .collect();
        sqlx::query!(
            "insert into tally as t (deployment_id, role, stale, failed, leaving, active)
             select $1, u.role, u.stale, u.failed, u.leaving, u.active
             from jsonb_to_recordset($2) as u(role text, stale bigint, failed bigint, leaving bigint, active bigint)
             on conflict (deployment_id, role) do update set
                 stale = t.stale + excluded.stale, failed = t.failed + excluded.failed,
                 leaving = t.leaving + excluded.leaving, active = t.active + excluded.active",
            self.id.0,
            Value::Array(rows)
        )
        .execute(&mut *self.tx)
        .await
        .map_err(doing("writing tallies"))?;
        Ok(())
    }

    async fn write_claims(
        &mut self,
        claims: &[Claim],
        vertices: &[Vertex],
        revision: &Revision,
        engine: EngineId,
    ) -> Result<(), StoreError> {
        if claims.is_empty() {
            return Ok(());
        }
        let roles: BTreeMap<_, _> =
            vertices.iter().map(|vertex| (vertex.id, (&vertex.role, vertex.attempts))).collect();
        let rows = claims
            .iter()
            .filter_map(|claim| {
                let (role, attempt) = roles.get(&claim.vertex)?;
                Some(json!({
                    "job_id": claim.job, "vertex_id": claim.vertex, "node_id": claim.node, "attempt": attempt,
                    "remove": claim.remove, "content": revision.contents.get(*role), "digest": claim.frozen.digest,
                    "inputs": claim.frozen.values, "changed": claim.changed,
                }))
            })
            .collect();
        // A remove runs the content and the inputs of the last attempt; what it gathered is as it is now.
        sqlx::query!(
            "insert into job (job_id, deployment_id, vertex_id, node_id, action, attempt, engine_id, fence, revision,
                              content, digest, inputs, changed, claimed_at)
             select u.job_id, $1, u.vertex_id,
                    case when u.remove then coalesce(l.node_id, u.node_id) else u.node_id end,
                    case when u.remove then 'remove' else 'apply' end, u.attempt, $2, 1, $3,
                    case when u.remove then coalesce(l.content, u.content) else u.content end,
                    case when u.remove then coalesce(l.digest, u.digest) else u.digest end,
                    case when u.remove then coalesce(l.inputs, '{}') || u.inputs else u.inputs end,
                    u.changed, clock_timestamp()
             from jsonb_to_recordset($4) as u(job_id uuid, vertex_id uuid, node_id uuid, attempt int, remove bool,
                                              content text, digest text, inputs jsonb, changed jsonb)
             left join lateral (
                 select node_id, content, digest, inputs from job
                 where vertex_id = u.vertex_id and action = 'apply' order by claimed_at desc limit 1
             ) l on u.remove",
            self.id.0,
            engine.0,
            revision.number,
            Value::Array(rows)
        )
        .execute(&mut *self.tx)
        .await
        .map_err(doing("writing claims"))?;
        Ok(())
    }

    /// A vertex that is gone has no job, nor has one whose machine was taken away: what still runs somewhere is closed,
    /// and its report will be refused.
    async fn abandon_jobs(&mut self, written: &Written) -> Result<(), StoreError> {
        let gone: Vec<Uuid> =
            written.vertices.iter().filter(|vertex| vertex.is_gone()).map(|vertex| vertex.id.0).collect();
        let jobs: Vec<Uuid> = written.abandoned.iter().map(|job| job.0).collect();
        if gone.is_empty() && jobs.is_empty() {
            return Ok(());
        }
        sqlx::query!(
            "update job set finished_at = now(), outcome = 'abandoned', fence = fence + 1
             where (vertex_id = any($1) or job_id = any($2)) and finished_at is null",
            &gone,
            &jobs
        )
        .execute(&mut *self.tx)
        .await
        .map_err(doing("closing the jobs of what is gone"))?;
        Ok(())
    }

    async fn write_wakes(&mut self, written: &Written) -> Result<(), StoreError> {
        if written.wake.is_empty() {
            return Ok(());
        }
        let keys: Vec<String> = written.wake.iter().cloned().collect();
        sqlx::query!(
            "update vertex set wake = true where deployment_id = $1 and cause = any($2) and not wake",
            self.id.0,
            &keys
        )
        .execute(&mut *self.tx)
        .await
        .map_err(doing("waking what was held"))?;
        Ok(())
    }

    async fn write_events(&mut self, events: &[Moved], principal: &str) -> Result<(), StoreError> {
        if events.is_empty() {
            return Ok(());
        }
        let rows = events
            .iter()
            .map(|moved| {
                let mut detail = match &moved.detail {
                    Value::Object(detail) => detail.clone(),
                    _ => serde_json::Map::new(),
                };
                let job = detail.remove("job").filter(|job| !job.is_null());
                detail.insert("from".to_owned(), json!(moved.from));
                detail.insert("to".to_owned(), json!(moved.to));
                let event = json!(moved.event);
                let kind = format!("node-role.{}", event.as_str().unwrap_or_default().replace('_', "-"));
                json!({"kind": kind, "vertex_id": moved.vertex, "job_id": job, "detail": detail})
            })
            .collect();
        sqlx::query!(
            "insert into event (at, kind, deployment_id, node_id, vertex_id, job_id, principal, detail)
             select clock_timestamp(), u.kind, $1, v.node_id, u.vertex_id, u.job_id, $2, u.detail
             from rows from (jsonb_to_recordset($3) as (kind text, vertex_id uuid, job_id uuid, detail jsonb))
                  with ordinality as u(kind, vertex_id, job_id, detail, place)
             join vertex v on v.vertex_id = u.vertex_id order by u.place",
            self.id.0,
            principal,
            Value::Array(rows)
        )
        .execute(&mut *self.tx)
        .await
        .map_err(doing("writing events"))?;
        Ok(())
    }
}

/// Vertices that went without their remove, and why.
fn skipped(written: &Written) -> Vec<(VertexId, &'static str)> {
    let lost = written.events.iter().filter(|moved| moved.event == Event::Lost);
    lost.map(|moved| match moved.detail.get("redeployed") {
        Some(_) => (moved.vertex, "its machine was made anew"),
        None => (moved.vertex, "its node is lost"),
    })
    .collect()
}

fn row(vertex: &Vertex) -> Value {
    let phase = vertex.phase;
    json!({
        "vertex_id": vertex.id, "state": phase.state, "goal": phase.goal, "armed": phase.armed,
        "touched": phase.touched, "rebound": phase.rebound, "applying": phase.applying, "started": phase.started,
        "since": vertex.since, "cause": vertex.cause.as_ref().map(ToString::to_string), "wake": vertex.wake,
        "paused": vertex.paused, "applied": vertex.applied, "failed": vertex.failed, "frozen": vertex.frozen,
        "read": vertex.read, "kept": vertex.kept, "outputs": vertex.outputs, "serving": vertex.serving, "anew": vertex.anew,
        "job_id": vertex.job, "content": vertex.content, "approved": vertex.approved, "attempts": vertex.attempts, "code": vertex.code,
    })
}
