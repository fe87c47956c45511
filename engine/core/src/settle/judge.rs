//! One judgement: a vertex and its neighbourhood in, a verdict out.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Cause, Hood, NodeView, Vertex, allowance, leaver};
use crate::digest;
use crate::document::{At, Object, OnChange};
use crate::effect::EffectKind;
use crate::graph::{Gathered, Graph, GraphRole, Kind, NodeName, Pairing, RoleName, Source};
use crate::id::NodeId;
use crate::identity;
use crate::settle::hood::Standing;
use crate::state::{Goal, State};
use crate::value::{Layered, at_path, strongest};

/// Inputs as a claim freezes them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Frozen {
    /// Values by input. A gather's value is a reference, `{"$digest": …}`, resolved when the job is sent.
    pub values: Object,
    /// Inputs that have no value: the supplier did not output it, or a fact is not known.
    pub missing: BTreeSet<String>,
    /// Digest of each value that counts.
    pub read: BTreeMap<String, String>,
    /// `hash(content, inputs)`.
    pub digest: String,
}

/// Stands for the digest where what is approved is a removal.
const REMOVE: &str = "remove";

/// What is to be done with a stale vertex.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Not yet, because of this one thing.
    Hold(Cause),
    /// Nothing: what is in force is what would be made.
    Same,
    /// Nothing: this very attempt failed before.
    SameAsFailed,
    /// It may begin.
    Go(Frozen),
    /// A helper: its new value is known at once.
    Settle(Object),
    /// Cannot be judged before all instances of this role are loaded.
    LoadRole(RoleName),
    /// Cannot be judged before all nodes of the deployment are loaded.
    LoadNodes,
    /// Cannot be judged before this node, which a chooser chose, is loaded whole.
    LoadNode(NodeName),
}

/// Judges one vertex. Its node must be loaded whole.
pub fn judge(graph: &Graph, hood: &Hood, vertex: &Vertex) -> Verdict {
    let Some(role) = graph.roles.get(&vertex.role) else {
        // A role that no revision knows any more can only leave.
        return Verdict::Go(Frozen::default());
    };
    // What is above comes first: of all that a node or a pause holds, only the uppermost need be woken when it is over.
    if vertex.phase.goal == Goal::Absent {
        return match leaver::held(graph, hood, vertex).or_else(|| standing(hood, vertex, role)) {
            Some(cause) => Verdict::Hold(cause),
            None => {
                let frozen = Frozen { values: leaver::inputs(graph, hood, vertex), ..Frozen::default() };
                begin(graph, hood, vertex, role, frozen)
            }
        };
    }
    if let Some(node) = unseen_choice(hood, role) {
        return Verdict::LoadNode(node);
    }
    let above = above(hood, vertex, role).or_else(|| before(hood, vertex, role));
    if let Some(cause) = above.or_else(|| standing(hood, vertex, role)) {
        return Verdict::Hold(cause);
    }
    match &role.kind {
        Kind::Work => work(graph, hood, vertex, role),
        Kind::Gather { of: Gathered::Fact { fact, path }, map, group } => {
            if !hood.all_nodes {
                return Verdict::LoadNodes;
            }
            facts(graph, hood, (fact, path), group.as_deref(), *map)
        }
        Kind::Gather { of: Gathered::Output { role, output, path, only }, map, group } => {
            if !hood.all_of.contains(role) {
                return Verdict::LoadRole(role.clone());
            }
            let members: BTreeMap<String, Value> = instances(hood, role, group.as_deref())
                .map(|(node, member)| {
                    let value = output_of(member, output.as_deref(), path, only.as_ref());
                    (node.name.clone(), value.unwrap_or(Value::Null))
                })
                .collect();
            Verdict::Settle(gathered(&members, *map))
        }
        Kind::Chooser { of, group } => {
            if !hood.all_of.contains(of) {
                return Verdict::LoadRole(of.clone());
            }
            Verdict::Settle(choose(hood, vertex, of, group.as_deref()))
        }
    }
}

