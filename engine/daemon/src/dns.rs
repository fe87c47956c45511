//! Names: records on their way into the database, and from there into the server's memory.

mod feed;

use std::sync::Arc;

use engine_core::settle::turn::Failure;
use engine_store::dns::{self, Change, Written};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Duration, sleep};
use tokio_util::sync::CancellationToken;

pub(crate) use self::feed::serve;
use crate::shared::Shared;

/// Changes that share a commit at most.
const MOST: usize = 500;
/// Changes that wait for one.
const WAITING: usize = 4096;
/// While the database does not answer.
const DOWN_PAUSE: Duration = Duration::from_millis(250);

/// A change and who waits for it.
pub(crate) type Asked = (Change, oneshot::Sender<Result<Written, Failure>>);

/// The way to whoever writes records.
#[derive(Clone)]
pub(crate) struct Names(mpsc::Sender<Asked>);

impl Names {
    pub(crate) fn new() -> (Self, mpsc::Receiver<Asked>) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (Self(sender), receiver)
    }

    /// Writes a change; durable when it returns. Nothing if the engine ends meanwhile: the job goes on elsewhere.
    pub(crate) async fn set(&self, change: Change) -> Option<Result<Written, Failure>> {
        let (answer, done) = oneshot::channel();
        self.0.send((change, answer)).await.ok()?;
        done.await.ok()
    }
}

/// Writes changes, all that wait in one transaction: a commit costs as much for one as for many.
pub(crate) async fn write(shared: Arc<Shared>, mut asked: mpsc::Receiver<Asked>, stop: CancellationToken) {
    let mut batch = Vec::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            count = asked.recv_many(&mut batch, MOST) => if count == 0 { return },
        }
        let (changes, answers): (Vec<Change>, Vec<_>) = batch.drain(..).unzip();
        let results = loop {
            match dns::set_records(&shared.pool, shared.engine(), &changes).await {
                Ok(results) => break results.into_iter().map(Ok).collect(),
                Err(error) if error.is_transient() => {
                    if stop.run_until_cancelled(sleep(DOWN_PAUSE)).await.is_none() {
                        return;
                    }
                }
                Err(error) => {
                    let failure = Failure { code: error.code().to_owned(), message: error.to_string() };
                    break vec![Err(failure); changes.len()];
                }
            }
        };
        for (answer, result) in answers.into_iter().zip(results) {
            // Who does not wait any more asks again.
            let _ = answer.send(result);
        }
    }
}
