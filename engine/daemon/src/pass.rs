//! The pass: one turn after the other over the deployments in which there is something to be done.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use engine_core::id::{DeploymentId, JobId, VertexId};
use engine_core::settle::{Report, Turn};
use engine_store::pass::{self, Locked};
use engine_store::{StoreError, jobs};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::drift;
use crate::hints::{self, Woken};
use crate::run::{Ended, Runners};
use crate::shared::Shared;

/// Vertices judged, and claimed, in one turn at most.
const BATCH: i64 = 500;
/// How long a report waits for others, and how many of them are enough.
const GATHER: Duration = Duration::from_millis(5);
const MOST: usize = 500;
/// While another engine holds a deployment that we have reports for.
const BUSY_PAUSE: Duration = Duration::from_millis(20);
/// While the database does not answer.
const DOWN_PAUSE: Duration = Duration::from_millis(250);

/// How a turn ended.
enum Turned {
    /// There may be more to do at once.
    More,
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
    let mut pause = Duration::ZERO;
    loop {
        tokio::select! {
            woken = hints::wait(&mut hints, pause, &stop) => if woken == Woken::Stop { return },
            Some(report) = reports.recv() => {
                ended.entry(report.deployment).or_default().push(report);
                gather(&mut ended, &mut reports, runners.len()).await;
            }
        }
        hints.mark_unchanged();
        while let Ok(report) = reports.try_recv() {
            ended.entry(report.deployment).or_default().push(report);
        }
        pause = match round(&shared, &runners, &mut ended).await {
            Ok(true) => BUSY_PAUSE,
            Ok(false) => shared.poll,
            Err(error) => {
                tracing::debug!(%error, code = error.code(), "a turn did not come about");
                if !error.is_transient() {
                    tracing::error!(%error, code = error.code(), source = ?std::error::Error::source(&error), "a turn failed");
                    let _ = stop.run_until_cancelled(sleep(Duration::from_secs(1))).await;
                }
                DOWN_PAUSE
            }
        };
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

/// One look at all deployments with work. `true`: something had to be left for soon.
async fn round(
    shared: &Shared,
    runners: &Runners,
    ended: &mut HashMap<DeploymentId, Vec<Ended>>,
) -> Result<bool, StoreError> {
    let mut todo = pass::with_work(&shared.pool).await?;
    todo.extend(ended.keys().copied());
    todo.sort_unstable();
    todo.dedup();
    let mut busy = false;
    let mut failure = None;
    for deployment in todo {
        loop {
            // A deployment that can not be turned must not stop the others.
            match turn(shared, runners, deployment, ended).await {
                Ok(Turned::More) => {}
                Ok(Turned::Rest) => break,
                Ok(Turned::Busy) => {
                    busy |= ended.contains_key(&deployment);
                    break;
                }
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
        }
    }
    failure.map_or(Ok(busy), Err)
}

async fn turn(
    shared: &Shared,
    runners: &Runners,
    deployment: DeploymentId,
    ended: &mut HashMap<DeploymentId, Vec<Ended>>,
) -> Result<Turned, StoreError> {
    let engine = shared.engine();
    let Some(mut locked) = pass::lock(&shared.pool, deployment, false).await? else { return Ok(Turned::Busy) };
    let revision = locked.revision(&shared.revisions).await?;
    let todo = locked.todo(BATCH).await?;
    let reports = ended.get(&deployment).map(Vec::as_slice).unwrap_or_default();
    // What is reported here runs no more.
    let capacity = (shared.jobs + reports.len()).saturating_sub(runners.len());
    let mut claimable = if capacity == 0 { Vec::new() } else { todo.ready };
    if reports.is_empty() && todo.woken.is_empty() && claimable.is_empty() {
        locked.roll_back().await?;
        return Ok(Turned::Rest);
    }
    let asked: Vec<(JobId, i64)> = reports.iter().map(|report| (report.job, report.fence)).collect();
    let mine = if asked.is_empty() { HashMap::new() } else { locked.mine(engine, &asked).await? };
    let concerned: Vec<VertexId> = todo.woken.iter().chain(&claimable).copied().chain(mine.values().copied()).collect();
    let hood = locked.hood(&concerned, &revision.graph, true).await?;
    let mut turn = Turn::new(&revision.graph, hood);
    let mut finished = Vec::new();
    let reports_beside = reports.iter().any(|report| report.beside);
    let mut checked = Vec::new();
    for report in reports {
        if report.beside {
            match mine.get(&report.job) {
                Some(vertex) => {
                    finished.push(report.finished.clone());
                    checked.extend(report.checked.clone().map(|found| (*vertex, found)));
                }
                None => tracing::debug!(job = %report.job, "a job beside its vertex is not ours any more"),
            }
            continue;
        }
        let taken = mine.get(&report.job).is_some_and(|vertex| {
            turn.report(&Report { job: report.job, vertex: *vertex, result: report.result.clone() })
        });
        if taken {
            finished.push(report.finished.clone());
        } else {
            tracing::warn!(job = %report.job, fence = report.fence, "a late report is refused: the job is not ours any more");
        }
    }
    drift::take_in(&mut locked, &mut turn, &mut checked).await?;
    let full = i64::try_from(todo.woken.len()).is_ok_and(|count| count >= BATCH);
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
    let written = turn.finish();
    locked.finish_jobs(&finished).await?;
    locked.record_checks(&checked).await?;
    locked.write(&written, &revision, Some(engine), "engine").await?;
    let again = full || written.vertices.iter().any(|vertex| vertex.wake) || !written.wake.is_empty();
    let ready = written.events.iter().any(|event| event.to == engine_core::state::State::Ready);
    locked.commit().await?;
    for report in ended.remove(&deployment).unwrap_or_default() {
        if finished.iter().any(|job| job.job == report.job) {
            runners.forget(&report);
        } else {
            runners.refused(&report);
        }
    }
    if reports_beside {
        // Whoever waits for them goes on.
        shared.beside.notify_waiters();
        shared.hint();
    }
    if !written.claims.is_empty() {
        runners.stop_checks(&written.claims.iter().map(|claim| claim.vertex).collect::<Vec<_>>());
    }
    let claimed: Vec<JobId> = written.claims.iter().map(|claim| claim.job).collect();
    if !claimed.is_empty() {
        for job in jobs::load(&shared.pool, engine, &claimed).await? {
            runners.start(job, false);
        }
    }
    // A destroyed deployment whose last vertex is gone lets go of its nodes.
    if written.vertices.iter().any(engine_core::settle::Vertex::is_gone) {
        shared.hint();
    }
    Ok(if again || ready { Turned::More } else { Turned::Rest })
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
