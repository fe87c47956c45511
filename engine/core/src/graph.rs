//! The compiled graph of a deployment: deployment roles, helpers, wires and what stands above what.
//!
//! It is kept per *role*, not per node role: its size is that of the bundle plus the bindings. A vertex is a pair of
//! a graph role and a node on which that role is bound; edges between vertices follow from the wires:
//!
//! * [`Source::Output`]: the vertex of the supplier on the same node, or on the virtual node if the supplier stands
//!   there.
//! * [`Source::Helper`]: the gather or chooser vertex, which stands on the virtual node. All instances of its role
//!   feed it: N + M edges instead of N × M.
//! * [`Source::Node`] and [`Source::Deployment`]: facts, no vertex.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::document::{At, Budget, OnChange, Policy};
use crate::effect::Felt;
use crate::value::{Layered, strongest};

/// Name of a deployment role or helper, unique in its deployment. Helpers are called after what they do, such as
/// `map node.address` or `one etcd`.
pub type RoleName = String;

/// Name of a node. The virtual node of a deployment is [`VIRTUAL`].
pub type NodeName = String;

/// The name under which the virtual node stands in bindings and in addresses of node roles (`NAME/ROLE`).
pub const VIRTUAL: &str = "deployment";

/// Is this the name of a gather or chooser? Theirs are wires, such as `map etcd.client_url`; names of deployment roles
/// have no blanks.
pub fn is_helper(role: &str) -> bool {
    role.contains(' ')
}

fn one() -> u32 {
    1
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_one(weight: &u32) -> bool {
    *weight == 1
}

/// A deployment, compiled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Graph {
    /// Name of the deployment.
    pub deployment: String,
    /// Name of the workload.
    pub workload: String,
    /// Nodes in the deployment, each with its group.
    pub nodes: BTreeMap<NodeName, GraphNode>,
    /// Deployment roles and helpers.
    pub roles: BTreeMap<RoleName, GraphRole>,
    /// All role names, parents before children; equals by name.
    pub order: Vec<RoleName>,
    /// Budgets of the workload.
    pub budgets: BTreeMap<String, Budget>,
    /// By budget the number of nodes on which a role stands that disrupts it.
    #[serde(default)]
    pub members: BTreeMap<String, usize>,
    /// By budget what it began with.
    #[serde(default)]
    pub founders: BTreeMap<String, Founders>,
    /// Policy of the deployment.
    pub policy: Policy,
    /// Who wants what of it besides the deployment itself.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub policy_by: crate::policy::Wanted,
    /// Its part of the places for jobs beside those of others.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub weight: u32,
    /// Export name to deployment role and output.
    pub exports: BTreeMap<String, (RoleName, String)>,
    /// What other deployments are to export for it, by name of the import.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub imports: BTreeMap<String, Imported>,
    /// The parameters, with defaults.
    pub parameters: Value,
    /// By reader, data edges of former revisions that this one does not draw any more. A reader that has not run since
    /// still holds what it read, so those who leave wait for it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub dropped: BTreeMap<RoleName, BTreeSet<Edge>>,
}

/// What was bound while nothing of a budget served yet. Its first creation takes nothing of the budget.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Founders {
    /// Roles that take from the budget.
    pub roles: BTreeSet<RoleName>,
    /// Nodes on which they stand.
    pub nodes: BTreeSet<NodeName>,
}

/// What one deployment reads of another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Imported {
    /// Name of the deployment that exports it.
    pub deployment: String,
    /// Export name to the schema that its value has to fit.
    pub exports: BTreeMap<String, Value>,
}

/// A node as the graph sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GraphNode {
    /// Its group; a node is in exactly one.
    pub group: String,
}

/// What a vertex of this role is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Kind {
    /// A node role with work, or at least outputs.
    Work,
    /// All instances of one output, as one value.
    Gather {
        /// What is gathered.
        of: Gathered,
        /// `each` (array by node name) or `map` (object by node name).
        map: bool,
        /// Only instances in this group.
        group: Option<String>,
    },
    /// One instance of a role, with memory. Its output `node` is the name of the chosen node.
    Chooser {
        /// The role chosen from.
        of: RoleName,
        /// Only instances in this group.
        group: Option<String>,
    },
}

