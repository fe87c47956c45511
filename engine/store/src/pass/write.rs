//! What a turn decided, written down: vertices, tallies, values, jobs, events and wake-ups, each kind in one statement.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use engine_core::document::Object;
use engine_core::graph::RoleName;
use engine_core::id::{EngineId, VertexId};
use engine_core::settle::turn::Moved;
use engine_core::settle::{Tally, Vertex, Written};
use engine_core::state::{Event, Goal};
use serde_json::{Value, json};
use sqlx::types::Json;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{EVENTS, Locked, Revision, WORK};
use crate::StoreError;
use crate::error::doing;

impl Locked {
    /// Writes what a turn decided. Claims become jobs of `engine`; without one there must be none. Says which
    /// vertices were woken by what held them.
    pub async fn write(
        &mut self,
        written: &Written,
        revision: &Revision,
        engine: Option<EngineId>,
        principal: &str,
    ) -> Result<Vec<VertexId>, StoreError> {
        self.write_values(&written.values).await?;
        self.write_vertices(&written.vertices, &written.sought).await?;
        self.write_tallies(&written.tallies).await?;
        if let Some(engine) = engine {
            self.write_claims(&written.claims, revision, engine).await?;
        }
        self.abandon_jobs(written).await?;
        self.write_tokens(&written.tokens).await?;
        self.note_skipped(&skipped(written)).await?;
        let mut woken = self.write_wakes(&written.wake).await?;
        woken.extend(self.wake_some(&written.free).await?);
        self.tell(written, &revision.graph).await?;
        self.write_events(&written.events, &written.vertices, principal).await?;
        if !written.events.is_empty() {
            self.notify(EVENTS).await?;
        }
        Ok(woken)
    }

