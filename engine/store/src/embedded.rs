//! The private Postgres of an engine: found on the machine, started in a data directory of its own, stopped on exit.
//!
//! What it guarantees:
//!
//! - A commit is on disk when it is reported (fsync and synchronous_commit are on).
//! - Only a unix socket, only for root, the account that Postgres runs as, and the user of the engine; no password.
//! - Whatever was killed, the next start works: an orphaned server is adopted, a dead one is cleaned up after (also a
//!   zombie, whose pid file would block Postgres for ever), and Postgres itself recovers from its log.
//! - Several engines may name the same data directory. The first starts Postgres, the others use it, the last one to
//!   stop ends it. When it is gone all the same, whoever first calls [`Embedded::ensure`] starts it again.
//! - It never works on data of another major version, and never removes data.
//!
//! Deliberately not here: a supervisor. The daemon calls [`Embedded::ensure`] when the database does not answer.

use std::{
    path::{Path, PathBuf},
    process::Child,
    time::Duration,
};

use tokio::sync::Mutex;

use crate::{StoreError, connect::Target};
use account::Account;
use binaries::Binaries;
use cluster::{Layout, USER};
use sharing::{Held, Sharing};

pub mod binaries;

mod account;
mod cluster;
mod error;
mod postmaster;
mod server;
mod sharing;
mod status;
mod upgrade;

pub use error::EmbeddedError;
pub(crate) use error::{says_full, tail};
pub use server::Ensured;
pub use status::{Status, status};
pub use upgrade::{Upgraded, upgrade};

/// The name of the database in it.
const DATABASE: &str = "plinth";

/// Where the embedded Postgres lives and how it is run.
#[derive(Debug, Clone)]
pub struct EmbeddedConfig {
    /// Its own directory: data, socket, log. Made if it is not there.
    pub data_dir: PathBuf,
    /// Who runs it when we are root: this user, else `postgres`, else `nobody`. Existing data keep their owner.
    pub run_as: Option<String>,
    /// Where its programs are; `None` looks in the usual places.
    pub binaries: Option<PathBuf>,
    /// How long it may take to accept connections. Recovery after a crash is part of it.
    pub start_within: Duration,
    /// Off only for data that tests throw away: a power cut may then damage them.
    pub durable: bool,
}

impl EmbeddedConfig {
    /// The usual settings; `PLINTH_POSTGRES_BIN` names the programs if it is set.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            run_as: None,
            binaries: std::env::var_os("PLINTH_POSTGRES_BIN").filter(|path| !path.is_empty()).map(PathBuf::from),
            start_within: Duration::from_mins(1),
            durable: true,
        }
    }
}

/// A Postgres that we use, and stop when we are the last to use it.
#[derive(Debug)]
pub struct Embedded {
    config: EmbeddedConfig,
    layout: Layout,
    sharing: Sharing,
    account: Account,
    binaries: Binaries,
    socket: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Locked while we use it; `None` after a stop.
    users: Option<Held>,
    /// The server, if it was us who started it: we must wait for it, or it stays as a zombie.
    child: Option<Child>,
}

/// What became of the server when we stopped using it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// It has ended, and everything is on disk.
    Ended,
    /// Other engines use it, so it goes on.
    LeftToOthers,
}

impl Embedded {
    /// Starts the Postgres of this data directory, or joins the one that runs there. When this returns, it answers.
    ///
    /// If it takes longer than `start_within`, which long recoveries may, the error is transient and Postgres goes on
    /// with it: a second call finds it further on.
    pub async fn start(config: EmbeddedConfig) -> Result<Self, StoreError> {
        let layout = Layout::open(&config.data_dir)?;
        let account = Account::choose(config.run_as.as_deref(), &layout.cluster)?;
        account.can_enter(&layout.base)?;
        let sharing = Sharing::new(&layout.base);
        let turn = sharing.turn(config.start_within * 2).await?;
        upgrade::finish(&layout)?;
        let data = layout.version()?;
        let binaries = binaries::fitting(config.binaries.as_deref(), data, &layout.cluster)?;
        if data.is_none() {
            tracing::info!(directory = %layout.cluster.display(), postgres = binaries.major, "making a new database");
            cluster::create(&layout.cluster, &layout.base, &account, &binaries, config.durable).await?;
        }
        let socket = cluster::configure(&layout, &account, config.durable)?;
        let alone = sharing.is_unused()?;
        let state = State { users: Some(sharing.join()?), child: None };
        let embedded = Self { config, layout, sharing, account, binaries, socket, state: Mutex::new(state) };
        let mut state = embedded.state.lock().await;
        let outcome = embedded.bring_up(&mut state, alone).await;
        drop(state);
        drop(turn);
        match outcome {
            Ok(how) => {
                tracing::info!(?how, directory = %embedded.layout.base.display(), "the embedded Postgres is up");
                Ok(embedded)
            }
            Err(error) => {
                embedded.forsake().await;
                Err(error)
            }
        }
    }

