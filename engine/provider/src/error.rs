//! What can go wrong with a provider.

use std::time::Duration;

/// What can go wrong with a provider.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// The provider can not do this at all.
    #[error("provider `{provider}` can not {what}")]
    Unsupported {
        /// Its name.
        provider: &'static str,
        /// What was asked.
        what: &'static str,
    },
    /// It needs something that is not here: root, a package, a kernel feature.
    #[error("provider `{provider}` needs {what}")]
    Needs {
        /// Its name.
        provider: &'static str,
        /// What is missing and how to get it.
        what: String,
    },
    /// An option in the document is wrong.
    #[error("option `{option}` of provider `{provider}`: {reason}")]
    Option {
        /// Its name.
        provider: &'static str,
        /// Which.
        option: String,
        /// What was expected.
        reason: String,
    },
    /// The node's name can not be used by this provider.
    #[error("provider `{provider}` can not call a node `{node}`: {reason}")]
    Name {
        /// Its name.
        provider: &'static str,
        /// The name asked for.
        node: String,
        /// What a name may be.
        reason: &'static str,
    },
    /// A command or system call failed.
    #[error("provider `{provider}` failed {doing} `{node}`: {reason}")]
    Failed {
        /// Its name.
        provider: &'static str,
        /// `creating`, `destroying`, …
        doing: &'static str,
        /// The node.
        node: String,
        /// What happened.
        reason: String,
    },
    /// The machine is there, but its SSH server did not answer in time.
    #[error("node `{node}` does not answer SSH at {address} within {}s: {reason}", limit.as_secs())]
    Silent {
        /// The node.
        node: String,
        /// Address and port.
        address: String,
        /// How long we waited.
        limit: Duration,
        /// The last thing heard, and the end of the console where there is one.
        reason: String,
    },
    /// The machine is not there.
    #[error("provider `{provider}` has no node `{node}`")]
    Absent {
        /// Its name.
        provider: &'static str,
        /// The node.
        node: String,
    },
}

impl ProviderError {
    /// Stable code, listed in docs/ERRORS.md.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unsupported { .. } => "provider-unsupported",
            Self::Needs { .. } => "provider-needs",
            Self::Option { .. } => "provider-option",
            Self::Name { .. } => "provider-name",
            Self::Failed { .. } => "provider-failed",
            Self::Silent { .. } => "provider-silent",
            Self::Absent { .. } => "provider-absent",
        }
    }

    /// Worth another attempt without a person looking first?
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Silent { .. } | Self::Failed { .. } => true,
            Self::Unsupported { .. }
            | Self::Needs { .. }
            | Self::Option { .. }
            | Self::Name { .. }
            | Self::Absent { .. } => false,
        }
    }
}
