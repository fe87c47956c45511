//! One turn of one deployment: takes in reports and what was woken, decides, and writes what was decided in one transaction.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;

use engine_core::id::{DeploymentId, JobId, VertexId};
use engine_core::settle::turn::Wants;
use engine_core::settle::{Claim, Report, Turn, Vertex};
use engine_core::state::State;
use engine_store::StoreError;
use engine_store::jobs::{self, OpenJob};
use engine_store::pass;
use uuid::Uuid;

use super::share::Places;
use super::{Kept, MOST, Seen};
use crate::drift;
use crate::run::{Ended, Runners};
use crate::shared::Shared;

/// Vertices judged, and claimed, in one turn at most.
const BATCH: i64 = 500;
/// Of a neighbourhood of more vertices than this, those of idle nodes are let go of; what is larger even then is loaded anew.
const MOST_KEPT: usize = 100_000;

/// How the places for jobs are held while a deployment has its turn.
#[derive(Clone, Copy)]
pub(super) struct Jobs {
    /// Its own, at the beginning of the round, without those that are over.
    pub(super) own: usize,
    /// What deployments weigh that come after it.
    pub(super) after: usize,
    /// What deployments weigh that hold places or may want some.
    pub(super) sharing: usize,
}

/// How a turn ended.
pub(super) enum Turned {
    /// There may be more to do at once.
    More,
    /// There is more to do when there are places for jobs.
    Waits,
    /// Nothing is to be done now.
    Rest,
    /// Another engine has it.
    Busy,
    /// Somebody holds a budget that it shares.
    Held,
}

pub(super) async fn turn(
    shared: &Shared,
    runners: &Runners,
    deployment: DeploymentId,
    ended: &mut HashMap<DeploymentId, Vec<Ended>>,
    kept: &mut Kept,
    jobs: Jobs,
) -> Result<Turned, StoreError> {
    let engine = shared.engine();
    // Put back at the end: a turn that fails midway has moved it.
    let seen = kept.seen.remove(&deployment);
    let Some((mut locked, known)) = pass::lock_for_turn(&shared.pool, deployment, kept.turns).await? else {
        return Ok(Turned::Busy);
    };
    let seen = seen.filter(|_| known);
    // What nobody changed since is as the last turn left it, and need not be asked for.
    let (none_woken, none_ready) = seen.as_ref().map_or((false, false), |seen| (seen.none_woken, seen.none_ready));
    let mut hood = seen.map(|seen| seen.hood).unwrap_or_default();
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
    let most_ready = BATCH.min(i64::try_from(room).unwrap_or(BATCH).saturating_add(1));
    let todo = locked.todo(if none_woken { 0 } else { BATCH }, if none_ready { 0 } else { most_ready }).await?;
    let many_ready = is_full(&todo.ready) || todo.ready.len() > room;
    let mut claimable = todo.ready.clone();
    claimable.truncate(room);
    if reports.is_empty() && todo.woken.is_empty() && claimable.is_empty() {
        // Seen, if others had changed something.
        locked.commit().await?;
        if known {
            kept.seen.insert(deployment, Seen { hood, none_woken: true, none_ready: todo.ready.is_empty() });
        }
        return Ok(if many_ready { Turned::Waits } else { Turned::Rest });
    }
    let reported = reports.iter().map(|report| report.vertex);
    let concerned: Vec<VertexId> = todo.woken.iter().chain(&claimable).copied().chain(reported).collect();
    if !locked.hold_if_free(&revision.graph).await? {
        // Another deployment decides over a budget of both: others are turned meanwhile.
        locked.roll_back().await?;
        return Ok(Turned::Held);
    }
    locked.near(&mut hood, &revision.graph, &concerned).await?;
    let full = is_full(&todo.woken);
    let checks = reports.iter().any(|report| report.beside);
    let mut course = Course { turn: Turn::new(&revision.graph, hood), claimable, capacity, next: Next::Judge };
    // All of them count, nearly always: decided while the database looks whether they do.
    let (mine, (misfits, mut wants)) = tokio::join!(
        biased;
        locked.finish_jobs(engine, reports.iter().map(|report| &report.finished)),
        async {
            let misfits = course.report(reports);
            course.turn.wake(todo.woken);
            (misfits, if checks { None } else { Some(course.go()) })
        }
    );
    let mine = mine?;
    if mine.len() < reports.len() {
        // One that does not count moved something: all of it is forgotten, and another turn comes without it.
        locked.roll_back().await?;
        refuse(runners, deployment, ended, &mine);
        return Ok(Turned::More);
    }
    tell(&misfits);
    let beside = reports.iter().filter(|report| report.beside);
    let mut checked: Vec<_> = beside.filter_map(|report| Some((report.vertex, report.checked.clone()?))).collect();
    drift::take_in(&mut locked, &mut course.turn, &mut checked).await?;
    loop {
        let wanted = wants.take().unwrap_or_else(|| course.go());
        if wanted.is_empty() {
            break;
        }
        locked.load_wanted(&mut course.turn.hood, &wanted).await?;
        course.turn.loaded(wanted.roles, true);
    }
    let (written, mut hood) = course.turn.finish_and_keep();
    locked.record_checks(&checked).await?;
    let woken = locked.write(&written, &revision, Some(engine), "engine").await?;
    let left_ready = written.vertices.iter().any(|vertex| vertex.phase.state == State::Ready);
    // Of free places that others did not want it gets more in the next round.
    let claim_more = (many_ready || left_ready) && (written.claims.len() < capacity || capacity < free);
    let left_woken = full || !woken.is_empty() || written.vertices.iter().any(|vertex| vertex.wake);
    let again = left_woken || claim_more;
    let is_ready = |id: &VertexId| hood.vertices.get(id).is_none_or(|vertex| vertex.phase.state == State::Ready);
    let none_ready = !many_ready && !left_ready && !todo.ready.iter().any(is_ready);
    let opened: Vec<OpenJob> = written.claims.iter().filter_map(|claim| locked.opened(claim, &revision)).collect();
    locked.commit().await?;
    hood.woken(&woken);
    keep(kept, deployment, Seen { hood, none_woken: !left_woken, none_ready });
    let more = answer(runners, deployment, ended);
    if checks {
        // Whoever waits for them goes on.
        shared.beside.notify_waiters();
        shared.hint();
    }
    start(shared, runners, opened, &written.claims).await?;
    let rests = |vertex: &Vertex| !vertex.phase.is_stale();
    let rotates = shared.rotating.load(Ordering::Relaxed) && (checks || written.vertices.iter().any(rests));
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

/// How a turn decides: judges, claims, and judges what that moved.
struct Course<'g> {
    turn: Turn<'g>,
    /// What may be claimed, and how much of it.
    claimable: Vec<VertexId>,
    capacity: usize,
    next: Next,
}

