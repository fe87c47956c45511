//! Jobs that wait for something outside are taken up again when their time has come.
//!
//! While they wait, only their rows know of them: they take no place of a job, no task and no connection.

use std::sync::Arc;
use std::time::Duration;

use engine_store::{StoreError, jobs, put_away};
use tokio_util::sync::CancellationToken;

use crate::run::Runners;
use crate::shared::Shared;

/// Taken up in one piece. More of them are begun before the first of them is through.
const AT_ONCE: i64 = 64;
/// However near the next one is, what has come due until then is taken up together.
const SHORTEST: Duration = Duration::from_millis(5);

pub(crate) async fn watch(shared: Arc<Shared>, runners: Runners, stop: CancellationToken) {
    let mut pause = Duration::ZERO;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            // Put away by this engine; what others put away is seen by its time, which the next look reads.
            () = shared.put_away.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
        pause = round(&shared, &runners).await.unwrap_or_else(|error| {
            tracing::debug!(%error, "cannot take up jobs that waited");
            shared.poll
        });
    }
}

/// Takes up what is due; how long until there is more.
async fn round(shared: &Shared, runners: &Runners) -> Result<Duration, StoreError> {
    loop {
        let due = put_away::take_up(&shared.pool, shared.engine(), AT_ONCE).await?;
        for job in jobs::load(&shared.pool, shared.engine(), &due).await? {
            runners.start(job, true);
        }
        if i64::try_from(due.len()).is_ok_and(|count| count < AT_ONCE) {
            break;
        }
    }
    let next = put_away::next(&shared.pool).await?;
    Ok(next.map_or(shared.poll, |next| next.clamp(SHORTEST, shared.poll)))
}
