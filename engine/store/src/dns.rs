//! Zones and records: what engines answer for, which node role it is there for, and since when it is so.
//!
//! A change of a zone is made under the lock of its row and raises its generation, so whoever has taken in all records up to
//! a generation has the zone as it was then. Writes are by job and hold it: what a node role has is what its last job said,
//! and an engine that lost the job changes nothing.

mod keys;
mod write;

use engine_core::id::{DeploymentId, EngineId, JobId, VertexId};
use sqlx::PgPool;
use sqlx::types::Json;
use uuid::Uuid;

use crate::StoreError;
use crate::error::doing;
pub use keys::{Wanted, ZoneKey, keyed, keys, set_key};
pub(crate) use write::withdraw;
pub use write::{At, Edit, Row, Rows, Step, set_records, stands, step};

/// What is said when zones or records have changed.
pub const DNS: &str = "plinth_dns";

/// A zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    /// Its id: a zone that was given up and made again has another one.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// The deployment it belongs to.
    pub deployment: String,
    /// How long its records may be kept, in seconds.
    pub ttl: i32,
    /// Grows with each change.
    pub generation: i64,
}

/// All that a name has of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Name of its zone.
    pub zone: String,
    /// The whole name.
    pub name: String,
    /// `A`, `AAAA`, `PTR` or `TXT`.
    pub kind: String,
    /// Addresses, names, or words as in zone files.
    pub data: Vec<String>,
    /// How long it may be kept, in seconds.
    pub ttl: i32,
}

/// What a node role is to have, by its job.
#[derive(Clone, Debug)]
pub struct Change {
    /// The job, and the claim that it is followed under.
    pub job: (JobId, i64),
    /// Whose zones it may write to.
    pub deployment: DeploymentId,
    /// The node role.
    pub vertex: VertexId,
    /// These, and no others.
    pub records: Vec<Record>,
}

/// What became of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// It is so, durably.
    Done,
    /// Somebody else has the job by now, or it is over.
    NotOurs,
    /// The name of a record or of a zone belongs to somebody else.
    Taken {
        /// Which.
        name: String,
    },
    /// The deployment has no such zone.
    NoZone {
        /// Which.
        name: String,
    },
}

/// All zones by name.
pub async fn zones(pool: &PgPool) -> Result<Vec<Zone>, StoreError> {
    sqlx::query_as!(
        Zone,
        "select z.zone_id as id, z.name, d.name as deployment, z.ttl, z.generation
         from zone z join deployment d using (deployment_id) order by z.name"
    )
    .fetch_all(pool)
    .await
    .map_err(doing("reading zones"))
}

/// Names of the zones that a node role has.
pub async fn zones_of(pool: &PgPool, vertex: VertexId) -> Result<Vec<String>, StoreError> {
    sqlx::query_scalar!("select name from zone where vertex_id = $1 order by name", vertex.0)
        .fetch_all(pool)
        .await
        .map_err(doing("reading the zones of a node role"))
}

/// What was changed in a zone since a generation; from 0 on, all that it has.
pub async fn changed(pool: &PgPool, zone: &Zone, after: i64) -> Result<Vec<Edit>, StoreError> {
    let rows = sqlx::query!(
        r#"select name, kind, data as "data: Json<Vec<String>>", ttl, vertex_id, gone from record
           where zone_id = $1 and since > $2 and (not gone or $2 > 0) order by since"#,
        zone.id,
        after
    )
    .fetch_all(pool)
    .await
    .map_err(doing("reading what changed in a zone"))?;
    let edit = |name, kind, data: Json<Vec<String>>, ttl, vertex, gone| {
        let row = Row { vertex, data: data.0, ttl };
        Edit { name, kind, row, gone }
    };
    Ok(rows.into_iter().map(|r| edit(r.name, r.kind, r.data, r.ttl, r.vertex_id, r.gone)).collect())
}

/// The records that a node role has.
pub async fn records_of(pool: &PgPool, vertex: VertexId) -> Result<Vec<Record>, StoreError> {
    let rows = sqlx::query!(
        r#"select z.name as zone, r.name, r.kind, r.data as "data: Json<Vec<String>>", r.ttl
           from record r join zone z using (zone_id) where r.vertex_id = $1 and not r.gone order by r.name, r.kind"#,
        vertex.0
    )
    .fetch_all(pool)
    .await
    .map_err(doing("reading the records of a node role"))?;
    let record = |zone, name, kind, data: Json<Vec<String>>, ttl| Record { zone, name, kind, data: data.0, ttl };
    Ok(rows.into_iter().map(|row| record(row.zone, row.name, row.kind, row.data, row.ttl)).collect())
}

/// Where engines answer, of those whose lease holds.
pub async fn servers(pool: &PgPool) -> Result<Vec<String>, StoreError> {
    sqlx::query_scalar!(
        r#"select distinct a.address as "address!" from engine e, unnest(e.dns) as a(address)
           where e.lease_until > clock_timestamp() order by 1"#
    )
    .fetch_all(pool)
    .await
    .map_err(doing("looking for engines that answer DNS questions"))
}

/// Gives a node role these zones and no others; those that it had and has no more go with all that is in them.
pub async fn set_zones(
    pool: &PgPool,
    engine: EngineId,
    job: (JobId, i64),
    of: (DeploymentId, VertexId),
    names: &[String],
    ttl: i32,
) -> Result<Written, StoreError> {
    let failed = doing("writing zones");
    let mut tx = pool.begin().await.map_err(&failed)?;
    if write::ours(&mut tx, engine, &[job]).await?.is_empty() {
        return Ok(Written::NotOurs);
    }
    // Whoever writes to a zone holds it: locked, nothing more comes into it.
    let gone = sqlx::query_scalar!(
        "select zone_id from zone where vertex_id = $1 and name <> all($2) order by zone_id for update",
        of.1.0,
        names
    )
    .fetch_all(&mut *tx)
    .await
    .map_err(&failed)?;
    if !gone.is_empty() {
        sqlx::query!("delete from record where zone_id = any($1)", &gone).execute(&mut *tx).await.map_err(&failed)?;
        sqlx::query!("delete from zone where zone_id = any($1)", &gone).execute(&mut *tx).await.map_err(&failed)?;
    }
    let ids: Vec<Uuid> = names.iter().map(|_| Uuid::now_v7()).collect();
    // A name that waits for another transaction's is decided by how that one ends.
    let made = sqlx::query!(
        "insert into zone (zone_id, deployment_id, vertex_id, name, ttl, generation)
         select u.zone_id, $1, $2, u.name, $3, 1 from unnest($4::uuid[], $5::text[]) as u(zone_id, name)
         on conflict (name) do update set ttl = excluded.ttl, generation = zone.generation + 1
            where zone.vertex_id = excluded.vertex_id and zone.ttl <> excluded.ttl",
        of.0.0,
        of.1.0,
        ttl,
        &ids,
        names
    )
    .execute(&mut *tx)
    .await
    .map_err(&failed)?;
    let taken =
        sqlx::query_scalar!("select min(name) from zone where name = any($1) and vertex_id <> $2", names, of.1.0)
            .fetch_one(&mut *tx)
            .await
            .map_err(&failed)?;
    if let Some(name) = taken {
        return Ok(Written::Taken { name });
    }
    if !gone.is_empty() || made.rows_affected() > 0 {
        write::tell(&mut tx).await?;
    }
    tx.commit().await.map_err(&failed)?;
    Ok(Written::Done)
}
