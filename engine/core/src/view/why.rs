//! Why something is where it is, for people and programs.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;

use super::{EventView, Health, JobView, NodeRoleView};

/// A link of the chain of causes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct WhyLink {
    /// `NODE/ROLE`, or the node or role that is waited for.
    pub what: String,
    /// What there is to say of it.
    pub says: String,
}

/// An input as the last attempt read it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct InputView {
    /// Its name.
    pub name: String,
    /// Its value, unless secret or not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Value>,
    /// It is secret.
    pub secret: bool,
    /// The wire, or the layer that won.
    pub source: String,
    /// What set it.
    pub by: String,
    /// Of a value that a layer set: since which revision it is so, and who committed that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<SetView>,
}

/// The revision that set a value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SetView {
    /// Its number.
    pub revision: i32,
    /// Who committed it.
    pub by: String,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
}

/// Why a node role is where it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct WhyView {
    /// The node role.
    pub node_role: NodeRoleView,
    /// From the node role to the end of its chain of causes.
    pub chain: Vec<WhyLink>,
    /// Why it is in the deployment: `bound by the workload`, `required by etcd`, …
    pub because: String,
    /// What it reads.
    pub inputs: Vec<InputView>,
    /// What it last output; secrets left out.
    pub outputs: Value,
    /// Its attempts, newest first.
    pub jobs: Vec<JobView>,
    /// What last moved it, newest first.
    pub events: Vec<EventView>,
}

/// A step of the chain of jobs that decided when a revision was over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PathStep {
    /// The node of its node role.
    pub node: String,
    /// Its deployment role.
    pub role: String,
    /// `apply` or `remove`.
    pub action: String,
    /// Milliseconds from the end of what it waited for, or from the commit, to its claim.
    pub waited: i64,
    /// Milliseconds from its claim to its end.
    pub took: i64,
    /// What it waited for, `NODE/ROLE`; nothing but the commit if missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Why: `input urls`, `required`, `goes first`, `budget etcd`, `it had to leave first`, `the commit`.
    pub because: String,
}

/// Something that holds node roles.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct HeldView {
    /// What: the end of their chains of causes, in words.
    pub says: String,
    /// How many it holds.
    pub count: usize,
    /// One of them, `NODE/ROLE`.
    pub example: String,
}

/// Why a deployment is where it is, and where the time of a revision went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DeploymentWhyView {
    /// The deployment.
    pub name: String,
    /// How it is doing now.
    pub health: Health,
    /// The revision that is looked at.
    pub revision: i32,
    /// Is it the committed one?
    pub current: bool,
    /// What was committed, as in the history.
    pub what: String,
    /// Who committed it.
    pub committed_by: String,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub committed_at: OffsetDateTime,
    /// What holds node roles now, that which holds most of them first; nothing for a revision that is over.
    pub held: Vec<HeldView>,
    /// The chain of jobs that decided when it was over, or that it has come to so far.
    pub path: Vec<PathStep>,
    /// Its longest jobs, longest first.
    pub slowest: Vec<PathStep>,
    /// Milliseconds that what is left may take, by what such jobs took before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remaining: Option<u64>,
    /// Roles that are left and of which nothing is known: they are not in `remaining`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unknown: Vec<String>,
}
