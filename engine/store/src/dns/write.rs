//! Records of many node roles in one transaction: a commit is what a write costs, so writers share it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use engine_core::id::{EngineId, JobId, VertexId};
use sqlx::types::Json;
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::{Change, DNS, Written};
use crate::StoreError;
use crate::error::doing;

/// Zone, name and kind.
pub type At = (Uuid, String, String);

/// A record as it is, or is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Whose it is.
    pub vertex: Uuid,
    /// As in [`Record`].
    pub data: Vec<String>,
    /// As in [`Record`].
    pub ttl: i32,
}

/// Records by what they are of.
pub type Rows = BTreeMap<At, Row>;

/// What one of them is from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// The name.
    pub name: String,
    /// The kind.
    pub kind: String,
    /// What is there, or what was.
    pub row: Row,
    /// It is not there any more.
    pub gone: bool,
}

/// What one commit changed in a zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Which.
    pub zone: Uuid,
    /// The generation that it has from then on; the one before was one less.
    pub generation: i64,
    /// What it changed.
    pub edits: Vec<Edit>,
}

struct LockedZone {
    id: Uuid,
    deployment: Uuid,
    generation: i64,
}

/// Gives each node role the records of its change and no others. Either all of a change is done, or nothing of it; what is as
/// wanted already is not written. Durable when it returns.
pub async fn set_records(
    connection: &mut PgConnection,
    engine: EngineId,
    changes: &[Change],
) -> Result<(Vec<Written>, Vec<Step>), StoreError> {
    let mut tx = connection.begin().await.map_err(doing("writing records"))?;
    let jobs: Vec<(JobId, i64)> = changes.iter().map(|change| change.job).collect();
    let ours = ours(&mut tx, engine, &jobs).await?;
    let zones = lock_zones(&mut tx, changes).await?;
    let before = held(&mut tx, &zones, changes).await?;
    let mut after = before.clone();
    let mut results = Vec::new();
    for change in changes {
        results.push(if ours.contains(&change.job.0) { place(change, &zones, &mut after) } else { Written::NotOurs });
    }
    let generations: HashMap<Uuid, i64> = zones.values().map(|zone| (zone.id, zone.generation)).collect();
    let mut steps = Vec::new();
    for (zone, edits) in difference(&before, &after) {
        let generation = generations.get(&zone).copied().unwrap_or_default();
        // It is locked, so nobody was faster.
        steps.extend(step(&mut tx, engine, (zone, generation), edits).await?);
    }
    // What it holds it lets go of now, and not when the connection is used again.
    let ended = if steps.is_empty() { tx.rollback().await } else { tx.commit().await };
    ended.map_err(doing("writing records"))?;
    Ok((results, steps))
}

/// Says that zones have changed. Sent with the commit.
pub(super) async fn tell(tx: &mut PgConnection) -> Result<(), StoreError> {
    sqlx::query!("select pg_notify($1, '')", DNS).execute(tx).await.map_err(doing("notifying"))?;
    Ok(())
}

/// Which of these jobs are this engine's. They stay so until the transaction ends.
pub(super) async fn ours(
    tx: &mut PgConnection,
    engine: EngineId,
    jobs: &[(JobId, i64)],
) -> Result<HashSet<JobId>, StoreError> {
    let ids: Vec<Uuid> = jobs.iter().map(|job| job.0.0).collect();
    let fences: Vec<i64> = jobs.iter().map(|job| job.1).collect();
    let rows = sqlx::query_scalar!(
        "select j.job_id from job j join unnest($1::uuid[], $2::bigint[]) as u(job_id, fence)
                on u.job_id = j.job_id and u.fence = j.fence
         where j.engine_id = $3 and j.finished_at is null for share of j",
        &ids,
        &fences,
        engine.0
    )
    .fetch_all(tx)
    .await
    .map_err(doing("looking whether jobs are ours"))?;
    Ok(rows.into_iter().map(JobId).collect())
}

