//! Jobs that wait for something outside: put away until their time, with what they saw last. Nobody follows them meanwhile.
//!
//! The row is all that there is of such a job. An engine that dies between putting away and taking up loses nothing, and one
//! that dies while it looks leaves a job that is adopted like any other.

use std::time::Duration;

use engine_core::id::{EngineId, JobId};
use sqlx::PgPool;

use crate::error::doing;
use crate::{StoreError, jobs, pass};

/// What became of a job that was to be put away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// It waits for its time.
    Away,
    /// Its time is over: it was claimed longer ago than it may take.
    Over,
    /// Somebody else has it by now, or it is over.
    NotOurs,
}

/// Lets go of a job until `after` has passed, or until `limit` after its claim if that comes first: a last look is taken then.
pub async fn put_away(
    pool: &PgPool,
    engine: EngineId,
    job: (JobId, i64),
    saw: &str,
    after: Duration,
    limit: Duration,
) -> Result<Put, StoreError> {
    let failed = doing("putting a job away");
    let mut tx = pool.begin().await.map_err(&failed)?;
    let put = sqlx::query!(
        "update job set engine_id = null, saw = $4,
                look_at = case when cancelled then clock_timestamp()
                          else least(clock_timestamp() + $5::float8 * interval '1 second',
                                     claimed_at + $6::float8 * interval '1 second') end
         where job_id = $1 and fence = $2 and engine_id = $3 and finished_at is null
               and claimed_at + $6::float8 * interval '1 second' > clock_timestamp()",
        job.0.0,
        job.1,
        engine.0,
        saw,
        after.as_secs_f64(),
        limit.as_secs_f64()
    )
    .execute(&mut *tx)
    .await
    .map_err(&failed)?;
    if put.rows_affected() == 0 {
        tx.rollback().await.map_err(&failed)?;
        return Ok(if jobs::is_held(pool, engine, job).await? { Put::Over } else { Put::NotOurs });
    }
    sqlx::query!("select pg_notify($1, $2)", pass::EVENTS, job.0.to_string())
        .execute(&mut *tx)
        .await
        .map_err(&failed)?;
    tx.commit().await.map_err(&failed)?;
    Ok(Put::Away)
}

/// Takes up jobs whose time has come, with a new fence, the longest due first; no more than `most`.
pub async fn take_up(pool: &PgPool, engine: EngineId, most: i64) -> Result<Vec<JobId>, StoreError> {
    let ids = sqlx::query_scalar!(
        "update job set engine_id = $1, fence = fence + 1, look_at = null
         where job_id in (select job_id from job where look_at <= clock_timestamp()
                          order by look_at limit $2 for update skip locked)
         returning job_id",
        engine.0,
        most
    )
    .fetch_all(pool)
    .await
    .map_err(doing("taking up jobs that waited"))?;
    Ok(ids.into_iter().map(JobId).collect())
}

/// How long until the next of them is due; nothing if none waits.
pub async fn next(pool: &PgPool) -> Result<Option<Duration>, StoreError> {
    let seconds = sqlx::query_scalar!(
        "select extract(epoch from min(look_at) - clock_timestamp())::float8 from job
         where look_at is not null"
    )
    .fetch_one(pool)
    .await
    .map_err(doing("looking for jobs that wait"))?;
    Ok(seconds.map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or_default()))
}
