//! Engines.

use engine_core::id::EngineId;
use engine_core::view::EngineView;
use sqlx::PgPool;

use super::{MOST, failed};
use crate::StoreError;

/// Engines that have a row, those that live first.
pub async fn engines(pool: &PgPool) -> Result<Vec<EngineView>, StoreError> {
    let rows = sqlx::query!(
        r#"select engine_id, version, host, pid, started_at, lease_until > clock_timestamp() as "alive!"
           from engine order by 6 desc, started_at desc limit $1"#,
        MOST
    )
    .fetch_all(pool)
    .await
    .map_err(failed("reading engines"))?;
    let view = |id, version, host, pid, started_at, alive| EngineView { id, version, host, pid, started_at, alive };
    Ok(rows
        .into_iter()
        .map(|row| view(EngineId(row.engine_id), row.version, row.host, row.pid, row.started_at, row.alive))
        .collect())
}
