//! A deployment, or some of its nodes, made anew.

use std::collections::{BTreeMap, BTreeSet};

use engine_core::catalog::CatalogRole;
use engine_core::graph::{Kind, NodeName, RoleName};
use engine_core::plan::Anew;
use engine_core::request::RedeployRequest;
use engine_core::view::{Applied, Refusal, RefusalKind};
use engine_store::redeploy::{Redeploy, Redeployed, redeploy};
use engine_store::snapshot::{Current, Snapshot, snapshot};
use serde_json::json;

use super::planning::{self, Planned};
use super::{Control, allowed, imports, settings, store, unknown_deployment};
use crate::shared::Shared;

impl Control {
    /// What a redeploy of these nodes would do; of all of the deployment, if none are named.
    ///
    /// # Errors
    /// There is no such deployment, it is on its way out, or it has no such node.
    pub async fn plan_redeploy(&self, name: &str, nodes: &[String]) -> Result<Applied, Refusal> {
        let shared = self.shared();
        Ok(plan(&shared, name, nodes).await?.0)
    }

    /// Makes these nodes of a deployment anew, or all of it: machines that it owns are made again by their provider, hosts
    /// are emptied, all node roles run again.
    ///
    /// # Errors
    /// As [`Control::plan_redeploy`]; its policy forbids it, or wants it approved and `what` does not say so; a budget has
    /// no room for so many nodes at once; or somebody else has committed since.
    pub async fn redeploy(&self, name: &str, what: &RedeployRequest, by: &str) -> Result<Applied, Refusal> {
        let shared = self.shared();
        let conflict = |code: &str, message: String| Err(Refusal::new(RefusalKind::Conflict, code, message));
        let (applied, anew) = plan(&shared, name, &what.nodes).await?;
        let planned = Planned { applied, commit: None, hidden: None };
        if let Some(seen) = what.revision.filter(|seen| *seen != planned.applied.revision) {
            let now = planned.applied.revision;
            let message =
                format!("deployment `{name}` is at revision {now} by now, the plan was made from revision {seen}");
            return conflict("revision-moved", message);
        }
        allowed(&planned, name, &[])?;
        let planned = planned.applied;
        // Machines are taken away before any job could wait for an approval.
        if let Some(wanted) = planned.plan.approvals.first().filter(|_| !what.approve) {
            let message = format!(
                "{}/{} would be a {}, which {} wants approved",
                wanted.node,
                wanted.role,
                wanted.effect,
                wanted.by.as_deref().unwrap_or("`policy.approve`")
            );
            return conflict("redeploy-unapproved", message);
        }
        let wanted = Redeploy {
            name: name.to_owned(),
            seen: planned.revision,
            nodes: anew.nodes.iter().cloned().collect(),
            whole: anew.whole,
            plan: json!({"what": "redeployed", "totals": planned.plan.totals, "nodes": anew.nodes, "whole": anew.whole}),
            by: by.to_owned(),
        };
        match redeploy(&shared.pool, &wanted).await.map_err(store)? {
            Redeployed::Revision(revision) => {
                shared.hint();
                Ok(Applied { revision, changed: true, ..planned })
            }
            Redeployed::Moved => conflict(
                "revision-moved",
                format!("somebody else has committed `{name}` meanwhile; nothing was changed"),
            ),
            Redeployed::NoRoom(budget) => conflict(
                "budget-full",
                format!("budget `{budget}` has no room for so many nodes out of service at once; nothing was changed"),
            ),
        }
    }
}

async fn plan(shared: &Shared, name: &str, nodes: &[String]) -> Result<(Applied, Anew), Refusal> {
    let snapshot = snapshot(&shared.pool, name).await.map_err(store)?;
    let Some(current) = snapshot.current.as_ref().filter(|current| current.state != "gone") else {
        return Err(unknown_deployment(name));
    };
    if current.state != "active" {
        let message = format!("deployment `{name}` is being destroyed; apply it again first");
        return Err(Refusal::new(RefusalKind::Conflict, "deployment-leaving", message));
    }
    let anew = anew(&snapshot, current, nodes)?;
    let contents = contents(shared, current).await?;
    let imported = imports::told(shared, &current.graph).await?;
    let mut desired = current.graph.as_ref().clone();
    (desired.policy, desired.policy_by) = settings::policy_of(shared, &current.document).await?;
    let plan = planning::difference(&snapshot, &desired, &contents, (&BTreeMap::new(), &imported), &anew, None);
    let (deployment, revision) = (name.to_owned(), current.revision);
    Ok((Applied { deployment, revision, changed: true, plan, warnings: Vec::new() }, anew))
}

/// The nodes asked for, and which of them their provider makes again.
fn anew(snapshot: &Snapshot, current: &Current, nodes: &[String]) -> Result<Anew, Refusal> {
    let bound = &current.graph.nodes;
    if let Some(stranger) = nodes.iter().find(|node| !bound.contains_key(*node)) {
        let message = format!("deployment `{}` has no node `{stranger}`", current.graph.deployment);
        return Err(Refusal::new(RefusalKind::NotFound, "unknown-node", message));
    }
    let whole = nodes.is_empty();
    let nodes: BTreeSet<NodeName> =
        if whole { bound.keys().cloned().collect() } else { nodes.iter().cloned().collect() };
    let is_owned = |name: &&NodeName| snapshot.nodes.get(*name).is_some_and(|known| known.created);
    Ok(Anew { machines: nodes.iter().filter(is_owned).cloned().collect(), nodes, whole })
}

/// The roles as they were committed: a redeploy changes no content.
async fn contents(shared: &Shared, current: &Current) -> Result<BTreeMap<RoleName, CatalogRole>, Refusal> {
    let mut contents = BTreeMap::new();
    for role in current.graph.roles.values().filter(|role| role.kind == Kind::Work) {
        if let Some(hash) = current.contents.get(&role.name) {
            contents.insert(role.name.clone(), shared.role(hash).await.map_err(store)?.as_ref().clone());
        }
    }
    Ok(contents)
}