/// What a gather gathers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "from", rename_all = "snake_case")]
pub enum Gathered {
    /// An output (and a path into it) of all instances of a role.
    Output {
        /// The role.
        role: RoleName,
        /// Its output; `None` is all outputs as one object, cut down to `only`.
        output: Option<String>,
        /// Further keys.
        path: Vec<String>,
        /// Of a whole interface: the outputs that it names.
        only: Option<BTreeSet<String>>,
    },
    /// A fact of all nodes.
    Fact {
        /// Its name.
        fact: String,
        /// Further keys.
        path: Vec<String>,
    },
}

/// A deployment role or a helper.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GraphRole {
    /// Its name, also the key in [`Graph::roles`].
    pub name: RoleName,
    /// Work, gather or chooser.
    #[serde(flatten)]
    pub kind: Kind,
    /// The catalog's role; empty for helpers.
    pub role: String,
    /// Content digest of that role; for helpers a digest of what they gather.
    pub content: String,
    /// Does it stand on the virtual node?
    pub on_virtual: bool,
    /// Where the action is performed.
    pub at: At,
    /// Who performs it.
    pub executor: Executor,
    /// May users bind it, or is it here only because others need it?
    pub milestone: bool,
    /// Why it is here: `bound by the workload`, `required by etcd`, …
    pub because: String,
    /// Its inputs.
    pub inputs: BTreeMap<String, GraphInput>,
    /// Its outputs.
    pub outputs: BTreeMap<String, GraphOutput>,
    /// Edges to direct parents, each with why it exists.
    pub parents: Vec<Edge>,
    /// What must be at rest before it may be judged.
    pub above: Above,
    /// Nodes it is bound on ([`VIRTUAL`] alone if `on_virtual`).
    pub bound: BTreeSet<NodeName>,
    /// Interfaces it provides.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub provides: BTreeSet<String>,
    /// Roles and interfaces that it can not share a node with.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub conflicts: BTreeSet<String>,
    /// Budgets it disrupts.
    pub disrupts: BTreeSet<String>,
    /// Budgets of the workload that a job of it takes from: those it disrupts, with those of its descendants on the node.
    #[serde(default)]
    pub takes: BTreeSet<String>,
    /// What machines feel of its jobs.
    #[serde(default)]
    pub felt: Felt,
    /// Never re-run once it served, unless armed.
    pub destructive: bool,
    /// The output (a date-time) after which it is stale.
    pub renew_at: Option<String>,
    /// Seconds a job of it may take.
    pub timeout: u64,
    /// What becomes of a job that failed; without it a person decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
}

/// How often a job that failed is tried by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    /// Tries in all, the first among them.
    pub attempts: i32,
    /// Seconds before the second try.
    pub backoff: u64,
}

impl Retry {
    /// The wait before the second try where the role does not say.
    pub const BACKOFF: u64 = 10;
    /// No wait is longer.
    const LONGEST: u64 = 3600;

    /// Seconds to wait after so many tries that failed, each twice as long as the one before; `None` after the last one.
    pub fn wait(self, failed: i32) -> Option<u64> {
        let doubled = u32::try_from(failed - 1).ok().filter(|_| failed < self.attempts)?;
        Some(self.backoff.saturating_mul(1 << doubled.min(12)).min(Self::LONGEST))
    }
}

impl GraphRole {
    /// Can the two not be on one node? Providers of one interface can not, nor whom either says so of.
    pub fn is_in_conflict(&self, other: &Self) -> bool {
        let says =
            |by: &Self, of: &Self| by.conflicts.iter().any(|name| *name == of.role || of.provides.contains(name));
        !self.provides.is_disjoint(&other.provides) || says(self, other) || says(other, self)
    }

    /// The value of an input that layers feed, as a node of a group sees it: that of the strongest one.
    pub fn layered(&self, input: &str, node: &str, group: &str) -> Option<&Layered> {
        let fed = self.inputs.get(input)?;
        if let Some(value) = fed.overrides.get(node) {
            return Some(value);
        }
        match fed.source.in_group(group)? {
            Source::Layers { base, groups, nodes } => {
                strongest(base.iter().chain(groups.get(group)).chain(nodes.get(node)))
            }
            _ => None,
        }
    }

