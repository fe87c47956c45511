//! The neighbourhood that a judgement needs, as loaded by the store.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;

use super::allowance::Allowance;
use super::{Cause, Scope};
use crate::document::Object;
use crate::graph::{Graph, NodeName, RoleName};
use crate::id::{JobId, NodeId, VertexId};
use crate::state::{Goal, Phase, State};

/// A vertex as the store holds it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Vertex {
    /// Its id.
    pub id: VertexId,
    /// Its deployment role or helper.
    pub role: RoleName,
    /// Its node; helpers and roles of the deployment stand on the virtual node.
    pub node: NodeId,
    /// State, goal and flags.
    pub phase: Phase,
    /// Number of the oldest change it has not absorbed; set exactly while stale.
    pub since: Option<i64>,
    /// What holds it, while blocked.
    pub cause: Option<Cause>,
    /// To be judged by the next turn.
    pub wake: bool,
    /// Held back by a person.
    pub paused: bool,
    /// Digest of what is in force; unknown from the claim until success.
    pub applied: Option<String>,
    /// Digest of the attempt that failed last.
    pub failed: Option<String>,
    /// Digest of what `job` runs.
    pub frozen: Option<String>,
    /// Per input the digest of the value that the last success read.
    pub read: BTreeMap<String, String>,
    /// Values of `on_change: ignore` inputs, from the first success.
    pub kept: Object,
    /// Outputs of the last success. A gather's is `{"value": {"$digest": …}}`.
    pub outputs: Object,
    /// Its last success is in force.
    pub serving: bool,
    /// It was there when its node was made anew, and has not succeeded since.
    pub anew: bool,
    /// The running job.
    pub job: Option<JobId>,
    /// Content digest of the last attempt.
    pub content: Option<String>,
    /// Digest of the attempt that a person approved.
    pub approved: Option<String>,
    /// Number of attempts so far.
    pub attempts: i32,
    /// Code of the last failure, while failed.
    pub code: Option<String>,
    /// How often this attempt failed in a row.
    pub tries: i32,
    /// When it is tried again by itself, while failed.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub retry_at: Option<OffsetDateTime>,
    /// When what its last success told is to be made anew.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub renew_at: Option<OffsetDateTime>,
}

impl Vertex {
    /// A vertex that no revision has bound yet.
    pub fn new(id: VertexId, role: RoleName, node: NodeId) -> Self {
        Self {
            id,
            role,
            node,
            phase: Phase::PROPOSED,
            since: None,
            cause: None,
            wake: false,
            paused: false,
            applied: None,
            failed: None,
            frozen: None,
            read: BTreeMap::new(),
            kept: Object::new(),
            outputs: Object::new(),
            serving: false,
            anew: false,
            job: None,
            content: None,
            approved: None,
            attempts: 0,
            code: None,
            tries: 0,
            retry_at: None,
            renew_at: None,
        }
    }

    /// Is it gone?
    pub fn is_gone(&self) -> bool {
        self.phase.state == State::Gone
    }
}

/// Whether a node takes part.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// It takes part.
    #[default]
    In,
    /// It drops out of gathers and nothing runs on it; reversible.
    Aside,
    /// Never again.
    Lost,
}

/// What judging needs to know of a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeView {
    /// Its id.
    pub id: NodeId,
    /// Its name.
    pub name: NodeName,
    /// Its group in this deployment.
    pub group: String,
    /// Its standing.
    pub standing: Standing,
    /// May jobs be started on it: it exists and answers.
    pub ready: bool,
    /// Its facts.
    pub facts: Object,
}

/// Counts of one role's vertices. Kept by the store, written once per turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Present and stale.
    pub stale: i64,
    /// Present and failed; also counted as stale.
    pub failed: i64,
    /// Leaving and not gone.
    pub leaving: i64,
    /// Present and active.
    pub active: i64,
    /// Present and stale, and no reader waits for it: its node stands aside, or its failure is accepted. Leavers that it
    /// reads wait.
    pub unawaited: i64,
}

impl Tally {
    /// What one vertex counts for, on a node of this standing.
    pub fn of(phase: Phase, standing: Standing) -> Self {
        let present = phase.goal == Goal::Present;
        let counts = present && standing != Standing::Aside;
        let count = |yes: bool| i64::from(yes);
        Self {
            stale: count(counts && phase.holds_readers()),
            failed: count(counts && phase.state == State::Failed && !phase.accepted),
            leaving: count(!present && phase.state != State::Gone),
            active: count(counts && phase.state == State::Active),
            unawaited: count(present && phase.is_stale() && !(counts && phase.holds_readers())),
        }
    }

    /// How many are present and stale, whether readers wait for them or not.
    pub fn unsettled(&self) -> i64 {
        self.stale + self.unawaited
    }

    /// Adds what a vertex counts for after a move and takes away what it counted for before.
    pub fn shift(&mut self, before: Self, after: Self) {
        self.stale += after.stale - before.stale;
        self.failed += after.failed - before.failed;
        self.leaving += after.leaving - before.leaving;
        self.active += after.active - before.active;
        self.unawaited += after.unawaited - before.unawaited;
    }

    /// Nothing counted?
    pub fn is_zero(&self) -> bool {
        *self == Self::default()
    }
}

