//! The rows of jobs, as a turn moves them: how they ended, what was claimed, what is given up.

use std::collections::HashSet;

use engine_core::document::Object;
use engine_core::id::{EngineId, JobId};
use engine_core::settle::{Claim, Written};
use serde_json::{Value, json};
use sqlx::types::Json;
use uuid::Uuid;

use super::form::Statement;
use super::{Locked, Revision};
use crate::StoreError;
use crate::error::doing;
use crate::jobs::OpenJob;

/// How a job ended, for its row.
#[derive(Clone, Debug, PartialEq)]
pub struct Finished {
    /// Which.
    pub job: JobId,
    /// The claim it was followed under.
    pub fence: i64,
    /// `succeeded`, `failed`, `cancelled`, `unknown`.
    pub outcome: &'static str,
    /// Code of a failure.
    pub code: Option<String>,
    /// What failed.
    pub message: Option<String>,
    /// Results of its steps.
    pub steps: Value,
    /// What a remove left.
    pub residue: Option<Value>,
    /// On the agent's monotonic clock.
    pub millis: Option<i64>,
}

impl Locked {
    /// Closes the rows of those jobs that still run under this engine and the fence of their claim, and says which those
    /// are. Others' reports are too late: they change nothing.
    pub async fn finish_jobs<'f>(
        &mut self,
        engine: EngineId,
        finished: impl Iterator<Item = &'f Finished>,
    ) -> Result<HashSet<(JobId, i64)>, StoreError> {
        let finished: Vec<&Finished> = finished.collect();
        if finished.is_empty() {
            return Ok(HashSet::new());
        }
        let ids: Vec<Uuid> = finished.iter().map(|job| job.job.0).collect();
        let fences: Vec<i64> = finished.iter().map(|job| job.fence).collect();
        let outcomes: Vec<&str> = finished.iter().map(|job| job.outcome).collect();
        let codes: Vec<Option<&str>> = finished.iter().map(|job| job.code.as_deref()).collect();
        let messages: Vec<Option<&str>> = finished.iter().map(|job| job.message.as_deref()).collect();
        let steps: Vec<&Value> = finished.iter().map(|job| &job.steps).collect();
        let residues: Vec<Option<&Value>> = finished.iter().map(|job| job.residue.as_ref()).collect();
        let millis: Vec<Option<i64>> = finished.iter().map(|job| job.millis).collect();
        let rows = sqlx::query!(
            "update job j set finished_at = now(), outcome = u.outcome, code = u.code, message = u.message,
                    steps = u.steps, residue = u.residue, millis = u.millis
             from unnest($3::uuid[], $4::bigint[], $5::text[], $6::text[], $7::text[], $8::jsonb[], $9::jsonb[],
                         $10::bigint[])
                  as u(job_id, fence, outcome, code, message, steps, residue, millis)
             where j.job_id = u.job_id and j.fence = u.fence and j.engine_id = $1 and j.finished_at is null
                   and j.deployment_id = $2
             returning j.job_id, j.fence",
            engine.0,
            self.id.0,
            &ids,
            &fences,
            &outcomes as &[&str],
            &codes as &[Option<&str>],
            &messages as &[Option<&str>],
            &steps as &[&Value],
            &residues as &[Option<&Value>],
            &millis as &[Option<i64>]
        )
        .fetch_all(&mut *self.tx)
        .await
        .map_err(doing("recording how jobs ended"))?;
        let mine: HashSet<(JobId, i64)> = rows.into_iter().map(|row| (JobId(row.job_id), row.fence)).collect();
        let left = finished.iter().filter(|job| job.residue.is_some() && mine.contains(&(job.job, job.fence)));
        self.note_left(&left.map(|job| job.job).collect::<Vec<_>>()).await?;
        Ok(mine)
    }

    /// The rows of what was claimed.
    pub(super) fn claims(&self, claims: &[Claim], revision: &Revision, engine: EngineId) -> Option<Statement> {
        if claims.is_empty() {
            return None;
        }
        let ids: Vec<Uuid> = claims.iter().map(|claim| claim.job.0).collect();
        let vertices: Vec<Uuid> = claims.iter().map(|claim| claim.vertex.0).collect();
        let nodes: Vec<Uuid> = claims.iter().map(|claim| claim.node.0).collect();
        let attempts: Vec<i32> = claims.iter().map(|claim| claim.attempt).collect();
        let removes: Vec<bool> = claims.iter().map(|claim| claim.remove).collect();
        let contents: Vec<Option<&str>> =
            claims.iter().map(|claim| revision.contents.get(&claim.role).map(String::as_str)).collect();
        let digests: Vec<&str> = claims.iter().map(|claim| claim.frozen.digest.as_str()).collect();
        let inputs: Vec<Json<&Object>> = claims.iter().map(|claim| Json(&claim.frozen.values)).collect();
        let changed: Vec<Value> = claims.iter().map(|claim| json!(claim.changed)).collect();
        // A remove runs the content and the inputs of the last attempt.
        Some(sqlx::query!(
            "insert into job (job_id, deployment_id, vertex_id, node_id, action, attempt, engine_id, fence, revision,
                              content, digest, inputs, changed, claimed_at)
             select u.job_id, $1, u.vertex_id, coalesce(l.node_id, u.node_id),
                    case when u.remove then 'remove' else 'apply' end, u.attempt, $2, 1, $3,
                    coalesce(l.content, u.content), coalesce(l.digest, u.digest), coalesce(l.inputs, '{}') || u.inputs,
                    u.changed, clock_timestamp()
             from unnest($4::uuid[], $5::uuid[], $6::uuid[], $7::int[], $8::bool[], $9::text[], $10::text[],
                         $11::jsonb[], $12::jsonb[])
                  as u(job_id, vertex_id, node_id, attempt, remove, content, digest, inputs, changed)
             left join lateral (
                 select node_id, content, digest, inputs from job
                 where u.remove and vertex_id = u.vertex_id and action = 'apply' order by claimed_at desc limit 1
             ) l on true",
            self.id.0,
            engine.0,
            revision.number,
            &ids,
            &vertices,
            &nodes,
            &attempts,
            &removes,
            &contents as &[Option<&str>],
            &digests as &[&str],
            &inputs as &[Json<&Object>],
            &changed
        ))
    }

    /// A claim of this turn as its engine runs it, without asking the database for what is known. `None` for a remove:
    /// it runs what the last attempt ran, which only the database knows.
    pub fn opened(&self, claim: &Claim, revision: &Revision) -> Option<OpenJob> {
        let content = revision.contents.get(&claim.role).filter(|_| !claim.remove)?.clone();
        Some(OpenJob {
            job: claim.job,
            deployment: self.id,
            deployment_name: self.name.clone(),
            vertex: claim.vertex,
            role: claim.role.clone(),
            node: claim.node,
            place: claim.place.clone(),
            action: "apply".to_owned(),
            beside: false,
            attempt: claim.attempt,
            fence: 1,
            revision: revision.number,
            content,
            inputs: claim.frozen.values.clone(),
            changed: claim.changed.clone(),
            seen: 0,
            incarnation: None,
            cancelled: false,
        })
    }

    /// A vertex that is gone has no job, nor has one whose machine was taken away: what still runs somewhere is closed,
    /// and its report will be refused.
    pub(super) async fn abandon_jobs(&mut self, written: &Written) -> Result<(), StoreError> {
        let gone: Vec<Uuid> =
            written.vertices.iter().filter(|vertex| vertex.is_gone()).map(|vertex| vertex.id.0).collect();
        let jobs: Vec<Uuid> = written.abandoned.iter().map(|job| job.0).collect();
        if gone.is_empty() && jobs.is_empty() {
            return Ok(());
        }
        sqlx::query!(
            "update job set finished_at = now(), look_at = null, outcome = 'abandoned', fence = fence + 1
             where (vertex_id = any($1) or job_id = any($2)) and finished_at is null",
            &gone,
            &jobs
        )
        .execute(&mut *self.tx)
        .await
        .map_err(doing("closing the jobs of what is gone"))?;
        Ok(())
    }
}
