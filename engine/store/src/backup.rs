//! Backups of a whole database, restores into an empty one, and moves from one server to another.
//!
//! They are files in the custom format of `pg_dump`. A backup file is either complete or not there: it is written
//! beside its name and renamed. A restore is one transaction: it succeeds as a whole or leaves the database empty.
//! Passwords go to the programs of Postgres by environment, never on a command line.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use serde::Serialize;

use crate::{
    StoreError,
    connect::{self, Target},
    embedded::binaries,
    migrate,
};

mod login;

/// How often, and how far apart, we look whether a database is in use.
const LOOKS: u32 = 20;
const LOOK_PAUSE: Duration = Duration::from_millis(50);

/// A backup, restore or move that did not work.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The programs `pg_dump` and `pg_restore` are not there.
    #[error("no {program} in {directory}: install the Debian package `postgresql-client`, or set PLINTH_POSTGRES_BIN")]
    Missing {
        /// The program.
        program: &'static str,
        /// Where it was looked for.
        directory: PathBuf,
    },
    /// A program of Postgres failed.
    #[error("{program} failed: {said}")]
    Failed {
        /// The program.
        program: &'static str,
        /// The end of what it printed.
        said: String,
    },
    /// The file is not a backup, or is damaged.
    #[error("{file} is not a backup that can be restored: {said}")]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What `pg_restore` said about it.
        said: String,
    },
    /// A restore must not mix two sets of data.
    #[error("{target} is not empty ({tables} tables): restore into a new, empty database")]
    NotEmpty {
        /// The database.
        target: String,
        /// How many tables it has.
        tables: i64,
    },
    /// The data would change while they are moved.
    #[error("{target} is in use by an engine: stop it first")]
    InUse {
        /// The database.
        target: String,
    },
    /// The operating system refused something.
    #[error("cannot {doing} {path}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// No room for the file.
    #[error("no space left for {path}")]
    NoSpace {
        /// The file that was being written.
        path: PathBuf,
    },
}

impl BackupError {
    /// Stable across releases; see docs/ERRORS.md.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "postgres-missing",
            Self::Failed { .. } => "backup-failed",
            Self::Unreadable { .. } => "backup-unreadable",
            Self::NotEmpty { .. } => "restore-not-empty",
            Self::InUse { .. } => "database-in-use",
            Self::Io { .. } => "backup-io",
            Self::NoSpace { .. } => "no-space",
        }
    }

    /// Worth another attempt without a person looking first? Never: a person asked for it.
    pub fn is_transient(&self) -> bool {
        false
    }

    fn io(doing: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            return Self::NoSpace { path };
        }
        Self::Io { doing, path, source }
    }
}

/// What was written or read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Backup {
    /// The file.
    pub file: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// The newest migration in it.
    pub schema: i64,
}

/// Writes a backup of `source` to `file`, which only its owner can read. An existing file is replaced at the end.
///
/// The engine may go on working: the backup is of one moment.
pub async fn backup(source: &Target, file: &Path, named: Option<&Path>) -> Result<Backup, StoreError> {
    let programs = programs(named)?;
    dump(source, file, &programs).await?;
    let bytes = fs::metadata(file).map_err(|error| BackupError::io("look at", file, error))?.len();
    let schema = schema_in(file, &programs).await?;
    Ok(Backup { file: file.to_owned(), bytes, schema })
}

/// Reads a backup into `target`, which must be empty. Its tables may be of an older plinth, not of a newer one.
pub async fn restore(target: &Target, file: &Path, named: Option<&Path>) -> Result<Backup, StoreError> {
    let programs = programs(named)?;
    let bytes = fs::metadata(file).map_err(|error| BackupError::io("read", file, error))?.len();
    let schema = schema_in(file, &programs).await?;
    if schema > migrate::known() {
        return Err(migrate::newer(schema, format!("the plinth that made {}", file.display()), schema));
    }
    must_be_empty(target).await?;
    load(target, file, &programs).await?;
    Ok(Backup { file: file.to_owned(), bytes, schema })
}

/// Copies everything from `source`, which no engine may be using, into `target`, which must be empty. Nothing is
/// removed at the source. The dump between them is kept in `scratch` while this runs.
pub async fn move_between(
    source: &Target,
    target: &Target,
    named: Option<&Path>,
    scratch: &Path,
) -> Result<(), StoreError> {
    copy(source, target, &programs(named)?, scratch).await
}

/// The same, by the programs of one version.
pub(crate) async fn copy(source: &Target, target: &Target, programs: &Path, scratch: &Path) -> Result<(), StoreError> {
    must_be_unused(source).await?;
    must_be_empty(target).await?;
    let file = scratch.join(format!("plinth-move-{}.dump", std::process::id()));
    let outcome = async {
        dump(source, &file, programs).await?;
        load(target, &file, programs).await
    }
    .await;
    if let Err(error) = fs::remove_file(&file)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(%error, file = %file.display(), "cannot remove the dump of a move");
    }
    outcome
}

/// The newest programs: they can read every older server.
fn programs(named: Option<&Path>) -> Result<PathBuf, StoreError> {
    match binaries::all(named) {
        Ok(mut found) => Ok(found.pop().expect("a list of binaries is never empty").directory),
        // A machine with the client programs alone can back up a server elsewhere.
        Err(error) => {
            let path = std::env::var_os("PATH").unwrap_or_default();
            let client = std::env::split_paths(&path).find(|directory| directory.join("pg_dump").is_file());
            client.filter(|_| named.is_none()).ok_or(error.into())
        }
    }
}

