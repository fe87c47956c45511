//! Whom to talk to, and with what.

use std::sync::Arc;

use engine_core::id::NodeId;
use sha2::{Digest as _, Sha256};

use crate::key::Keys;

/// A node as the engine reaches it.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its stable id; state on the node and the kept connection belong to it.
    pub node: NodeId,
    /// Its name, for messages.
    pub name: String,
    /// Address or host name.
    pub address: String,
    /// SSH port.
    pub port: u16,
    /// SSH user; others than root need sudo without a password.
    pub user: String,
    /// Pinned host keys in OpenSSH one-line form; if empty, the first one seen is pinned until [`crate::Pool::forget_host_key`].
    pub host_keys: Vec<String>,
    /// What to log in with.
    pub keys: Arc<Keys>,
}

impl Target {
    /// `user@address:port`, for messages.
    pub fn at(&self) -> String {
        if self.address.contains(':') {
            format!("{}@[{}]:{}", self.user, self.address, self.port)
        } else {
            format!("{}@{}:{}", self.user, self.address, self.port)
        }
    }

    /// Do both lead to the same login on the same machine?
    pub(crate) fn leads_where(&self, other: &Self) -> bool {
        self.address == other.address
            && self.port == other.port
            && self.user == other.user
            && (other.host_keys.is_empty() || self.host_keys == other.host_keys)
    }

    /// `command` as root: with sudo unless the user is root.
    pub(crate) fn as_root(&self, command: &str) -> String {
        if self.user == "root" { format!("exec {command}") } else { format!("exec sudo -n {command}") }
    }
}

/// The agent's program, as it is copied to nodes.
#[derive(Clone, Debug)]
pub struct AgentBinary {
    /// What `uname -m` must say on the node.
    pub arch: String,
    /// The static binary.
    pub bytes: Arc<[u8]>,
    /// Of the bytes, in hexadecimal.
    pub sha256: String,
}

impl AgentBinary {
    /// Takes the bytes of a binary built for machines where `uname -m` says `arch`.
    pub fn new(arch: impl Into<String>, bytes: impl Into<Arc<[u8]>>) -> Self {
        let bytes = bytes.into();
        let sha256 = hex::encode(Sha256::digest(&bytes));
        Self { arch: arch.into(), bytes, sha256 }
    }
}

/// Where things lie on a node. Plain words only: they travel unquoted through whatever login shell there is.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    /// Everything of ours.
    pub(crate) root: String,
    /// The folder of this version of the agent.
    pub(crate) binary_dir: String,
    /// The agent.
    pub(crate) binary: String,
    /// What belongs to this node.
    pub(crate) state: String,
}

impl Places {
    pub(crate) fn new(root: &str, target: &Target, agent: &AgentBinary) -> Self {
        let binary_dir = format!("{root}/agent/{}", &agent.sha256[..16]);
        let binary = format!("{binary_dir}/plinth-agent");
        let state = format!("{root}/nodes/{}", target.node);
        Self { root: root.to_owned(), binary_dir, binary, state }
    }
}
