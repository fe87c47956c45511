//! What a turn decided, written down: vertices, tallies, values, jobs, events and wake-ups, each kind in one statement.

use std::collections::{BTreeMap, BTreeSet};

use engine_core::graph::RoleName;
use engine_core::id::{EngineId, VertexId};
use engine_core::settle::{Tally, Vertex, Written};
use engine_core::state::Event;
use serde_json::Value;
use sqlx::PgConnection;

use super::form::{Statement, each, events, goal, vertices};
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
        let claims = engine.and_then(|engine| self.claims(&written.claims, revision, engine));
        // What is large is put into its form while the database is at work on the claims.
        let (claimed, (vertices, events)) = tokio::join!(
            biased;
            run(&mut self.tx, claims, "writing claims"),
            async {
                let vertices = vertices(&written.vertices, &written.sought);
                (vertices, events(self.id, &written.events, &written.vertices, principal))
            }
        );
        claimed?;
        run(&mut self.tx, vertices, "writing vertices").await?;
        self.write_tallies(&written.tallies).await?;
        self.abandon_jobs(written).await?;
        self.write_tokens(&written.tokens).await?;
        self.write_counts(&written.counts, written.lets_go).await?;
        self.note_skipped(&skipped(written)).await?;
        let mut woken = self.write_wakes(&written.wake).await?;
        woken.extend(self.wake_some(&written.free).await?);
        self.tell(written, &revision.graph).await?;
        run(&mut self.tx, events, "writing events").await?;
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
        run(&mut self.tx, events(self.id, &written.events, &written.vertices, principal), "writing events").await
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
}

async fn run(tx: &mut PgConnection, statement: Option<Statement>, what: &'static str) -> Result<(), StoreError> {
    if let Some(statement) = statement {
        statement.execute(tx).await.map_err(doing(what))?;
    }
    Ok(())
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
