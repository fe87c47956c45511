//! The pass: one turn after the other over the deployments in which there is something to be done.

mod look;
mod share;
mod turn;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use engine_core::id::DeploymentId;
use engine_core::settle::Hood;
use engine_store::StoreError;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::hints::{self, Woken};
use crate::run::{Ended, Runners};
use crate::shared::Shared;
use look::Look;
use turn::{Jobs, Turned};

/// How long a report waits for others, and how many of them are enough.
const GATHER: Duration = Duration::from_millis(5);
const MOST: usize = 500;
/// All neighbourhoods are loaded anew when there are more vertices in them.
const MOST_KEPT_OF_ALL: usize = 200_000;
/// While another engine holds a deployment that we have reports for.
const BUSY_PAUSE: Duration = Duration::from_millis(20);
/// While the database does not answer.
const DOWN_PAUSE: Duration = Duration::from_millis(250);

/// What turns saw of deployments and need not load again, as long as nobody else changes anything there.
struct Kept {
    /// By which the database tells our turns from those of others.
    turns: Uuid,
    seen: HashMap<DeploymentId, Seen>,
    /// What deployments weigh, where it is not 1.
    weights: HashMap<DeploymentId, usize>,
}

/// What turns saw of a deployment.
struct Seen {
    hood: Hood,
    /// The last one left nothing there that is woken.
    none_woken: bool,
    /// Nor anything that is ready.
    none_ready: bool,
}

impl Kept {
    fn weight(&self, deployment: DeploymentId) -> usize {
        self.weights.get(&deployment).copied().unwrap_or(1)
    }

    /// What a deployment weighs by the graph that its turn has.
    fn weigh(&mut self, deployment: DeploymentId, weight: u32) -> usize {
        let weight = usize::try_from(weight).unwrap_or(1).max(1);
        match weight {
            1 => self.weights.remove(&deployment),
            more => self.weights.insert(deployment, more),
        };
        weight
    }
}

/// What a round left to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Left {
    /// Nothing.
    Nothing,
    /// What another engine was about to do.
    Busy,
    /// More of the same.
    Work,
}

pub(crate) async fn turns(
    shared: Arc<Shared>,
    runners: Runners,
    mut reports: mpsc::UnboundedReceiver<Ended>,
    stop: CancellationToken,
) {
    let mut hints = shared.hints.subscribe();
    let mut ended: HashMap<DeploymentId, Vec<Ended>> = HashMap::new();
    let mut kept = Kept { turns: Uuid::now_v7(), seen: HashMap::new(), weights: HashMap::new() };
    let mut look = Look::new();
    let mut pause = Duration::ZERO;
    loop {
        if stop.is_cancelled() {
            return;
        }
        let mut hinted = hints.has_changed().unwrap_or(true);
        if !pause.is_zero() {
            tokio::select! {
                woken = hints::wait(&mut hints, pause, &stop) => {
                    if woken == Woken::Stop {
                        return;
                    }
                    hinted = true;
                }
                Some(report) = reports.recv() => {
                    ended.entry(report.deployment).or_default().push(report);
                    gather(&mut ended, &mut reports, runners.len()).await;
                }
            }
        }
        hints.mark_unchanged();
        while let Ok(report) = reports.try_recv() {
            ended.entry(report.deployment).or_default().push(report);
        }
        let found = look.work(&shared.pool, hinted).await;
        let done = match found {
            Ok(todo) => round(&shared, &runners, &mut ended, &mut kept, &hints, todo, &mut look).await,
            Err(error) => Err(error),
        };
        pause = match done {
            Ok(Left::Work) => Duration::ZERO,
            Ok(Left::Busy) => BUSY_PAUSE,
            Ok(Left::Nothing) => look.rest(shared.poll),
            Err(error) => {
                tracing::debug!(%error, code = error.code(), "a turn did not come about");
                if !error.is_transient() {
                    tracing::error!(%error, code = error.code(), source = ?std::error::Error::source(&error), "a turn failed");
                    let _ = stop.run_until_cancelled(sleep(Duration::from_secs(1))).await;
                }
                DOWN_PAUSE
            }
        };
        let seen: usize = kept.seen.values().map(|seen| seen.hood.vertices.len()).sum();
        if runners.len() == 0 || seen > MOST_KEPT_OF_ALL {
            kept.seen.clear();
        }
    }
}

/// Waits a moment for more reports, as long as there are jobs that could report: a turn costs much, a report in it little.
async fn gather(
    ended: &mut HashMap<DeploymentId, Vec<Ended>>,
    reports: &mut mpsc::UnboundedReceiver<Ended>,
    running: usize,
) {
    let end = Instant::now() + GATHER;
    let mut count: usize = ended.values().map(Vec::len).sum();
    while count < running.min(MOST) {
        let Ok(Some(report)) = timeout_at(end, reports.recv()).await else { return };
        ended.entry(report.deployment).or_default().push(report);
        count += 1;
    }
}

/// One look at all deployments with work. Each has one turn in a round, those with the fewest jobs first; one that is
/// alone has turn after turn until a hint says that it may not be any more.
async fn round(
    shared: &Shared,
    runners: &Runners,
    ended: &mut HashMap<DeploymentId, Vec<Ended>>,
    kept: &mut Kept,
    hints: &watch::Receiver<u64>,
    mut todo: Vec<DeploymentId>,
    look: &mut Look,
) -> Result<Left, StoreError> {
    todo.extend(ended.keys().copied());
    todo.sort_unstable();
    todo.dedup();
    let held = runners.by_deployment();
    let others: Vec<DeploymentId> = held.keys().copied().filter(|other| todo.binary_search(other).is_err()).collect();
    let count = todo.len() + others.len();
    let sharing: usize = todo.iter().chain(&others).map(|id| kept.weight(*id)).sum();
    let own = |id: &DeploymentId| held.get(id).map_or(0, |held| held.saturating_sub(ended.get(id).map_or(0, Vec::len)));
    let mut order: Vec<(usize, usize, DeploymentId)> =
        todo.into_iter().map(|id| (own(&id), kept.weight(id), id)).collect();
    order.sort_unstable_by(share::order);
    let mut after: usize = order.iter().map(|(_, weight, _)| weight).sum();
    // Of unequal ones also those count that come again in the next round: what they could not take up yet is theirs.
    let (is_alone, is_equal) = (count == 1, sharing == count);
    let (mut left, mut failure) = (Left::Nothing, None);
    for (own, weight, deployment) in &order {
        after -= weight;
        let jobs = Jobs { own: *own, after, sharing };
        loop {
            let turned = turn::turn(shared, runners, *deployment, ended, kept, jobs).await;
            look.turned(*deployment, !matches!(turned, Ok(Turned::Rest)));
            match turned {
                Ok(Turned::More) if is_alone && !hints.has_changed().unwrap_or(true) => continue,
                Ok(Turned::More) => {
                    left = Left::Work;
                    after += if is_equal { 0 } else { *weight };
                }
                Ok(Turned::Rest | Turned::Waits) => {}
                Ok(Turned::Held) => left = left.max(Left::Busy),
                Ok(Turned::Busy) if ended.contains_key(deployment) => left = left.max(Left::Busy),
                Ok(Turned::Busy) => {}
                // A deployment that can not be turned must not stop the others.
                Err(error) => failure = Some(error),
            }
            break;
        }
    }
    failure.map_or(Ok(left), Err)
}
