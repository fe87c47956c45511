//! Jobs by the agent on a node: handed over once, followed over lost connections, adopted from dead engines.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use engine_agent::protocol::{JobSpec, Limits, Mode, NOT_YET, Outcome, Status};
use engine_core::catalog::CatalogRole;
use engine_core::document::Object;
use engine_core::settle::turn::Failure;
use engine_core::template::{self, Syntax};
use engine_remote::{Followed, Following, RemoteError, Target, repeatable};
use engine_store::StoreError;
use engine_store::jobs::{self, OpenJob};
use engine_store::nodes::Node;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::later::{pause, time_of};
use super::{Ran, cancelled, heard};
use crate::shared::Shared;

/// A node that does not answer for so long shows it.
const SILENT: Duration = Duration::from_secs(20);
/// On top of the job's own time: reboots and lost connections.
const GRACE: Duration = Duration::from_mins(15);
/// Notes between the connection and the database.
const NOTES: usize = 1024;

#[allow(clippy::too_many_arguments)]
pub(super) async fn run(
    shared: &Arc<Shared>,
    job: &OpenJob,
    role: &CatalogRole,
    inputs: Object,
    mode: Mode,
    node: &Node,
    adopted: bool,
    cancel: &CancellationToken,
) -> Result<Ran, StoreError> {
    let Some(target) = shared.target(node) else {
        let message = format!("node {} has no address", node.name);
        return Ok(Ran::Failed(Failure { code: "node-unknown".to_owned(), message }));
    };
    let spec = match spec(job, role, inputs, mode) {
        Ok(spec) => spec,
        Err(failure) => return Ok(Ran::Failed(failure)),
    };
    let (sink, mut notes) = mpsc::channel(NOTES);
    let of = u32::try_from(spec.steps.len() + spec.then.len()).unwrap_or(u32::MAX);
    let follow = async {
        let ran = follow(shared, job, &spec, &target, node, adopted, &sink).await;
        drop(sink);
        ran
    };
    let record = heard::record(shared, (job.job, job.fence), of, &mut notes);
    let stop = async {
        cancel.cancelled().await;
        // The follower hears how it ended; asking twice does no harm.
        shared.remote.cancel(&target, job.job, job.fence).await;
        std::future::pending::<()>().await;
    };
    tokio::pin!(follow, record, stop);
    let mut recorded = None;
    let ran = loop {
        tokio::select! {
            ran = &mut follow => break ran?,
            ours = &mut record, if recorded.is_none() => {
                if !ours {
                    return Ok(Ran::NotOurs);
                }
                recorded = Some(ours);
            }
            () = &mut stop => {}
        }
    };
    if recorded.is_none() && !record.await {
        return Ok(Ran::NotOurs);
    }
    match ran {
        Ran::Over(outcome) if outcome.code.as_deref() == Some(NOT_YET) => {
            if cancel.is_cancelled() {
                return Ok(Ran::Over(cancelled()));
            }
            Ok(later(shared, job, &target, outcome).await)
        }
        ran => Ok(ran),
    }
}

/// It is sent again when its time has come, so the agent must not know it any more. Where the agent can not be told, it says
/// the same again at the next look.
async fn later(shared: &Shared, job: &OpenJob, target: &Target, outcome: Outcome) -> Ran {
    if let Err(error) = shared.remote.forget(target, job.job).await {
        tracing::debug!(%error, job = %job.job, "the journal of a job that waits stays for now");
    }
    Ran::Later { saw: outcome.message.unwrap_or_default(), after: pause(job) }
}

async fn follow(
    shared: &Shared,
    job: &OpenJob,
    spec: &JobSpec,
    target: &Target,
    node: &Node,
    adopted: bool,
    sink: &mpsc::Sender<engine_remote::Note>,
) -> Result<Ran, StoreError> {
    let end = Instant::now() + Duration::from_secs(spec.limits.seconds) + GRACE;
    let mut begun = adopted;
    let mut seen = u64::try_from(job.seen).unwrap_or(0);
    loop {
        let deadline = (Instant::now() + SILENT).min(end);
        let following = Following {
            job: spec,
            begun,
            incarnation: job.incarnation.clone().or_else(|| node.incarnation.clone()),
            seen,
            repeatable: repeatable(spec),
            deadline,
        };
        match shared.remote.follow(target, following, sink).await {
            Followed::Done(outcome) => return Ok(Ran::Over(outcome)),
            Followed::Stopped(error) => return Ok(Ran::Failed(told(&error))),
            Followed::GaveUp { last, seen: now } => {
                begun = true;
                let silent = now == seen;
                seen = now;
                if let Some(error) = last.as_ref().filter(|_| silent) {
                    // The machine may have been taken away on purpose, and another one be under its name.
                    if !jobs::is_held(&shared.pool, shared.engine(), (job.job, job.fence)).await? {
                        return Ok(Ran::NotOurs);
                    }
                    crate::nodes::unreachable(shared, node, error.code(), error.to_string()).await?;
                }
                if Instant::now() >= end {
                    return Ok(gave_up(last.as_ref()));
                }
            }
        }
    }
}

fn told(error: &RemoteError) -> Failure {
    Failure { code: error.code().to_owned(), message: error.to_string() }
}

fn gave_up(last: Option<&RemoteError>) -> Ran {
    let why = last.map_or_else(|| "it said nothing".to_owned(), ToString::to_string);
    Ran::Over(Outcome {
        code: Some("outcome-unknown".to_owned()),
        message: Some(format!("the node did not answer until the job's time was over: {why}")),
        ..Outcome::of(Status::Unknown)
    })
}

/// The job as it travels.
pub(crate) fn spec(job: &OpenJob, role: &CatalogRole, inputs: Object, mode: Mode) -> Result<JobSpec, Failure> {
    let doc = &role.doc;
    let (steps, then) = match (mode, &doc.remove_only) {
        (Mode::Remove, Some(only)) => (Vec::new(), only.clone()),
        (Mode::Remove, None) => (doc.apply.clone().unwrap_or_default(), doc.remove.clone().unwrap_or_default()),
        // Where a budget counts on it, what was made must also work.
        (Mode::Apply, _) if !doc.disrupts.is_empty() => {
            (doc.apply.clone().unwrap_or_default(), doc.check.clone().unwrap_or_default())
        }
        (Mode::Check, _) => (doc.apply.clone().unwrap_or_default(), doc.check.clone().unwrap_or_default()),
        _ => (doc.apply.clone().unwrap_or_default(), Vec::new()),
    };
    let destroys = if mode == Mode::Remove { doc.destroys.as_slice() } else { &[] };
    let destroys = destroys
        .iter()
        .map(|path| template::text(path, &inputs, Syntax::Plain))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| Failure { code: error.code().to_owned(), message: format!("destroys: {error}") })?;
    let limits = Limits { seconds: time_of(role).as_secs(), ..Limits::default() };
    let files: BTreeMap<String, String> =
        role.files.iter().map(|(path, bytes)| (path.clone(), STANDARD.encode(bytes))).collect();
    Ok(JobSpec {
        job: job.job,
        fence: job.fence,
        title: format!("{}/{}", job.place, job.role),
        owner: job.vertex.to_string(),
        node: job.node,
        mode,
        steps,
        then,
        secret: doc.inputs.iter().filter(|(_, input)| input.secret).map(|(name, _)| name.clone()).collect(),
        inputs,
        changed: job.changed.iter().cloned().collect(),
        files,
        outputs: doc.outputs.iter().filter(|(_, out)| out.value.is_none()).map(|(name, _)| name.clone()).collect(),
        spare: Vec::new(),
        destroys,
        limits,
    })
}
