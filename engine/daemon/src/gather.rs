//! Writes that share commits: all that wait go into one transaction, for that costs as much for one as for many.

use std::{mem, slice};

use engine_core::settle::turn::Failure;
use engine_store::StoreError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Duration, Instant, sleep};
use tokio_util::sync::CancellationToken;

/// Writes that share a commit at most.
const MOST: usize = 500;
/// Writes that wait for one.
const WAITING: usize = 4096;
/// How long those who may come again are waited for at most: no turn of the database takes less than a part of this.
const REJOIN: Duration = Duration::from_millis(1);
/// While the database does not answer.
const DOWN_PAUSE: Duration = Duration::from_millis(250);

type Asked<Q, A> = (Q, oneshot::Sender<Result<A, Failure>>);

/// The way to whoever writes.
pub(crate) struct Gather<Q, A>(mpsc::Sender<Asked<Q, A>>);

/// What is to be written.
pub(crate) struct Gathered<Q, A>(mpsc::Receiver<Asked<Q, A>>);

/// What becomes of writes while the database does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Down {
    /// They wait for it: who asked has nothing better to do.
    Waits,
    /// They fail: who asked is told, and asks again.
    Fails,
}

/// How what was gathered is written.
pub(crate) trait Write: Send + Sync {
    /// What is asked for.
    type Asked: Send + Sync;
    /// What is told then.
    type Answer: Send;
    /// What becomes of writes while the database does not answer.
    const DOWN: Down;

    /// All in one transaction: as many answers as it is asked, or nothing was written.
    fn write(&mut self, asked: &[Self::Asked]) -> impl Future<Output = Result<Vec<Self::Answer>, StoreError>> + Send;
}

pub(crate) fn gather<Q, A>() -> (Gather<Q, A>, Gathered<Q, A>) {
    let (sender, receiver) = mpsc::channel(WAITING);
    (Gather(sender), Gathered(receiver))
}

impl<Q, A> Gather<Q, A> {
    /// How many writes wait.
    pub(crate) fn waiting(&self) -> usize {
        self.0.max_capacity() - self.0.capacity()
    }

    /// Asks for a write; durable when it returns. Nothing if the engine ends meanwhile.
    pub(crate) async fn ask(&self, what: Q) -> Option<Result<A, Failure>> {
        let (answer, done) = oneshot::channel();
        self.0.send((what, answer)).await.ok()?;
        done.await.ok()
    }
}

impl<Q, A> Gathered<Q, A> {
    /// Writes until it is stopped.
    pub(crate) async fn write<W: Write<Asked = Q, Answer = A>>(mut self, mut by: W, stop: CancellationToken) {
        let mut batch = Vec::new();
        let mut last = (0, Duration::ZERO);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                count = self.0.recv_many(&mut batch, MOST) => if count == 0 { return },
            }
            self.rejoin(&mut batch, last).await;
            let (count, began) = (batch.len(), Instant::now());
            let (asked, tellers): (Vec<Q>, Vec<_>) = batch.drain(..).unzip();
            let Some(together) = attempt(&mut by, &asked, &stop).await else { return };
            match together {
                Ok(answers) => tellers.into_iter().zip(answers).for_each(|(teller, answer)| tell(teller, Ok(answer))),
                // One of them does not fit what is there; the others do.
                Err(error) if asked.len() > 1 && !error.is_transient() => {
                    for (one, teller) in asked.iter().zip(tellers) {
                        let Some(alone) = attempt(&mut by, slice::from_ref(one), &stop).await else { return };
                        tell(teller, alone.map(|mut answers| answers.remove(0)).map_err(|error| failure(&error)));
                    }
                }
                Err(error) => tellers.into_iter().for_each(|teller| tell(teller, Err(failure(&error)))),
            }
            last = (count, began.elapsed());
        }
    }

    /// Those who were told a moment ago ask again in a moment: without them the first one goes alone, and all others wait for it.
    /// So it waits for as many as there were, for half as long as their write took, and for [`REJOIN`] at most.
    async fn rejoin(&mut self, batch: &mut Vec<Asked<Q, A>>, (count, took): (usize, Duration)) {
        let end = Instant::now() + (took / 2).min(REJOIN);
        while batch.len() < count && Instant::now() < end {
            match self.0.try_recv() {
                Ok(one) => batch.push(one),
                // Timers are a hundred times too coarse for this.
                Err(_) => tokio::task::yield_now().await,
            }
        }
    }
}

