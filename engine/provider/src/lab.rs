//! The provider `lab`: machines on this machine, by systemd-nspawn.
//!
//! A node is a Debian with its own systemd, SSH server, address and host name, on a layer over a shared base image. It is
//! good for trying workloads and for tests, and shares the kernel with its host. A lab has a folder, and a bridge with NAT
//! of its own, all named after the folder; several labs live side by side.
//!
//! Guarantees: every action may be repeated and interrupted; machines outlive the engine; [`Provider::destroy`] leaves
//! nothing of a node, [`Lab::teardown`] nothing of the lab. Two engines may use one folder: locks in it keep them apart.
//!
//! Inside, everything is synchronous and runs on tokio's blocking threads; only waiting for SSH is not.

mod apt;
mod command;
mod doctor;
mod files;
mod image;
mod machine;
mod network;
mod node;
mod packages;
mod state;
mod subnet;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::lab::command::Trouble;
use crate::lab::node::Inner;
use crate::options::Options;
use crate::{Access, NodeRequest, NodeStatus, Power, Provider, ProviderError, banner};

const NAME: &str = "lab";

/// Where the base image and downloaded packages are kept, for all labs of this machine.
const CACHE: &str = "/var/cache/plinth/lab";

/// Console lines in the error of a node that does not answer.
const CONSOLE_IN_ERROR: usize = 12;

/// What a lab is told by its caller.
#[derive(Clone, Debug)]
pub struct LabConfig {
    /// The lab's own folder; its path is what tells one lab from another.
    pub dir: PathBuf,
    /// Where the base image and downloaded packages are kept; labs may share it.
    pub cache: PathBuf,
    /// The Debian release of the nodes.
    pub suite: String,
    /// A package mirror in place of the one that this machine's apt uses.
    pub mirror: Option<String>,
    /// A subnet such as `10.20.0.0/16` in place of one that the lab finds by itself.
    pub subnet: Option<String>,
    /// A node that does not answer SSH for so long after its start has failed.
    pub ready_within: Duration,
}

impl LabConfig {
    /// The usual settings for a lab in this folder.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            cache: PathBuf::from(CACHE),
            suite: "bookworm".to_owned(),
            mirror: None,
            subnet: None,
            ready_within: Duration::from_secs(90),
        }
    }
}

/// Local machines by systemd-nspawn. Making one costs nothing; the machine is touched by the first node.
#[derive(Clone)]
pub struct Lab {
    inner: Arc<Inner>,
}

impl Lab {
    /// A lab with these settings. What is in its folder already is found again.
    pub fn new(config: LabConfig) -> Self {
        Self::with_progress(config, |line| tracing::info!(provider = NAME, "{line}"))
    }

    /// The same, telling `progress` of long work such as building the image, a line for people at a time.
    pub fn with_progress(config: LabConfig, progress: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self { inner: Arc::new(Inner::new(config, Box::new(progress))) }
    }

    /// What this machine lacks to have a lab with these settings, in sentences for people; empty if nothing.
    pub fn doctor(config: &LabConfig) -> Vec<String> {
        doctor::missing(config)
    }

    /// Builds the base image and sets up the network now, so that the first node need not wait for them.
    pub async fn prepare(&self) -> Result<(), ProviderError> {
        self.blocking("preparing", "the lab", |inner| inner.prepare().map(drop)).await
    }

    /// Takes away all nodes, the bridge, the NAT rules and the folder. With `purge` the shared image and packages too,
    /// unless machines of another lab run on them.
    pub async fn teardown(&self, purge: bool) -> Result<(), ProviderError> {
        self.blocking("tearing down", "the lab", move |inner| inner.teardown(purge)).await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        doing: &'static str,
        node: &str,
        work: impl FnOnce(&Inner) -> Result<T, Trouble> + Send + 'static,
    ) -> Result<T, ProviderError> {
        let inner = Arc::clone(&self.inner);
        match tokio::task::spawn_blocking(move || work(&inner)).await {
            Ok(result) => result.map_err(|trouble| trouble.at(doing, node)),
            // The runtime is going down, or there is a bug; either way the caller is told.
            Err(error) => Err(Trouble::Refused(format!("its thread ended: {error}")).at(doing, node)),
        }
    }

