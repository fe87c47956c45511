//! What an engine is told at its start.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use engine_catalog::Folder;
use engine_core::document::Object;
use engine_core::view::Refusal;
use engine_dns::DnsError;
use engine_provider::Providers;
use engine_remote::{AgentBinary, RemoteError};
use engine_store::PgPool;
use engine_store::StoreError;
use engine_store::connect::Target;
use engine_store::seal::KeyFile;

/// Everything that an engine needs.
#[derive(Clone)]
pub struct Config {
    /// Connections to the database, whose schema is up to date.
    pub pool: PgPool,
    /// The same database, for the connection that listens.
    pub target: Target,
    /// Bundles that are pushed at the start, where they are not what is there already.
    pub bundles: Vec<Folder>,
    /// Where nodes come from.
    pub providers: Providers,
    /// The agent's program; without one, jobs on nodes fail.
    pub agent: AgentBinary,
    /// The folder for keys.
    pub data: PathBuf,
    /// Where the key is that opens what is sealed in the database.
    pub seal_key: KeyFile,
    /// Nothing is ever sealed, as in simulations: there is no key, and the database hears of none.
    pub seals_nothing: bool,
    /// What all jobs come to, as in simulations of workloads: nothing is really done, on nodes or by drivers.
    pub made_up: Option<MadeUp>,
    /// Jobs at once.
    pub jobs: usize,
    /// Without a sign of life for so long, the engine counts as dead.
    pub lease: Duration,
    /// How often everything is looked at without a hint.
    pub poll: Duration,
    /// Where DNS questions are answered; nowhere if it is empty.
    pub dns: Vec<SocketAddr>,
    /// Where others have lists of what was revoked; nowhere if it is empty. Whoever serves them listens there.
    pub lists: Vec<SocketAddr>,
}

impl Config {
    /// The usual settings.
    pub fn new(pool: PgPool, target: Target, bundles: Vec<Folder>, agent: AgentBinary, data: PathBuf) -> Self {
        Self {
            pool,
            target,
            bundles,
            providers: Providers::new(),
            agent,
            seal_key: KeyFile { path: data.join("seal.key"), make: true },
            seals_nothing: false,
            made_up: None,
            data,
            jobs: 500,
            lease: Duration::from_secs(15),
            poll: Duration::from_secs(5),
            dns: Vec::new(),
            lists: Vec::new(),
        }
    }
}

/// What jobs come to where nothing is really done.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MadeUp {
    /// Each takes so long.
    pub latency: Duration,
    /// Of a hundred roles so many fail at their first attempt everywhere; which ones follows from the seed.
    pub fail: u8,
    /// See `fail`.
    pub seed: u64,
    /// What roles find out, by role and output. Of what is not said, an example by the schema of the output.
    pub outputs: BTreeMap<String, Object>,
}

/// Why an engine does not start.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The deploy key.
    #[error(transparent)]
    Key(#[from] RemoteError),
    /// An address for DNS questions.
    #[error(transparent)]
    Dns(#[from] DnsError),
    /// The bundles.
    #[error("the bundles are not taken: {0}")]
    Bundles(#[from] Box<Refusal>),
    /// The folder for keys.
    #[error("cannot use the folder {path}: {source}", path = path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl ConfigError {
    /// Stable code, listed in docs/ERRORS.md.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Store(error) => error.code(),
            Self::Key(error) => error.code(),
            Self::Dns(error) => error.code(),
            Self::Bundles(_) => "bundles-invalid",
            Self::Folder { .. } => "data-folder",
        }
    }
}
