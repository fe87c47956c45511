//! Following a job to its end over lost connections, restarts of the engine and reboots of the node.
//!
//! What an agent that does not know the job means, is decided here: the same incarnation never had it, so it is sent;
//! another incarnation may have had it, so it is repeated only if that does no harm.

use std::time::Duration;

use engine_agent::protocol::{JobSpec, Outcome, Status};
use engine_core::document::Step;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::talk::{Ended, Note, Progress};
use crate::{Pool, RemoteError, Target};

/// Between two attempts at first, doubled up to [`SLOWEST`] while nothing comes.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Between two attempts at most.
const SLOWEST: Duration = Duration::from_secs(5);
/// The same while a node reboots, which somebody waits for.
const SLOWEST_IN_REBOOT: Duration = Duration::from_secs(1);

/// A job to be followed, and what is known of it.
#[derive(Clone, Debug)]
pub struct Following<'a> {
    /// The whole job, to be sent if it never began.
    pub job: &'a JobSpec,
    /// Was it handed over before, perhaps by another engine? Then it is looked for before it is sent.
    pub begun: bool,
    /// The incarnation of the agent when it was handed over, or at the last contact before.
    pub incarnation: Option<String>,
    /// Sequence number of the last event that is recorded.
    pub seen: u64,
    /// Does repeating it do no harm? See [`repeatable`].
    pub repeatable: bool,
    /// When to give up.
    pub deadline: Instant,
}

/// May a job be repeated although it is not known how far it came? True if every step leaves things alone that are
/// as it wants them: all but `reboot`, and `run` without `unless`, `creates` or `asks`.
pub fn repeatable(job: &JobSpec) -> bool {
    let harmless = |step: &Step| match step.kind.as_str() {
        "run" => ["unless", "creates", "asks"].iter().any(|guard| step.args.get(guard).is_some()),
        "reboot" => false,
        _ => true,
    };
    job.steps.iter().chain(&job.then).all(harmless)
}

/// What became of it.
#[derive(Clone, Debug, PartialEq)]
pub enum Followed {
    /// The job is over. Status `Unknown` with code `outcome-unknown` if the agent that had it is gone.
    Done(Outcome),
    /// Trying again would not help; the job may go on.
    Stopped(RemoteError),
    /// The deadline came; the job may go on.
    GaveUp {
        /// What was in the way last.
        last: Option<RemoteError>,
        /// Sequence number of the last event that was handed on.
        seen: u64,
    },
}

impl Pool {
    /// Sends the job if it must be sent, and follows it until it is over, attaching again as often as it takes.
    pub async fn follow(&self, target: &Target, following: Following<'_>, sink: &mpsc::Sender<Note>) -> Followed {
        let Following { job, mut begun, incarnation, seen, repeatable, deadline } = following;
        let mut progress = Progress { seen, incarnation };
        let mut reboot: Option<Reboot> = None;
        let mut pause = FIRST_PAUSE;
        let mut last = None;
        loop {
            let before = progress.clone();
            let asking = self.ask(target, job, begun, sink, &mut progress);
            let Ok(ended) = tokio::time::timeout_at(deadline, asking).await else {
                return Followed::GaveUp { last, seen: progress.seen };
            };
            begun = true;
            match ended {
                Ended::Done(outcome) => return Followed::Done(outcome),
                Ended::UnknownJob { incarnation } => {
                    if before.incarnation.is_some_and(|known| known != incarnation) && !repeatable {
                        return Followed::Done(unknown());
                    }
                    begun = false;
                    continue;
                }
                Ended::Rebooting { boot_id, within } => {
                    self.hang_up(&target.node).await;
                    reboot = Some(Reboot::again(reboot, boot_id, within));
                }
                Ended::Lost(error) if !error.is_transient() => return Followed::Stopped(error),
                Ended::Lost(error) => last = Some(error),
            }
            if progress.seen > before.seen {
                pause = FIRST_PAUSE;
            }
            if let Some(reboot) = &reboot
                && Instant::now() > reboot.deadline
            {
                return Followed::Done(reboot.failed());
            }
            tokio::time::sleep_until((Instant::now() + pause).min(deadline)).await;
            if Instant::now() >= deadline {
                return Followed::GaveUp { last, seen: progress.seen };
            }
            pause = (pause * 2).min(if reboot.is_some() { SLOWEST_IN_REBOOT } else { SLOWEST });
        }
    }

    async fn ask(
        &self,
        target: &Target,
        job: &JobSpec,
        begun: bool,
        sink: &mpsc::Sender<Note>,
        progress: &mut Progress,
    ) -> Ended {
        if begun {
            self.attach_from(target, job.job, job.fence, sink, progress).await
        } else {
            self.run_from(target, job.clone(), sink, progress).await
        }
    }
}

/// A reboot that the job is in.
struct Reboot {
    boot_id: String,
    within: u64,
    deadline: Instant,
}

impl Reboot {
    /// The agent says so again while the machine goes down; the time counts from the first.
    fn again(known: Option<Self>, boot_id: String, within: u64) -> Self {
        match known {
            Some(reboot) if reboot.boot_id == boot_id => reboot,
            _ => Self { boot_id, within, deadline: Instant::now() + Duration::from_secs(within) },
        }
    }

    fn failed(&self) -> Outcome {
        let message = format!("the node did not come back with a new boot id within {} s", self.within);
        ended(Status::Failed, "reboot-timeout", message)
    }
}

fn unknown() -> Outcome {
    let message = "the agent that had this job is gone with its journal; how far it came is not known";
    ended(Status::Unknown, "outcome-unknown", message.to_owned())
}

fn ended(status: Status, code: &str, message: String) -> Outcome {
    Outcome {
        status,
        code: Some(code.to_owned()),
        message: Some(message),
        step: None,
        outputs: engine_core::document::Object::default(),
        changed: false,
        steps: Vec::new(),
        residue: Vec::new(),
        millis: 0,
        exit: None,
    }
}
