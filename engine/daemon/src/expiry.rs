//! Deployments that were made for a time go when it is over.

use engine_store::commit;
use tokio_util::sync::CancellationToken;

use crate::control::Control;

/// Who is told to have destroyed them.
const BY: &str = "expiry";

pub(crate) async fn watch(control: Control, stop: CancellationToken) {
    let shared = control.shared();
    while stop.run_until_cancelled(tokio::time::sleep(shared.poll)).await.is_some() {
        let names = match commit::expired(&shared.pool).await {
            Ok(names) => names,
            Err(error) => {
                tracing::debug!(%error, "cannot look for deployments whose time is over");
                continue;
            }
        };
        for name in names {
            match control.destroy(&name, BY).await {
                Ok(_) => tracing::info!(deployment = name, "its time is over; it leaves"),
                Err(refusal) => {
                    tracing::warn!(deployment = name, code = refusal.code, "its time is over: {}", refusal.message);
                }
            }
        }
    }
}
