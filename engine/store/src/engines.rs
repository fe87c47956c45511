//! Which engines run: one row each, which is the lease of everything that it holds.

use std::time::Duration;

use engine_core::id::EngineId;
use sqlx::PgPool;
use uuid::Uuid;

use crate::error::doing;
use crate::{StoreError, migrate};

/// An engine as it registers.
#[derive(Clone, Debug)]
pub struct Registration {
    /// Made anew at every start.
    pub id: EngineId,
    /// Of this program.
    pub version: String,
    /// This machine and its boot: a process of another boot is dead.
    pub host: String,
    /// This process.
    pub pid: i32,
    /// Where it answers DNS questions, `ADDRESS:PORT` each.
    pub dns: Vec<String>,
}

/// An engine that is registered.
#[derive(Clone, Debug)]
pub struct Registered {
    /// Its id.
    pub id: EngineId,
    /// Its machine and boot.
    pub host: String,
    /// Its process there.
    pub pid: i32,
    /// Has its lease run out, by the clock of the database?
    pub expired: bool,
}

/// All engines that are registered.
pub async fn all(pool: &PgPool) -> Result<Vec<Registered>, StoreError> {
    let rows =
        sqlx::query!(r#"select engine_id, host, pid, lease_until < clock_timestamp() as "expired!" from engine"#)
            .fetch_all(pool)
            .await
            .map_err(doing("looking for engines"))?;
    let engine = |id, host, pid, expired| Registered { id: EngineId(id), host, pid, expired };
    Ok(rows.into_iter().map(|r| engine(r.engine_id, r.host, r.pid, r.expired)).collect())
}

/// Enters an engine with a lease of this length.
///
/// # Errors
/// Also what [`migrate::check`] says: tables that this binary can not work with.
pub async fn register(pool: &PgPool, engine: &Registration, lease: Duration) -> Result<(), StoreError> {
    let failed = doing("registering the engine");
    let mut tx = pool.begin().await.map_err(&failed)?;
    migrate::enter(&mut tx).await?;
    sqlx::query!(
        "insert into engine (engine_id, version, knows, host, pid, started_at, lease_until, dns)
         values ($1, $2, $3, $4, $5, now(), now() + $6::float8 * interval '1 second', $7)",
        engine.id.0,
        engine.version,
        migrate::known(),
        engine.host,
        engine.pid,
        lease.as_secs_f64(),
        &engine.dns
    )
    .execute(&mut *tx)
    .await
    .map_err(&failed)?;
    tx.commit().await.map_err(&failed)
}

/// Makes the lease longer. `false`: the engine is not registered any more, what it held was taken over.
pub async fn renew(pool: &PgPool, engine: EngineId, lease: Duration) -> Result<bool, StoreError> {
    let done = sqlx::query!(
        "update engine set lease_until = clock_timestamp() + $2::float8 * interval '1 second' where engine_id = $1",
        engine.0,
        lease.as_secs_f64()
    )
    .execute(pool)
    .await
    .map_err(doing("renewing the lease"))?;
    Ok(done.rows_affected() == 1)
}

/// Strikes engines off and lets go of all that they held, so that others take it. `only_expired`: those whose lease
/// holds after all are left alone. Returns how many were struck off.
pub async fn strike(pool: &PgPool, engines: &[EngineId], only_expired: bool) -> Result<u64, StoreError> {
    let failed = doing("taking over from an engine");
    let ids: Vec<Uuid> = engines.iter().map(|engine| engine.0).collect();
    let mut tx = pool.begin().await.map_err(&failed)?;
    let struck = sqlx::query_scalar!(
        "delete from engine where engine_id = any($1) and (not $2 or lease_until < clock_timestamp())
         returning engine_id",
        &ids,
        only_expired
    )
    .fetch_all(&mut *tx)
    .await
    .map_err(&failed)?;
    // The fence rises when somebody takes the job; until then nobody holds it, and late reports find no owner.
    sqlx::query!("update job set engine_id = null where engine_id = any($1) and finished_at is null", &struck)
        .execute(&mut *tx)
        .await
        .map_err(&failed)?;
    sqlx::query!("update node set engine_id = null, next_try_at = null where engine_id = any($1)", &struck)
        .execute(&mut *tx)
        .await
        .map_err(&failed)?;
    if !struck.is_empty() {
        sqlx::query!("select pg_notify($1, '')", crate::pass::WORK).execute(&mut *tx).await.map_err(&failed)?;
    }
    tx.commit().await.map_err(&failed)?;
    Ok(struck.len() as u64)
}
