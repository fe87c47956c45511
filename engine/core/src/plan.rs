//! `diff(current, desired) -> Plan`: what a commit would do to every node role, why, and what machines feel of it.
//!
//! Pure and deterministic. A plan is an upper bound: where a value is only known after a job has run, its readers are
//! listed as re-runs that may be spared. Where values follow from templates they are computed here, and readers of
//! what comes out equal are not listed at all.

pub mod dry_run;
mod effects;
mod hazard;
mod predict;
pub mod reach;
pub mod render;

pub(crate) use effects::felt;
pub use reach::Reach;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::catalog::diff::Upgrade;
use crate::catalog::{Catalog, CatalogRole};
use crate::diagnostic::Diagnostic;
use crate::digest;
use crate::document::Object;
use crate::effect::{Effect, EffectKind};
use crate::graph::{Graph, GraphRole, Kind, NodeName, RoleName, VIRTUAL};
use crate::value::Layer;

/// Deployments of more node roles do not list those that nothing happens to.
pub const MOST_LISTED: usize = 5_000;

/// What becomes of a node role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// It is new.
    Create,
    /// It was there and runs again.
    ReRun,
    /// It is removed.
    Leave,
    /// It would have to run again, but what it did is not done twice unless asked for.
    Outdated,
    /// Nothing happens to it.
    Untouched,
}

/// Why something becomes of a node role.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "cause", rename_all = "snake_case")]
pub enum Cause {
    /// It was not there.
    New,
    /// It was committed before and has not succeeded yet.
    NotYet,
    /// The content of its role changed: steps, files, executor or types.
    Content,
    /// An input has another value. Secrets say so and no more.
    Input {
        /// The input.
        input: String,
        /// What it was; missing if there was none or it is secret.
        #[serde(skip_serializing_if = "Option::is_none")]
        from: Option<Value>,
        /// What it becomes; missing if it is not known yet or secret.
        #[serde(skip_serializing_if = "Option::is_none")]
        to: Option<Value>,
        /// Who set it: a layer's author, or the wire.
        by: String,
    },
    /// The role declares this input no more.
    InputGone {
        /// The input.
        input: String,
    },
    /// Something above runs, and this input may change with it. May be spared.
    Below {
        /// The input.
        input: String,
        /// What runs above, `NODE/ROLE`.
        of: String,
    },
    /// An explicit override of this node role beats the wire of an input.
    Override {
        /// The input.
        input: String,
        /// Its layer.
        layer: Layer,
    },
    /// Nobody binds it any more.
    Unbound,
    /// Its last job failed; it waits for a change or a retry.
    Failed,
    /// A person wants it made anew.
    Redeployed,
}

impl Cause {
    /// May the job be spared, for all that this cause says?
    pub fn is_upper_bound(&self) -> bool {
        matches!(self, Self::Below { .. })
    }
}

/// A node role in a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Item {
    /// The node; `deployment` is the virtual one.
    pub node: NodeName,
    /// The deployment role.
    pub role: RoleName,
    /// What becomes of it.
    pub action: Action,
    /// It may yet be spared: only something above runs.
    #[serde(default)]
    pub may_be_spared: bool,
    /// Why.
    pub causes: Vec<Cause>,
    /// What the machine feels.
    pub effects: Vec<Effect>,
    /// Its role is not in the catalog any more, so its effects can not be told.
    #[serde(default)]
    pub effects_unknown: bool,
}

/// How many of each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Totals {
    /// New node roles.
    pub create: usize,
    /// Those that run again, with those that may be spared.
    pub re_run: usize,
    /// Of those, the ones that may be spared.
    pub may_be_spared: usize,
    /// Those removed.
    pub leave: usize,
    /// Those left as they are although outdated.
    pub outdated: usize,
    /// Those that nothing happens to.
    pub untouched: usize,
}

/// A job that waits for a person.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Approval {
    /// The node.
    pub node: NodeName,
    /// The deployment role.
    pub role: RoleName,
    /// What has to be approved.
    pub effect: EffectKind,
    /// Who wants that, besides the deployment itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// What a commit would do.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Plan {
    /// The deployment.
    pub deployment: String,
    /// Node roles: roles in order, then by node; leavers last, in reverse order. Of more than [`MOST_LISTED`] those that
    /// nothing happens to are only counted, unless there is something to say of them.
    pub items: Vec<Item>,
    /// How many of each.
    pub totals: Totals,
    /// Jobs that will wait for an approval.
    pub approvals: Vec<Approval>,
    /// Roles that go over to another content of the catalog, or to other limits, prose or probes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub upgrades: Vec<Upgrade>,
    /// Why it can not be applied, if so.
    pub problems: Vec<Diagnostic>,
}

