//! Judging: may this vertex run, has it anything to do, and if not, which one thing is it waiting for?
//!
//! Works on a [`Hood`]: the loaded neighbourhood of the vertices in question, never a whole deployment.

pub mod allowance;
pub mod commit;
pub mod hood;
pub mod judge;
mod leaver;
mod scope;
pub mod turn;

pub use hood::{Hood, NodeView, Tally, Vertex};
pub use judge::{Frozen, Verdict, judge};
pub use scope::Scope;
pub use turn::{Claim, Report, Turn, Written};

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::graph::RoleName;
use crate::id::{NodeId, VertexId};

/// The one thing that holds a vertex back. Its key is stored in the row: cause and wake-up are one column.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "cause", rename_all = "snake_case")]
pub enum Cause {
    /// A stale vertex above it.
    Vertex {
        /// Which.
        vertex: VertexId,
    },
    /// A vertex that goes first where both move (`precedes`).
    Before {
        /// Which.
        vertex: VertexId,
    },
    /// Some instance of a role above it is stale.
    Role {
        /// The role.
        role: RoleName,
    },
    /// A leaver waits until the leaving instances of a role are gone.
    Leaving {
        /// The role.
        role: RoleName,
    },
    /// No instance of the role that `at` names is active.
    NoneActive {
        /// The role.
        role: RoleName,
    },
    /// The node is not there yet, does not answer, or stands aside.
    Node {
        /// The node.
        node: NodeId,
    },
    /// The deployment, or this vertex, is paused.
    Paused,
    /// A person has to allow what it would do to its machine.
    Approval {
        /// Effects that the policy wants approved, joined by `+`.
        effects: String,
        /// Digest of the attempt; what is approved is this and no other.
        digest: String,
    },
    /// As many nodes of a budget are out of service as may be, or more of them failed than are borne.
    Budget {
        /// The budget.
        budget: String,
    },
    /// As many nodes of all deployments that share a budget are out of service as may be, or more of them failed than are borne.
    Shared {
        /// The budget.
        budget: String,
    },
    /// Another node of a budget is worked on; those that fail their checks wait for one another.
    InTurn {
        /// The budget.
        budget: String,
    },
    /// Another deployment has not told yet what is imported from it.
    Import {
        /// The other deployment.
        deployment: String,
        /// Its export.
        export: String,
    },
    /// Another node joins or leaves a budget with a quorum.
    Member {
        /// The budget.
        budget: String,
    },
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vertex { vertex } => write!(f, "v:{vertex}"),
            Self::Before { vertex } => write!(f, "s:{vertex}"),
            Self::Role { role } => write!(f, "r:{role}"),
            Self::Leaving { role } => write!(f, "l:{role}"),
            Self::NoneActive { role } => write!(f, "a:{role}"),
            Self::Node { node } => write!(f, "n:{node}"),
            Self::Paused => write!(f, "p:"),
            Self::Approval { effects, digest } => write!(f, "y:{effects}:{digest}"),
            Self::Budget { budget } => write!(f, "b:{budget}"),
            Self::Shared { budget } => write!(f, "g:{budget}"),
            Self::InTurn { budget } => write!(f, "t:{budget}"),
            Self::Import { deployment, export } => write!(f, "i:{deployment}.{export}"),
            Self::Member { budget } => write!(f, "m:{budget}"),
        }
    }
}

/// The text is not the key of a cause.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not the key of a cause")]
pub struct BadCause(String);

impl FromStr for Cause {
    type Err = BadCause;

    fn from_str(text: &str) -> Result<Self, BadCause> {
        let bad = || BadCause(text.to_owned());
        let (kind, rest) = text.split_once(':').ok_or_else(bad)?;
        Ok(match kind {
            "v" => Self::Vertex { vertex: rest.parse().map_err(|_| bad())? },
            "s" => Self::Before { vertex: rest.parse().map_err(|_| bad())? },
            "r" => Self::Role { role: rest.to_owned() },
            "l" => Self::Leaving { role: rest.to_owned() },
            "a" => Self::NoneActive { role: rest.to_owned() },
            "n" => Self::Node { node: rest.parse().map_err(|_| bad())? },
            "p" => Self::Paused,
            "y" => {
                let (effects, digest) = rest.split_once(':').ok_or_else(bad)?;
                Self::Approval { effects: effects.to_owned(), digest: digest.to_owned() }
            }
            "b" => Self::Budget { budget: rest.to_owned() },
            "g" => Self::Shared { budget: rest.to_owned() },
            "t" => Self::InTurn { budget: rest.to_owned() },
            "i" => {
                let (deployment, export) = rest.split_once('.').ok_or_else(bad)?;
                Self::Import { deployment: deployment.to_owned(), export: export.to_owned() }
            }
            "m" => Self::Member { budget: rest.to_owned() },
            _ => return Err(bad()),
        })
    }
}