/// What it comes to next.
enum Next {
    Judge,
    Claim,
    JudgeAgain,
    Nothing,
}

impl Course<'_> {
    /// Takes in what moves vertices, and says which reports do not fit to theirs.
    fn report<'r>(&mut self, reports: &'r [Ended]) -> Vec<&'r Ended> {
        let mut fits = |report: &Ended| {
            let (job, vertex, result) = (report.finished.job, report.vertex, report.result.clone());
            self.turn.report(&Report { job, vertex, result, failed_at: report.failed_at })
        };
        reports.iter().filter(|report| !report.beside && !fits(report)).collect()
    }

    /// Goes on until it wants to see more; when it wants nothing all is decided.
    fn go(&mut self) -> Wants {
        loop {
            let wants = match self.next {
                Next::Judge | Next::JudgeAgain => self.turn.judge_all(),
                Next::Claim => self.turn.claim(&self.claimable, self.capacity, || JobId(Uuid::now_v7())),
                Next::Nothing => return Wants::default(),
            };
            if !wants.is_empty() {
                return wants;
            }
            self.next = match self.next {
                Next::Judge => {
                    if self.capacity > 0 {
                        self.claimable.extend(self.turn.made_ready());
                    }
                    Next::Claim
                }
                Next::Claim => Next::JudgeAgain,
                Next::JudgeAgain | Next::Nothing => Next::Nothing,
            };
        }
    }
}

fn tell(misfits: &[&Ended]) {
    for report in misfits {
        let (job, fence, vertex) = (report.finished.job, report.finished.fence, report.vertex);
        tracing::error!(%job, fence, %vertex, "a job is over that its vertex does not run");
    }
}

/// Keeps what a turn saw for the next one, unless it is too much even without what is idle.
fn keep(kept: &mut Kept, deployment: DeploymentId, mut seen: Seen) {
    if seen.hood.vertices.len() > MOST_KEPT {
        seen.hood = seen.hood.without_idle();
    }
    if seen.hood.vertices.len() <= MOST_KEPT {
        kept.seen.insert(deployment, seen);
    }
}

/// Lets go of the jobs whose reports a turn took. `true`: there are more than it looked at.
fn answer(runners: &Runners, deployment: DeploymentId, ended: &mut HashMap<DeploymentId, Vec<Ended>>) -> bool {
    let mut seen = ended.remove(&deployment).unwrap_or_default();
    let left = seen.split_off(seen.len().min(MOST));
    for report in &seen {
        runners.forget(report);
    }
    let more = !left.is_empty();
    if more {
        ended.insert(deployment, left);
    }
    more
}

/// Lets go of the jobs whose reports come too late: of those that a turn looked at, the others.
fn refuse(
    runners: &Runners,
    deployment: DeploymentId,
    ended: &mut HashMap<DeploymentId, Vec<Ended>>,
    mine: &HashSet<(JobId, i64)>,
) {
    let Some(reports) = ended.get_mut(&deployment) else { return };
    let mut left = mine.clone();
    let mut place = 0;
    reports.retain(|report| {
        place += 1;
        let (job, fence) = (report.finished.job, report.finished.fence);
        let counts = place > MOST || left.remove(&(job, fence));
        if !counts {
            tracing::warn!(%job, fence, "a late report is refused: the job is not ours any more");
            runners.refused(report);
        }
        counts
    });
    if reports.is_empty() {
        ended.remove(&deployment);
    }
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