/// Present instances of a role in a group, where all of the role is loaded.
fn instances<'a>(
    hood: &'a Hood,
    role: &str,
    group: Option<&'a str>,
) -> impl Iterator<Item = (&'a NodeView, &'a Vertex)> + use<'a> {
    let places = hood.place.get(role).into_iter().flatten();
    places.filter_map(move |(node, id)| {
        let (node, vertex) = (hood.nodes.get(node)?, &**hood.vertices.get(id)?);
        let seen = vertex.phase.goal == Goal::Present && !vertex.is_gone() && node.standing == Standing::In;
        (seen && group.is_none_or(|group| node.group == group)).then_some((node, vertex))
    })
}

fn facts(graph: &Graph, hood: &Hood, wanted: (&str, &[String]), group: Option<&str>, map: bool) -> Verdict {
    let mut members = BTreeMap::new();
    for node in hood.nodes.values() {
        let bound = graph.nodes.get(&node.name).is_some_and(|bound| group.is_none_or(|group| bound.group == group));
        if !bound || node.standing != Standing::In {
            continue;
        }
        match known(hood, node, wanted.0, wanted.1) {
            Some(value) => members.insert(node.name.clone(), value),
            None => return Verdict::Hold(Cause::Node { node: node.id }),
        };
    }
    Verdict::Settle(gathered(&members, map))
}

fn standing(hood: &Hood, vertex: &Vertex, role: &GraphRole) -> Option<Cause> {
    if hood.paused || vertex.paused {
        return Some(Cause::Paused);
    }
    let node = hood.nodes.get(&vertex.node);
    match node {
        Some(node) if !role.on_virtual && (!node.ready || node.standing != Standing::In) => {
            Some(Cause::Node { node: vertex.node })
        }
        _ => None,
    }
}

/// A chosen node that is not loaded, though something on it is read or must be at rest.
fn unseen_choice(hood: &Hood, role: &GraphRole) -> Option<NodeName> {
    fn chooser(source: &Source) -> Vec<&RoleName> {
        match source {
            Source::Chosen { helper, .. } => vec![helper],
            Source::ByGroup { groups } => groups.values().flat_map(chooser).collect(),
            _ => Vec::new(),
        }
    }
    let read = role.inputs.values().flat_map(|input| chooser(&input.source));
    read.chain(role.above.chosen.keys()).find_map(|helper| {
        let name = hood.on_virtual(helper)?.outputs.get("node")?.as_str()?;
        match hood.nodes.values().find(|node| node.name == name) {
            Some(node) => (!hood.is_whole(node.id)).then(|| name.to_owned()),
            // It is lost, and its chooser will choose anew.
            None => (!hood.all_nodes).then(|| name.to_owned()),
        }
    })
}

/// The nearest stale vertex above: direct parents first, then the keys.
fn above(hood: &Hood, vertex: &Vertex, role: &GraphRole) -> Option<Cause> {
    let direct = role.parents.iter().filter(|edge| !edge.is_soft());
    for edge in direct {
        let held = match edge.pairing {
            Pairing::Same => stale_at(hood, &edge.parent, vertex.node),
            Pairing::FromVirtual => hood.virtual_node.and_then(|node| stale_at(hood, &edge.parent, node)),
            Pairing::All => stale_anywhere(hood, &edge.parent),
            Pairing::Chosen => None,
        };
        if held.is_some() {
            return held;
        }
    }
    let same = role.above.same.iter().find_map(|name| stale_at(hood, name, vertex.node));
    same.or_else(|| role.above.anywhere.iter().find_map(|name| stale_anywhere(hood, name))).or_else(|| {
        role.above.chosen.iter().find_map(|(chooser, roles)| {
            if let Some(cause) = hood.virtual_node.and_then(|node| stale_at(hood, chooser, node)) {
                return Some(cause);
            }
            let node = chosen_node(hood, chooser)?;
            roles.iter().find_map(|name| stale_at(hood, name, node))
        })
    })
}

pub(super) fn stale_at(hood: &Hood, role: &str, node: NodeId) -> Option<Cause> {
    if hood.tally(role).unsettled() == 0 {
        return None;
    }
    hood.at(role, node).filter(|vertex| vertex.phase.holds_readers()).map(|vertex| Cause::Vertex { vertex: vertex.id })
}

pub(super) fn stale_anywhere(hood: &Hood, role: &str) -> Option<Cause> {
    (hood.tally(role).stale > 0).then(|| {
        // A role of the deployment has one instance: name it, that is nearer than its role.
        match hood.on_virtual(role) {
            Some(vertex) => Cause::Vertex { vertex: vertex.id },
            None => Cause::Role { role: role.to_owned() },
        }
    })
}

