//! What a turn decided in the form in which the database takes it: statements with all that they need, so that one can be made
//! while another one is at work.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use engine_core::document::Object;
use engine_core::id::{DeploymentId, VertexId};
use engine_core::settle::Vertex;
use engine_core::settle::turn::Moved;
use engine_core::state::Goal;
use serde::ser::{Serialize, SerializeMap as _, Serializer};
use sqlx::Postgres;
use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::types::Json;
use time::OffsetDateTime;
use uuid::Uuid;

/// One that has all that it needs.
pub(super) type Statement = Query<'static, Postgres, PgArguments>;

/// Vertices as they are now.
pub(super) fn vertices(vertices: &[Vertex], sought: &BTreeSet<VertexId>) -> Option<Statement> {
    if vertices.is_empty() {
        return None;
    }
    let causes: Vec<Option<String>> =
        vertices.iter().map(|vertex| vertex.cause.as_ref().map(ToString::to_string)).collect();
    let found: Vec<bool> = vertices.iter().map(|vertex| sought.contains(&vertex.id)).collect();
    Some(sqlx::query!(
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
        ))
}

/// What happened to vertices. Whatever moves is among `vertices`.
pub(super) fn events(deployment: DeploymentId, events: &[Moved], vertices: &[Vertex], by: &str) -> Option<Statement> {
    if events.is_empty() {
        return None;
    }
    let nodes: HashMap<VertexId, Uuid> = vertices.iter().map(|vertex| (vertex.id, vertex.node.0)).collect();
    let kinds: Vec<String> = events.iter().map(|moved| format!("node-role.{}", moved.event.as_str())).collect();
    let on: Vec<Option<Uuid>> = each(events, |moved| nodes.get(&moved.vertex).copied());
    let jobs: Vec<Option<Uuid>> = each(events, |moved| moved.job.map(|job| job.0));
    let details: Vec<Json<Detail<'_>>> = events.iter().map(|moved| Json(Detail(moved))).collect();
    Some(sqlx::query!(
        "insert into event (at, kind, deployment_id, node_id, vertex_id, job_id, principal, detail)
             select clock_timestamp(), u.kind, $1, u.node_id, u.vertex_id, u.job_id, $2, u.detail
             from unnest($3::text[], $4::uuid[], $5::uuid[], $6::uuid[], $7::jsonb[])
                  with ordinality as u(kind, node_id, vertex_id, job_id, detail, place)
             order by u.place",
        deployment.0,
        by,
        &kinds,
        &on as &[Option<Uuid>],
        &each(events, |moved| moved.vertex.0),
        &jobs as &[Option<Uuid>],
        &details as &[Json<Detail<'_>>]
    ))
}

/// A column of an array of rows.
pub(super) fn each<'r, R, T>(rows: &'r [R], column: impl Fn(&'r R) -> T) -> Vec<T> {
    rows.iter().map(column).collect()
}

pub(super) fn goal(goal: Goal) -> &'static str {
    match goal {
        Goal::Present => "present",
        Goal::Absent => "absent",
    }
}

/// What an event says: what its cause says, and from where to where it moved.
struct Detail<'m>(&'m Moved);

impl Serialize for Detail<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_map(None)?;
        for (name, value) in self.0.detail.as_object().into_iter().flatten() {
            fields.serialize_entry(name, value)?;
        }
        fields.serialize_entry("from", &self.0.from)?;
        fields.serialize_entry("to", &self.0.to)?;
        fields.end()
    }
}