/// The loaded neighbourhood of one deployment. It is looked up more than anything else; its keys are ids and names of ours, so
/// they need no hashes that nobody can foresee.
#[derive(Clone, Debug, Default)]
pub struct Hood {
    /// The deployment is paused.
    pub paused: bool,
    /// Fields of the deployment that wires may read: `name`, …
    pub deployment: Object,
    /// Values of imports by `IMPORT.EXPORT`.
    pub imports: BTreeMap<String, Value>,
    /// Loaded nodes.
    pub nodes: FxHashMap<NodeId, NodeView>,
    /// Nodes all of whose vertices are loaded.
    pub whole: BTreeSet<NodeId>,
    /// Nodes of which as much is loaded as a scope says.
    pub near: FxHashMap<NodeId, Arc<Scope>>,
    /// Id of the virtual node. Its vertices are always loaded.
    pub virtual_node: Option<NodeId>,
    /// Loaded vertices.
    pub vertices: FxHashMap<VertexId, Box<Vertex>>,
    /// Loaded vertices by what held them when it was last looked: some may be held by something else by now.
    pub held: HashMap<Cause, Vec<VertexId>>,
    /// Where they stand.
    pub place: FxHashMap<RoleName, FxHashMap<NodeId, VertexId>>,
    /// Tallies of all roles of the deployment.
    pub tallies: FxHashMap<RoleName, Tally>,
    /// Budgets by name; those that nobody holds of may be missing.
    pub budgets: BTreeMap<String, Allowance>,
    /// Roles all of whose instances are loaded, with their nodes.
    pub all_of: BTreeSet<RoleName>,
    /// All nodes of the deployment are loaded.
    pub all_nodes: bool,
}

impl Hood {
    /// Adds a vertex, unless it is there already: what a turn has moved is not overwritten.
    pub fn add(&mut self, vertex: Vertex) {
        let Entry::Vacant(free) = self.vertices.entry(vertex.id) else { return };
        if let Some(cause) = &vertex.cause {
            self.held.entry(cause.clone()).or_default().push(vertex.id);
        }
        match self.place.get_mut(&vertex.role) {
            Some(places) => places.insert(vertex.node, vertex.id),
            None => self.place.entry(vertex.role.clone()).or_default().insert(vertex.node, vertex.id),
        };
        free.insert(Box::new(vertex));
    }

    /// Takes in that these were woken.
    pub fn woken(&mut self, vertices: &[VertexId]) {
        for id in vertices {
            if let Some(vertex) = self.vertices.get_mut(id) {
                vertex.wake = true;
            }
        }
    }

    /// Takes out a vertex that is gone: it is not loaded again.
    pub(super) fn forget(&mut self, id: VertexId) {
        if let Some(vertex) = self.vertices.remove(&id)
            && let Some(places) = self.place.get_mut(&vertex.role)
            && places.get(&vertex.node) == Some(&id)
        {
            places.remove(&vertex.node);
        }
    }

    /// The same without the nodes on which nothing runs and nothing is woken: they are loaded again if it is.
    #[must_use]
    pub fn without_idle(mut self) -> Self {
        let busy = |vertex: &&Vertex| vertex.wake || vertex.phase.state == State::Running;
        let all = self.vertices.values().map(AsRef::as_ref);
        let busy: HashSet<NodeId> = all.filter(busy).map(|vertex| vertex.node).collect();
        let virtual_node = self.virtual_node;
        let stays = |node: &NodeId| virtual_node == Some(*node) || busy.contains(node);
        self.whole.retain(&stays);
        self.near.retain(|node, _| stays(node));
        self.nodes.retain(|node, _| stays(node));
        let vertices: Vec<Box<Vertex>> =
            std::mem::take(&mut self.vertices).into_values().filter(|vertex| stays(&vertex.node)).collect();
        self.held.clear();
        self.place.clear();
        self.all_of.clear();
        self.all_nodes = false;
        for vertex in vertices {
            self.add(*vertex);
        }
        self
    }

    /// The vertex of a role on a node, if it is loaded.
    pub fn at(&self, role: &str, node: NodeId) -> Option<&Vertex> {
        self.vertices.get(self.place.get(role)?.get(&node)?).map(AsRef::as_ref)
    }

    /// The vertex of a role on the virtual node.
    pub fn on_virtual(&self, role: &str) -> Option<&Vertex> {
        self.at(role, self.virtual_node?)
    }

    /// The standing of a node, as far as it is loaded.
    pub fn standing(&self, node: NodeId) -> Standing {
        self.nodes.get(&node).map(|node| node.standing).unwrap_or_default()
    }

    /// The tally of a role.
    pub fn tally(&self, role: &str) -> Tally {
        self.tallies.get(role).copied().unwrap_or_default()
    }

    /// Is everything loaded that judging this vertex looks at on its node?
    pub fn can_judge(&self, graph: &Graph, vertex: &Vertex) -> bool {
        let near = || self.near.get(&vertex.node).is_some_and(|scope| scope.covers(graph, &vertex.role));
        self.is_whole(vertex.node) || near()
    }

    /// Are all vertices of this node loaded?
    pub fn is_whole(&self, node: NodeId) -> bool {
        self.virtual_node == Some(node) || self.whole.contains(&node)
    }
}
