//! For tests of any crate: a throw-away Postgres, and a database of its own for each test.
//!
//! All test processes of one run share one server in the temporary directory, without fsync. It is found by the user
//! and the migrations of the binary, so that two versions of the tree never meet. Nothing needs to be stopped: each
//! process holds a lock while it lives, and a watching shell ends the server and removes its directory shortly after
//! the last one is gone, however it went. What is left when that shell is killed as well, the next run removes.
//!
//! Failures here are failures of the test, so they panic.

mod rows;

use std::{
    fs,
    os::unix::{fs::MetadataExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use nix::unistd::Uid;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{Connection, Executor, PgConnection, PgPool, Postgres, SqlSafeStr, Transaction};
use tokio::sync::OnceCell;
use uuid::Uuid;

use crate::{
    MIGRATOR, StoreError,
    connect::{self, Target},
    embedded::{self, Embedded, EmbeddedConfig, EmbeddedError},
    migrate,
};

/// The database that fresh ones are copies of.
const TEMPLATE: &str = "template_plinth";
/// Connections of the pool of one test.
const POOL: u32 = 8;

static SERVER: OnceCell<Embedded> = OnceCell::const_new();

/// A transaction that has written, and sees the database as it is now, for as long as it is held.
pub async fn snapshot(pool: &PgPool) -> Transaction<'static, Postgres> {
    let mut held = pool.begin_with("begin isolation level repeatable read").await.expect("begun");
    // Ours are ended when they are idle for long; those of others may not be.
    held.execute("set local idle_in_transaction_session_timeout = 0; select pg_current_xact_id()")
        .await
        .expect("it has a number");
    held
}

/// A database that nobody else uses; dropped with the value.
#[derive(Debug)]
pub struct Database {
    name: String,
    target: Target,
    url: String,
    pool: PgPool,
}

impl Database {
    /// One with all migrations applied and no rows.
    pub async fn fresh() -> Self {
        let server = server().await;
        template(server).await.expect("the template of test databases can be made");
        Self::copy_of(server, TEMPLATE).await
    }

    /// One without any table.
    pub async fn empty() -> Self {
        Self::copy_of(server().await, "template0").await
    }

    /// Where it is.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Where it is, for another process.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// All rows of all tables as text, each after the name of its table.
    pub async fn everything(&self) -> String {
        let tables: Vec<String> =
            sqlx::query_scalar("select tablename::text from pg_tables where schemaname = 'public'")
                .fetch_all(&self.pool)
                .await
                .expect("tables");
        let mut all = String::new();
        for table in tables {
            let text = format!("select '{table}: ' || t::text from \"{table}\" t");
            let rows: Vec<String> =
                sqlx::query_scalar(sqlx::AssertSqlSafe(text)).fetch_all(&self.pool).await.expect("rows");
            all.extend(rows.iter().map(|row| format!("{row}\n")));
        }
        all
    }

    /// Connections to it.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// Cuts every connection to it, as a restart of the server would.
    pub async fn cut_connections(&self) {
        let server = server().await;
        let statement =
            format!("select pg_terminate_backend(pid) from pg_stat_activity where datname = '{}'", self.name);
        administer(server, &statement).await.expect("connections can be cut");
    }

    async fn copy_of(server: &Embedded, template: &str) -> Self {
        let name = format!("t_{}", Uuid::now_v7().simple());
        let statement = format!("create database {name} template {template}");
        administer(server, &statement).await.expect("a test database can be made");
        let target = server.target().database(&name);
        let pool = connect::connect(&target, POOL).await.expect("a test database can be used");
        let url = server.url().replace("/plinth?", &format!("/{name}?"));
        Self { name, target, url, pool }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let statement = format!("drop database if exists {} with (force)", self.name);
        let target = self.target.database("postgres");
        // We may be inside of an executor, which must not be blocked by another: hence a thread.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let mut connection =
                    PgConnection::connect_with(target.options()).await.map_err(std::io::Error::other)?;
                connection.execute(sqlx::AssertSqlSafe(statement)).await.map_err(std::io::Error::other)?;
                connection.close().await.map_err(std::io::Error::other)
            })
        });
        match dropped.join() {
            Ok(Ok(())) => {}
            // The server goes with the run anyway.
            Ok(Err(error)) => tracing::warn!(%error, database = self.name, "cannot drop a test database"),
            Err(_) => tracing::warn!(database = self.name, "the thread that drops a test database panicked"),
        }
    }
}

/// The server that the test processes of this run share.
pub async fn server() -> &'static Embedded {
    SERVER.get_or_try_init(start).await.expect("a Postgres for tests can be started")
}

async fn start() -> Result<Embedded, StoreError> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        match start_once().await {
            Ok(server) => return Ok(server),
            // The server of the run before was being removed at this very moment.
            Err(StoreError::Embedded(EmbeddedError::Io { .. } | EmbeddedError::Damaged { .. })) if attempts < 20 => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err(error) => return Err(error),
        }
    }
}

