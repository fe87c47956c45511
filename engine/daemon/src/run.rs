//! Jobs that this engine follows: one task each, from its start or adoption to its report.

mod agent;
mod check;
pub(crate) mod driver;
mod heard;
mod later;
mod simulated;

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use engine_agent::protocol::{Mode, Outcome, Status};
use engine_core::catalog::CatalogRole;
use engine_core::document::Object;
use engine_core::id::{DeploymentId, JobId, VertexId};
use engine_core::output;
use engine_core::settle::turn::Failure;
use engine_store::StoreError;
use engine_store::beside::Checked;
use engine_store::jobs::{self, OpenJob};
use engine_store::nodes::{self, Node};
use engine_store::pass::Finished;
use serde_json::json;
use time::OffsetDateTime;
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

pub(crate) use self::agent::spec;
pub(crate) use self::check::difference;
use crate::hints::{self, Woken};
use crate::secrets;
use crate::shared::Shared;

/// While the database does not answer.
const DOWN_PAUSE: Duration = Duration::from_millis(250);

/// How a job ended, to be recorded by the next turn.
#[derive(Clone, Debug)]
pub(crate) struct Ended {
    /// Its deployment.
    pub(crate) deployment: DeploymentId,
    /// Its vertex.
    pub(crate) vertex: VertexId,
    /// Validated outputs, or why it failed.
    pub(crate) result: Result<Object, Failure>,
    /// When it ended, if its executor itself said that it failed.
    pub(crate) failed_at: Option<OffsetDateTime>,
    /// For its row; which it is, and the claim it was followed under.
    pub(crate) finished: Finished,
    /// Nothing of its vertex moves by it.
    pub(crate) beside: bool,
    /// What a check found.
    pub(crate) checked: Option<Checked>,
    /// The node whose agent keeps its journal.
    node: Option<Arc<Node>>,
}

/// What an executor says.
pub(crate) enum Ran {
    /// It is over.
    Over(Outcome),
    /// It never began, or can not be asked: it failed with this.
    Failed(Failure),
    /// What it waits for outside is not there yet. It is put away, and looked at again.
    Later {
        /// What it saw, to follow `sees that`.
        saw: String,
        /// The next look.
        after: Duration,
    },
    /// Somebody else follows it now.
    NotOurs,
}

struct Running {
    /// The claim it is followed under.
    fence: i64,
    /// Asks for its end.
    cancel: CancellationToken,
    /// Lets go of it, without a word to the node.
    drop: CancellationToken,
    /// The vertex that it is a check of.
    checks: Option<VertexId>,
    deployment: DeploymentId,
}

/// All jobs that this engine follows.
#[derive(Clone)]
pub(crate) struct Runners {
    shared: Arc<Shared>,
    running: Arc<Mutex<HashMap<JobId, Running>>>,
    reports: mpsc::UnboundedSender<Ended>,
}

impl Runners {
    pub(crate) fn new(shared: Arc<Shared>) -> (Self, mpsc::UnboundedReceiver<Ended>) {
        let (reports, receiver) = mpsc::unbounded_channel();
        (Self { shared, running: Arc::default(), reports }, receiver)
    }

    /// How many jobs are followed.
    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    /// The same by deployment.
    pub(crate) fn by_deployment(&self) -> HashMap<DeploymentId, usize> {
        let mut count = HashMap::new();
        for running in self.lock().values() {
            *count.entry(running.deployment).or_default() += 1;
        }
        count
    }

    /// Is this one followed, or its report not yet recorded?
    pub(crate) fn has(&self, job: JobId) -> bool {
        self.lock().contains_key(&job)
    }

    /// The jobs that are followed, with their fences.
    pub(crate) fn followed(&self) -> Vec<(JobId, i64)> {
        self.lock().iter().map(|(job, running)| (*job, running.fence)).collect()
    }

    /// Stops following these jobs. What they still do on their nodes counts for nothing.
    pub(crate) fn drop_all(&self, jobs: impl Iterator<Item = (JobId, i64)>) {
        for (job, fence) in jobs {
            if let Entry::Occupied(running) = self.lock().entry(job)
                && running.get().fence == fence
            {
                running.remove().drop.cancel();
            }
        }
    }

    /// Begins to follow a job. `adopted`: it may have been handed to its node before.
    pub(crate) fn start(&self, job: OpenJob, adopted: bool) {
        let (cancel, drop) = (CancellationToken::new(), CancellationToken::new());
        let checks = (job.action == "check").then_some(job.vertex);
        let running = Running {
            fence: job.fence,
            cancel: cancel.clone(),
            drop: drop.clone(),
            checks,
            deployment: job.deployment,
        };
        if job.cancelled {
            cancel.cancel();
        }
        match self.lock().entry(job.job) {
            // Put away and taken up again, before whoever put it away was through.
            Entry::Occupied(mut before) if before.get().fence < job.fence => before.insert(running).drop.cancel(),
            // The turn that claimed it and the loop that looks for jobs without a follower may both come here.
            Entry::Occupied(_) => return,
            Entry::Vacant(free) => {
                free.insert(running);
            }
        }
        let runners = self.clone();
        tokio::spawn(async move {
            match drop.run_until_cancelled(runners.run(&job, adopted, &cancel)).await {
                Some(Some(ended)) => {
                    // The turns are gone only when the engine ends; the next one adopts the job then.
                    let _ = runners.reports.send(ended);
                }
                Some(None) => runners.unfollow(job.job, job.fence),
                None => {}
            }
        });
    }

