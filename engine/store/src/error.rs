//! What can go wrong between us and Postgres, with a code to branch on and a sentence to read.

use std::time::Duration;

use engine_core::secret::UnknownSecret;

use crate::{backup::BackupError, connect, embedded::EmbeddedError, seal::SealError};

/// A failure of the store: what was being done, to what, and why it did not work.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Postgres refused or lost a statement.
    #[error("Postgres failed while {doing}")]
    Database {
        /// What was being done, as a phrase that follows "while".
        doing: &'static str,
        /// What Postgres or the connection said.
        #[source]
        source: sqlx::Error,
    },
    /// The address of the database cannot be used as it is written.
    #[error("this is not an address of a Postgres database: {reason}")]
    DatabaseUrl {
        /// What is wrong with it, without the password.
        reason: String,
    },
    /// Nobody answered for as long as we were told to wait.
    #[error("no answer from {target} within {}", seconds(*limit))]
    Unreachable {
        /// The database, without its password.
        target: String,
        /// How long we waited.
        limit: Duration,
        /// What the last attempt said.
        #[source]
        source: sqlx::Error,
    },
    /// The server is older than what our SQL needs.
    #[error("{target} is Postgres {found}, but at least Postgres {least} is needed")]
    PostgresUnsupported {
        /// The database, without its password.
        target: String,
        /// The major version of the server.
        found: u32,
        /// The least major version that will do.
        least: u32,
    },
    /// Another, newer plinth has changed the tables, and not only added to them.
    #[error(
        "the database has schema {found}, written by {writer}, which takes a plinth that knows schema {least}; this is \
         plinth {ours}, which knows schema {known} and older"
    )]
    SchemaNewer {
        /// The newest migration in the database.
        found: i64,
        /// Who applied it, such as `plinth 0.3.0`.
        writer: String,
        /// The migration that one must know to work with it.
        least: i64,
        /// The newest migration in this binary.
        known: i64,
        /// The version of this binary.
        ours: &'static str,
    },
    /// The tables are those of an older plinth, and nobody has brought them up to date yet.
    #[error("the database has schema {found}, but this plinth needs schema {known}")]
    SchemaOlder {
        /// The newest migration in the database, 0 if there is none.
        found: i64,
        /// The newest migration in this binary.
        known: i64,
    },
    /// An engine that is at work could not go on after the migrations of this binary.
    #[error(
        "an engine of plinth {version} works on this database, on {host}, and knows schema {knows}; what is to be \
         taken away needs {least}"
    )]
    EngineOlder {
        /// The version of the engine.
        version: String,
        /// Its machine and boot.
        host: String,
        /// The newest migration that it knows.
        knows: i64,
        /// The migration that it would have to know.
        least: i64,
    },
    /// A migration has other text now than when it was applied.
    #[error("migration {version} was applied to this database with another text than this plinth has for it")]
    SchemaChanged {
        /// Which migration.
        version: i64,
    },
    /// A migration did not apply; the database is as it was before it.
    #[error("migration {version} does not apply")]
    Migration {
        /// Which migration.
        version: i64,
        /// What Postgres said.
        #[source]
        source: sqlx::Error,
    },
    /// The private Postgres of this engine has a problem.
    #[error(transparent)]
    Embedded(#[from] EmbeddedError),
    /// A backup, restore or move did not work.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// The key that opens sealed values, or one of them.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// A secret that is not kept any more, or never was.
    #[error(transparent)]
    Secret(#[from] UnknownSecret),
}

impl StoreError {
    /// Stable across releases: shown by the API and listed in docs/ERRORS.md.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Database { source, .. } => connect::code(source),
            Self::DatabaseUrl { .. } => "database-url",
            Self::Unreachable { .. } => "database-unreachable",
            Self::PostgresUnsupported { .. } => "postgres-unsupported",
            Self::SchemaNewer { .. } => "schema-newer",
            Self::SchemaOlder { .. } => "schema-older",
            Self::SchemaChanged { .. } => "schema-changed",
            Self::EngineOlder { .. } => "engine-too-old",
            Self::Migration { source, .. } if connect::is_transient(source) => connect::code(source),
            Self::Migration { .. } => "migration-failed",
            Self::Embedded(error) => error.code(),
            Self::Backup(error) => error.code(),
            Self::Seal(error) => error.code(),
            Self::Secret(_) => "secret-unknown",
        }
    }

    /// The constraint of ours that refused, if one did.
    pub fn constraint(&self) -> Option<&str> {
        match self {
            Self::Database { source: sqlx::Error::Database(said), .. } => said.constraint(),
            _ => None,
        }
    }

    /// Worth another attempt without a person looking first?
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Database { source, .. } | Self::Migration { source, .. } => connect::is_transient(source),
            Self::Unreachable { .. } => true,
            Self::DatabaseUrl { .. }
            | Self::PostgresUnsupported { .. }
            | Self::SchemaNewer { .. }
            | Self::SchemaOlder { .. }
            | Self::EngineOlder { .. }
            | Self::SchemaChanged { .. }
            | Self::Seal(_)
            | Self::Secret(_) => false,
            Self::Embedded(error) => error.is_transient(),
            Self::Backup(error) => error.is_transient(),
        }
    }
}

/// Short waits are told in milliseconds, the rest in seconds.
pub(crate) fn seconds(limit: Duration) -> String {
    if limit < Duration::from_secs(1) { format!("{} ms", limit.as_millis()) } else { format!("{} s", limit.as_secs()) }
}

/// For `map_err`: what was being done when Postgres failed.
pub(crate) fn doing(doing: &'static str) -> impl Fn(sqlx::Error) -> StoreError {
    move |source| StoreError::Database { doing, source }
}
