//! Web hooks: where events are sent, and how far each is. One engine at a time delivers for a hook; where it is, is its row.

use std::time::Duration;

use engine_core::id::EngineId;
use engine_core::view::HookView;
use serde_json::json;
use sqlx::PgPool;
use uuid::Uuid;

use crate::StoreError;
use crate::error::doing;
use crate::events;

/// A hook, as whoever delivers needs it.
#[derive(Clone, Debug)]
pub struct Hook {
    /// Its id.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// Where to.
    pub url: String,
    /// Kinds of events; all if there are none.
    pub kinds: Vec<String>,
    /// Names of deployments; all if there are none.
    pub deployments: Vec<String>,
    /// The key that signs, sealed.
    pub secret: Vec<u8>,
    /// Certificates that are trusted there, in PEM.
    pub ca: Option<String>,
    /// Number of the last event that it has, or does not want.
    pub after: i64,
    /// How often the next one has failed.
    pub failed: i32,
}

/// All hooks, by name.
pub async fn all(pool: &PgPool) -> Result<Vec<HookView>, StoreError> {
    sqlx::query_as!(
        HookView,
        r#"select name, url, kinds, deployments, after, delivered, delivered_at, failed, code, message, next_try_at,
                  added_by, added_at
           from hook order by name"#
    )
    .fetch_all(pool)
    .await
    .map_err(doing("reading hooks"))
}

/// One hook.
pub async fn named(pool: &PgPool, name: &str) -> Result<Option<Hook>, StoreError> {
    sqlx::query_as!(
        Hook,
        "select hook_id as id, name, url, kinds, deployments, secret, ca, after, failed from hook where name = $1",
        name
    )
    .fetch_optional(pool)
    .await
    .map_err(doing("reading a hook"))
}

/// Adds a hook. `false`: there is one of its name.
pub async fn add(pool: &PgPool, hook: &Hook, by: &str) -> Result<bool, StoreError> {
    let failed = doing("adding a hook");
    let mut tx = pool.begin().await.map_err(&failed)?;
    let done = sqlx::query!(
        "insert into hook (hook_id, name, url, kinds, deployments, secret, ca, after, added_by, added_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, now()) on conflict (name) do nothing",
        hook.id,
        hook.name,
        hook.url,
        &hook.kinds,
        &hook.deployments,
        hook.secret,
        hook.ca,
        hook.after,
        by
    )
    .execute(&mut *tx)
    .await
    .map_err(&failed)?;
    if done.rows_affected() > 0 {
        events::write(&mut tx, "hook.added", by, json!({"hook": &hook.name})).await?;
    }
    tx.commit().await.map_err(&failed)?;
    Ok(done.rows_affected() > 0)
}

/// Removes a hook. `false`: there is none of this name.
pub async fn remove(pool: &PgPool, name: &str, by: &str) -> Result<bool, StoreError> {
    let failed = doing("removing a hook");
    let mut tx = pool.begin().await.map_err(&failed)?;
    let done = sqlx::query!("delete from hook where name = $1", name).execute(&mut *tx).await.map_err(&failed)?;
    if done.rows_affected() > 0 {
        events::write(&mut tx, "hook.removed", by, json!({"hook": name})).await?;
    }
    tx.commit().await.map_err(&failed)?;
    Ok(done.rows_affected() > 0)
}

/// Takes hooks that there is something for, and that nobody delivers for: nobody has them, or who has them is gone, or was not
/// heard of for too long.
pub async fn take(pool: &PgPool, engine: EngineId, lease: Duration) -> Result<Vec<Hook>, StoreError> {
    sqlx::query_as!(
        Hook,
        "update hook set engine_id = $1, leased_until = clock_timestamp() + $2 * interval '1 second'
         where hook_id in (
             select hook_id from hook h
             where (engine_id is null or leased_until < clock_timestamp()
                    or not exists (select from engine e where e.engine_id = h.engine_id))
                   and (next_try_at is null or next_try_at <= clock_timestamp())
                   and exists (
                       select from event e
                       where (e.tx, e.seq) > (coalesce((select b.tx from event b where b.seq <= h.after
                                                        order by b.seq desc limit 1), '0'), h.after)
                             and e.tx < pg_snapshot_xmin(pg_current_snapshot()))
             for update skip locked)
         returning hook_id as id, name, url, kinds, deployments, secret, ca, after, failed",
        engine.0,
        lease.as_secs_f64()
    )
    .fetch_all(pool)
    .await
    .map_err(doing("looking for hooks with something to deliver"))
}

/// Notes that a hook has all events up to this one, or does not want them, and holds on to it. `false`: another engine has it by now,
/// or somebody went past that event, or the hook is gone.
pub async fn moved(
    pool: &PgPool,
    hook: &Hook,
    engine: EngineId,
    (after, delivered): (i64, bool),
    lease: Duration,
) -> Result<bool, StoreError> {
    let done = sqlx::query!(
        "update hook set after = $4, delivered = delivered + case when $5 then 1 else 0 end,
                delivered_at = case when $5 then clock_timestamp() else delivered_at end,
                failed = 0, code = null, message = null, next_try_at = null,
                leased_until = clock_timestamp() + $6 * interval '1 second'
         where hook_id = $1 and engine_id = $2 and after = $3",
        hook.id,
        engine.0,
        hook.after,
        after,
        delivered,
        lease.as_secs_f64()
    )
    .execute(pool)
    .await
    .map_err(doing("noting what a hook has"))?;
    Ok(done.rows_affected() > 0)
}

/// Notes that a delivery failed, and lets go of the hook until it is tried again.
pub async fn failed(
    pool: &PgPool,
    hook: &Hook,
    engine: EngineId,
    (code, message): (&str, &str),
    again_in: Duration,
) -> Result<(), StoreError> {
    sqlx::query!(
        "update hook set failed = failed + 1, code = $4, message = $5,
                next_try_at = clock_timestamp() + $6 * interval '1 second', engine_id = null, leased_until = null
         where hook_id = $1 and engine_id = $2 and after = $3",
        hook.id,
        engine.0,
        hook.after,
        code,
        message,
        again_in.as_secs_f64()
    )
    .execute(pool)
    .await
    .map_err(doing("noting that a delivery failed"))?;
    Ok(())
}

/// Lets go of a hook for which there is nothing more.
pub async fn release(pool: &PgPool, hook: &Hook, engine: EngineId) -> Result<(), StoreError> {
    sqlx::query!(
        "update hook set engine_id = null, leased_until = null where hook_id = $1 and engine_id = $2",
        hook.id,
        engine.0
    )
    .execute(pool)
    .await
    .map_err(doing("letting go of a hook"))?;
    Ok(())
}

/// Goes past an event that can not be delivered. `false`: the hook is not there any more, or has moved on.
pub async fn skip(pool: &PgPool, hook: &Hook, event: i64) -> Result<bool, StoreError> {
    let done = sqlx::query!(
        "update hook set after = $3, failed = 0, code = null, message = null, next_try_at = null
         where hook_id = $1 and after = $2",
        hook.id,
        hook.after,
        event
    )
    .execute(pool)
    .await
    .map_err(doing("going past an event"))?;
    Ok(done.rows_affected() > 0)
}
