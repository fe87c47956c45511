//! Budgets that deployments share: who waits for one goes on when there is room, wherever it came from.

use std::sync::Arc;
use std::time::Duration;

use engine_store::{StoreError, outages};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::hints::{self, Woken};
use crate::shared::Shared;

/// Not more often than this.
const LEAST: Duration = Duration::from_millis(10);

pub(crate) async fn watch(shared: Arc<Shared>, stop: CancellationToken) {
    let mut hints = shared.hints.subscribe();
    while hints::wait(&mut hints, shared.poll, &stop).await == Woken::Look {
        hints.mark_unchanged();
        let began = Instant::now();
        let again = match round(&shared).await {
            Ok(true) => began + LEAST,
            Ok(false) => hints::not_before(LEAST, began),
            Err(error) => {
                tracing::debug!(%error, code = error.code(), "cannot look at budgets of all deployments");
                hints::not_before(LEAST, began)
            }
        };
        stop.run_until_cancelled(sleep_until(again)).await;
    }
}

/// Whether there was anything to be done.
async fn round(shared: &Shared) -> Result<bool, StoreError> {
    let counted = outages::count(&shared.pool, &shared.revisions).await?;
    let woken = outages::let_go(&shared.pool).await?;
    Ok(counted || woken)
}
