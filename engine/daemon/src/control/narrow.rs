//! Planning a change of a deployment by looking at what it concerns, and at nothing else.
//!
//! Not every change can be planned so: where nodes are selected by their facts, all of them have to be known.

use std::collections::{BTreeMap, BTreeSet};

use engine_catalog::ReadDeployment;
use engine_core::compile::Compiled;
use engine_core::compile::bind::{BindInput, Bindings, ExistingNode, Selecting, bind_nodes};
use engine_core::diagnostic::Diagnostic;
use engine_core::document::deployment::{BindNodes, CreateNodes};
use engine_core::document::{DeploymentDoc, WorkloadDoc};
use engine_core::graph::{GraphNode, NodeName};
use engine_core::plan::Reach;
use engine_core::settle::commit::concerned;
use engine_core::view::Refusal;
use engine_store::snapshot::{self, KnownNode, Outline, Snapshot};

use super::planning::{Given, compile_nodes, compiled, existing_node};
use super::store;
use crate::shared::Shared;

/// What a plan follows from.
pub(super) struct Looked {
    pub(super) snapshot: Snapshot,
    pub(super) bound: Bindings,
    pub(super) compiled: Compiled,
    /// Where the snapshot says everything; everywhere, if nothing is said.
    pub(super) reach: Option<Reach>,
    /// Roles that serve somewhere, as far as the snapshot does not say so.
    pub(super) serving: BTreeSet<String>,
}

/// Why a document is not planned here.
pub(super) enum Not {
    /// All has to be looked at.
    Narrow,
    /// It can not be right.
    Refused(Refusal),
}

