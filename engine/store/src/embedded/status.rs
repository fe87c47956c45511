//! A look at the embedded Postgres from outside, running or not; it changes nothing.

use std::path::PathBuf;

use serde::Serialize;

use super::{
    EmbeddedConfig, binaries,
    cluster::{self, Layout},
    postmaster::{self, Found, Phase},
};
use crate::StoreError;

/// What is known about the Postgres of a data directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Its directory.
    pub data_dir: PathBuf,
    /// The major version of the data; `None` if there are none yet.
    pub data_version: Option<u32>,
    /// The major versions that are installed, oldest first.
    pub installed: Vec<u32>,
    /// One of `absent`, `stopped`, `crashed`, `starting`, `ready`, `stopping`.
    pub state: &'static str,
    /// Its process, if it runs.
    pub pid: Option<i32>,
    /// A URL of it, if it runs.
    pub url: Option<String>,
    /// Bytes that it can still write.
    pub free_space: u64,
    /// Where it logs to.
    pub log: PathBuf,
}

/// Looks at the Postgres of a data directory without touching it.
pub fn status(config: &EmbeddedConfig) -> Result<Status, StoreError> {
    let installed = binaries::all(config.binaries.as_deref())
        .map(|found| found.into_iter().map(|binaries| binaries.major).collect())
        .unwrap_or_default();
    let base = config.data_dir.clone();
    let existing = base.ancestors().find(|path| path.is_dir()).unwrap_or(&base);
    let free_space = cluster::free_space(existing)?;
    let mut status = Status {
        log: base.join("postgres.log"),
        data_version: None,
        installed,
        state: "absent",
        pid: None,
        url: None,
        free_space,
        data_dir: base.clone(),
    };
    if !base.is_dir() {
        return Ok(status);
    }
    let layout = Layout::open(&base)?;
    status.data_version = layout.version()?;
    match postmaster::find(&layout.cluster) {
        Found::Running(running) => {
            status.state = match running.phase {
                Phase::Starting => "starting",
                Phase::Ready => "ready",
                Phase::Stopping => "stopping",
            };
            status.pid = Some(running.pid);
            status.url = Some(super::url(&running.socket));
        }
        Found::Leftover => status.state = "crashed",
        Found::Nothing if status.data_version.is_some() => status.state = "stopped",
        Found::Nothing => {}
    }
    Ok(status)
}
