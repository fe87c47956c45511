//! Nodes are emptied for a redeploy: machines that we own are made again, hosts that we adopted lose what stands on them.

use std::time::Duration;

use engine_provider::ProviderError;
use engine_store::beside::{self, Emptying};
use engine_store::jobs;
use engine_store::nodes::{Change, Node};

use super::{provider, residue, trouble, word};
use crate::run::Runners;
use crate::shared::Shared;

/// While a remove runs; its end wakes us anyway.
const PAUSE: Duration = Duration::from_secs(1);

/// Takes a machine away. What there is to be done next is to make it.
pub(super) async fn again(shared: &Shared, node: &Node) -> (Change, bool) {
    let provider = match provider(shared, node) {
        Ok(provider) => provider,
        Err(change) => return (*change, false),
    };
    shared.remote.hang_up(&node.id).await;
    shared.remote.forget_host_key(&node.id);
    match provider.destroy(&node.name).await {
        Ok(()) => {}
        Err(error @ ProviderError::Absent { .. }) => tracing::debug!(%error, "it was not there"),
        Err(error) => {
            let transient = error.is_transient();
            return (trouble(word(&node.state), node, error.code(), error.to_string(), transient), false);
        }
    }
    (Change { state: "creating", emptied: true, machine_anew: true, ..Change::default() }, true)
}

/// Removes what stands on a host, one node role after the other, then what is left of our agent. What there is to be done
/// next is to join it as if it had never been ours.
pub(super) async fn empty(shared: &Shared, runners: &Runners, node: &Node) -> Change {
    let waits = Change { state: "up", again_in: Some(PAUSE), ..Change::default() };
    let stays = |code: &str, reason: String, transient| trouble("up", node, code, reason, transient);
    let simulated = node.provider == "simulated";
    if let Some(target) = shared.target(node).filter(|_| !simulated) {
        match beside::abandoned_on(&shared.pool, node.id).await {
            Ok(jobs) => {
                for (job, fence) in jobs {
                    // Nobody waits for what comes of it; that it has stopped is what counts.
                    drop(shared.remote.cancel(&target, job, fence).await);
                }
            }
            Err(error) => return stays(error.code(), error.to_string(), true),
        }
    }
    match beside::empty(&shared.pool, shared.engine(), node.id, &shared.revisions).await {
        Ok(Emptying::Begun(job)) => {
            if let Ok(jobs) = jobs::load(&shared.pool, shared.engine(), &[job]).await {
                for job in jobs {
                    runners.start(job, false);
                }
            }
            waits
        }
        Ok(Emptying::Waits) => waits,
        Ok(Emptying::Failed { role, code, message }) => stays(&code, format!("removing {role}: {message}"), false),
        Ok(Emptying::Done) => {
            if let Some(target) = shared.target(node).filter(|_| !simulated) {
                residue::look(shared, node, &target).await;
                if let Err(error) = shared.remote.uninstall(&target).await {
                    return stays(error.code(), error.to_string(), true);
                }
                shared.remote.hang_up(&node.id).await;
            }
            Change { state: "joining", emptied: true, ..Change::default() }
        }
        Err(error) => stays(error.code(), error.to_string(), true),
    }
}
