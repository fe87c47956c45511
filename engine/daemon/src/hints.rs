//! What Postgres whispers, turned into one counter that wakes the loops. Nothing trusts it: everybody polls as well.

use std::sync::Arc;

use engine_store::connect;
use engine_store::pass::WORK;
use futures::StreamExt as _;
use tokio::sync::watch;
use tokio::time::{Duration, Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::shared::Shared;

pub(crate) async fn listen(shared: Arc<Shared>, stop: CancellationToken) {
    let mut hints = connect::listen(&shared.database, &[WORK]);
    while let Some(Some(_)) = stop.run_until_cancelled(hints.next()).await {
        shared.hint();
    }
}

/// A look that is taken on suspicion costs a fiftieth of the time at most.
const SHARE: u32 = 50;

/// When what began then and is over now may be done again: after `least`, and later if it took long. What is dead and can not be
/// taken away yet, for an old transaction may still see it, is gone through by each look.
pub(crate) fn not_before(least: Duration, began: Instant) -> Instant {
    let now = Instant::now();
    now + least.max((now - began) * SHARE)
}

/// What ends a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Woken {
    /// The engine stops.
    Stop,
    /// A hint, or the time has come.
    Look,
}

/// Waits for a hint, or `pause`, or the end of the engine.
pub(crate) async fn wait(hints: &mut watch::Receiver<u64>, pause: Duration, stop: &CancellationToken) -> Woken {
    tokio::select! {
        () = stop.cancelled() => Woken::Stop,
        _ = hints.changed() => Woken::Look,
        () = sleep(pause) => Woken::Look,
    }
}