    /// The same for vertices that were not there before and were bound, and no more.
    pub(crate) async fn write_bound(&mut self, written: &Written, principal: &str) -> Result<(), StoreError> {
        self.insert_vertices(&written.vertices, &written.sought).await?;
        self.write_tallies(&written.tallies).await?;
        self.write_wakes(&written.wake).await?;
        self.write_events(&written.events, &written.vertices, principal).await
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

    async fn write_vertices(&mut self, vertices: &[Vertex], sought: &BTreeSet<VertexId>) -> Result<(), StoreError> {
        if vertices.is_empty() {
            return Ok(());
        }
        let causes: Vec<Option<String>> =
            vertices.iter().map(|vertex| vertex.cause.as_ref().map(ToString::to_string)).collect();
        let found: Vec<bool> = vertices.iter().map(|vertex| sought.contains(&vertex.id)).collect();
        sqlx::query!(
            "update vertex v set
                 changed_at = case when v.state <> u.state or v.goal <> u.goal then now() else v.changed_at end,
                 state = u.state, goal = u.goal, armed = u.armed, touched = u.touched, rebound = u.rebound,
                 applying = u.applying, started = u.started, since = u.since, cause = u.cause,
                 sought = case when u.sought then u.cause end, wake = u.wake, paused = u.paused, applied = u.applied,
                 failed = u.failed, frozen = u.frozen, read = u.read, kept = u.kept, outputs = u.outputs,
                 serving = u.serving, anew = u.anew, accepted = u.accepted, job_id = u.job_id, content = u.content, approved = u.approved,
                 attempts = u.attempts, code = u.code, tries = u.tries, retry_at = u.retry_at,
                 renew_at = u.renew_at
             from unnest($1::uuid[], $2::text[], $3::text[], $4::bool[], $5::bool[], $6::bool[], $7::bool[], $8::bool[],
                         $9::bigint[], $10::text[], $11::bool[], $12::bool[], $13::bool[], $14::text[], $15::text[],
                         $16::text[], $17::jsonb[], $18::jsonb[], $19::jsonb[], $20::bool[], $21::uuid[], $22::int[],
                         $23::text[], $24::text[], $25::text[], $26::bool[], $27::int[], $28::timestamptz[],
                         $29::bool[], $30::timestamptz[])
                  as u(vertex_id, state, goal, armed, touched, rebound, applying, started, since, cause, sought, wake,
                       paused, applied, failed, frozen, read, kept, outputs, serving, job_id, attempts, code, content,
                       approved, anew, tries, retry_at, accepted, renew_at)
             where v.vertex_id = u.vertex_id",
            &each(vertices, |v| v.id.0),
            &each(vertices, |v| v.phase.state.as_str()) as &[&str],
            &each(vertices, |v| goal(v.phase.goal)) as &[&str],
            &each(vertices, |v| v.phase.armed),
            &each(vertices, |v| v.phase.touched),
            &each(vertices, |v| v.phase.rebound),
            &each(vertices, |v| v.phase.applying),
            &each(vertices, |v| v.phase.started),
            &each(vertices, |v| v.since) as &[Option<i64>],
            &causes as &[Option<String>],
            &found,
            &each(vertices, |v| v.wake),
            &each(vertices, |v| v.paused),
            &each(vertices, |v| v.applied.as_deref()) as &[Option<&str>],
            &each(vertices, |v| v.failed.as_deref()) as &[Option<&str>],
            &each(vertices, |v| v.frozen.as_deref()) as &[Option<&str>],
            &each(vertices, |v| Json(&v.read)) as &[Json<&BTreeMap<String, String>>],
            &each(vertices, |v| Json(&v.kept)) as &[Json<&Object>],
            &each(vertices, |v| Json(&v.outputs)) as &[Json<&Object>],
            &each(vertices, |v| v.serving),
            &each(vertices, |v| v.job.map(|job| job.0)) as &[Option<Uuid>],
            &each(vertices, |v| v.attempts),
            &each(vertices, |v| v.code.as_deref()) as &[Option<&str>],
            &each(vertices, |v| v.content.as_deref()) as &[Option<&str>],
            &each(vertices, |v| v.approved.as_deref()) as &[Option<&str>],
            &each(vertices, |v| v.anew),
            &each(vertices, |v| v.tries),
            &each(vertices, |v| v.retry_at) as &[Option<OffsetDateTime>],
            &each(vertices, |v| v.phase.accepted),
            &each(vertices, |v| v.renew_at) as &[Option<OffsetDateTime>]
        )
        .execute(&mut *self.tx)
        .await
        .map_err(doing("writing vertices"))?;
        Ok(())
    }

    async fn insert_vertices(&mut self, vertices: &[Vertex], sought: &BTreeSet<VertexId>) -> Result<(), StoreError> {
        let causes: Vec<Option<String>> =
            vertices.iter().map(|vertex| vertex.cause.as_ref().map(ToString::to_string)).collect();
        let found: Vec<bool> = vertices.iter().map(|vertex| sought.contains(&vertex.id)).collect();
        sqlx::query!(
            "insert into vertex (vertex_id, deployment_id, role, node_id, state, goal, armed, touched, rebound, applying,
                                 started, since, cause, sought, wake, changed_at)
             select u.id, $1, u.role, u.node, u.state, u.goal, u.armed, false, false, false, false, u.since, u.cause,
                    case when u.sought then u.cause end, u.wake, now()
             from unnest($2::uuid[], $3::text[], $4::uuid[], $5::text[], $6::text[], $7::bool[], $8::bigint[], $9::text[],
                         $10::bool[], $11::bool[])
                  as u(id, role, node, state, goal, armed, since, cause, sought, wake)",
            self.id.0,
            &each(vertices, |v| v.id.0),
            &each(vertices, |v| v.role.as_str()) as &[&str],
            &each(vertices, |v| v.node.0),
            &each(vertices, |v| v.phase.state.as_str()) as &[&str],
            &each(vertices, |v| goal(v.phase.goal)) as &[&str],
            &each(vertices, |v| v.phase.armed),
            &each(vertices, |v| v.since) as &[Option<i64>],
            &causes as &[Option<String>],
            &found,
            &each(vertices, |v| v.wake)
        )
        .execute(&mut *self.tx)
        .await
        .map_err(doing("making vertices"))?;
        Ok(())
    }