/// `precedes` waits only for what moves: not for a parent that failed or is held by a failure.
fn before(hood: &Hood, vertex: &Vertex, role: &GraphRole) -> Option<Cause> {
    role.parents.iter().filter(|edge| edge.is_soft()).find_map(|edge| {
        let node = match edge.pairing {
            Pairing::Same => vertex.node,
            _ => hood.virtual_node?,
        };
        let parent = hood.at(&edge.parent, node)?;
        (parent.phase.holds_readers() && moves(hood, parent)).then_some(Cause::Before { vertex: parent.id })
    })
}

/// Will this stale vertex come to rest without anybody's help? Through the key of a role only failures of that role
/// itself are seen: what holds its instances on other nodes is not loaded.
pub fn moves(hood: &Hood, vertex: &Vertex) -> bool {
    let mut at = vertex;
    let mut seen = BTreeSet::new();
    loop {
        if at.phase.state == State::Failed || !seen.insert(at.id) {
            return false;
        }
        match &at.cause {
            Some(Cause::Vertex { vertex } | Cause::Before { vertex }) => match hood.vertices.get(vertex) {
                Some(next) => at = next,
                None => return true,
            },
            Some(Cause::Role { role }) => return hood.tally(role).failed == 0,
            Some(Cause::Paused | Cause::Node { .. } | Cause::Approval { .. } | Cause::Import { .. }) => return false,
            // Whoever holds of the budget may be failed, but then nothing of what it preceded is urgent either. Nor does
            // it move if it waits for nodes that stand aside or do not answer.
            Some(Cause::Budget { budget } | Cause::Member { budget } | Cause::InTurn { budget }) => {
                let Some(allowance) = hood.budgets.get(budget) else { return true };
                let takes_part = |node: &NodeId| {
                    hood.nodes.get(node).is_some_and(|node| node.ready && node.standing == Standing::In)
                };
                return allowance.held.values().all(|by| !by.failed)
                    && (!allowance.held.is_empty() || allowance.down.iter().any(takes_part));
            }
            Some(Cause::NoneActive { role }) => {
                let tally = hood.tally(role);
                return tally.stale > 0 && tally.failed == 0;
            }
            // What holds it is elsewhere, and goes on there whatever waits here.
            Some(Cause::Leaving { .. } | Cause::Shared { .. }) | None => return true,
        }
    }
}

fn work(graph: &Graph, hood: &Hood, vertex: &Vertex, role: &GraphRole) -> Verdict {
    if let At::One { role: wanted, else_own_node } = &role.at
        && graph.roles.contains_key(wanted)
    {
        if !hood.all_of.contains(wanted) {
            return Verdict::LoadRole(wanted.clone());
        }
        if !else_own_node && first_active(hood, wanted).is_none() {
            return Verdict::Hold(Cause::NoneActive { role: wanted.clone() });
        }
    }
    if let Some(cause) = awaited(graph, hood, vertex, role) {
        return Verdict::Hold(cause);
    }
    let frozen = freeze(hood, vertex, role);
    let armed = vertex.phase.armed;
    if !armed && vertex.applied.as_deref() == Some(&frozen.digest) {
        return Verdict::Same;
    }
    if !armed && vertex.serving && role.destructive {
        // An attempt that was asked for and failed is not made again by itself.
        return if vertex.applied.is_some() { Verdict::Same } else { Verdict::SameAsFailed };
    }
    if !armed && vertex.failed.as_deref() == Some(&frozen.digest) {
        return Verdict::SameAsFailed;
    }
    begin(graph, hood, vertex, role, frozen)
}

/// What it reads of another deployment that has not told it yet.
fn awaited(graph: &Graph, hood: &Hood, vertex: &Vertex, role: &GraphRole) -> Option<Cause> {
    if graph.imports.is_empty() {
        return None;
    }
    let node = hood.nodes.get(&vertex.node)?;
    role.inputs
        .iter()
        .filter(|(name, input)| {
            let is_kept = input.on_change == OnChange::Ignore && vertex.kept.contains_key(*name);
            !is_kept && !input.overrides.contains_key(&node.name)
        })
        .find_map(|(_, input)| match input.source.in_group(&node.group)? {
            Source::Import { import, output, .. } if !hood.imports.contains_key(&format!("{import}.{output}")) => {
                let deployment = graph.imports.get(import)?.deployment.clone();
                Some(Cause::Import { deployment, export: output.clone() })
            }
            _ => None,
        })
}

