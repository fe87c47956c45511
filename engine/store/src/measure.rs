//! Figures of a database under load, for the fleet simulator.

use sqlx::PgPool;
use time::OffsetDateTime;

use crate::StoreError;
use crate::error::doing;

/// A moment to count from.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    event: i64,
    at: OffsetDateTime,
    flushes: i64,
    bytes: i64,
}

/// What happened since a [`Mark`].
#[derive(Clone, Copy, Debug)]
pub struct Since {
    /// Moves of node roles, each with its event row.
    pub transitions: i64,
    /// Jobs that succeeded.
    pub succeeded: i64,
    /// Jobs that failed.
    pub failed: i64,
    /// Flushes of the write-ahead log. Connections report theirs when they end: end them before.
    pub flushes: i64,
    /// Bytes of the write-ahead log; as above.
    pub bytes: i64,
    /// From ready to claimed, in milliseconds: half of all, 95 and 99 of a hundred took no longer.
    pub claimed_after: [f64; 3],
}

/// Now.
pub async fn mark(pool: &PgPool) -> Result<Mark, StoreError> {
    let (flushes, bytes) = wal(pool).await?;
    let last = sqlx::query!(
        r#"select coalesce(max(seq), 0) as "seq!", clock_timestamp() as "at!: OffsetDateTime" from event"#
    )
    .fetch_one(pool)
    .await
    .map_err(doing("counting events"))?;
    Ok(Mark { event: last.seq, at: last.at, flushes, bytes })
}

/// Everything since then.
pub async fn since(pool: &PgPool, mark: Mark) -> Result<Since, StoreError> {
    let failed = doing("counting what happened");
    let (flushes, bytes) = wal(pool).await?;
    let events = sqlx::query_scalar!(
        r#"select count(*) as "count!" from event where seq > $1 and kind like 'node-role.%'"#,
        mark.event
    )
    .fetch_one(pool)
    .await
    .map_err(&failed)?;
    let jobs = sqlx::query!(
        r#"select count(*) filter (where outcome = 'succeeded') as "succeeded!",
                  count(*) filter (where outcome = 'failed') as "failed!" from job where finished_at >= $1"#,
        mark.at
    )
    .fetch_one(pool)
    .await
    .map_err(&failed)?;
    let waits = sqlx::query_scalar!(
        r#"select percentile_cont(array[0.5, 0.95, 0.99]::float8[]) within group (order by took) as "waits: Vec<f64>"
           from (select extract(epoch from c.at - g.at)::float8 * 1000 as took
                 from (select vertex_id, min(at) as at from event where seq > $1 and kind = 'node-role.claim'
                       group by vertex_id) c
                      join (select vertex_id, min(at) as at from event where seq > $1 and kind = 'node-role.go'
                            group by vertex_id) g using (vertex_id)) waits"#,
        mark.event
    )
    .fetch_one(pool)
    .await
    .map_err(&failed)?;
    Ok(Since {
        transitions: events,
        succeeded: jobs.succeeded,
        failed: jobs.failed,
        flushes: flushes - mark.flushes,
        bytes: bytes - mark.bytes,
        claimed_after: waits.and_then(|waits| waits.try_into().ok()).unwrap_or_default(),
    })
}

/// Nodes of a deployment that are up.
pub async fn nodes_up(pool: &PgPool, deployment: &str) -> Result<i64, StoreError> {
    sqlx::query_scalar!(
        r#"select count(*) as "count!" from node n join deployment d using (deployment_id)
           where n.state = 'up' and d.name = $1"#,
        deployment
    )
    .fetch_one(pool)
    .await
    .map_err(doing("counting nodes"))
}

/// How many vertices of a deployment are stale, failed and active: what a turn keeps count of, and no more.
pub async fn counts(pool: &PgPool, deployment: &str) -> Result<(i64, i64, i64), StoreError> {
    let row = sqlx::query!(
        r#"select coalesce(sum(stale), 0)::bigint as "stale!", coalesce(sum(failed), 0)::bigint as "failed!",
                  coalesce(sum(active), 0)::bigint as "active!"
           from tally t join deployment d using (deployment_id) where d.name = $1"#,
        deployment
    )
    .fetch_one(pool)
    .await
    .map_err(doing("counting vertices"))?;
    Ok((row.stale, row.failed, row.active))
}

async fn wal(pool: &PgPool) -> Result<(i64, i64), StoreError> {
    let row = sqlx::query!(r#"select wal_sync as "flushes!", wal_bytes::bigint as "bytes!" from pg_stat_wal"#)
        .fetch_one(pool)
        .await
        .map_err(doing("reading the statistics of the write-ahead log"))?;
    Ok((row.flushes, row.bytes))
}
