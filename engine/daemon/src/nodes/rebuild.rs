//! Nodes are made anew under their names.

use engine_provider::ProviderError;
use engine_store::nodes::{Change, Node};

use super::{provider, trouble, word};
use crate::shared::Shared;

/// Empties a node. What there is to be done next is to make it.
pub(super) async fn rebuild(shared: &Shared, node: &Node) -> (Change, bool) {
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
