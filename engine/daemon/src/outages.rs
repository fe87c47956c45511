//! Budgets that deployments share: who waits for one goes on when there is room, wherever it came from.

use std::sync::Arc;

use engine_store::{StoreError, outages};
use tokio_util::sync::CancellationToken;

use crate::hints::{self, Woken};
use crate::shared::Shared;

pub(crate) async fn watch(shared: Arc<Shared>, stop: CancellationToken) {
    let mut hints = shared.hints.subscribe();
    while hints::wait(&mut hints, shared.poll, &stop).await == Woken::Look {
        hints.mark_unchanged();
        if let Err(error) = round(&shared).await {
            tracing::debug!(%error, code = error.code(), "cannot look at budgets of all deployments");
        }
    }
}

async fn round(shared: &Shared) -> Result<(), StoreError> {
    outages::count(&shared.pool, &shared.revisions).await?;
    outages::let_go(&shared.pool).await
}