async fn start_once() -> Result<Embedded, StoreError> {
    let temporary = std::env::temp_dir();
    remove_leftovers(&temporary).await;
    let name = directory_name();
    let config = |parent: &Path| EmbeddedConfig { durable: false, ..EmbeddedConfig::new(parent.join(&name)) };
    let server = match Embedded::start(config(&temporary)).await {
        // A private temporary directory.
        Err(StoreError::Embedded(EmbeddedError::Closed { .. })) => {
            Embedded::start(config(Path::new("/var/tmp"))).await?
        }
        other => other?,
    };
    watch(server.data_dir())?;
    Ok(server)
}

fn prefix() -> String {
    format!("plinth-test-{}-", Uid::effective())
}

fn directory_name() -> String {
    let sums = MIGRATOR.iter().flat_map(|migration| migration.checksum.iter().copied());
    let bytes: Vec<u8> = env!("CARGO_MANIFEST_DIR").bytes().chain(sums).collect();
    format!("{}{:016x}", prefix(), embedded::short_name(&bytes))
}

/// Makes the template once for all; the others wait for it.
async fn template(server: &Embedded) -> Result<(), StoreError> {
    let failed = |source| StoreError::Database { doing: "making the template of test databases", source };
    let mut connection = connect::connect_one(&server.target()).await?;
    // Released with the connection.
    sqlx::query("select pg_advisory_lock(7364)").execute(&mut connection).await.map_err(failed)?;
    let made: bool = sqlx::query_scalar("select exists (select from pg_database where datname = $1)")
        .bind(TEMPLATE)
        .fetch_one(&mut connection)
        .await
        .map_err(failed)?;
    if !made {
        connection.execute("drop database if exists half_made with (force)").await.map_err(failed)?;
        connection.execute("create database half_made").await.map_err(failed)?;
        migrate::run(&server.target().database("half_made")).await?;
        // The backend of the migrator may still be on its way out.
        let rename = "alter database half_made rename to template_plinth";
        let mut attempts = 0;
        while let Err(error) = connection.execute(rename).await {
            attempts += 1;
            if attempts > 100 {
                return Err(failed(error));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    connect::close(connection).await;
    Ok(())
}

async fn administer(server: &Embedded, statement: &str) -> Result<(), StoreError> {
    let mut connection = connect::connect_one(&server.target().database("postgres")).await?;
    connection
        .execute(sqlx::AssertSqlSafe(statement.to_owned()))
        .await
        .map_err(|source| StoreError::Database { doing: "making a test database", source })?;
    connect::close(connection).await;
    Ok(())
}

/// Ends the server when nobody holds `users.lock` any more, not even two seconds later (the next test binary of the
/// same run), and removes its directory. By the rules of `embedded::sharing`, in the language that outlives us.
const WATCH: &str = r#"
(
    exec 7>>"$1/watch.lock" || exit 0
    flock -n 7 || exit 0
    while [ -d "$1" ]; do
        flock -x "$1/users.lock" true
        sleep 2
        (
            flock 8
            flock -n -x "$1/users.lock" true || exit 1
            pid=$(head -n 1 "$1/cluster/postmaster.pid")
            works() { [ -n "$pid" ] && [ "$(readlink "/proc/$pid/cwd")" = "$1/cluster" ]; }
            if works "$1"; then kill -QUIT "$pid"; fi
            while works "$1"; do sleep 0.05; done
            mv "$1" "$1.gone" && rm -rf "$1.gone"
        ) 8>>"$1/starting.lock" && break
    done
) &
"#;

fn watch(base: &Path) -> Result<(), StoreError> {
    // The shell leaves the loop behind and ends at once.
    Command::new("sh")
        .args(["-c", WATCH, "plinth-test-watch"])
        .arg(base)
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .map_err(|error| EmbeddedError::io("watch", base, error))?;
    Ok(())
}

/// Removes what runs left whose watching shell was killed too: directories with our name, of our user, that nobody
/// holds a lock in.
async fn remove_leftovers(temporary: &Path) {
    let Ok(entries) = fs::read_dir(temporary) else { return };
    let ours = |path: &PathBuf| {
        let named = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix()));
        named && fs::symlink_metadata(path).is_ok_and(|data| data.is_dir() && data.uid() == Uid::effective().as_raw())
    };
    for base in entries.flatten().map(|entry| entry.path()).filter(ours) {
        if base.join("watch.lock").exists() && embedded::is_abandoned(&base, "watch.lock") {
            embedded::discard(&base).await;
        }
    }
}

/// What a later plinth would know: our migrations, and these by number.
pub fn newer(more: &[(i64, &str)]) -> Migrator {
    let more = more.iter().map(|(number, text)| {
        let text = sqlx::AssertSqlSafe((*text).to_owned()).into_sql_str();
        Migration::new(*number, "later".into(), MigrationType::Simple, text, false)
    });
    Migrator::with_migrations(MIGRATOR.iter().cloned().chain(more).collect())
}
