//! Keys with which changes of zones are asked for over the network.

use std::collections::BTreeMap;

use engine_core::id::{DeploymentId, EngineId, JobId, VertexId};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::{Written, withdraw, write};
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
