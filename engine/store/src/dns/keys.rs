//! Changes of zones that are asked for over the network: with which keys, and what they change.

use std::collections::{BTreeMap, HashMap};

use engine_core::id::{DeploymentId, EngineId, JobId, VertexId};
use sqlx::types::Json;
use sqlx::{PgConnection, PgPool, PgTransaction};
use uuid::Uuid;

use super::write::{self, Row, Rows, Step, write};
use super::{Written, withdraw};
use crate::StoreError;
use crate::error::doing;

/// Who may change a zone over the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneKey {
    /// Of this zone.
    pub zone: Uuid,
    /// The name of the key.
    pub name: String,
    /// The node role that it is of.
    pub vertex: VertexId,
    /// Stands for its secret.
    pub digest: String,
    /// It may change this name and those below it.
    pub below: String,
}

/// The keys of these zones.
pub async fn keys(pool: &PgPool, zones: &[Uuid]) -> Result<Vec<ZoneKey>, StoreError> {
    let rows = sqlx::query!(
        "select zone_id, name, vertex_id, digest, below from zone_key where zone_id = any($1) order by zone_id, name",
        zones
    )
    .fetch_all(pool)
    .await
    .map_err(doing("reading keys of zones"))?;
    let key = |zone, name, vertex, digest, below| ZoneKey { zone, name, vertex: VertexId(vertex), digest, below };
    Ok(rows.into_iter().map(|row| key(row.zone_id, row.name, row.vertex_id, row.digest, row.below)).collect())
}

/// The zones that a node role has keys of, by name.
pub async fn keyed(pool: &PgPool, vertex: VertexId) -> Result<Vec<(String, String, String)>, StoreError> {
    let rows = sqlx::query!(
        "select z.name as zone, k.name, k.digest from zone_key k join zone z using (zone_id) where k.vertex_id = $1
         order by z.name",
        vertex.0
    )
    .fetch_all(pool)
    .await
    .map_err(doing("reading the keys of a node role"))?;
    Ok(rows.into_iter().map(|row| (row.zone, row.name, row.digest)).collect())
}

/// A key that a node role is to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its name.
    pub name: String,
    /// Stands for its secret.
    pub digest: String,
    /// Zones, and what it may change there.
    pub zones: BTreeMap<String, String>,
}

/// Gives a node role this key and no other one. Without any, what was put there with the one that it had goes as well.
pub async fn set_key(
    pool: &PgPool,
    engine: EngineId,
    job: (JobId, i64),
    of: (DeploymentId, VertexId),
    wanted: Option<&Wanted>,
) -> Result<Written, StoreError> {
    let failed = doing("writing keys of zones");
    let mut tx = pool.begin().await.map_err(&failed)?;
    if write::ours(&mut tx, engine, &[job]).await?.is_empty() {
        return Ok(Written::NotOurs);
    }
    let names: Vec<String> = wanted.iter().flat_map(|wanted| wanted.zones.keys().cloned()).collect();
    let zones = sqlx::query!(
        "select zone_id, name from zone
         where (name = any($1) and deployment_id = $2) or zone_id in (select zone_id from zone_key where vertex_id = $3)
         order by zone_id for update",
        &names,
        of.0.0,
        of.1.0
    )
    .fetch_all(&mut *tx)
    .await
    .map_err(&failed)?;
    if let Some(name) = names.iter().find(|name| !zones.iter().any(|zone| zone.name == **name)) {
        return Ok(Written::NoZone { name: name.clone() });
    }
    let ids: Vec<Uuid> = zones.iter().map(|zone| zone.zone_id).collect();
    if let Some(name) = put(&mut tx, of.1, &ids, wanted).await? {
        return Ok(Written::Taken { name });
    }
    if wanted.is_none() {
        withdraw(&mut tx, &[of.1]).await?;
    }
    sqlx::query!("update zone set generation = generation + 1 where zone_id = any($1)", &ids)
        .execute(&mut *tx)
        .await
        .map_err(&failed)?;
    write::tell(&mut tx).await?;
    tx.commit().await.map_err(&failed)?;
    Ok(Written::Done)
}

/// In zones that are locked. The name of the key, if somebody else has it.
async fn put(
    tx: &mut PgConnection,
    vertex: VertexId,
    zones: &[Uuid],
    wanted: Option<&Wanted>,
) -> Result<Option<String>, StoreError> {
    let failed = doing("writing keys of zones");
    sqlx::query!("delete from zone_key where vertex_id = $1", vertex.0).execute(&mut *tx).await.map_err(&failed)?;
    let Some(Wanted { name, digest, zones: places }) = wanted else { return Ok(None) };
    let (names, below): (Vec<String>, Vec<String>) = places.clone().into_iter().unzip();
    let made = sqlx::query!(
        "insert into zone_key (zone_id, name, vertex_id, digest, below)
         select z.zone_id, $1, $2, $3, u.below from unnest($4::text[], $5::text[]) as u(name, below) join zone z using (name)
         where z.zone_id = any($6) on conflict do nothing",
        name,
        vertex.0,
        digest,
        &names,
        &below,
        zones
    )
    .execute(tx)
    .await
    .map_err(&failed)?;
    Ok((made.rows_affected() < places.len() as u64).then(|| name.clone()))
}

