//! Figures of a database under load, for the fleet simulator.

use std::collections::BTreeMap;

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
    pages: i64,
}

/// What happened since a [`Mark`].
#[derive(Clone, Copy, Debug)]
pub struct Since {
    /// Moves of node roles that were bound, each with its event row.
    pub transitions: i64,
    /// Jobs that succeeded.
    pub succeeded: i64,
    /// Jobs that failed.
    pub failed: i64,
    /// Flushes of the write-ahead log. Connections report theirs when they end: end them before.
    pub flushes: i64,
    /// Bytes of the write-ahead log; as above.
    pub bytes: i64,
    /// Pages of tables and indexes that were looked at in this database, by whomever; as above.
    pub pages: i64,
    /// From ready to claimed, in milliseconds: half of all, 95 and 99 of a hundred took no longer.
    pub claimed_after: [f64; 3],
}

/// Now.
pub async fn mark(pool: &PgPool) -> Result<Mark, StoreError> {
    let ((flushes, bytes), pages) = (wal(pool).await?, pages(pool).await?);
    let last = sqlx::query!(
        r#"select coalesce(max(seq), 0) as "seq!", clock_timestamp() as "at!: OffsetDateTime" from event"#
    )
    .fetch_one(pool)
    .await
    .map_err(doing("counting events"))?;
    Ok(Mark { event: last.seq, at: last.at, flushes, bytes, pages })
}

/// Everything since then.
pub async fn since(pool: &PgPool, mark: Mark) -> Result<Since, StoreError> {
    let failed = doing("counting what happened");
    let ((flushes, bytes), pages) = (wal(pool).await?, pages(pool).await?);
    let events = sqlx::query_scalar!(
        r#"select count(*) as "count!" from event
           where seq > $1 and kind like 'node-role.%' and kind <> 'node-role.bind'"#,
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
        pages: pages - mark.pages,
        claimed_after: waits.and_then(|waits| waits.try_into().ok()).unwrap_or_default(),
    })
}

/// Nodes of a deployment that are up, and those that have failed.
pub async fn nodes_up(pool: &PgPool, deployment: &str) -> Result<(i64, i64), StoreError> {
    let row = sqlx::query!(
        r#"select count(*) filter (where n.state = 'up') as "up!", count(*) filter (where n.state = 'failed') as "failed!"
           from node n join deployment d using (deployment_id) where d.name = $1"#,
        deployment
    )
    .fetch_one(pool)
    .await
    .map_err(doing("counting nodes"))?;
    Ok((row.up, row.failed))
}

/// All nodes that there ever were.
pub async fn nodes_ever(pool: &PgPool) -> Result<i64, StoreError> {
    sqlx::query_scalar!(r#"select count(*) as "count!" from node where state <> 'virtual'"#)
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

/// Rows that were read and written since the database was made, by table. Connections report theirs when they end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rows(BTreeMap<String, [i64; 2]>);

impl Rows {
    /// What came since another look: rows read, with entries of indexes, and rows inserted, updated and deleted.
    #[must_use]
    pub fn since(self, before: &Self) -> BTreeMap<String, [i64; 2]> {
        let more = self.0.into_iter().map(|(table, [read, written])| {
            let [read_before, written_before] = before.0.get(&table).copied().unwrap_or_default();
            (table, [read - read_before, written - written_before])
        });
        more.filter(|(_, rows)| *rows != [0, 0]).collect()
    }
}

/// See [`Rows`].
pub async fn rows(pool: &PgPool) -> Result<Rows, StoreError> {
    let rows = sqlx::query!(
        r#"select relname as "table!",
                  (seq_tup_read + (select coalesce(sum(idx_tup_read), 0) from pg_stat_user_indexes i
                                   where i.relid = t.relid))::bigint as "read!",
                  n_tup_ins + n_tup_upd + n_tup_del as "written!" from pg_stat_user_tables t"#
    )
    .fetch_all(pool)
    .await
    .map_err(doing("reading how many rows were read and written"))?;
    Ok(Rows(rows.into_iter().map(|row| (row.table, [row.read, row.written])).collect()))
}

/// Has Postgres clear away what is dead and gather the statistics by which it plans: as autovacuum does by itself within
/// minutes after much has changed.
pub async fn vacuum(pool: &PgPool) -> Result<(), StoreError> {
    sqlx::query("vacuum (analyze)").execute(pool).await.map_err(doing("clearing away what is dead"))?;
    Ok(())
}

/// Is nothing of a deployment stale? Looks at its tallies alone.
pub async fn rests(pool: &PgPool, deployment: &str) -> Result<bool, StoreError> {
    let stale = sqlx::query_scalar!(
        r#"select exists (select from deployment d join tally t using (deployment_id)
                          where d.name = $1 and t.stale > 0) as "stale!""#,
        deployment
    )
    .fetch_one(pool)
    .await
    .map_err(doing("looking whether a deployment is at rest"))?;
    Ok(!stale)
}

/// Seconds from the last commit of a deployment to the last success of a node role of it.
pub async fn last_converged(pool: &PgPool, deployment: &str) -> Result<f64, StoreError> {
    let took = sqlx::query_scalar!(
        "select extract(epoch from max(at) filter (where kind = 'node-role.done')
                                 - max(at) filter (where kind = 'deployment.committed'))::float8
         from event join deployment using (deployment_id)
         where name = $1 and kind in ('node-role.done', 'deployment.committed')",
        deployment
    )
    .fetch_one(pool)
    .await
    .map_err(doing("looking how long a deployment took"))?;
    Ok(took.unwrap_or_default())
}

/// Seconds from the first commit of each deployment to the last success of a node role of it: fewest, median, 99 of a
/// hundred, most.
pub async fn commit_to_active(pool: &PgPool) -> Result<[f64; 4], StoreError> {
    let spread = sqlx::query_scalar!(
        r#"select percentile_cont(array[0, 0.5, 0.99, 1]::float8[]) within group (order by took) as "spread: Vec<f64>"
           from (select extract(epoch from max(at) filter (where kind = 'node-role.done')
                                         - min(at) filter (where kind = 'deployment.committed'))::float8 as took
                 from event where kind in ('node-role.done', 'deployment.committed') group by deployment_id) each"#
    )
    .fetch_one(pool)
    .await
    .map_err(doing("looking how long deployments took"))?;
    Ok(spread.and_then(|spread| spread.try_into().ok()).unwrap_or_default())
}

async fn wal(pool: &PgPool) -> Result<(i64, i64), StoreError> {
    let row = sqlx::query!(r#"select wal_sync as "flushes!", wal_bytes::bigint as "bytes!" from pg_stat_wal"#)
        .fetch_one(pool)
        .await
        .map_err(doing("reading the statistics of the write-ahead log"))?;
    Ok((row.flushes, row.bytes))
}

async fn pages(pool: &PgPool) -> Result<i64, StoreError> {
    sqlx::query_scalar!(
        r#"select blks_hit + blks_read as "pages!" from pg_stat_database where datname = current_database()"#
    )
    .fetch_one(pool)
    .await
    .map_err(doing("reading the statistics of the database"))
}
