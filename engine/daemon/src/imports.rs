//! What deployments export reaches those that import it.

use std::sync::Arc;

use engine_store::{StoreError, imports};
use tokio_util::sync::CancellationToken;

use crate::hints::{self, Woken};
use crate::shared::Shared;

pub(crate) async fn watch(shared: Arc<Shared>, stop: CancellationToken) {
    let mut hints = shared.hints.subscribe();
    while hints::wait(&mut hints, shared.poll, &stop).await == Woken::Look {
        hints.mark_unchanged();
        if let Err(error) = round(&shared).await {
            tracing::debug!(%error, code = error.code(), "cannot take in imports");
        }
    }
}

async fn round(shared: &Shared) -> Result<(), StoreError> {
    let mut failure = None;
    for importer in imports::moved(&shared.pool).await? {
        // One that can not take in must not stop the others.
        failure = imports::take_in(&shared.pool, importer, &shared.revisions).await.err().or(failure);
    }
    failure.map_or(Ok(()), Err)
}
