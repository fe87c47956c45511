//! The pass: one turn after the other over the deployments in which there is something to be done.

mod look;
mod share;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use engine_core::id::{DeploymentId, JobId, VertexId};
use engine_core::settle::{Claim, Hood, Report, Turn, Vertex};
use engine_core::state::State;
use engine_store::StoreError;
use engine_store::jobs::{self, OpenJob};
use engine_store::pass::{self, Locked};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::drift;
use crate::hints::{self, Woken};
use crate::run::{Ended, Runners};
use crate::shared::Shared;
use look::Look;
use share::Places;

/// Vertices judged, and claimed, in one turn at most.
const BATCH: i64 = 500;
/// How long a report waits for others, and how many of them are enough.
const GATHER: Duration = Duration::from_millis(5);
const MOST: usize = 500;
/// Of a neighbourhood of more vertices than this, those of idle nodes are let go of; what is larger even then is loaded anew.
const MOST_KEPT: usize = 100_000;
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
    hoods: HashMap<DeploymentId, Hood>,
    /// What deployments weigh, where it is not 1.
    weights: HashMap<DeploymentId, usize>,
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

/// How the places for jobs are held while a deployment has its turn.
#[derive(Clone, Copy)]
struct Jobs {
    /// Its own, at the beginning of the round, without those that are over.
    own: usize,
    /// What deployments weigh that come after it.
    after: usize,
    /// What deployments weigh that hold places or may want some.
    sharing: usize,
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

/// How a turn ended.
enum Turned {
    /// There may be more to do at once.
    More,
    /// There is more to do when there are places for jobs.
    Waits,
    /// Nothing is to be done now.
    Rest,
    /// Another engine has it.
    Busy,
}

pub(crate) async fn turns(
    shared: Arc<Shared>,
    runners: Runners,
    mut reports: mpsc::UnboundedReceiver<Ended>,
    stop: CancellationToken,
) {
    let mut hints = shared.hints.subscribe();
    let mut ended: HashMap<DeploymentId, Vec<Ended>> = HashMap::new();
    let mut kept = Kept { turns: Uuid::now_v7(), hoods: HashMap::new(), weights: HashMap::new() };
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
        let seen: usize = kept.hoods.values().map(|hood| hood.vertices.len()).sum();
        if runners.len() == 0 || seen > MOST_KEPT_OF_ALL {
            kept.hoods.clear();
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
            let turned = turn(shared, runners, *deployment, ended, kept, jobs).await;
            look.turned(*deployment, !matches!(turned, Ok(Turned::Rest)));
            match turned {
                Ok(Turned::More) if is_alone && !hints.has_changed().unwrap_or(true) => continue,
                Ok(Turned::More) => {
                    left = Left::Work;
                    after += if is_equal { 0 } else { *weight };
                }
                Ok(Turned::Rest | Turned::Waits) => {}
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

async fn turn(
    shared: &Shared,
    runners: &Runners,
    deployment: DeploymentId,
    ended: &mut HashMap<DeploymentId, Vec<Ended>>,
    kept: &mut Kept,
    jobs: Jobs,
) -> Result<Turned, StoreError> {
    let engine = shared.engine();
    // Put back at the end: a turn that fails midway has moved it.
    let hood = kept.hoods.remove(&deployment);
    let Some((mut locked, known)) = pass::lock_for_turn(&shared.pool, deployment, kept.turns).await? else {
        return Ok(Turned::Busy);
    };
    let mut hood = hood.filter(|_| known).unwrap_or_default();
    let revision = locked.revision(&shared.revisions).await?;
    // No more than this: while a turn is written, those that it leaves aside and those that it started go on.
    let all_reports = ended.get(&deployment).map(Vec::as_slice).unwrap_or_default();
    let reports = &all_reports[..all_reports.len().min(MOST)];
    // What is reported, here or elsewhere, runs no more.
    let over: usize = ended.values().map(Vec::len).sum();
    let free = (shared.jobs + over).saturating_sub(runners.len());
    let weight = kept.weigh(deployment, revision.graph.weight);
    let capacity = Places { all: shared.jobs, free, sharing: jobs.sharing }.share(jobs.own, weight, jobs.after);
    // What comes after what is reported, now or in the next turn, goes first, for that is at hand: nodes are gone through one
    // after the other, and not all of them again and again.
    let room = capacity.saturating_sub(all_reports.len());
    let todo = locked.todo(BATCH, BATCH.min(i64::try_from(room).unwrap_or(BATCH).saturating_add(1))).await?;
    let many_ready = is_full(&todo.ready) || todo.ready.len() > room;
    let mut claimable = todo.ready;
    claimable.truncate(room);
    if reports.is_empty() && todo.woken.is_empty() && claimable.is_empty() {
        // Seen, if others had changed something.
        locked.commit().await?;
        if known {
            kept.hoods.insert(deployment, hood);
        }
        return Ok(if many_ready { Turned::Waits } else { Turned::Rest });
    }
    let mine = locked.finish_jobs(engine, reports.iter().map(|report| &report.finished)).await?;
    let concerned: Vec<VertexId> = todo.woken.iter().chain(&claimable).copied().chain(mine.values().copied()).collect();
    locked.near(&mut hood, &revision.graph, &concerned).await?;
    let mut turn = Turn::new(&revision.graph, hood);
    let reports_beside = reports.iter().any(|report| report.beside);
    let mut checked = Vec::new();
    for report in reports {
        let (job, fence) = (report.finished.job, report.finished.fence);
        let Some(vertex) = mine.get(&job).copied() else {
            tracing::warn!(%job, fence, "a late report is refused: the job is not ours any more");
            continue;
        };
        if report.beside {
            checked.extend(report.checked.clone().map(|found| (vertex, found)));
            continue;
        }
        let (result, failed_at) = (report.result.clone(), report.failed_at);
        if !turn.report(&Report { job, vertex, result, failed_at }) {
            tracing::error!(%job, fence, %vertex, "a job is over that its vertex does not run");
        }
    }
    drift::take_in(&mut locked, &mut turn, &mut checked).await?;
    let full = is_full(&todo.woken);
    turn.wake(todo.woken);
    drive(&mut locked, &mut turn).await?;
    if capacity > 0 {
        claimable.extend(turn.made_ready());
    }
    loop {
        let wants = turn.claim(&claimable, capacity, || JobId(Uuid::now_v7()));
        if wants.is_empty() {
            break;
        }
        locked.load_wanted(&mut turn.hood, &wants).await?;
        turn.loaded(wants.roles, true);
    }
    drive(&mut locked, &mut turn).await?;
    let (written, mut hood) = turn.finish_and_keep();
    locked.record_checks(&checked).await?;
    let woken = locked.write(&written, &revision, Some(engine), "engine").await?;
    let left_ready = written.vertices.iter().any(|vertex| vertex.phase.state == State::Ready);
    // Of free places that others did not want it gets more in the next round.
    let claim_more = (many_ready || left_ready) && (written.claims.len() < capacity || capacity < free);
    let again = full || claim_more || !woken.is_empty() || written.vertices.iter().any(|vertex| vertex.wake);
    let opened: Vec<OpenJob> = written.claims.iter().filter_map(|claim| locked.opened(claim, &revision)).collect();
    locked.commit().await?;
    hood.woken(&woken);
    if hood.vertices.len() > MOST_KEPT {
        hood = hood.without_idle();
    }
    if hood.vertices.len() <= MOST_KEPT {
        kept.hoods.insert(deployment, hood);
    }
    let more = answer(runners, deployment, ended, &mine);
    if reports_beside {
        // Whoever waits for them goes on.
        shared.beside.notify_waiters();
        shared.hint();
    }
    start(shared, runners, opened, &written.claims).await?;
    let rests = |vertex: &Vertex| !vertex.phase.is_stale();
    let rotates = shared.rotating.load(Ordering::Relaxed) && (reports_beside || written.vertices.iter().any(rests));
    if rotates || written.vertices.iter().any(|vertex| vertex.retry_at.is_some() || vertex.renew_at.is_some()) {
        shared.again.notify_one();
    }
    // A destroyed deployment whose last vertex is gone lets go of its nodes.
    if written.vertices.iter().any(Vertex::is_gone) {
        shared.hint();
    }
    Ok(match again || more {
        true => Turned::More,
        false if many_ready || left_ready => Turned::Waits,
        false => Turned::Rest,
    })
}

/// Lets go of the jobs whose reports a turn took, or refused. `true`: there are more than it looked at.
fn answer(
    runners: &Runners,
    deployment: DeploymentId,
    ended: &mut HashMap<DeploymentId, Vec<Ended>>,
    mine: &HashMap<JobId, VertexId>,
) -> bool {
    let mut seen = ended.remove(&deployment).unwrap_or_default();
    let left = seen.split_off(seen.len().min(MOST));
    for report in seen {
        if mine.contains_key(&report.finished.job) {
            runners.forget(&report);
        } else {
            runners.refused(&report);
        }
    }
    let more = !left.is_empty();
    if more {
        ended.insert(deployment, left);
    }
    more
}

/// Begins to follow what a turn claimed.
async fn start(shared: &Shared, runners: &Runners, opened: Vec<OpenJob>, claims: &[Claim]) -> Result<(), StoreError> {
    if !claims.is_empty() {
        runners.stop_checks(&claims.iter().map(|claim| claim.vertex).collect());
    }
    for job in opened {
        // Loaded once here, and not by each of them; if it can not be, they say so.
        if shared.role_at_hand(&job.content).is_none() {
            let _ = shared.role(&job.content).await;
        }
        runners.start(job, false);
    }
    let removes: Vec<JobId> = claims.iter().filter(|claim| claim.remove).map(|claim| claim.job).collect();
    if !removes.is_empty() {
        for job in jobs::load(&shared.pool, shared.engine(), &removes).await? {
            runners.start(job, false);
        }
    }
    Ok(())
}

/// Was there more than a turn looks at?
fn is_full(found: &[VertexId]) -> bool {
    i64::try_from(found.len()).is_ok_and(|count| count >= BATCH)
}

async fn drive(locked: &mut Locked, turn: &mut Turn<'_>) -> Result<(), StoreError> {
    loop {
        let wants = turn.judge_all();
        if wants.is_empty() {
            return Ok(());
        }
        locked.load_wanted(&mut turn.hood, &wants).await?;
        turn.loaded(wants.roles, true);
    }
}
