//! Wakes those who follow: one connection listens for hints, for all of them.
//!
//! A hint says that there may be something new, no more. Those that get lost are made up for by looking at the head of
//! the event table now and then, which costs one indexed row and is done only while somebody follows.

use std::sync::Arc;
use std::time::Duration;

use engine_store::connect::{self, Target};
use engine_store::{PgPool, read};
use futures::StreamExt as _;
use tokio::sync::{Notify, watch};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// After a hint the events may not be readable yet, for an older transaction still runs: looked again soon, then less
/// and less often.
const SOON: Duration = Duration::from_millis(20);
const SELDOM: Duration = Duration::from_secs(2);

/// Rings when there may be something new, for all who subscribe.
#[derive(Clone, Default)]
pub(crate) struct Bell(Arc<Ringing>);

#[derive(Default)]
struct Ringing {
    count: watch::Sender<u64>,
    /// Somebody subscribed: the hint of what they wait for may have come before them.
    arrived: Notify,
}

impl Bell {
    /// Rings from now on.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        let receiver = self.0.count.subscribe();
        self.0.arrived.notify_one();
        receiver
    }

    fn ring(&self) {
        self.0.count.send_modify(|count| *count += 1);
    }

    fn is_followed(&self) -> bool {
        self.0.count.receiver_count() > 0
    }
}

/// Runs until `stop`.
pub(crate) async fn run(target: Target, pool: PgPool, bell: Bell, stop: CancellationToken) {
    let mut hints = connect::listen(&target, &[read::EVENTS]);
    let mut pause = SOON;
    let mut head = -1;
    loop {
        let followed = bell.is_followed();
        tokio::select! {
            () = stop.cancelled() => return,
            hint = hints.next() => match hint {
                // A stream without end; if it had one, looking now and then would be left.
                None => sleep(SELDOM).await,
                Some(connect::Hint::Lost) => {}
                Some(connect::Hint::Connected | connect::Hint::Notified { .. }) => {
                    pause = SOON;
                    bell.ring();
                }
            },
            () = bell.0.arrived.notified() => pause = SOON,
            () = sleep(pause), if followed => {
                pause = (pause * 2).min(SELDOM);
                match read::head(&pool).await {
                    Ok(now) if now == head => {}
                    Ok(now) => {
                        head = now;
                        bell.ring();
                    }
                    Err(error) => tracing::debug!(%error, "cannot look for new events"),
                }
            }
        }
    }
}
