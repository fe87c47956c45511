//! Getting to Postgres: where it is, a pool of connections, and what an error of a connection means.
//!
//! Nothing here falls back to a place that nobody named: an address without a host is an error. A pool that could be
//! opened once heals itself: after an outage each caller gets a transient error until Postgres answers again.
//!
//! The few statements of this module, of `migrate`, `backup` and `embedded` ask the server about itself and run before
//! there is a schema; so they are not checked against one at compile time.

use std::{
    fmt,
    path::Path,
    str::FromStr,
    time::{Duration, Instant},
};

use sqlx::{
    ConnectOptions, Connection, PgConnection,
    postgres::{PgConnectOptions, PgPool, PgPoolOptions},
};

use crate::StoreError;

mod classify;
mod listen;
mod own;

pub use classify::{code, is_transient};
pub use listen::{Hint, listen};
pub use own::Own;

/// The oldest major version of Postgres that our SQL is written for.
pub const LEAST_POSTGRES: u32 = 14;

/// Statements that each connection keeps prepared; we have about this many in all.
const STATEMENTS: usize = 256;
/// A connection that has been idle for longer is asked whether it is still there before it is given out.
const IDLE_TRUST: Duration = Duration::from_secs(1);
/// How long a caller waits for a connection before it gets a transient error.
const ACQUIRE_LIMIT: Duration = Duration::from_secs(10);
/// How long a connection is used.
const LIFETIME: Duration = Duration::from_hours(1);
/// How long one attempt to connect may take while we wait for a server to come up.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(5);
/// The pause between two such attempts.
const ATTEMPT_PAUSE: Duration = Duration::from_millis(100);

/// Where a database is, and how to get in. Printing it never shows the password.
#[derive(Clone)]
pub struct Target {
    options: PgConnectOptions,
    described: String,
}

impl Target {
    /// A database named by a URL such as `postgres://user:password@host:5432/name?sslmode=verify-full`.
    pub fn url(url: &str) -> Result<Self, StoreError> {
        let bad = |reason: &str| StoreError::DatabaseUrl { reason: reason.to_owned() };
        let rest = url
            .strip_prefix("postgres://")
            .or_else(|| url.strip_prefix("postgresql://"))
            .ok_or_else(|| bad("it does not begin with postgres:// or postgresql://"))?;
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        let host = authority.rsplit('@').next().unwrap_or_default();
        let query = rest.split_once('?').map(|(_, query)| query).unwrap_or_default();
        if host.is_empty() && !query.split('&').any(|pair| pair.starts_with("host=") || pair.starts_with("hostaddr=")) {
            return Err(bad("it names no host; for a socket say postgres://USER@localhost/NAME?host=/DIRECTORY"));
        }
        let options = PgConnectOptions::from_str(url).map_err(|source| match source {
            sqlx::Error::Configuration(cause) => bad(&cause.to_string()),
            other => bad(&other.to_string()),
        })?;
        if options.get_database().is_none_or(str::is_empty) {
            return Err(bad("it names no database"));
        }
        Ok(Self::new(options))
    }

    /// A database behind a unix socket in this directory.
    pub fn socket(directory: &Path, user: &str, database: &str) -> Self {
        Self::new(
            PgConnectOptions::new_without_pgpass()
                .host("localhost")
                .port(5432)
                .socket(directory)
                .username(user)
                .database(database),
        )
    }

    /// Another database on the same server.
    #[must_use]
    pub fn database(&self, name: &str) -> Self {
        Self::new(self.options.clone().database(name))
    }

    /// As sqlx wants it.
    pub fn options(&self) -> &PgConnectOptions {
        &self.options
    }

    fn new(options: PgConnectOptions) -> Self {
        let options = options
            .application_name(concat!("plinth/", env!("CARGO_PKG_VERSION")))
            .statement_cache_capacity(STATEMENTS);
        let place = match options.get_socket() {
            Some(socket) => socket.display().to_string(),
            None => format!("{}:{}", options.get_host(), options.get_port()),
        };
        let name = options.get_database().unwrap_or_default();
        let described = format!("the database {name} at {place}");
        Self { options, described }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.described)
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({})", self.described)
    }
}