async fn dump(source: &Target, file: &Path, programs: &Path) -> Result<(), StoreError> {
    let partial = file.with_added_extension("partial");
    // Ours from the first byte on; pg_dump then writes to it by name, for it checks no error of its standard output.
    let output = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&partial);
    let output = output.map_err(|error| BackupError::io("write", &partial, error))?;
    let mut command = login::command(source, programs, "pg_dump")?;
    command.args(["--format=custom", "--no-owner", "--no-privileges", "--file"]).arg(&partial);
    let written = match run(command, "pg_dump", &partial).await {
        Ok(_) => output
            .sync_all()
            .and_then(|()| fs::rename(&partial, file))
            .and_then(|()| sync_parent(file))
            .map_err(|error| BackupError::io("write", file, error)),
        Err(error) => Err(error),
    };
    if written.is_err()
        && let Err(error) = fs::remove_file(&partial)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(%error, file = %partial.display(), "cannot remove a partial backup");
    }
    Ok(written?)
}

async fn load(target: &Target, file: &Path, programs: &Path) -> Result<(), StoreError> {
    let mut command = login::command(target, programs, "pg_restore")?;
    let name = target.options().get_database().unwrap_or_default();
    command.args(["--single-transaction", "--exit-on-error", "--no-owner", "--no-privileges", "--dbname", name]);
    command.arg(file);
    run(command, "pg_restore", file).await?;
    settle_events(target).await
}

/// Events remember the transaction that wrote them, so that readers pass none over that is still open. Transactions
/// are counted by each server from its beginning: one that this server has yet to reach would hide its event, and so
/// would one with the number of a stranger's that is open here.
async fn settle_events(target: &Target) -> Result<(), StoreError> {
    let failed = |source| StoreError::Database { doing: "settling the events of a backup", source };
    let mut connection = connect::connect_one(target).await?;
    let there: bool = sqlx::query_scalar("select to_regclass('event') is not null")
        .fetch_one(&mut connection)
        .await
        .map_err(failed)?;
    if there {
        sqlx::query("update event set tx = '1' where tx >= pg_snapshot_xmin(pg_current_snapshot())")
            .execute(&mut connection)
            .await
            .map_err(failed)?;
    }
    connect::close(connection).await;
    Ok(())
}

/// The newest migration in a backup, read from the file alone.
async fn schema_in(file: &Path, programs: &Path) -> Result<i64, StoreError> {
    let mut command = login::bare(programs, "pg_restore")?;
    command.args(["--data-only", "--table=_sqlx_migrations", "--file=-"]).arg(file);
    let text = match run(command, "pg_restore", file).await {
        Ok(text) => text,
        Err(BackupError::Failed { said, .. }) => {
            return Err(BackupError::Unreadable { file: file.to_owned(), said }.into());
        }
        Err(error) => return Err(error.into()),
    };
    let rows = text.lines().skip_while(|line| !line.starts_with("COPY ")).skip(1).take_while(|line| *line != "\\.");
    Ok(rows.filter_map(|row| row.split('\t').next()?.parse().ok()).max().unwrap_or_default())
}

async fn run(command: std::process::Command, program: &'static str, file: &Path) -> Result<String, BackupError> {
    let mut command = tokio::process::Command::from(command);
    command.stdin(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let output = command.spawn().map_err(|error| BackupError::io("run", Path::new(program), error))?;
    let output = output.wait_with_output().await.map_err(|error| BackupError::io("run", Path::new(program), error))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    if crate::embedded::says_full(&said) {
        return Err(BackupError::NoSpace { path: file.to_owned() });
    }
    Err(BackupError::Failed { program, said: crate::embedded::tail(&said) })
}

async fn must_be_empty(target: &Target) -> Result<(), StoreError> {
    let mut connection = connect::connect_one(target).await?;
    let tables: i64 = sqlx::query_scalar(
        "select count(*) from pg_class c join pg_namespace n on n.oid = c.relnamespace
          where n.nspname <> 'information_schema' and n.nspname not like 'pg\\_%' and c.relkind in ('r', 'p', 'v', 'm', 'S')",
    )
    .fetch_one(&mut connection)
    .await
    .map_err(|source| StoreError::Database { doing: "looking whether the database is empty", source })?;
    connect::close(connection).await;
    if tables == 0 { Ok(()) } else { Err(BackupError::NotEmpty { target: target.to_string(), tables }.into()) }
}

/// Engines name themselves to the server; so do we, but we are not counted. A connection that was closed a moment ago
/// may still be on its way out, so we look more than once.
async fn must_be_unused(source: &Target) -> Result<(), StoreError> {
    let mut connection = connect::connect_one(source).await?;
    for _ in 0..LOOKS {
        let others: i64 = sqlx::query_scalar(
            "select count(*) from pg_stat_activity
              where datname = current_database() and pid <> pg_backend_pid() and application_name like 'plinth/%'",
        )
        .fetch_one(&mut connection)
        .await
        .map_err(|source| StoreError::Database { doing: "looking who uses the database", source })?;
        if others == 0 {
            connect::close(connection).await;
            return Ok(());
        }
        tokio::time::sleep(LOOK_PAUSE).await;
    }
    Err(BackupError::InUse { target: source.to_string() }.into())
}

fn sync_parent(file: &Path) -> io::Result<()> {
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()
}