    /// Returns when the SSH server of a started node answers.
    async fn answers(&self, doing: &'static str, node: &str, access: &Access) -> Result<(), ProviderError> {
        let limit = self.inner.config.ready_within;
        let address = access.address.parse().expect("addresses of a lab are IPv4 addresses");
        let address = SocketAddr::new(address, access.port);
        let gone = || (!self.inner.lives(node)).then(|| "the machine switched itself off".to_owned());
        match banner::wait(address, limit, gone).await {
            Ok(_) => Ok(()),
            Err(error) => {
                let console = self.inner.console(node, CONSOLE_IN_ERROR);
                let reason = format!("{error}; the end of its console:\n{console}");
                Err(Trouble::Silent { address: address.to_string(), limit, reason }.at(doing, node))
            }
        }
    }
}

#[async_trait]
impl Provider for Lab {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn create(&self, request: &NodeRequest) -> Result<Access, ProviderError> {
        check_name(&request.name)?;
        Options::new(NAME, &request.with, &[])?;
        let (name, keys) = (request.name.clone(), request.authorized_keys.clone());
        let access = self.blocking("creating", &request.name, move |inner| inner.create(&name, &keys)).await?;
        self.answers("creating", &request.name, &access).await?;
        Ok(access)
    }

    async fn status(&self, node: &str) -> Result<NodeStatus, ProviderError> {
        check_name(node)?;
        let name = node.to_owned();
        self.blocking("looking for", node, move |inner| inner.status(&name)).await
    }

    async fn power(&self, node: &str, power: Power) -> Result<(), ProviderError> {
        self.present(node).await?;
        let name = node.to_owned();
        let (doing, access) = match power {
            Power::Off => return self.blocking("switching off", node, move |inner| inner.off(&name)).await,
            Power::On => ("switching on", self.blocking("switching on", node, move |inner| inner.on(&name)).await?),
            Power::Reboot => {
                let work = move |inner: &Inner| inner.reboot(&name);
                ("rebooting", self.blocking("rebooting", node, work).await?)
            }
        };
        self.answers(doing, node, &access).await
    }

    async fn console(&self, node: &str, lines: usize) -> Result<String, ProviderError> {
        self.present(node).await?;
        let name = node.to_owned();
        self.blocking("reading the console of", node, move |inner| Ok(inner.console(&name, lines))).await
    }

    async fn destroy(&self, node: &str) -> Result<(), ProviderError> {
        check_name(node)?;
        let name = node.to_owned();
        self.blocking("destroying", node, move |inner| inner.destroy(&name)).await
    }

    async fn list(&self) -> Result<Vec<String>, ProviderError> {
        self.blocking("listing", "the lab", Inner::list).await
    }
}

impl Lab {
    async fn present(&self, node: &str) -> Result<(), ProviderError> {
        match self.status(node).await? {
            NodeStatus::Absent => Err(ProviderError::Absent { provider: NAME, node: node.to_owned() }),
            NodeStatus::Stopped | NodeStatus::Running { .. } => Ok(()),
        }
    }
}

/// The name is a host name, a folder and part of a script.
fn check_name(node: &str) -> Result<(), ProviderError> {
    let fits = (1..=63).contains(&node.len())
        && node.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !node.starts_with('-')
        && !node.ends_with('-');
    if fits {
        return Ok(());
    }
    let reason = "a name has at most 63 lower case letters, digits and dashes, and no dash at its ends";
    Err(ProviderError::Name { provider: NAME, node: node.to_owned(), reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_host_names() {
        for good in ["a", "demo-members-1", "0"] {
            check_name(good).expect(good);
        }
        for wrong in ["", "-a", "a-", "A", "a.b", "../a", "a b", "a'b", &"a".repeat(64)] {
            assert_eq!(check_name(wrong).expect_err(wrong).code(), "provider-name");
        }
    }
}