/// Something is to be done, and nothing that it needs is missing. May it be done now?
fn begin(graph: &Graph, hood: &Hood, vertex: &Vertex, role: &GraphRole, frozen: Frozen) -> Verdict {
    let room = (vertex.phase.goal == Goal::Present).then(|| leaver::in_the_way(graph, hood, vertex, role)).flatten();
    let held = room.or_else(|| approval(graph, vertex, role, &frozen));
    match held.or_else(|| allowance::gate(graph, hood, vertex, role)) {
        Some(cause) => Verdict::Hold(cause),
        None => Verdict::Go(frozen),
    }
}

/// What the policy wants approved, unless this very attempt is.
fn approval(graph: &Graph, vertex: &Vertex, role: &GraphRole, frozen: &Frozen) -> Option<Cause> {
    if graph.policy.approve.is_empty() {
        return None;
    }
    let digest = if vertex.phase.goal == Goal::Absent { REMOVE } else { &frozen.digest };
    let felt = felt(vertex, role, frozen);
    let wanted = felt.iter().map(ToString::to_string).filter(|effect| graph.policy.approve.contains(effect));
    let effects = wanted.collect::<Vec<_>>().join("+");
    (!effects.is_empty() && vertex.approved.as_deref() != Some(digest))
        .then(|| Cause::Approval { effects, digest: digest.to_owned() })
}

/// What machines feel of the job that is about to begin; an upper bound, as in plans.
pub fn felt(vertex: &Vertex, role: &GraphRole, frozen: &Frozen) -> BTreeSet<EffectKind> {
    if vertex.phase.goal == Goal::Absent {
        return role.felt.leave.clone();
    }
    if !vertex.serving && vertex.code.is_none() {
        return role.felt.first.clone();
    }
    let mut felt = role.felt.always.clone();
    if vertex.phase.armed || vertex.content.as_ref() != Some(&role.content) {
        felt.extend(&role.felt.content);
    }
    let differs = |input: &&String| frozen.read.get(*input) != vertex.read.get(*input);
    let changed = frozen.read.keys().chain(vertex.read.keys()).filter(differs);
    felt.extend(changed.filter_map(|input| role.felt.inputs.get(input)).flatten());
    felt
}

/// Evaluates the inputs of a vertex.
pub fn freeze(hood: &Hood, vertex: &Vertex, role: &GraphRole) -> Frozen {
    let mut frozen = Frozen::default();
    for (name, input) in &role.inputs {
        let kept = (input.on_change == OnChange::Ignore).then(|| vertex.kept.get(name)).flatten();
        let override_of = |node: &NodeView| input.overrides.get(&node.name).map(|by| by.value.clone());
        let overridden = hood.nodes.get(&vertex.node).and_then(override_of);
        let value = kept.cloned().or(overridden).or_else(|| evaluate(hood, vertex, &input.source));
        let Some(value) = value else {
            frozen.missing.insert(name.clone());
            continue;
        };
        if input.on_change == OnChange::Run {
            frozen.read.insert(name.clone(), value_digest(&value));
        }
        frozen.values.insert(name.clone(), value);
    }
    frozen.digest = digest::of(&json!({"content": role.content, "inputs": frozen.read}));
    frozen
}

/// The digest of a value, or the one that a reference to a gather's value carries.
fn value_digest(value: &Value) -> String {
    match value.get("$digest").and_then(Value::as_str) {
        Some(digest) => digest.to_owned(),
        None => digest::of(value),
    }
}

/// What is known of a node.
fn known(hood: &Hood, node: &NodeView, fact: &str, path: &[String]) -> Option<Value> {
    at_path(&identity::fact(&node.facts, called(hood), fact)?, path).cloned()
}

/// The name of the deployment.
fn called(hood: &Hood) -> &str {
    hood.deployment.get("name").and_then(Value::as_str).unwrap_or_default()
}