/// Takes out all names of node roles that are gone without a removal.
pub(crate) async fn withdraw(tx: &mut PgConnection, vertices: &[VertexId]) -> Result<(), StoreError> {
    let failed = doing("withdrawing names");
    let ids: Vec<Uuid> = vertices.iter().map(|vertex| vertex.0).collect();
    let zones = sqlx::query_scalar!(
        "select zone_id from zone
         where zone_id in (select zone_id from record where vertex_id = any($1) and not gone)
         order by zone_id for update",
        &ids
    )
    .fetch_all(&mut *tx)
    .await
    .map_err(&failed)?;
    if zones.is_empty() {
        return Ok(());
    }
    sqlx::query!("update zone set generation = generation + 1 where zone_id = any($1)", &zones)
        .execute(&mut *tx)
        .await
        .map_err(&failed)?;
    sqlx::query!(
        "update record r set gone = true, since = z.generation from zone z
         where z.zone_id = r.zone_id and r.vertex_id = any($1) and not r.gone",
        &ids
    )
    .execute(&mut *tx)
    .await
    .map_err(&failed)?;
    tell(tx).await
}

/// The zones that are written to, and those in which the node roles have something; always in the same order.
async fn lock_zones(tx: &mut PgConnection, changes: &[Change]) -> Result<BTreeMap<String, LockedZone>, StoreError> {
    let names: BTreeSet<&str> =
        changes.iter().flat_map(|change| &change.records).map(|record| record.zone.as_str()).collect();
    let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
    let vertices: Vec<Uuid> = changes.iter().map(|change| change.vertex.0).collect();
    let rows = sqlx::query!(
        "select zone_id, name, deployment_id, generation from zone
         where name = any($1) or zone_id in (select zone_id from record where vertex_id = any($2) and not gone)
         order by zone_id for update",
        &names,
        &vertices
    )
    .fetch_all(tx)
    .await
    .map_err(doing("locking zones"))?;
    let zone = |id, deployment, generation| LockedZone { id, deployment, generation };
    Ok(rows.into_iter().map(|row| (row.name, zone(row.zone_id, row.deployment_id, row.generation))).collect())
}

/// What is there of what the changes name, and what their node roles have.
async fn held(
    tx: &mut PgConnection,
    zones: &BTreeMap<String, LockedZone>,
    changes: &[Change],
) -> Result<Rows, StoreError> {
    let vertices: Vec<Uuid> = changes.iter().map(|change| change.vertex.0).collect();
    let ids: Vec<Uuid> = zones.values().map(|zone| zone.id).collect();
    let names: Vec<String> =
        changes.iter().flat_map(|change| &change.records).map(|record| record.name.clone()).collect();
    let rows = sqlx::query!(
        r#"select zone_id as "zone!", name as "name!", kind as "kind!", data as "data!: Json<Vec<String>>", ttl as "ttl!",
                  vertex_id as "vertex!"
           from unnest($1::uuid[]) as z(zone) cross join unnest($2::text[]) as n(of) cross join lateral (
               select * from record where zone_id = z.zone and name = n.of and not gone offset 0
           ) r
           union
           select zone_id, name, kind, data, ttl, vertex_id from record where vertex_id = any($3) and not gone"#,
        &ids,
        &names,
        &vertices
    )
    .fetch_all(tx)
    .await
    .map_err(doing("reading records"))?;
    let held = |vertex, data: Json<Vec<String>>, ttl| Row { vertex, data: data.0, ttl };
    Ok(rows.into_iter().map(|row| ((row.zone, row.name, row.kind), held(row.vertex, row.data, row.ttl))).collect())
}