    /// Where the value of an input comes from, as a node of a group sees it: the wire or the winning layer, and what
    /// set it.
    pub fn origin(&self, input: &str, node: &str, group: &str) -> (String, String) {
        let wire = self.parents.iter().find_map(|edge| match &edge.why {
            Why::Data { input: of, wire } if of == input => Some((wire.clone(), edge.parent.clone())),
            _ => None,
        });
        let Some(fed) = self.inputs.get(input) else { return ("nothing".to_owned(), String::new()) };
        if let Some(value) = self.layered(input, node, group) {
            return (value.layer.as_str().to_owned(), value.by.clone());
        }
        let with = |what: &str, name: &str, path: &[String]| {
            let name = std::iter::once(name).chain(path.iter().map(String::as_str)).collect::<Vec<_>>().join(".");
            format!("{what}.{name}")
        };
        match fed.source.in_group(group) {
            Some(Source::Node { fact, path }) => (with("node", fact, path), "facts of the node".to_owned()),
            Some(Source::Deployment { field, path }) => (with("deployment", field, path), "the deployment".to_owned()),
            Some(Source::Import { import, output, path }) => (with(import, output, path), "an import".to_owned()),
            Some(Source::Layers { .. }) => ("nothing".to_owned(), String::new()),
            _ => wire.unwrap_or_else(|| ("nothing".to_owned(), String::new())),
        }
    }
}

/// Who performs a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", content = "name", rename_all = "snake_case")]
pub enum Executor {
    /// Nobody: all outputs follow from inputs.
    Noop,
    /// Steps, by the agent.
    Agent,
    /// A driver in the engine.
    Driver(String),
}

/// An input and what feeds it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GraphInput {
    /// JSON Schema, references resolved.
    pub schema: Value,
    /// Where the value comes from.
    pub source: Source,
    /// What a change does.
    pub on_change: OnChange,
    /// Is it secret?
    pub secret: bool,
    /// Why it could not be decided that supplier and input fit, if so. Validated when the value arrives.
    pub undecided: Option<String>,
    /// Explicit overrides of single node roles, for an input that has a wire. They beat the wire; the plan flags them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub overrides: BTreeMap<NodeName, Layered>,
}

/// An output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GraphOutput {
    /// JSON Schema, references resolved.
    pub schema: Value,
    /// Template over the inputs, when it follows from them.
    pub value: Option<Value>,
    /// Is it secret?
    pub secret: bool,
}

/// Where the value of an input comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "source", rename_all = "snake_case")]
pub enum Source {
    /// An output of the instance on this node, or on the virtual node.
    Output {
        /// The deployment role.
        role: RoleName,
        /// Its output; `None` is all outputs as one object, cut down to `only`.
        output: Option<String>,
        /// Further keys.
        path: Vec<String>,
        /// Of a whole interface: the outputs that it names.
        only: Option<BTreeSet<String>>,
    },
    /// A gather: its value.
    Gather {
        /// The helper.
        helper: RoleName,
    },
    /// A chooser (`one`): an output of the chosen instance.
    Chosen {
        /// The helper.
        helper: RoleName,
        /// The role chosen from.
        role: RoleName,
        /// Its output.
        output: Option<String>,
        /// Further keys.
        path: Vec<String>,
    },
    /// `at ROLE.OUTPUT`: an output of a role on the node where this job is performed, chosen at the claim.
    At {
        /// The role.
        role: RoleName,
        /// Its output.
        output: String,
        /// Further keys.
        path: Vec<String>,
    },
    /// A fact of this node.
    Node {
        /// Its name.
        fact: String,
        /// Further keys.
        path: Vec<String>,
    },
    /// A field of the deployment: `name`, `zone`, …
    Deployment {
        /// Its name.
        field: String,
        /// Further keys.
        path: Vec<String>,
    },
    /// An export of another deployment.
    Import {
        /// Name of the import.
        import: String,
        /// Name of the export.
        output: String,
        /// Further keys.
        path: Vec<String>,
    },
    /// Layers. The strongest that says something about the node wins.
    Layers {
        /// What holds for every node.
        base: Option<Layered>,
        /// The group layer.
        groups: BTreeMap<String, Layered>,
        /// What holds for single nodes: the strongest of their facts, provider, node layer and override.
        nodes: BTreeMap<NodeName, Layered>,
    },
    /// An interface with a different provider in each group.
    ByGroup {
        /// By group of the reader's node.
        groups: BTreeMap<String, Source>,
    },
}