    /// Stops following everything. Jobs on nodes go on.
    pub(crate) fn let_go(&self) {
        for (_, running) in self.lock().drain() {
            running.drop.cancel();
        }
    }

    /// Asks for the end of these jobs, if they run here.
    fn cancel(&self, asked: &[JobId]) {
        let running = self.lock();
        for job in asked {
            if let Some(running) = running.get(job) {
                running.cancel.cancel();
            }
        }
    }

    /// Asks for the end of checks of these vertices: a job of theirs begins.
    pub(crate) fn stop_checks(&self, vertices: &HashSet<VertexId>) {
        for running in self.lock().values() {
            if running.checks.is_some_and(|vertex| vertices.contains(&vertex)) {
                running.cancel.cancel();
            }
        }
    }

    /// No longer followed under this claim; under a newer one it still may be.
    fn unfollow(&self, job: JobId, fence: i64) {
        if let Entry::Occupied(running) = self.lock().entry(job)
            && running.get().fence == fence
        {
            running.remove();
        }
    }

    /// The report of a job was refused: whoever holds the job now still needs its journal.
    pub(crate) fn refused(&self, ended: &Ended) {
        self.unfollow(ended.finished.job, ended.finished.fence);
    }

    /// The report of a job is recorded: its journal may go.
    pub(crate) fn forget(&self, ended: &Ended) {
        self.unfollow(ended.finished.job, ended.finished.fence);
        let (Some(node), job, shared) = (ended.node.clone(), ended.finished.job, Arc::clone(&self.shared)) else {
            return;
        };
        tokio::spawn(async move {
            if let Some(target) = shared.target(&node)
                && let Err(error) = shared.remote.forget(&target, job).await
            {
                tracing::debug!(%error, %job, "the journal of a finished job stays for now");
            }
        });
    }

    async fn run(&self, job: &OpenJob, adopted: bool, cancel: &CancellationToken) -> Option<Ended> {
        let mut node = None;
        let ran = loop {
            match self.perform(job, adopted, cancel, &mut node).await {
                Ok(ran) => break ran,
                Err(error) if error.is_transient() => sleep(DOWN_PAUSE).await,
                Err(error) => {
                    let code = error.code().to_owned();
                    break Ran::Failed(Failure { code, message: error.to_string() });
                }
            }
        };
        let (outcome, told) = match ran {
            Ran::NotOurs => return None,
            Ran::Over(outcome) => (outcome, true),
            Ran::Later { saw, after } => (Box::pin(later::put_away(&self.shared, job, &saw, after)).await?, true),
            Ran::Failed(failure) => (failed(&failure.code, failure.message), false),
        };
        // Where the executor can not be asked nobody knows what it did, and outputs that are not valid come out so again.
        let failed = told && outcome.status == Status::Failed;
        let mut ended = self.ended(job, outcome, node).await;
        // Not finer than the database keeps it.
        ended.failed_at = failed.then(|| OffsetDateTime::now_utc().truncate_to_millisecond());
        Some(ended)
    }

    /// Finds out who performs it, and has it performed.
    async fn perform(
        &self,
        job: &OpenJob,
        adopted: bool,
        cancel: &CancellationToken,
        node: &mut Option<Arc<Node>>,
    ) -> Result<Ran, StoreError> {
        let shared = &self.shared;
        let (role, inputs) = self.role_and_inputs(job).await?;
        let mode = match job.action.as_str() {
            "remove" => Mode::Remove,
            "check" => Mode::Check,
            _ => Mode::Apply,
        };
        if mode != Mode::Remove
            && let Err(failure) = output::check_inputs(&role, &inputs, &shared.validators)
        {
            return Ok(Ran::Failed(failure));
        }
        if role.doc.is_noop() && role.doc.remove.is_none() && role.doc.remove_only.is_none() {
            return Ok(Ran::Over(succeeded()));
        }
        if let Some(made_up) = &shared.made_up {
            return Ok(Box::pin(simulated::made_up(made_up, job, &role, mode, cancel)).await);
        }
        if role.doc.driver.is_some() {
            return Box::pin(driver::run(shared, job, &role, inputs, mode, cancel)).await;
        }
        // What is rare or long is boxed: a task is as large as the largest thing that it may wait for, and is moved.
        let Some(on) = Box::pin(nodes::load(&shared.pool, &[job.node])).await?.pop() else {
            let message = "the node of this job is not known any more".to_owned();
            return Ok(Ran::Failed(Failure { code: "node-unknown".to_owned(), message }));
        };
        if on.provider == "simulated" {
            return Ok(Box::pin(simulated::run(job, &on, mode, cancel)).await);
        }
        let on = Arc::new(on);
        *node = Some(Arc::clone(&on));
        Box::pin(agent::run(shared, job, &role, inputs, mode, &on, adopted, cancel)).await
    }

