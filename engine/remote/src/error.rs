//! What can go wrong between the engine and a node.
//!
//! None of these says that a job failed: a job whose connection was lost goes on, and is found again by attaching.

use std::path::PathBuf;

/// A failure to reach a node, or to get an agent to work on it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RemoteError {
    /// No answer at the address, or none in time.
    #[error("no answer from {at}: {reason}")]
    Unreachable {
        /// `user@address:port`.
        at: String,
        /// What the system said.
        reason: String,
    },
    /// Something answers there, but does not let us in as far as a login.
    #[error("{at} refuses to talk: {reason}")]
    Refused {
        /// `user@address:port`.
        at: String,
        /// What happened.
        reason: String,
    },
    /// No algorithm that both sides have.
    #[error("{at} speaks no SSH that we speak: {reason}")]
    Incompatible {
        /// `user@address:port`.
        at: String,
        /// What is missing.
        reason: String,
    },
    /// None of the keys is accepted.
    #[error("{at} accepts none of the keys tried: {}", list(tried))]
    AuthFailed {
        /// `user@address:port`.
        at: String,
        /// The keys, each as where it came from and its fingerprint.
        tried: Vec<String>,
    },
    /// The host shows another key than the pinned one.
    #[error("the host key of {at} is {offered}, but {} is pinned", list(pinned))]
    HostKeyChanged {
        /// `user@address:port`.
        at: String,
        /// What the host shows now, in OpenSSH one-line form.
        offered: String,
        /// What was expected.
        pinned: Vec<String>,
    },
    /// A key that is to be used can not be read.
    #[error("the key {} can not be used: {reason}", path.display())]
    KeyUnusable {
        /// The file or socket.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The user needs sudo, and sudo asks for a password.
    #[error("sudo of {at} does not work without a password: {reason}")]
    SudoNeedsPassword {
        /// `user@address:port`.
        at: String,
        /// What sudo said.
        reason: String,
    },
    /// The user needs sudo, and there is none.
    #[error("{at} is not root and has no sudo: {reason}")]
    SudoMissing {
        /// `user@address:port`.
        at: String,
        /// What the login shell said.
        reason: String,
    },
    /// The node has a processor that the agent is not built for.
    #[error("{at} is a {node} machine, the agent is built for {agent}")]
    ForeignArchitecture {
        /// `user@address:port`.
        at: String,
        /// What `uname -m` says there.
        node: String,
        /// What the agent's binary is for.
        agent: String,
    },
    /// No space on the node.
    #[error("no space on {at}: {reason}")]
    DiskFull {
        /// `user@address:port`.
        at: String,
        /// What was said there.
        reason: String,
    },
    /// The agent could not be put on the node.
    #[error("the agent can not be installed on {at}: {reason}")]
    InstallFailed {
        /// `user@address:port`.
        at: String,
        /// What happened.
        reason: String,
    },
    /// The agent is on the node and does not start.
    #[error("the agent does not start on {at}: {reason}")]
    AgentStart {
        /// `user@address:port`.
        at: String,
        /// What happened.
        reason: String,
    },
    /// The agent, or something in its place, says what the protocol does not allow.
    #[error("the agent on {at} does not keep to the protocol: {reason}")]
    Protocol {
        /// `user@address:port`.
        at: String,
        /// What was said.
        reason: String,
    },
    /// The agent understood and declined.
    #[error("the agent on {at} refuses ({code}): {message}")]
    Declined {
        /// `user@address:port`.
        at: String,
        /// The agent's code, such as `fence-too-old`.
        code: String,
        /// The agent's sentence.
        message: String,
    },
    /// The connection broke. What ran on the node goes on there.
    #[error("the connection to {at} is lost: {reason}")]
    ConnectionLost {
        /// `user@address:port`.
        at: String,
        /// What happened.
        reason: String,
    },
    /// Whoever asked for the events did not take them; what ran on the node goes on there.
    #[error("events of {at} were not taken for too long")]
    SinkStalled {
        /// `user@address:port`.
        at: String,
    },
}

impl RemoteError {
    /// Stable code, listed in docs/ERRORS.md.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "ssh-unreachable",
            Self::Refused { .. } => "ssh-refused",
            Self::Incompatible { .. } => "ssh-incompatible",
            Self::AuthFailed { .. } => "ssh-auth-failed",
            Self::HostKeyChanged { .. } => "host-key-changed",
            Self::KeyUnusable { .. } => "ssh-key-unusable",
            Self::SudoNeedsPassword { .. } => "sudo-needs-password",
            Self::SudoMissing { .. } => "sudo-missing",
            Self::ForeignArchitecture { .. } => "agent-foreign-architecture",
            Self::DiskFull { .. } => "disk-full",
            Self::InstallFailed { .. } => "agent-install-failed",
            Self::AgentStart { .. } => "agent-start-failed",
            Self::Protocol { .. } => "agent-protocol",
            Self::Declined { .. } => "agent-declined",
            Self::ConnectionLost { .. } => "connection-lost",
            Self::SinkStalled { .. } => "sink-stalled",
        }
    }

    /// May the same call succeed later although nobody changes anything?
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. } | Self::Refused { .. } | Self::ConnectionLost { .. } | Self::SinkStalled { .. }
        )
    }
}

fn list(items: &[String]) -> String {
    if items.is_empty() { "none".to_owned() } else { items.join(", ") }
}
