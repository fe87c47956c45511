//! What runs again by itself when its time has come: what failed, where its role wants it so, and what was told for a time
//! only, such as a certificate.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use engine_store::{StoreError, pki, renewal, retry, rotation};
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use crate::shared::Shared;

pub(crate) async fn watch(shared: Arc<Shared>, stop: CancellationToken) {
    let mut pause = Duration::ZERO;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            // A turn has written down when something runs again.
            () = shared.again.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
        pause = round(&shared).await.unwrap_or_else(|error| {
            tracing::debug!(%error, "cannot look for what runs again");
            shared.poll
        });
    }
}

/// Lets run again what is due; how long until there is more.
async fn round(shared: &Shared) -> Result<Duration, StoreError> {
    let now = OffsetDateTime::now_utc();
    for deployment in retry::due(&shared.pool, now).await? {
        retry::again(&shared.pool, deployment, now, &shared.revisions).await?;
    }
    for deployment in renewal::due(&shared.pool, now).await? {
        renewal::renew(&shared.pool, deployment, now, &shared.revisions).await?;
    }
    pki::tell_of_ends(&shared.pool, now).await?;
    let advanced = rotation::advance(&shared.pool, &shared.revisions).await?;
    shared.rotating.store(advanced.moving, Ordering::Relaxed);
    if advanced.asked {
        shared.beside.notify_waiters();
    }
    let next = [retry::next(&shared.pool).await?, renewal::next(&shared.pool).await?].into_iter().flatten().min();
    let wait = next.map(|next| Duration::try_from(next - now).unwrap_or_default());
    Ok(wait.map_or(shared.poll, |wait| wait.clamp(Duration::from_millis(50), shared.poll)))
}
