//! Names: records on their way into the database, and from there into the server's memory.

mod feed;

use std::slice;
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

    /// How many changes wait.
    pub(crate) fn waiting(&self) -> usize {
        self.0.max_capacity() - self.0.capacity()
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
        let Some(together) = set(&shared, &changes, &stop).await else { return };
        match together {
            Ok(results) => answers.into_iter().zip(results).for_each(|(answer, written)| tell(answer, Ok(written))),
            // One of them does not fit what is there; the others do.
            Err(_) if changes.len() > 1 => {
                for (change, answer) in changes.iter().zip(answers) {
                    let Some(alone) = set(&shared, slice::from_ref(change), &stop).await else { return };
                    tell(answer, alone.map(|mut written| written.remove(0)));
                }
            }
            Err(failure) => answers.into_iter().for_each(|answer| tell(answer, Err(failure.clone()))),
        }
    }
}

/// Writes them in one transaction, as soon as the database answers. Nothing if the engine ends before.
async fn set(shared: &Shared, changes: &[Change], stop: &CancellationToken) -> Option<Result<Vec<Written>, Failure>> {
    loop {
        match dns::set_records(&shared.pool, shared.engine(), changes).await {
            Ok(written) => return Some(Ok(written)),
            Err(error) if error.is_transient() => stop.run_until_cancelled(sleep(DOWN_PAUSE)).await?,
            Err(error) => {
                return Some(Err(Failure { code: error.code().to_owned(), message: error.to_string() }));
            }
        }
    }
}

fn tell(answer: oneshot::Sender<Result<Written, Failure>>, result: Result<Written, Failure>) {
    // Who does not wait any more asks again.
    let _ = answer.send(result);
}