/// Opens a pool of at most `size` connections, and makes sure that the server answers and is new enough.
pub async fn connect(target: &Target, size: u32) -> Result<PgPool, StoreError> {
    // A transaction of ours is never open while anything but Postgres is awaited: one that is, is a bug or an engine
    // that was stopped in the middle, and must not hold its locks for ever.
    let options = target
        .options
        .clone()
        .options([("idle_in_transaction_session_timeout", "60s"), ("default_transaction_isolation", "read committed")]);
    let pool = PgPoolOptions::new()
        .max_connections(size)
        .acquire_timeout(ACQUIRE_LIMIT)
        .idle_timeout(Duration::from_mins(10))
        .max_lifetime(LIFETIME)
        .test_before_acquire(false)
        .before_acquire(|connection, meta| {
            Box::pin(async move { Ok(meta.idle_for < IDLE_TRUST || connection.ping().await.is_ok()) })
        })
        .connect_lazy_with(options);
    let mut connection = connect_one(target).await?;
    check_server(target, &mut connection).await?;
    close(connection).await;
    Ok(pool)
}

/// Opens one connection outside of any pool.
pub async fn connect_one(target: &Target) -> Result<PgConnection, StoreError> {
    target.options.connect().await.map_err(|source| StoreError::Database { doing: "connecting", source })
}

/// Says good-bye to the server; if that fails, the connection is gone anyway.
pub(crate) async fn close(connection: PgConnection) {
    if let Err(error) = connection.close().await {
        tracing::debug!(%error, "closing a connection");
    }
}

/// One round trip; how long it took.
pub async fn ping(pool: &PgPool) -> Result<Duration, StoreError> {
    let failed = |source| StoreError::Database { doing: "asking whether it is there", source };
    let mut connection = pool.acquire().await.map_err(failed)?;
    let start = Instant::now();
    connection.ping().await.map_err(failed)?;
    Ok(start.elapsed())
}

/// Waits until the server accepts connections, at most `limit`; an error that waiting cannot cure ends it at once.
pub async fn wait_until_up(target: &Target, limit: Duration) -> Result<(), StoreError> {
    let deadline = Instant::now() + limit;
    loop {
        let source = match tokio::time::timeout(ATTEMPT_LIMIT.min(limit), target.options.connect()).await {
            Ok(Ok(connection)) => {
                close(connection).await;
                return Ok(());
            }
            Ok(Err(source)) => source,
            Err(_) => sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()),
        };
        if !is_transient(&source) {
            return Err(StoreError::Database { doing: "connecting", source });
        }
        if Instant::now() + ATTEMPT_PAUSE >= deadline {
            return Err(StoreError::Unreachable { target: target.to_string(), limit, source });
        }
        tokio::time::sleep(ATTEMPT_PAUSE).await;
    }
}

/// The server's version, such as 150014 for 15.14; an error if our SQL would not run there.
pub async fn check_server(target: &Target, connection: &mut PgConnection) -> Result<u32, StoreError> {
    let number: i32 = sqlx::query_scalar("select current_setting('server_version_num')::int4")
        .fetch_one(connection)
        .await
        .map_err(|source| StoreError::Database { doing: "asking for its version", source })?;
    let number = u32::try_from(number).unwrap_or_default();
    let found = number / 10_000;
    if found < LEAST_POSTGRES {
        return Err(StoreError::PostgresUnsupported { target: target.to_string(), found, least: LEAST_POSTGRES });
    }
    Ok(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_complete_or_refused_and_never_shows_its_password() {
        let table = [
            ("postgres://me:hush@db.example:6432/plinth", "Target(the database plinth at db.example:6432)"),
            ("postgresql://me@localhost/plinth?host=/run/pg", "Target(the database plinth at /run/pg)"),
            ("postgres:///plinth?host=/run/pg&user=me", "Target(the database plinth at /run/pg)"),
            ("postgres:///plinth", "it names no host; for a socket say postgres://USER@localhost/NAME?host=/DIRECTORY"),
            (
                "postgres://me:hush@/plinth",
                "it names no host; for a socket say postgres://USER@localhost/NAME?host=/DIRECTORY",
            ),
            ("postgres://me:hush@db.example", "it names no database"),
            ("postgres://me:hush@db.example:port/plinth", "invalid port number"),
            ("mysql://me:hush@db.example/plinth", "it does not begin with postgres:// or postgresql://"),
            ("plinth", "it does not begin with postgres:// or postgresql://"),
        ];
        for (url, expected) in table {
            let said = match Target::url(url) {
                Ok(target) => format!("{target:?}"),
                Err(error) => {
                    assert_eq!(error.code(), "database-url");
                    error.to_string()
                }
            };
            assert!(said.ends_with(expected), "{url}: {said}");
            assert!(!said.contains("hush"), "{said}");
        }
    }
}
