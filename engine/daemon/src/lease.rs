//! The engine's lease, and taking over from engines that are dead.

use std::sync::Arc;
use std::time::Duration;

use engine_core::id::EngineId;
use engine_store::engines::{self, Registered, Registration};
use engine_store::{StoreError, jobs};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::ConfigError;
use crate::run::Runners;
use crate::shared::Shared;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Registers. Engines of this machine whose process is gone are struck off first, so that their jobs need not wait for
/// a lease to run out.
pub(crate) async fn enter(shared: &Shared) -> Result<(), ConfigError> {
    let dead = dead(&engines::all(&shared.pool).await?, shared.engine());
    engines::strike(&shared.pool, &dead, false).await?;
    register(shared).await?;
    Ok(())
}

async fn register(shared: &Shared) -> Result<(), StoreError> {
    let registration = Registration {
        id: shared.engine(),
        version: VERSION.to_owned(),
        host: host(),
        pid: i32::try_from(std::process::id()).unwrap_or(i32::MAX),
        dns: shared.dns.clone(),
    };
    engines::register(&shared.pool, &registration, shared.lease).await
}

/// Renews the lease, strikes off dead engines, and takes what nobody holds.
pub(crate) async fn keep(shared: Arc<Shared>, runners: Runners, stop: CancellationToken) {
    let mut first = true;
    let mut silent = false;
    while !stop.is_cancelled() {
        match round(&shared, &runners, first).await {
            Ok(()) => {
                if silent {
                    tracing::info!("the database answers again");
                }
                (first, silent) = (false, false);
            }
            Err(error @ (StoreError::SchemaNewer { .. } | StoreError::SchemaChanged { .. })) => {
                // Stopped for longer than its lease, it comes back to tables that it can not work with.
                tracing::error!(%error, code = error.code(), "this engine can not go on");
                stop.cancel();
            }
            Err(error) if !silent => {
                tracing::warn!(%error, code = error.code(), "the database does not answer; waiting for it");
                silent = true;
            }
            Err(_) => {}
        }
        let pause = if silent { Duration::from_millis(500) } else { shared.lease / 3 };
        let _ = stop.run_until_cancelled(sleep(pause)).await;
    }
    runners.let_go();
}

async fn round(shared: &Shared, runners: &Runners, first: bool) -> Result<(), StoreError> {
    if !first && !engines::renew(&shared.pool, shared.engine(), shared.lease).await? {
        // Somebody took over: what we think we run is run by others. Jobs on nodes go on; we begin anew.
        tracing::warn!(engine = %shared.engine(), "the lease was lost; letting go of all jobs and registering anew");
        runners.let_go();
        shared.rename();
        register(shared).await?;
    }
    let all = engines::all(&shared.pool).await?;
    let dead_here = dead(&all, shared.engine());
    let struck = engines::strike(&shared.pool, &dead_here, false).await?;
    let expired: Vec<EngineId> =
        all.iter().filter(|other| other.expired && other.id != shared.engine()).map(|other| other.id).collect();
    let struck = struck + engines::strike(&shared.pool, &expired, true).await?;
    if struck > 0 {
        tracing::info!(engines = struck, "took over from engines that are gone");
    }
    adopt(shared, runners).await
}

/// Takes jobs that nobody follows, and goes on with them.
pub(crate) async fn adopt(shared: &Shared, runners: &Runners) -> Result<(), StoreError> {
    let engine = shared.engine();
    jobs::adopt(&shared.pool, engine).await?;
    let followed = runners.followed();
    let held = jobs::held(&shared.pool, engine).await?;
    // Their rows were closed by others: a node was lost, or is made anew.
    runners.drop_all(followed.into_iter().filter(|job| !held.contains(job)));
    // Also those that were claimed or adopted and whose start did not happen.
    let missing: Vec<_> = held.into_iter().map(|(job, _)| job).filter(|job| !runners.has(*job)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    for job in jobs::load(&shared.pool, engine, &missing).await? {
        tracing::info!(job = %job.job, role = job.role, node = job.place, "going on with a job");
        runners.start(job, true);
    }
    Ok(())
}

/// Engines of this machine whose process is not there any more.
fn dead(all: &[Registered], own: EngineId) -> Vec<EngineId> {
    let (here, own_pid) = (host(), i32::try_from(std::process::id()).unwrap_or(i32::MAX));
    let is_dead = |other: &&Registered| {
        other.id != own && other.host == here && other.pid != own_pid && !process_lives(other.pid)
    };
    all.iter().filter(is_dead).map(|other| other.id).collect()
}

fn process_lives(pid: i32) -> bool {
    // A zombie does nothing any more.
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    !matches!(state, Some('Z' | 'X') | None)
}

/// This machine and its boot.
fn host() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    format!("{}/{}", read("/proc/sys/kernel/hostname"), read("/proc/sys/kernel/random/boot_id"))
}