    /// Makes sure that it runs: starts it again if it is gone. Does nothing if it answers; may be called at any time.
    pub async fn ensure(&self) -> Result<Ensured, StoreError> {
        let mut state = self.state.lock().await;
        if state.users.is_none() {
            return Err(EmbeddedError::Stopped { directory: self.layout.base.clone() }.into());
        }
        if self.answers(&mut state).await {
            return Ok(Ensured::Running);
        }
        let _turn = self.sharing.turn(self.config.start_within * 2).await?;
        let how = self.bring_up(&mut state, false).await?;
        tracing::info!(?how, directory = %self.layout.base.display(), "the embedded Postgres is up again");
        Ok(how)
    }

    /// Stops using it, and ends it if nobody else does. May be called twice.
    pub async fn stop(&self) -> Result<Stopped, StoreError> {
        let mut state = self.state.lock().await;
        let Some(users) = state.users.take() else { return Ok(Stopped::Ended) };
        let _turn = self.sharing.turn(self.config.start_within * 2).await?;
        drop(users);
        if !self.sharing.is_unused()? {
            return Ok(Stopped::LeftToOthers);
        }
        self.end(&mut state).await;
        Ok(Stopped::Ended)
    }

    /// Where to connect to.
    pub fn target(&self) -> Target {
        Target::socket(&self.socket, USER, DATABASE)
    }

    /// The same as a URL, for people and other programs; it holds no secret.
    pub fn url(&self) -> String {
        url(&self.socket)
    }

    /// Its directory, in full.
    pub fn data_dir(&self) -> &Path {
        &self.layout.base
    }

    /// Keeps the log small; to be called now and then by who keeps it running.
    pub fn housekeep(&self) -> Result<(), StoreError> {
        Ok(server::trim_log(&self.layout.log)?)
    }

    /// What `plinth doctor` shows.
    pub fn status(&self) -> Result<Status, StoreError> {
        status(&self.config)
    }
}

impl Drop for Embedded {
    /// The best that can be done without waiting for others; [`Embedded::stop`] is the orderly way.
    fn drop(&mut self) {
        self.end_at_drop();
    }
}

fn url(socket: &Path) -> String {
    format!("postgres://{USER}@localhost/{DATABASE}?host={}", socket.display())
}

/// A short name that follows from a long one.
pub(crate) fn short_name(bytes: &[u8]) -> u64 {
    cluster::fnv(bytes)
}

/// Does nobody hold this lock file, nor use the Postgres beside it? For data that tests throw away.
pub(crate) fn is_abandoned(base: &Path, lock: &str) -> bool {
    Sharing::new(base).is_free(lock).unwrap_or(false)
}

/// Ends an abandoned Postgres and removes its directory. For data that tests throw away.
pub(crate) async fn discard(base: &Path) {
    let sharing = Sharing::new(base);
    let Ok(Some(_turn)) = sharing.try_turn() else { return };
    if !sharing.is_unused().unwrap_or(false) {
        return;
    }
    let cluster = base.join("cluster");
    if let postmaster::Found::Running(running) = postmaster::find(&cluster) {
        postmaster::stop_hard(&running, &cluster, || {}).await;
    }
    let gone = base.with_extension("gone");
    if let Err(error) = std::fs::rename(base, &gone).and_then(|()| std::fs::remove_dir_all(&gone)) {
        tracing::warn!(%error, directory = %base.display(), "cannot remove a Postgres of an earlier test run");
    }
}
