//! What can go wrong with the private Postgres of an engine.

use std::{io, path::PathBuf, time::Duration};

use crate::error::seconds;

/// A failure to find, start, stop or understand the embedded Postgres; each says what a person can do about it.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// No usable binaries anywhere.
    #[error(
        "no Postgres binaries in {looked_in}: install the Debian package `postgresql`, or name their directory in \
         PLINTH_POSTGRES_BIN, or use a server of yours with --database"
    )]
    Missing {
        /// The places that were searched.
        looked_in: String,
    },
    /// The data were written by a newer Postgres than any that is installed.
    #[error(
        "the data in {directory} are of Postgres {data}, newer than the binaries that are installed (Postgres {newest}): \
         install the Debian package `postgresql-{data}`"
    )]
    Newer {
        /// The directory of the cluster.
        directory: PathBuf,
        /// The major version of the data.
        data: u32,
        /// The newest major version installed.
        newest: u32,
    },
    /// The data were written by an older Postgres, whose binaries are gone.
    #[error(
        "the data in {directory} are of Postgres {data}, older than the binaries that are installed (Postgres {oldest} \
         or newer): install the Debian package `postgresql-{data}` beside them and run `plinth database move`"
    )]
    Older {
        /// The directory of the cluster.
        directory: PathBuf,
        /// The major version of the data.
        data: u32,
        /// The oldest major version installed.
        oldest: u32,
    },
    /// There is nobody who may run it.
    #[error("Postgres cannot be run: {reason}")]
    Account {
        /// Who is missing, or whom the data belong to.
        reason: String,
    },
    /// The account of Postgres cannot get to the data.
    #[error(
        "{directory} cannot be entered by the user `{account}`, whom Postgres runs as: choose a data directory that is \
         not below it, such as /var/lib/plinth, or run `chmod o+x {directory}`"
    )]
    Closed {
        /// The directory that is in the way.
        directory: PathBuf,
        /// The account that Postgres runs as.
        account: String,
    },
    /// No room for data.
    #[error("no space left in {directory} for the database ({doing}): make room and start again, nothing is lost")]
    NoSpace {
        /// Where it is full.
        directory: PathBuf,
        /// What needed the space.
        doing: String,
    },
    /// The directory is there, but is not a cluster of Postgres.
    #[error("{directory} is not a data directory of Postgres: {reason}; put a backup in its place or move it away")]
    Damaged {
        /// The directory of the cluster.
        directory: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The operating system refused something.
    #[error("cannot {doing} {path}")]
    Io {
        /// What was being done, as a verb.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// One of Postgres' programs failed.
    #[error("{program} failed: {said}")]
    Program {
        /// Which program.
        program: &'static str,
        /// The end of what it printed.
        said: String,
    },
    /// The server ended while it was starting.
    #[error("Postgres does not start: {said}; its log is {log}")]
    Start {
        /// The end of its log.
        said: String,
        /// Where the whole log is.
        log: PathBuf,
    },
    /// The server runs but did not accept connections in time; it may be recovering.
    #[error("Postgres (process {pid}) does not answer after {}; its log is {log}", seconds(*limit))]
    Silent {
        /// The process of the server.
        pid: i32,
        /// How long we waited.
        limit: Duration,
        /// Where its log is.
        log: PathBuf,
    },
    /// Another engine is starting or stopping this Postgres, and takes very long over it.
    #[error("another engine has been starting or stopping the Postgres in {directory} for {}", seconds(*limit))]
    Busy {
        /// The data directory.
        directory: PathBuf,
        /// How long we waited.
        limit: Duration,
    },
    /// It was stopped by us, and somebody asked for it again.
    #[error("the embedded Postgres in {directory} was stopped")]
    Stopped {
        /// The data directory.
        directory: PathBuf,
    },
}

impl EmbeddedError {
    /// Stable across releases; see docs/ERRORS.md.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "postgres-missing",
            Self::Newer { .. } => "postgres-newer",
            Self::Older { .. } => "postgres-older",
            Self::Account { .. } => "postgres-account",
            Self::Closed { .. } => "data-dir-closed",
            Self::NoSpace { .. } => "no-space",
            Self::Damaged { .. } => "data-dir-damaged",
            Self::Io { .. } => "data-dir-io",
            Self::Program { .. } => "postgres-program-failed",
            Self::Start { .. } => "postgres-start-failed",
            Self::Silent { .. } => "postgres-silent",
            Self::Busy { .. } => "postgres-busy",
            Self::Stopped { .. } => "postgres-stopped",
        }
    }

    /// Worth another attempt without a person looking first?
    pub fn is_transient(&self) -> bool {
        match self {
            Self::NoSpace { .. } | Self::Silent { .. } | Self::Busy { .. } | Self::Start { .. } => true,
            Self::Missing { .. }
            | Self::Newer { .. }
            | Self::Older { .. }
            | Self::Account { .. }
            | Self::Closed { .. }
            | Self::Damaged { .. }
            | Self::Io { .. }
            | Self::Program { .. }
            | Self::Stopped { .. } => false,
        }
    }

    /// An error of the operating system; a full disk gets its own name.
    pub(crate) fn io(doing: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        let path = path.into();
        if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            return Self::NoSpace { directory: path, doing: doing.to_owned() };
        }
        Self::Io { doing, path, source }
    }

    /// What a program of Postgres said when it failed; a full disk gets its own name.
    pub(crate) fn program(program: &'static str, directory: &std::path::Path, said: &str) -> Self {
        if says_full(said) {
            return Self::NoSpace { directory: directory.to_owned(), doing: format!("running {program}") };
        }
        Self::Program { program, said: tail(said) }
    }
}

/// Does this output of a program speak of a full disk?
pub(crate) fn says_full(said: &str) -> bool {
    said.contains("No space left on device") || said.contains("Disk quota exceeded")
}

/// The end of an output, short enough for one message.
pub(crate) fn tail(said: &str) -> String {
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(6)..].join(" | ")
}
