//! Nodes go: back to nobody, or for good.

use engine_provider::ProviderError;
use engine_remote::{RemoteError, Target};
use engine_store::nodes::{self, Change, Node};
use serde_json::Value;

use super::{LONGEST_PAUSE, provider, residue, trouble, word};
use crate::shared::Shared;

/// An adopted host goes back to nobody: without our agent.
pub(super) async fn release(shared: &Shared, node: &Node) -> Change {
    let gone = Change { state: "up", unbind: true, ..Change::default() };
    if node.provider == "simulated" || node.state == "failed" || node.state == "joining" {
        return Change { state: word(&node.state), ..gone };
    }
    let Some(target) = shared.target(node) else { return gone };
    residue::look(shared, node, &target).await;
    match shared.remote.uninstall(&target).await {
        Ok(()) => {
            shared.remote.hang_up(&node.id).await;
            gone
        }
        Err(error) => trouble("up", node, error.code(), error.to_string(), true),
    }
}

pub(super) async fn destroy(shared: &Shared, node: &Node) -> Change {
    let provider = match provider(shared, node) {
        Ok(provider) => provider,
        Err(change) => return Change { state: "leaving", again_in: Some(LONGEST_PAUSE), ..*change },
    };
    if !node.owned
        && node.incarnation.is_some()
        && let Some(target) = shared.target(node)
        && let Some(change) = clean(shared, node, &target).await
    {
        return change;
    }
    // A machine that goes takes everything along; what its removes left there is told all the same.
    if node.owned
        && node.state != "failed"
        && node.incarnation.is_some()
        && node.provider != "simulated"
        && let Some(target) = shared.target(node)
    {
        residue::look(shared, node, &target).await;
    }
    shared.remote.hang_up(&node.id).await;
    shared.remote.forget_host_key(&node.id);
    match provider.destroy(&node.name).await {
        Ok(()) => Change { state: "gone", unbind: true, ..Change::default() },
        Err(error @ ProviderError::Absent { .. }) => {
            tracing::debug!(%error, "it was not there");
            Change { state: "gone", unbind: true, ..Change::default() }
        }
        Err(error) => trouble("leaving", node, error.code(), error.to_string(), true),
    }
}

/// A machine that stays is left without our agent, and without our key unless it is another node too. Of nodes that are
/// one machine and leave together, the newest goes last and takes the key. What keeps it from going, if anything does.
async fn clean(shared: &Shared, node: &Node, target: &Target) -> Option<Change> {
    let stays = |code: &str, reason: String| Some(trouble("leaving", node, code, reason, true));
    let machine = node.facts.get("machine_id").and_then(Value::as_str).unwrap_or_default();
    let twins = match nodes::twins(&shared.pool, node.id, machine).await {
        Ok(twins) => twins,
        Err(error) => return stays(error.code(), error.to_string()),
    };
    let last = twins.iter().all(|twin| twin.leaving && twin.older);
    if let (true, Some(first)) = (last, twins.first()) {
        return stays("node-twin", format!("waits for {}, which is the same machine and leaves too", first.name));
    }
    residue::look(shared, node, target).await;
    let cleaned = match shared.remote.uninstall(target).await {
        Ok(()) if twins.is_empty() => shared.remote.admit(target, false).await,
        other => other,
    };
    match cleaned {
        Ok(()) => None,
        // Who does not let us in any more will not be cleaned by trying again.
        Err(error @ RemoteError::AuthFailed { .. }) => {
            tracing::warn!(node = node.name, %error, "left as it is: it does not let us in");
            None
        }
        Err(error) => stays(error.code(), error.to_string()),
    }
}