impl Source {
    /// The source as a node of this group sees it; `None` if the group has no provider.
    pub fn in_group(&self, group: &str) -> Option<&Self> {
        match self {
            Self::ByGroup { groups } => groups.get(group),
            other => Some(other),
        }
    }
}

/// Why an edge exists.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum Why {
    /// An output feeds an input.
    Data {
        /// The child's input.
        input: String,
        /// The wire as written, such as `map etcd.client_url`.
        wire: String,
    },
    /// The child needs the parent active.
    Requires,
    /// The parent goes first where both are bound. Waits only for what moves.
    Precedes,
}

/// How the vertices of parent and child are paired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Pairing {
    /// On the same node (both on the virtual node included).
    Same,
    /// The parent stands on the virtual node, the child does not.
    FromVirtual,
    /// All instances of the parent feed the child: into a gather or chooser, or `requires` of a virtual role.
    All,
    /// The instance on the chosen node feeds the child.
    Chosen,
}

/// An edge from a parent to the role that holds it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Edge {
    /// The parent.
    pub parent: RoleName,
    /// How vertices are paired.
    pub pairing: Pairing,
    /// Why it exists.
    #[serde(flatten)]
    pub why: Why,
}

impl Edge {
    /// Is it order only where both move?
    pub fn is_soft(&self) -> bool {
        self.why == Why::Precedes
    }
}

/// The keys above: what must not be stale when a vertex of this role is judged. Their number is that of roles.
/// Soft edges are not followed: `precedes` is looked at for the direct parent alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Above {
    /// Roles above whose instance on the same node counts (every path stays on the node).
    pub same: BTreeSet<RoleName>,
    /// Roles above any of whose instances counts (a path crosses a gather, a chooser or the virtual node).
    pub anywhere: BTreeSet<RoleName>,
    /// Of the roles in `anywhere`, those of which only instances in these groups count. To look at all instances is
    /// safe, for it only waits longer.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub within: BTreeMap<RoleName, BTreeSet<String>>,
    /// By chooser: roles above whose instance on the chosen node counts.
    pub chosen: BTreeMap<RoleName, BTreeSet<RoleName>>,
}

impl Graph {
    /// Direct children of a role, each with the edge that leads to it.
    pub fn children<'a>(&'a self, parent: &'a str) -> impl Iterator<Item = (&'a GraphRole, &'a Edge)> {
        self.roles
            .values()
            .flat_map(move |role| role.parents.iter().filter(move |edge| edge.parent == parent).map(move |e| (role, e)))
    }

    /// Who may hold what a role told: its children, and those that were before they were wired otherwise.
    pub fn readers<'a>(&'a self, parent: &'a str) -> impl Iterator<Item = (&'a GraphRole, &'a Edge)> {
        let dropped = self.dropped.iter().filter_map(|(child, edges)| Some((self.roles.get(child)?, edges)));
        let dropped = dropped.flat_map(|(child, edges)| edges.iter().map(move |edge| (child, edge)));
        self.children(parent).chain(dropped.filter(move |(_, edge)| edge.parent == parent))
    }

    /// Roles that can not be on a node together with this one; they hand over to each other.
    pub fn rivals<'a>(&'a self, role: &'a GraphRole) -> impl Iterator<Item = &'a GraphRole> {
        self.roles.values().filter(move |other| other.name != role.name && other.is_in_conflict(role))
    }

    /// Number of vertices.
    pub fn vertex_count(&self) -> usize {
        self.roles.values().map(|role| role.bound.len()).sum()
    }
}
