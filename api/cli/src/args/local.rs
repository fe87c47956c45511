//! Arguments of what needs no engine: the lab of this machine, and the database.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};

/// What can be done with the lab.
#[derive(Debug, Subcommand)]
pub(crate) enum LabCommand {
    /// Build the base image and the network now, so that the first node need not wait for them.
    #[command(after_help = "Example:\n  plinth lab up")]
    Up {
        /// The data directory of the engine whose lab it is.
        #[arg(long, env = "PLINTH_DATA", value_name = "DIR")]
        data: Option<PathBuf>,
    },
    /// Take all its nodes away, with their network; for when no engine is there to do it.
    #[command(after_help = "Examples:\n  plinth lab down\n  plinth lab down --purge   the base image, too")]
    Down {
        /// The data directory of the engine whose lab it is.
        #[arg(long, env = "PLINTH_DATA", value_name = "DIR")]
        data: Option<PathBuf>,
        /// Also the base image and downloaded packages, unless another lab uses them.
        #[arg(long)]
        purge: bool,
    },
}

/// Which database.
#[derive(Clone, Debug, ClapArgs)]
pub(crate) struct DatabaseAt {
    /// The data directory, for the private Postgres.
    #[arg(long, env = "PLINTH_DATA", value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// A database elsewhere in its place.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_name = "URL")]
    pub(crate) database: Option<String>,
}

/// What can be done with the database.
#[derive(Debug, Subcommand)]
pub(crate) enum DatabaseCommand {
    /// Stop a private Postgres that a killed engine left running.
    #[command(after_help = "Example:\n  plinth database stop")]
    Stop {
        /// The data directory.
        #[arg(long, env = "PLINTH_DATA", value_name = "DIR")]
        data: Option<PathBuf>,
    },
    /// Write everything to a file. The engine may go on.
    #[command(after_help = "Example:\n  plinth database backup /srv/plinth.dump")]
    Backup {
        /// The file; one that is there is replaced at the end.
        file: PathBuf,
        /// Which database.
        #[command(flatten)]
        at: DatabaseAt,
    },
    /// Read a backup into an empty database. No engine may run on it.
    #[command(
        after_help = "Example:\n  plinth database restore /srv/plinth.dump --database postgres://plinth@db/plinth"
    )]
    Restore {
        /// The backup.
        file: PathBuf,
        /// Which database.
        #[command(flatten)]
        at: DatabaseAt,
    },
    /// Copy everything to an empty database elsewhere. No engine may run on either.
    #[command(after_help = "Example:\n  plinth database move postgres://plinth@db/plinth")]
    Move {
        /// Where to.
        to: String,
        /// Which database.
        #[command(flatten)]
        at: DatabaseAt,
    },
}