/// Makes it so in `all`, if nobody is in the way.
fn place(change: &Change, zones: &BTreeMap<String, LockedZone>, all: &mut Rows) -> Written {
    let mut wanted = BTreeMap::new();
    for record in &change.records {
        let Some(zone) = zones.get(&record.zone).filter(|zone| zone.deployment == change.deployment.0) else {
            return Written::NoZone { name: record.zone.clone() };
        };
        let key = (zone.id, record.name.clone(), record.kind.clone());
        if all.get(&key).is_some_and(|held| held.vertex != change.vertex.0) {
            return Written::Taken { name: record.name.clone() };
        }
        wanted.insert(key, Row { vertex: change.vertex.0, data: record.data.clone(), ttl: record.ttl });
    }
    all.retain(|_, held| held.vertex != change.vertex.0);
    all.extend(wanted);
    Written::Done
}

/// What differs, by zone.
fn difference(before: &Rows, after: &Rows) -> BTreeMap<Uuid, Vec<Edit>> {
    let gone = before.iter().filter(|(at, _)| !after.contains_key(*at)).map(|(at, row)| (at, row, true));
    let new = after.iter().filter(|(at, row)| before.get(*at) != Some(row)).map(|(at, row)| (at, row, false));
    let mut all: BTreeMap<Uuid, Vec<Edit>> = BTreeMap::new();
    for ((zone, name, kind), row, gone) in gone.chain(new) {
        let edit = Edit { name: name.clone(), kind: kind.clone(), row: row.clone(), gone };
        all.entry(*zone).or_default().push(edit);
    }
    all
}

/// Changes a zone in one statement, if it still has this generation, and hints at it if another engine answers too. `None`:
/// somebody was faster, and nothing is changed.
pub async fn step(
    connection: &mut PgConnection,
    engine: EngineId,
    (zone, generation): (Uuid, i64),
    edits: Vec<Edit>,
) -> Result<Option<Step>, StoreError> {
    let names: Vec<String> = edits.iter().map(|edit| edit.name.clone()).collect();
    let kinds: Vec<String> = edits.iter().map(|edit| edit.kind.clone()).collect();
    let data: Vec<Json<&Vec<String>>> = edits.iter().map(|edit| Json(&edit.row.data)).collect();
    let ttls: Vec<i32> = edits.iter().map(|edit| edit.row.ttl).collect();
    let vertices: Vec<Uuid> = edits.iter().map(|edit| edit.row.vertex).collect();
    let gone: Vec<bool> = edits.iter().map(|edit| edit.gone).collect();
    let told = sqlx::query!(
        r#"with raised as (
             update zone set generation = generation + 1 where zone_id = $1 and generation = $2 returning zone_id, generation
           ), put as (
             insert into record (zone_id, name, kind, data, ttl, vertex_id, gone, since)
             select raised.zone_id, u.*, raised.generation
             from raised cross join unnest($3::text[], $4::text[], $5::jsonb[], $6::int[], $7::uuid[], $8::bool[]) as u
             on conflict (zone_id, name, kind) do update set data = excluded.data, ttl = excluded.ttl,
                vertex_id = excluded.vertex_id, since = excluded.since, gone = excluded.gone
           )
           select generation, case when exists (
                select from engine where engine_id <> $11 and dns <> '{}' and lease_until > clock_timestamp()
           ) then pg_notify($9, $10) end as told
           from raised"#,
        zone,
        generation,
        &names,
        &kinds,
        &data as &[Json<&Vec<String>>],
        &ttls,
        &vertices,
        &gone,
        DNS,
        engine.0.to_string(),
        engine.0
    )
    .fetch_optional(connection)
    .await
    .map_err(doing("writing records"))?;
    Ok(told.map(|told| Step { zone, generation: told.generation, edits }))
}

/// Does a zone still have this generation?
pub async fn stands(connection: &mut PgConnection, (zone, generation): (Uuid, i64)) -> Result<bool, StoreError> {
    let found = sqlx::query!("select zone_id from zone where zone_id = $1 and generation = $2", zone, generation)
        .fetch_optional(connection)
        .await
        .map_err(doing("looking at a zone"))?;
    Ok(found.is_some())
}