    /// What it does and with what, without asking the database for what is at hand.
    async fn role_and_inputs(&self, job: &OpenJob) -> Result<(Arc<CatalogRole>, Object), StoreError> {
        let shared = &self.shared;
        let role = match shared.role_at_hand(&job.content) {
            Some(role) => role,
            None => Box::pin(shared.role(&job.content)).await?,
        };
        let mut inputs = job.inputs.clone();
        if jobs::refers(&inputs) {
            Box::pin(jobs::resolve(&shared.pool, &mut inputs)).await?;
        }
        if role.doc.inputs.values().any(|input| input.secret) {
            Box::pin(secrets::open(shared, &mut inputs)).await?;
        }
        Ok((role, inputs))
    }

    /// The report: outputs are computed and validated here, outside of any transaction.
    async fn ended(&self, job: &OpenJob, mut outcome: Outcome, node: Option<Arc<Node>>) -> Ended {
        let apply = job.action == "apply";
        let mut result = Ok(Object::new());
        if outcome.status == Status::Succeeded && apply {
            result = loop {
                match self.outputs(job, &outcome).await {
                    Ok(result) => break result,
                    Err(error) if error.is_transient() => sleep(DOWN_PAUSE).await,
                    Err(error) => {
                        break Err(Failure { code: error.code().to_owned(), message: error.to_string() });
                    }
                }
            };
            if let Err(failure) = &result {
                outcome.status = Status::Failed;
                (outcome.code, outcome.message) = (Some(failure.code.clone()), Some(failure.message.clone()));
            }
        } else if !matches!(outcome.status, Status::Succeeded | Status::Drifted) {
            let code = match outcome.status {
                Status::Cancelled => "cancelled".to_owned(),
                _ => outcome.code.clone().unwrap_or_else(|| "step-failed".to_owned()),
            };
            let message = outcome.message.clone().unwrap_or_else(|| "the job did not succeed".to_owned());
            outcome.code = Some(code.clone());
            result = Err(Failure { code, message });
        }
        let checked = match job.action.as_str() {
            "check" => Some(self.checked(job, &outcome).await),
            _ => None,
        };
        let word = match outcome.status {
            Status::Succeeded => "succeeded",
            Status::Drifted => "drifted",
            Status::Failed => "failed",
            Status::Cancelled => "cancelled",
            Status::Unknown => "unknown",
        };
        Ended {
            deployment: job.deployment,
            vertex: job.vertex,
            result,
            failed_at: None,
            beside: job.beside,
            checked,
            finished: Finished {
                job: job.job,
                fence: job.fence,
                outcome: word,
                code: outcome.code,
                message: outcome.message,
                steps: json!(outcome.steps),
                residue: (!outcome.residue.is_empty()).then(|| json!(outcome.residue)),
                millis: i64::try_from(outcome.millis).ok(),
            },
            node,
        }
    }

    async fn checked(&self, job: &OpenJob, outcome: &Outcome) -> Checked {
        // Without its role nobody can tell a probe from a step, and the verdict is the more careful one.
        let steps = match Box::pin(self.shared.role(&job.content)).await {
            Ok(role) => role.doc.apply.as_ref().map_or(0, Vec::len),
            Err(_) => usize::MAX,
        };
        check::checked(job, outcome, steps)
    }

    async fn outputs(&self, job: &OpenJob, outcome: &Outcome) -> Result<Result<Object, Failure>, StoreError> {
        let (role, inputs) = self.role_and_inputs(job).await?;
        let mut completed = output::complete(&role, &inputs, &outcome.outputs, &self.shared.validators);
        if let Ok(outputs) = &mut completed {
            Box::pin(secrets::hide(&self.shared, job.deployment, &role, outputs)).await?;
        }
        Ok(completed)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<JobId, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks for jobs that people want stopped.
pub(crate) async fn cancellations(shared: Arc<Shared>, runners: Runners, stop: CancellationToken) {
    let mut hints = shared.hints.subscribe();
    while hints::wait(&mut hints, shared.poll, &stop).await == Woken::Look {
        if runners.len() == 0 {
            continue;
        }
        match jobs::cancelled(&shared.pool, shared.engine()).await {
            Ok(asked) => runners.cancel(&asked),
            Err(error) => tracing::debug!(%error, "cannot look for cancelled jobs"),
        }
    }
}

fn succeeded() -> Outcome {
    Outcome::of(Status::Succeeded)
}

/// How a job ends that a person wanted stopped.
fn cancelled() -> Outcome {
    let (code, message) = (Some("cancelled".to_owned()), Some("stopped on request".to_owned()));
    Outcome { code, message, ..Outcome::of(Status::Cancelled) }
}

pub(crate) fn failed(code: &str, message: String) -> Outcome {
    Outcome { code: Some(code.to_owned()), message: Some(message), ..Outcome::of(Status::Failed) }
}
