//! What goes into a turn and what comes out of it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;

use crate::document::Object;
use crate::graph::{NodeName, RoleName};
use crate::id::{JobId, NodeId, VertexId};
use crate::settle::allowance::{Count, Token};
use crate::settle::{Frozen, Tally, Vertex};
use crate::state::{Event, State};

/// What an executor says of a job it ran.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The attempt.
    pub job: JobId,
    /// The vertex it was for.
    pub vertex: VertexId,
    /// Validated outputs (apply), nothing (remove), or why it failed.
    pub result: Result<Object, Failure>,
    /// When it ended, if the executor itself said that it failed: only then may it be repeated by itself.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub failed_at: Option<OffsetDateTime>,
}

/// Why a job failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Stable code.
    pub code: String,
    /// One sentence.
    pub message: String,
}

/// A job to be run by whoever asked for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    /// The attempt.
    pub job: JobId,
    /// The vertex.
    pub vertex: VertexId,
    /// Its role.
    pub role: RoleName,
    /// Name of the node that it stands on.
    pub place: NodeName,
    /// Which attempt of its vertex, from 1.
    pub attempt: i32,
    /// Apply or remove.
    pub remove: bool,
    /// The node it is performed on.
    pub node: NodeId,
    /// The frozen inputs (apply); those that the inputs of the last apply are replaced by (remove).
    pub frozen: Frozen,
    /// Inputs whose value differs from that of the last success.
    pub changed: BTreeSet<String>,
}

/// An event as it is stored: which vertex moved how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Moved {
    /// The vertex.
    pub vertex: VertexId,
    /// What happened.
    pub event: Event,
    /// Before.
    pub from: State,
    /// After.
    pub to: State,
    /// The job that it is about.
    pub job: Option<JobId>,
    /// Code, cause, changed outputs: whatever explains it.
    pub detail: Value,
}

/// Rows that a turn must see before it can go on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wants {
    /// All instances of these roles, with their nodes.
    pub roles: BTreeSet<RoleName>,
    /// All nodes of the deployment.
    pub nodes: bool,
    /// These nodes, with all their vertices.
    pub whole: BTreeSet<NodeName>,
}

impl Wants {
    /// Nothing wanted?
    pub fn is_empty(&self) -> bool {
        self.roles.is_empty() && !self.nodes && self.whole.is_empty()
    }
}

/// What a turn changed, to be written in its transaction.
#[derive(Clone, Debug, Default)]
pub struct Written {
    /// Vertices that moved or were judged.
    pub vertices: Vec<Vertex>,
    /// Events, in order.
    pub events: Vec<Moved>,
    /// Of these vertices the ones whose cause is the only way to find them. Whoever moves what holds the others has
    /// them at hand.
    pub sought: BTreeSet<VertexId>,
    /// Vertices held by one of these causes are to be woken, as far as they are found by it.
    pub wake: BTreeSet<String>,
    /// What nodes hold of budgets from now on; nothing is given back.
    pub tokens: BTreeMap<(String, NodeId), Option<Token>>,
    /// Of those held by one of these causes so many are to be woken: repairs first, then by name of their node.
    pub free: BTreeMap<String, usize>,
    /// By budget what counts of it from now on, where it is not what others were told.
    pub counts: BTreeMap<String, Count>,
    /// Less counts of a budget that others share: they may go on.
    pub lets_go: bool,
    /// Changes of tallies.
    pub tallies: BTreeMap<RoleName, Tally>,
    /// Values stored by digest.
    pub values: BTreeMap<String, Value>,
    /// Jobs that were claimed.
    pub claims: Vec<Claim>,
    /// Jobs that are closed without a report, for their machine is made anew. What still comes of them is refused.
    pub abandoned: BTreeSet<JobId>,
}