/// Nothing if the engine ends before.
async fn attempt<W: Write>(
    by: &mut W,
    asked: &[W::Asked],
    stop: &CancellationToken,
) -> Option<Result<Vec<W::Answer>, StoreError>> {
    let mut again = true;
    loop {
        match by.write(asked).await {
            Err(error) if error.is_transient() && W::DOWN == Down::Waits => {
                stop.run_until_cancelled(sleep(DOWN_PAUSE)).await?;
            }
            // It may be up all the same: a connection that was cut, or two that stood in each other's way.
            Err(error) if error.is_transient() && mem::take(&mut again) => {}
            written => return Some(written),
        }
    }
}

fn failure(error: &StoreError) -> Failure {
    Failure { code: error.code().to_owned(), message: error.to_string() }
}

fn tell<A>(teller: oneshot::Sender<Result<A, Failure>>, answer: Result<A, Failure>) {
    // Who does not wait any more asks again.
    let _ = teller.send(answer);
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Arc, Mutex};

    use engine_store::connect::{Target, connect_one};
    use futures::future;

    use super::*;

    /// Doubles numbers. Thirteen does not fit, and while it is down nothing does.
    #[derive(Clone, Default)]
    struct Doubles {
        batches: Arc<Mutex<Vec<usize>>>,
        down: Arc<AtomicBool>,
    }

    impl Write for Doubles {
        type Asked = u32;
        type Answer = u32;

        const DOWN: Down = Down::Fails;

        async fn write(&mut self, asked: &[u32]) -> Result<Vec<u32>, StoreError> {
            self.batches.lock().expect("whole").push(asked.len());
            if self.down.load(Ordering::Relaxed) {
                let nobody = Target::url("postgres://nobody@127.0.0.1:1/none").expect("an address");
                connect_one(&nobody).await?;
            }
            if asked.contains(&13) {
                return Err(StoreError::DatabaseUrl { reason: "thirteen".to_owned() });
            }
            Ok(asked.iter().map(|one| one * 2).collect())
        }
    }

    #[tokio::test]
    async fn all_that_wait_go_together_and_one_that_does_not_fit_spoils_nothing() {
        let ((way, gathered), by, stop) = (gather(), Doubles::default(), CancellationToken::new());
        let (written, asked) = (by.clone(), [12, 13, 14]);
        let asks = future::join_all(asked.map(|one| way.ask(one)));
        let writes = gathered.write(by, stop.clone());
        let answers = tokio::select! {
            answers = asks => answers,
            () = writes => panic!("nobody stopped it"),
        };
        let told: Vec<_> =
            answers.into_iter().map(|answer| answer.expect("told").map_err(|failure| failure.code)).collect();
        assert_eq!(told, [Ok(24), Err("database-url".to_owned()), Ok(28)]);
        assert_eq!(*written.batches.lock().expect("whole"), [3, 1, 1, 1], "together, and then each alone");
    }

    #[tokio::test]
    async fn while_the_database_does_not_answer_all_are_told_at_once() {
        let ((way, gathered), by, stop) = (gather(), Doubles::default(), CancellationToken::new());
        by.down.store(true, Ordering::Relaxed);
        let written = by.clone();
        let asks = future::join_all([1, 2, 3].map(|one| way.ask(one)));
        let writes = gathered.write(by, stop.clone());
        let answers = tokio::select! {
            answers = asks => answers,
            () = writes => panic!("nobody stopped it"),
        };
        assert!(answers.into_iter().all(|answer| answer.expect("told").is_err()));
        assert_eq!(*written.batches.lock().expect("whole"), [3, 3], "once more, and all of them together");
    }
}