impl From<Refusal> for Not {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Looks at what a document changes of a deployment that is there.
pub(super) async fn look(
    shared: &Shared,
    read: &ReadDeployment,
    workload: &WorkloadDoc,
    given: &Given,
) -> Result<Looked, Not> {
    let doc = &read.doc;
    let refused = |findings: Vec<Diagnostic>| Not::Refused(Refusal::findings(read.place(findings)));
    let Some(outline) = snapshot::outline(&shared.pool, &doc.deployment).await.map_err(store)? else {
        return first(shared, read, workload, given).await;
    };
    let before: DeploymentDoc = serde_json::from_value(outline.current.document.clone()).map_err(|_| Not::Narrow)?;
    if outline.current.state != "active" || !doc.moved.is_empty() || before.imports != doc.imports {
        return Err(Not::Narrow);
    }
    let mut existing = bound_before(&outline, &before, doc);
    let mut known = bound_anew(shared, doc, workload, &existing, (&before.nodes, &outline.highest)).await?;
    existing.extend(known.iter().map(|(name, node)| (name.clone(), existing_node(node))));
    let bound = bind_nodes(&BindInput {
        document: doc,
        workload,
        existing: &existing,
        highest: &outline.highest,
        selecting: Selecting::Anew,
    })
    .map_err(&refused)?;
    let nodes = compile_nodes(&known, &bound);
    let mut compiled = compiled(shared, doc, &nodes, given).map_err(&refused)?;
    let concerned = concerned(Some(&outline.current.graph), &compiled.graph);
    let reach = Reach::of(&compiled.graph, &concerned, &outline.restless);
    let there = |name: &&NodeName| existing.contains_key(*name);
    let looked_at: Vec<NodeName> = reach.nodes.iter().filter(there).cloned().collect();
    let roles: Vec<String> = reach.roles.union(&reach.read).cloned().collect();
    let found = snapshot::within(&shared.pool, &outline, &roles, &looked_at, reach.facts).await.map_err(store)?;
    let mut snapshot = found.ok_or(Not::Narrow)?;
    // Machines that something new comes to are looked at before.
    known.extend(snapshot.nodes.iter().map(|(name, node)| (name.clone(), node.clone())));
    let again = compile_nodes(&known, &bound);
    if again.iter().any(|(name, node)| (&node.os, &node.arch) != (&nodes[name].os, &nodes[name].arch)) {
        compiled = self::compiled(shared, doc, &again, given).map_err(&refused)?;
    }
    snapshot.aside = outline.aside;
    Ok(Looked { snapshot, bound, compiled, reach: Some(reach), serving: outline.serving })
}

/// The same for the first document of a deployment.
async fn first(shared: &Shared, read: &ReadDeployment, workload: &WorkloadDoc, given: &Given) -> Result<Looked, Not> {
    let doc = &read.doc;
    let refused = |findings: Vec<Diagnostic>| Not::Refused(Refusal::findings(read.place(findings)));
    let (groups, highest) = (BTreeMap::new(), BTreeMap::new());
    let known = bound_anew(shared, doc, workload, &BTreeMap::new(), (&groups, &highest)).await?;
    let existing = known.iter().map(|(name, node)| (name.clone(), existing_node(node))).collect();
    let bound = bind_nodes(&BindInput {
        document: doc,
        workload,
        existing: &existing,
        highest: &highest,
        selecting: Selecting::Anew,
    })
    .map_err(&refused)?;
    let compiled = compiled(shared, doc, &compile_nodes(&known, &bound), given).map_err(&refused)?;
    let snapshot = Snapshot { nodes: known, ..Snapshot::default() };
    Ok(Looked { snapshot, bound, compiled, reach: None, serving: BTreeSet::new() })
}

/// Nodes that the committed revision binds, as binding has to know them.
fn bound_before(outline: &Outline, before: &DeploymentDoc, doc: &DeploymentDoc) -> BTreeMap<NodeName, ExistingNode> {
    let node = |(name, node): (&NodeName, &GraphNode)| {
        let created = matches!(before.nodes.get(&node.group), Some(BindNodes::Create(_)));
        let used_by = Some((doc.deployment.clone(), node.group.clone()));
        let lost = outline.lost.contains(name);
        (name.clone(), ExistingNode { used_by, created, lost, ..ExistingNode::default() })
    };
    outline.current.graph.nodes.iter().map(node).collect()
}

/// Nodes that are named and that the committed revision does not bind. `before`: its groups, and the highest index of
/// each.
async fn bound_anew(
    shared: &Shared,
    doc: &DeploymentDoc,
    workload: &WorkloadDoc,
    existing: &BTreeMap<NodeName, ExistingNode>,
    before: (&BTreeMap<String, BindNodes>, &BTreeMap<String, u32>),
) -> Result<BTreeMap<NodeName, KnownNode>, Not> {
    let (mut names, mut made): (Vec<NodeName>, Vec<NodeName>) = (Vec::new(), Vec::new());
    for (group, nodes) in &doc.nodes {
        match nodes {
            BindNodes::Select(_) => return Err(Not::Narrow),
            BindNodes::Names(named) => {
                let is_ours = |name: &&NodeName| existing.get(*name).is_some_and(|node| !node.lost);
                names.extend(named.iter().filter(|name| !is_ours(name)).cloned());
            }
            BindNodes::Create(create) => {
                let is_kept =
                    |node: &&ExistingNode| !node.lost && node.used_by.as_ref().is_some_and(|(_, own)| own == group);
                let kept = u32::try_from(existing.values().filter(is_kept).count()).unwrap_or(u32::MAX);
                if kept > 0 && !matches!(before.0.get(group), Some(BindNodes::Create(_))) {
                    return Err(Not::Narrow);
                }
                let highest = before.1.get(group).copied().unwrap_or(0);
                let fresh = 1..=count(workload, group, create).saturating_sub(kept);
                made.extend(fresh.map(|index| format!("{}-{group}-{}", doc.deployment, highest + index)));
            }
        }
    }
    names.extend(made.iter().cloned());
    let known = snapshot::nodes(&shared.pool, &names).await.map_err(store)?;
    // A name that we are about to give may be there already.
    if made.iter().any(|name| known.contains_key(name)) { Err(Not::Narrow) } else { Ok(known) }
}

fn count(workload: &WorkloadDoc, group: &str, create: &CreateNodes) -> u32 {
    let Some(wanted) = workload.groups.get(group).map(|group| &group.count) else { return 0 };
    create.count.or(wanted.default).unwrap_or(wanted.minimum)
}
