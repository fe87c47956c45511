//! The last look at a node before the agent leaves: is what removes promised to take away really gone?

use std::time::Duration;

use engine_core::id::VertexId;
use engine_remote::Target;
use engine_store::nodes::Node;
use engine_store::residue;
use tokio::time::timeout;

use crate::shared::Shared;

/// A machine that does not answer for so long is not asked.
const LIMIT: Duration = Duration::from_secs(20);

/// Looks, and writes down what is there. A node that can not be asked is left as it is: nothing is known of it.
pub(super) async fn look(shared: &Shared, node: &Node, target: &Target) {
    let left = match timeout(LIMIT, shared.remote.residue(target)).await {
        Ok(Ok(left)) => left,
        Ok(Err(error)) => {
            tracing::warn!(node = node.name, %error, code = error.code(), "nobody looked for residue");
            return;
        }
        Err(_) => {
            tracing::warn!(node = node.name, "nobody looked for residue: it does not answer");
            return;
        }
    };
    let found: Vec<(VertexId, Vec<String>)> =
        left.into_iter().filter_map(|left| Some((left.owner.parse().ok()?, left.things))).collect();
    if found.is_empty() {
        return;
    }
    if let Err(error) = residue::note_found(&shared.pool, node.id, &found).await {
        tracing::error!(node = node.name, %error, "cannot note residue");
    }
}