impl Plan {
    /// Does nothing happen?
    pub fn is_empty(&self) -> bool {
        let Totals { create, re_run, leave, outdated, .. } = self.totals;
        create + re_run + leave + outdated == 0
    }

    /// Equal exactly where plans are.
    pub fn digest(&self) -> String {
        digest::of(&json!(self))
    }

    /// May it be applied?
    pub fn is_allowed(&self) -> bool {
        !self.problems.iter().any(Diagnostic::is_error)
    }
}

/// What is in force for one vertex.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    /// A success is in force.
    pub served: bool,
    /// Its last job failed.
    pub failed: bool,
    /// Content digest of the last attempt.
    pub content: String,
    /// Frozen inputs of the last attempt.
    pub inputs: Object,
    /// Its outputs.
    pub outputs: Object,
}

/// What is committed and what is in force.
#[derive(Clone, Copy, Debug)]
pub struct CurrentView<'a> {
    /// The committed graph.
    pub graph: &'a Graph,
    /// Vertices that are there (leavers too, gone ones not), helpers included.
    pub vertices: &'a BTreeMap<RoleName, BTreeMap<NodeName, Seen>>,
}

impl<'a> CurrentView<'a> {
    /// What is in force for a vertex.
    pub fn vertex(&self, role: &str, node: &str) -> Option<&'a Seen> {
        self.vertices.get(role)?.get(node)
    }
}

/// A node as a plan needs to know it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PlanNode {
    /// Facts known so far.
    pub facts: Object,
    /// It stands aside: out of gathers and choosers.
    pub aside: bool,
}

/// What is to be made anew.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Anew {
    /// Nodes all of whose node roles run again.
    pub nodes: BTreeSet<NodeName>,
    /// Of those, the ones whose provider makes the machine again.
    pub machines: BTreeSet<NodeName>,
    /// Node roles of the deployment itself, too.
    pub whole: bool,
}

impl Anew {
    /// Is what stands on this node made anew?
    pub fn covers(&self, node: &str) -> bool {
        if node == VIRTUAL { self.whole } else { self.nodes.contains(node) }
    }
}

/// Finds the role behind a content digest.
pub trait Contents {
    /// The role, by its name and content.
    fn role(&self, name: &str, content: &str) -> Option<&CatalogRole>;
}

impl Contents for Catalog {
    fn role(&self, name: &str, content: &str) -> Option<&CatalogRole> {
        self.roles.get(name).filter(|role| role.content == content)
    }
}

/// By content digest.
impl Contents for BTreeMap<String, CatalogRole> {
    fn role(&self, _: &str, content: &str) -> Option<&CatalogRole> {
        self.get(content)
    }
}

/// Everything that a plan follows from.
#[derive(Clone, Copy)]
pub struct PlanInput<'a> {
    /// What is there; nothing for a new deployment.
    pub current: Option<CurrentView<'a>>,
    /// What is wanted.
    pub desired: &'a Graph,
    /// Roles of both.
    pub contents: &'a dyn Contents,
    /// Nodes of both, as far as they are known.
    pub nodes: &'a BTreeMap<NodeName, PlanNode>,
    /// Values of imports, by `IMPORT.EXPORT`.
    pub imports: &'a BTreeMap<String, Value>,
    /// Old names of deployment roles to new ones.
    pub moved: &'a BTreeMap<RoleName, RoleName>,
    /// What is made anew although nothing of it changed.
    pub anew: &'a Anew,
    /// Where to look; everywhere, if nothing is said. What is not looked at need not be in the view.
    pub reach: Option<&'a Reach>,
}

impl<'a> PlanInput<'a> {
    /// The name under which a deployment role was known before.
    fn old_name(&self, role: &'a str) -> &'a str {
        let there = |old: &str| self.current.is_some_and(|current| current.graph.roles.contains_key(old));
        let old = self.moved.iter().find(|(_, new)| *new == role).map(|(old, _)| old.as_str());
        old.filter(|old| there(old) && !self.desired.roles.contains_key(*old)).unwrap_or(role)
    }

    fn seen(&self, role: &'a str, node: &str) -> Option<&'a Seen> {
        self.current?.vertex(self.old_name(role), node)
    }
}

/// What becomes of the instances of a role, as far as the change reaches. Parents come before their children.
fn look_at<'a>(
    reach: Option<&Reach>,
    predictor: &mut predict::Predictor<'a>,
    role: &'a GraphRole,
) -> BTreeMap<&'a NodeName, Item> {
    let Some(reach) = reach else {
        return role.bound.iter().map(|node| (node, predictor.vertex(role, node))).collect();
    };
    let mut looked_at = BTreeMap::new();
    for node in reach.looks_at(role) {
        let predicted = reach.predicts(role, node);
        let item = if predicted { predictor.vertex(role, node) } else { predictor.rests(role, node) };
        looked_at.insert(node, item);
    }
    looked_at
}