/// The value that feeds an input; `None` if it is not known.
fn evaluate(hood: &Hood, vertex: &Vertex, source: &Source) -> Option<Value> {
    match source {
        Source::Output { role, output, path, only } => {
            let supplier = hood.at(role, vertex.node).or_else(|| hood.on_virtual(role))?;
            output_of(supplier, output.as_deref(), path, only.as_ref())
        }
        Source::Gather { helper } => hood.on_virtual(helper)?.outputs.get("value").cloned(),
        Source::Chosen { helper, role, output, path } => {
            let supplier = hood.at(role, chosen_node(hood, helper)?)?;
            output_of(supplier, output.as_deref(), path, None)
        }
        // Resolved at the claim, when the node is chosen.
        Source::At { role, output, path } => {
            let (_, node) = first_active(hood, role)?;
            output_of(hood.at(role, node)?, Some(output), path, None)
        }
        Source::Node { fact, path } => known(hood, hood.nodes.get(&vertex.node)?, fact, path),
        Source::Deployment { field, path } => match hood.deployment.get(field) {
            Some(value) => at_path(value, path).cloned(),
            None => at_path(&identity::of_deployment(field, called(hood))?, path).cloned(),
        },
        Source::Import { import, output, path } => {
            at_path(hood.imports.get(&format!("{import}.{output}"))?, path).cloned()
        }
        Source::Layers { base, groups, nodes } => {
            let node = hood.nodes.get(&vertex.node);
            let by_group = node.and_then(|node| groups.get(&node.group));
            let by_node = node.and_then(|node| nodes.get(&node.name));
            let all: Vec<&Layered> = [base.as_ref(), by_group, by_node].into_iter().flatten().collect();
            strongest(all).map(|layered| layered.value.clone())
        }
        Source::ByGroup { groups } => {
            let group = &hood.nodes.get(&vertex.node)?.group;
            evaluate(hood, vertex, groups.get(group)?)
        }
    }
}

/// One output of a vertex, or all of them cut down to what an interface names.
pub fn output_of(
    supplier: &Vertex,
    output: Option<&str>,
    path: &[String],
    only: Option<&BTreeSet<String>>,
) -> Option<Value> {
    match output {
        Some(output) => at_path(supplier.outputs.get(output)?, path).cloned(),
        None => {
            let seen = |name: &&String| only.is_none_or(|only| only.contains(*name));
            let all: Map<String, Value> =
                supplier.outputs.iter().filter(|(name, _)| seen(name)).map(|(k, v)| (k.clone(), v.clone())).collect();
            at_path(&Value::Object(all), path).cloned()
        }
    }
}

fn chosen_node(hood: &Hood, chooser: &str) -> Option<NodeId> {
    let name = hood.on_virtual(chooser)?.outputs.get("node")?.as_str()?;
    hood.nodes.values().find(|node| node.name == name).map(|node| node.id)
}

/// The first active instance of a role by node name, where all of the role is loaded. One whose node does not answer comes
/// after all that do.
pub fn first_active(hood: &Hood, role: &str) -> Option<(String, NodeId)> {
    instances(hood, role, None)
        .filter(|(_, vertex)| vertex.phase.state == State::Active)
        .map(|(node, _)| (!node.ready, node.name.clone(), node.id))
        .min()
        .map(|(_, name, id)| (name, id))
}

fn gathered(members: &BTreeMap<String, Value>, map: bool) -> Object {
    let value = if map {
        Value::Object(members.iter().map(|(node, value)| (node.clone(), value.clone())).collect())
    } else {
        Value::Array(members.values().cloned().collect())
    };
    let mut outputs = Object::new();
    outputs.insert("value".to_owned(), value);
    outputs
}

/// Keeps the choice while that is bound and in standing; else the first active one by name, else the first by name.
fn choose(hood: &Hood, vertex: &Vertex, of: &str, group: Option<&str>) -> Object {
    let candidates: BTreeMap<&str, bool> = instances(hood, of, group)
        .map(|(node, member)| (node.name.as_str(), member.phase.state == State::Active))
        .collect();
    let kept = vertex.outputs.get("node").and_then(Value::as_str).filter(|name| candidates.contains_key(*name));
    let active = || candidates.iter().find(|(_, active)| **active).map(|(name, _)| *name);
    let first = || candidates.keys().next().copied();
    let mut outputs = Object::new();
    if let Some(name) = kept.or_else(active).or_else(first) {
        outputs.insert("node".to_owned(), Value::String(name.to_owned()));
    }
    outputs
}