    async fn write_tallies(&mut self, tallies: &BTreeMap<RoleName, Tally>) -> Result<(), StoreError> {
        if tallies.is_empty() {
            return Ok(());
        }
        let roles: Vec<&str> = tallies.keys().map(String::as_str).collect();
        let count = |of: fn(&Tally) -> i64| tallies.values().map(of).collect::<Vec<i64>>();
        sqlx::query!(
            "insert into tally as t (deployment_id, role, stale, failed, leaving, active, unawaited)
             select $1, u.* from unnest($2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[]) as u
             on conflict (deployment_id, role) do update set
                 stale = t.stale + excluded.stale, failed = t.failed + excluded.failed,
                 leaving = t.leaving + excluded.leaving, active = t.active + excluded.active,
                 unawaited = t.unawaited + excluded.unawaited",
            self.id.0,
            &roles as &[&str],
            &count(|tally| tally.stale),
            &count(|tally| tally.failed),
            &count(|tally| tally.leaving),
            &count(|tally| tally.active),
            &count(|tally| tally.unawaited)
        )
        .execute(&mut *self.tx)
        .await
        .map_err(doing("writing tallies"))?;
        Ok(())
    }

    async fn write_wakes(&mut self, wake: &BTreeSet<String>) -> Result<Vec<VertexId>, StoreError> {
        if wake.is_empty() {
            return Ok(Vec::new());
        }
        let keys: Vec<&str> = wake.iter().map(String::as_str).collect();
        let woken = sqlx::query_scalar!(
            "update vertex set wake = true where deployment_id = $1 and sought = any($2) and not wake
             returning vertex_id",
            self.id.0,
            &keys as &[&str]
        )
        .fetch_all(&mut *self.tx)
        .await
        .map_err(doing("waking what was held"))?;
        Ok(woken.into_iter().map(VertexId).collect())
    }

    /// Whatever moves is among `vertices`.
    async fn write_events(&mut self, events: &[Moved], vertices: &[Vertex], by: &str) -> Result<(), StoreError> {
        if events.is_empty() {
            return Ok(());
        }
        let nodes: HashMap<VertexId, Uuid> = vertices.iter().map(|vertex| (vertex.id, vertex.node.0)).collect();
        let kinds: Vec<String> = events.iter().map(|moved| format!("node-role.{}", moved.event.as_str())).collect();
        let on: Vec<Option<Uuid>> = each(events, |moved| nodes.get(&moved.vertex).copied());
        let jobs: Vec<Option<Uuid>> = each(events, |moved| moved.job.map(|job| job.0));
        let details: Vec<Value> = events.iter().map(detail).collect();
        sqlx::query!(
            "insert into event (at, kind, deployment_id, node_id, vertex_id, job_id, principal, detail)
             select clock_timestamp(), u.kind, $1, u.node_id, u.vertex_id, u.job_id, $2, u.detail
             from unnest($3::text[], $4::uuid[], $5::uuid[], $6::uuid[], $7::jsonb[])
                  with ordinality as u(kind, node_id, vertex_id, job_id, detail, place)
             order by u.place",
            self.id.0,
            by,
            &kinds,
            &on as &[Option<Uuid>],
            &each(events, |moved| moved.vertex.0),
            &jobs as &[Option<Uuid>],
            &details
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

/// A column of an array of rows.
fn each<'r, R, T>(rows: &'r [R], column: impl Fn(&'r R) -> T) -> Vec<T> {
    rows.iter().map(column).collect()
}

fn goal(goal: Goal) -> &'static str {
    match goal {
        Goal::Present => "present",
        Goal::Absent => "absent",
    }
}

fn detail(moved: &Moved) -> Value {
    let mut detail = match &moved.detail {
        Value::Object(detail) => detail.clone(),
        _ => serde_json::Map::new(),
    };
    detail.insert("from".to_owned(), json!(moved.from));
    detail.insert("to".to_owned(), json!(moved.to));
    Value::Object(detail)
}
