//! Events that are of no deployment: written with what they tell of.

use serde_json::Value;
use sqlx::PgConnection;

use crate::StoreError;
use crate::error::doing;
use crate::pass::EVENTS;

/// Writes one, and hints at it with the commit.
pub(crate) async fn write(
    connection: &mut PgConnection,
    kind: &str,
    by: &str,
    detail: Value,
) -> Result<(), StoreError> {
    let failed = doing("writing an event");
    sqlx::query!(
        "insert into event (at, kind, principal, detail) values (clock_timestamp(), $1, $2, $3)",
        kind,
        by,
        detail
    )
    .execute(&mut *connection)
    .await
    .map_err(&failed)?;
    sqlx::query!("select pg_notify($1, '')", EVENTS).execute(connection).await.map_err(&failed)?;
    Ok(())
}
