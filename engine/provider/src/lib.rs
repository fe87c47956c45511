//! Where nodes come from.
//!
//! A provider makes machines and takes them away again; it does not talk to what runs on them. There are three:
//! [`lab`] (local systemd-nspawn machines), [`ssh`] (hosts that exist already) and [`simulated`] (nodes that exist only
//! in memory, for tests). All three keep the contract that `tests/it/contract.rs` states.
//!
//! Deliberately absent: the agent, jobs, and any memory of nodes beyond what a provider needs to find its machines again.

mod banner;
mod error;
pub mod lab;
mod options;
pub mod simulated;
pub mod ssh;

use std::collections::BTreeMap;

use async_trait::async_trait;
use engine_core::document::Object;
pub use error::ProviderError;
use serde::{Deserialize, Serialize};

/// What is to be made.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeRequest {
    /// The node's name, unique in the engine; also its host name.
    pub name: String,
    /// Public keys (OpenSSH one-line form) that must be let in as `user` of the [`Access`].
    pub authorized_keys: Vec<String>,
    /// Options of the provider, from the document.
    pub with: Object,
}

/// How to reach a machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Access {
    /// IP address, as text.
    pub address: String,
    /// SSH port.
    pub port: u16,
    /// SSH user; others than root need sudo without a password.
    pub user: String,
    /// Host keys known beforehand (OpenSSH one-line form); empty means pin the first one seen.
    pub host_keys: Vec<String>,
    /// Facts that the provider knows, such as limits of the machine that roles must respect.
    pub facts: Object,
}

/// What a provider says of a machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum NodeStatus {
    /// It does not exist.
    Absent,
    /// It exists and is off.
    Stopped,
    /// It runs, and can be reached like this.
    Running {
        /// How to reach it.
        access: Access,
    },
}

/// A power action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Power {
    /// Switch on.
    On,
    /// Switch off at once, as by pulling the plug.
    Off,
    /// Orderly reboot.
    Reboot,
}

/// A source of nodes. Every method may be repeated: a second `create` of the same name finds the first one's machine.
#[async_trait]
pub trait Provider: Send + Sync {
    /// Its name in documents: `lab`, `ssh`, `simulated`.
    fn name(&self) -> &'static str;
    /// Makes the machine if it is not there, switches it on, and returns when it can be reached.
    async fn create(&self, request: &NodeRequest) -> Result<Access, ProviderError>;
    /// What there is now.
    async fn status(&self, node: &str) -> Result<NodeStatus, ProviderError>;
    /// Power. Hosts that the provider only adopted answer [`ProviderError::Unsupported`].
    async fn power(&self, node: &str, power: Power) -> Result<(), ProviderError>;
    /// The last lines of the console, if there is one.
    async fn console(&self, node: &str, lines: usize) -> Result<String, ProviderError>;
    /// Takes the machine away, with every trace of it. Not there is a success.
    async fn destroy(&self, node: &str) -> Result<(), ProviderError>;
    /// Names of the machines that this provider holds.
    async fn list(&self) -> Result<Vec<String>, ProviderError>;
}

/// The providers of an engine, by name.
pub type Providers = BTreeMap<String, std::sync::Arc<dyn Provider>>;