/// What a commit of `desired` would do.
pub fn diff(input: &PlanInput) -> Plan {
    let mut plan = Plan { deployment: input.desired.deployment.clone(), ..Plan::default() };
    let mut predictor = predict::Predictor::new(*input);
    let lists_all = input.desired.vertex_count() <= MOST_LISTED;
    for name in &input.desired.order {
        let role = &input.desired.roles[name];
        let mut looked_at = look_at(input.reach, &mut predictor, role);
        if role.kind != Kind::Work {
            continue;
        }
        let silent = |item: &Item| item.action == Action::Untouched && item.causes.is_empty();
        if lists_all {
            let listed = role.bound.iter();
            plan.items.extend(listed.map(|node| looked_at.remove(node).unwrap_or_else(|| untouched(role, node))));
        } else {
            plan.totals.untouched += role.bound.len() - looked_at.values().filter(|item| !silent(item)).count();
            plan.items.extend(looked_at.into_values().filter(|item| !silent(item)));
        }
    }
    plan.items.extend(leavers(input));
    for item in &plan.items {
        let totals = &mut plan.totals;
        match item.action {
            Action::Create => totals.create += 1,
            Action::ReRun => {
                totals.re_run += 1;
                totals.may_be_spared += usize::from(item.may_be_spared);
            }
            Action::Leave => totals.leave += 1,
            Action::Outdated => totals.outdated += 1,
            Action::Untouched => totals.untouched += 1,
        }
    }
    plan.problems = hazard::moves(input);
    plan.problems.extend(hazard::destroys(input, &predictor));
    plan.problems.extend(hazard::order(input, &plan.items));
    let (problems, approvals) = effects::policy(input.desired, &plan.items);
    plan.problems.extend(problems);
    plan.approvals = approvals;
    plan
}

/// One that nothing happens to.
fn untouched(role: &GraphRole, node: &NodeName) -> Item {
    Item {
        node: node.clone(),
        role: role.name.clone(),
        action: Action::Untouched,
        may_be_spared: false,
        causes: Vec::new(),
        effects: Vec::new(),
        effects_unknown: false,
    }
}

/// Vertices that are there and wanted no more, children first.
fn leavers(input: &PlanInput) -> Vec<Item> {
    let Some(current) = input.current else { return Vec::new() };
    let mut items = Vec::new();
    for name in current.graph.order.iter().rev() {
        let role = &current.graph.roles[name];
        if role.kind != Kind::Work {
            continue;
        }
        for (node, seen) in current.vertices.get(name).into_iter().flatten() {
            if stays(input, name, node) {
                continue;
            }
            let content = if seen.content.is_empty() { &role.content } else { &seen.content };
            let effects = effects::leave(input.contents.role(&role.role, content), &seen.inputs);
            items.push(Item {
                node: node.clone(),
                role: name.clone(),
                action: Action::Leave,
                may_be_spared: false,
                causes: vec![Cause::Unbound],
                effects_unknown: effects.is_none(),
                effects: effects.unwrap_or_default(),
            });
        }
    }
    items
}

fn stays(input: &PlanInput, name: &str, node: &str) -> bool {
    let bound = |name: &str| input.desired.roles.get(name).is_some_and(|role| role.bound.contains(node));
    bound(name) || input.moved.get(name).is_some_and(|new| input.old_name(new) == name && bound(new))
}

/// `NODE/ROLE`, as people address a node role.
fn address(node: &str, role: &str) -> String {
    format!("{node}/{role}")
}

/// Nodes on which instances of a role feed a gather or chooser.
fn members<'g>(input: &PlanInput, role: &'g GraphRole, graph: &Graph, group: Option<&str>) -> BTreeSet<&'g str> {
    let is_in = |node: &str| {
        let bound = graph.nodes.get(node).is_some_and(|node| group.is_none_or(|group| node.group == group));
        (bound || node == VIRTUAL) && !input.nodes.get(node).is_some_and(|node| node.aside)
    };
    role.bound.iter().map(String::as_str).filter(|node| is_in(node)).collect()
}

#[cfg(test)]
mod tests;
