//! Free nodes join a deployment that wants them: a revision that adds them, and changes nothing else.

use std::collections::BTreeSet;

use engine_core::graph::NodeName;
use engine_core::view::{Refusal, RefusalKind};
use engine_store::commit::{self, Committed};
use engine_store::joining::Joined;
use serde_json::json;

use super::planning::{self, Taking};
use super::{Control, allowed, store};

/// Who is told to have committed.
pub(crate) const BY: &str = "selection";

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Joining {
    /// These joined, with this revision.
    Done(i32, BTreeSet<NodeName>),
    /// It takes no more, or none of these.
    Nothing,
    /// Somebody else has committed meanwhile, or holds it back: to be looked at again.
    Later,
}

impl Control {
    /// Lets those of some free nodes join that the deployment wants.
    ///
    /// # Errors
    /// Why it can not be: its policy forbids it, it would not be right with them, or it would change in other ways too.
    pub(crate) async fn join(&self, deployment: &Joined, free: &BTreeSet<NodeName>) -> Result<Joining, Refusal> {
        if deployment.paused {
            return Ok(Joining::Later);
        }
        let name = &deployment.name;
        let shared = self.shared();
        // JSON is YAML too.
        let read =
            engine_catalog::read_deployments(&deployment.document.to_string(), name).map_err(Refusal::findings)?;
        let [read] = read.as_slice() else { return Ok(Joining::Nothing) };
        let without = planning::plan_again(&shared, read, Taking::AsCommitted).await?;
        let planned = planning::plan_again(&shared, read, Taking::Joining(free)).await?;
        // The document is that of one revision, and so must both plans be.
        if [&without, &planned].iter().any(|one| one.applied.revision != deployment.revision) {
            return Ok(Joining::Later);
        }
        if without.commit.is_some() {
            let message = format!("deployment `{name}` would change also without nodes that join; apply it first");
            return Err(Refusal::new(RefusalKind::Conflict, "join-behind", message));
        }
        allowed(&planned, name, &[])?;
        let Some(mut wanted) = planned.commit else { return Ok(Joining::Nothing) };
        let come: BTreeSet<NodeName> = wanted.graph.nodes.keys().filter(|node| free.contains(*node)).cloned().collect();
        if come.is_empty() {
            return Ok(Joining::Nothing);
        }
        BY.clone_into(&mut wanted.by);
        wanted.expires_at = deployment.expires_at;
        wanted.plan = json!({"what": "joined", "totals": planned.applied.plan.totals, "nodes": come, "whole": false});
        match commit::commit(&shared.pool, &wanted).await.map_err(store)? {
            Committed::Revision(revision) => {
                shared.hint();
                Ok(Joining::Done(revision, come))
            }
            Committed::Moved | Committed::NodeTaken(_) => Ok(Joining::Later),
            Committed::Imported(_) | Committed::ImportCycle => Ok(Joining::Nothing),
        }
    }
}
