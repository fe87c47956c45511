//! A connection for one writer.

use std::time::Instant;

use sqlx::{Connection, PgConnection, PgPool};
use tokio::time::timeout;

use super::{ACQUIRE_LIMIT, IDLE_TRUST, LIFETIME};
use crate::StoreError;
use crate::error::doing;

/// One connection for who writes all the time: a pool looks at each one that it gets back, which costs as much as a small
/// write, and gives out another one each time, which has to get its caches warm.
#[derive(Debug)]
pub struct Own {
    pool: PgPool,
    kept: Option<(PgConnection, Instant)>,
    opened: Instant,
}

impl Own {
    /// Opened when it is wanted first, as the pool opens its own.
    pub fn new(pool: PgPool) -> Self {
        Self { pool, kept: None, opened: Instant::now() }
    }

    /// Takes it, or a new one where it is gone or does not answer any more.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn take(&mut self) -> Result<PgConnection, StoreError> {
        if let Some((mut connection, used)) = self.kept.take().filter(|_| self.opened.elapsed() < LIFETIME) {
            let mut answers = async || matches!(timeout(ACQUIRE_LIMIT, connection.ping()).await, Ok(Ok(())));
            if used.elapsed() < IDLE_TRUST || answers().await {
                return Ok(connection);
            }
        }
        self.opened = Instant::now();
        Ok(self.pool.acquire().await.map_err(doing("connecting"))?.detach())
    }

    /// Keeps it for the next time, with no transaction open. One that a write failed on is not given back.
    pub fn keep(&mut self, connection: PgConnection) {
        self.kept = Some((connection, Instant::now()));
    }
}