/// A zone in a transaction, and who has which key of it.
#[derive(Debug)]
struct Locked {
    id: Uuid,
    generation: i64,
    holders: HashMap<String, Uuid>,
}

/// Name, kind, data, lifetime and node role of a record.
type Had = (String, String, Vec<String>, i32, Uuid);

/// What these names have. One after the other, each by zone and name: as long as the planner knows nothing of a zone, it takes all
/// that is in it for little.
async fn read(tx: &mut PgConnection, zones: &[Uuid], names: &[String]) -> Result<Rows, StoreError> {
    let rows = sqlx::query!(
        r#"select r.zone_id, r.name, r.kind, r.data as "data: Json<Vec<String>>", r.ttl, r.vertex_id
           from unnest($1::uuid[]) as z(zone_id) cross join unnest($2::text[]) as n(name) cross join lateral (
               select * from record where zone_id = z.zone_id and name = n.name and not gone offset 0
           ) r"#,
        zones,
        names
    )
    .fetch_all(tx)
    .await
    .map_err(doing("changing a zone"))?;
    let row = |vertex, data: Json<Vec<String>>, ttl| Row { vertex, data: data.0, ttl };
    Ok(rows.into_iter().map(|r| ((r.zone_id, r.name, r.kind), row(r.vertex_id, r.data, r.ttl))).collect())
}

/// Changes of zones, in a transaction that holds them.
#[derive(Debug)]
pub struct Changing {
    tx: PgTransaction<'static>,
    zones: HashMap<String, Locked>,
    before: Rows,
}

impl Changing {
    /// Locks the zones for these keys (zone and key, by name), and reads what these names have there.
    pub async fn begin(pool: &PgPool, asked: &[(String, String)], names: &[String]) -> Result<Self, StoreError> {
        let failed = doing("changing a zone");
        let mut tx = pool.begin().await.map_err(&failed)?;
        let (zones, keys): (Vec<String>, Vec<String>) = asked.iter().cloned().unzip();
        // A key that was taken away meanwhile is not found. Records are those of the moment at which this began: if the zone
        // was waited for, they are read again.
        let rows = sqlx::query!(
            r#"select z.zone_id, z.name as zone, z.generation, k.name, k.vertex_id,
                      (select s.generation from zone s where s.zone_id = z.zone_id) as seen,
                      (select jsonb_agg(jsonb_build_array(r.name, r.kind, r.data, r.ttl, r.vertex_id))
                       from unnest($3::text[]) as n(name) cross join lateral (
                           select * from record where zone_id = z.zone_id and name = n.name and not gone offset 0
                       ) r) as "has: Json<Vec<Had>>"
               from zone z join zone_key k using (zone_id)
               where (z.name, k.name) in (select * from unnest($1::text[], $2::text[]))
               order by z.zone_id for update of z for key share of k"#,
            &zones,
            &keys,
            names
        )
        .fetch_all(&mut *tx)
        .await
        .map_err(&failed)?;
        let mut zones: HashMap<String, Locked> = HashMap::new();
        let (mut before, mut late) = (Rows::new(), Vec::new());
        for row in rows {
            if row.seen != Some(row.generation) {
                late.push(row.zone_id);
            }
            for (name, kind, data, ttl, vertex) in row.has.map(|has| has.0).unwrap_or_default() {
                before.insert((row.zone_id, name, kind), Row { vertex, data, ttl });
            }
            let fresh = || Locked { id: row.zone_id, generation: row.generation, holders: HashMap::new() };
            zones.entry(row.zone).or_insert_with(fresh).holders.insert(row.name, row.vertex_id);
        }
        if !late.is_empty() {
            before.retain(|(zone, ..), _| !late.contains(zone));
            before.extend(read(&mut tx, &late, names).await?);
        }
        Ok(Self { tx, zones, before })
    }

    /// The zone, and the node role that has this key of it.
    pub fn holder(&self, zone: &str, key: &str) -> Option<(Uuid, VertexId)> {
        let zone = self.zones.get(zone)?;
        Some((zone.id, VertexId(*zone.holders.get(key)?)))
    }

    /// What there is.
    pub fn rows(&self) -> &Rows {
        &self.before
    }

    /// Makes it so; durable when it returns.
    pub async fn commit(self, engine: EngineId, after: &Rows) -> Result<Vec<Step>, StoreError> {
        let generations = self.zones.values().map(|zone| (zone.id, zone.generation)).collect();
        write(self.tx, engine, (&self.before, after), &generations).await
    }
}
