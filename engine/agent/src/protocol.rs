//! What engine and agent say to each other.
//!
//! One SSH channel runs `plinth-agent serve --state DIR`; both sides write frames: a length (u32, big endian, at most
//! [`MAX_FRAME`]) and that many bytes of JSON. The engine sends [`Request`]s, the agent answers with [`Reply`]s. One
//! channel serves one conversation: a hello, then one request (a job may then stream many replies).
//!
//! A job is run by a detached process that outlives the channel. Its journal lies under the agent's state directory,
//! which is per node. The *incarnation* is a random name made together with that directory: the same incarnation and
//! an unknown job id mean that the job never started here.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use engine_core::document::{Object, Step};
use engine_core::id::{JobId, NodeId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Version of this protocol: the newest that we speak.
pub const PROTOCOL: u32 = 1;

/// The oldest that we speak still. An engine and an agent that are one release apart always have one in common.
pub const OLDEST: u32 = 1;

/// The version that two sides speak of which the other one speaks `theirs` and older: the newest that both know. `None`
/// if that is too old for us; whether it is too old for them they say themselves.
///
/// Both pass over keys that they do not know, so what is only added needs no new version. Engines send their first
/// request together with the hello, so it must be one of [`OLDEST`].
pub fn common(theirs: u32) -> Option<u32> {
    Some(theirs.min(PROTOCOL)).filter(|version| *version >= OLDEST)
}

/// The code of a job that ended because something outside is not there yet; its message is what was seen. Nothing failed: once
/// the agent has forgotten the job, it may be sent again, from its first step. To an engine that does not know the code it is a
/// failure like others.
pub const NOT_YET: &str = "not-yet";

/// Bytes in a frame at most.
pub const MAX_FRAME: u32 = 64 << 20;

/// What the engine asks.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
pub enum Request {
    /// First on every channel.
    Hello {
        /// [`PROTOCOL`] of the engine.
        protocol: u32,
    },
    /// What machine is this?
    Facts,
    /// Start a job, detached, and follow it. The same id again attaches to the job that is there.
    Run {
        /// The whole job.
        job: Box<JobSpec>,
    },
    /// Follow a job from after `seen`, resuming it if its process is gone and that is safe.
    Attach {
        /// Which.
        job: JobId,
        /// Fence of the claim; an older one than the journal's is refused.
        fence: i64,
        /// Sequence number of the last event the engine has.
        seen: u64,
    },
    /// Stop a job: TERM to its process group, KILL after the grace, then outcome `cancelled`.
    Cancel {
        /// Which.
        job: JobId,
        /// Fence of the claim.
        fence: i64,
    },
    /// Drop the journal of a finished job whose outcome is recorded.
    Forget {
        /// Which.
        job: JobId,
    },
    /// Run a command in the foreground, for `plinth exec`: streams [`Event::Log`], ends with an outcome.
    Exec {
        /// Program and arguments.
        command: Vec<String>,
        /// Seconds before it is stopped.
        timeout: u64,
    },
    /// What of all that removes promised to take away is on this machine?
    Residue,
    /// Take the agent off this node: state directory, binary, everything. Refused while a job runs.
    Uninstall,
}

/// What the agent answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum Reply {
    /// To `Hello`.
    Hello {
        /// The version that both sides speak from here on.
        protocol: u32,
        /// Version of the agent's package.
        version: String,
        /// The incarnation of its state directory.
        incarnation: String,
        /// The kernel's boot id.
        boot_id: String,
    },
    /// To `Facts`.
    Facts {
        /// The facts.
        facts: Facts,
    },
    /// A numbered event of the job.
    Event {
        /// Counts from 1 within the job, without gaps.
        seq: u64,
        /// What happened.
        event: Event,
    },
    /// The job is over. Always the last frame of a job's channel.
    Done {
        /// How.
        outcome: Outcome,
    },
    /// The job went into a reboot: the connection will drop; attach again when the node answers.
    Rebooting {
        /// Boot id before.
        boot_id: String,
        /// Seconds the node may take to come back.
        within: u64,
    },
    /// To `Attach` and `Cancel`: no such job in this incarnation.
    UnknownJob {
        /// Which.
        job: JobId,
    },
    /// To `Residue`: what is still there, or there again.
    Residue {
        /// By owner; owners of whom nothing is there are left out.
        left: Vec<Left>,
    },
    /// To `Forget` and `Uninstall`.
    Ok,
    /// The request can not be done.
    Refused {
        /// `fence-too-old`, `protocol-unknown`, `job-running`, `journal-damaged`, …
        code: String,
        /// One sentence.
        message: String,
    },
}

/// What an owner's remove promised to take away, and is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left {
    /// Whose it was, as in [`JobSpec::owner`].
    pub owner: String,
    /// `KIND:NAME`, such as `file:/etc/x`, `user:etcd`, `enabled:etcd.service`, `path:/srv/data`.
    pub things: Vec<String>,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Do the steps.
    Apply,
    /// Dry run: report what every step would change, with diffs; change nothing.
    Plan,
    /// Dry run of `steps`, then run `then` as probes; drift is an outcome, not a failure.
    Check,
    /// Run `then` (the role's `remove`), then undo `steps` in reverse order.
    Remove,
}

/// A job as it travels.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JobSpec {
    /// The attempt.
    pub job: JobId,
    /// The claim.
    pub fence: i64,
    /// The node role, as `NODE/ROLE`, for people reading logs on the node.
    pub title: String,
    /// Stable id of the node role, owner in the agent's ledger of what it installed.
    pub owner: String,
    /// The node it is for.
    pub node: NodeId,
    /// What to do.
    pub mode: Mode,
    /// The `apply` steps, templates not yet rendered.
    pub steps: Vec<Step>,
    /// Probes of a check, or of an apply that is over only when they pass; the steps of `remove`.
    pub then: Vec<Step>,
    /// Frozen inputs. Templates see exactly these, step results and loop items.
    pub inputs: Object,
    /// Names of inputs whose values are secret: redacted by value from logs, diffs and results.
    pub secret: Vec<String>,
    /// Names of inputs that changed since the last success, for `restart_for` and `reload_for`.
    pub changed: Vec<String>,
    /// Bytes (base64) of `templates/X`, `files/X`, `scripts/X` by relative path.
    pub files: BTreeMap<String, String>,
    /// Names of the declared outputs that steps must find out.
    pub outputs: Vec<String>,
    /// `remove`: paths, packages, users and units that another node role of this node claims, as `KIND:NAME`.
    pub spare: Vec<String>,
    /// `remove`: rendered paths that go as well (`destroys`).
    pub destroys: Vec<String>,
    /// Limits.
    pub limits: Limits,
}

/// How much a job may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Seconds of time, not counting reboots.
    pub seconds: u64,
    /// Bytes of log; more is cut and said so.
    pub log_bytes: u64,
    /// Bytes of outputs; more fails the job with `output-too-large`.
    pub output_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { seconds: 600, log_bytes: 1 << 20, output_bytes: 256 << 10 }
    }
}

/// Something that happened in a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The job's process runs.
    Started {
        /// The kernel's boot id.
        boot_id: String,
    },
    /// A step begins.
    Step {
        /// Index into the steps of the action, from 0.
        index: u32,
        /// What it is, such as `file /etc/hosts`.
        title: String,
    },
    /// A line of output, secrets already redacted.
    Log {
        /// `stdout`, `stderr` or `agent`.
        stream: String,
        /// The line, without its end.
        line: String,
    },
    /// A step ended.
    StepDone {
        /// Which.
        index: u32,
        /// What it did.
        result: StepResult,
    },
}

/// What a step did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StepResult {
    /// What it is, such as `file /etc/hosts`.
    pub title: String,
    /// Did (or would) it change anything?
    pub changed: bool,
    /// Was it passed over because of `when`?
    #[serde(default)]
    pub skipped: bool,
    /// File-level differences.
    #[serde(default)]
    pub diffs: Vec<Diff>,
    /// What it did to the machine that people care about.
    #[serde(default)]
    pub effects: Vec<String>,
    /// Milliseconds on the agent's monotonic clock.
    #[serde(default)]
    pub millis: u64,
}

/// How one thing changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Diff {
    /// A path, or `package:NAME`, `unit:NAME`, `user:NAME`, …
    pub what: String,
    /// Unified diff or a sentence, secrets redacted.
    pub text: String,
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The verdict.
    pub status: Status,
    /// On failure, a stable code such as `step-failed`, `apt-locked`, `disk-full`, `timeout`, `outcome-unknown`.
    #[serde(default)]
    pub code: Option<String>,
    /// On failure, one sentence.
    #[serde(default)]
    pub message: Option<String>,
    /// Index of the step it ended in, if it failed in one.
    #[serde(default)]
    pub step: Option<u32>,
    /// What `output` steps and scripts found out.
    #[serde(default)]
    pub outputs: Object,
    /// Did any step change anything?
    #[serde(default)]
    pub changed: bool,
    /// What the steps did, in order.
    #[serde(default)]
    pub steps: Vec<StepResult>,
    /// `remove`: promised to go and still there, as `KIND:NAME`.
    #[serde(default)]
    pub residue: Vec<String>,
    /// Milliseconds of the whole job on the agent's monotonic clock.
    #[serde(default)]
    pub millis: u64,
    /// `exec`: the exit status.
    #[serde(default)]
    pub exit: Option<i32>,
}

impl Outcome {
    /// An outcome of which nothing else is known.
    pub fn of(status: Status) -> Self {
        Self {
            status,
            code: None,
            message: None,
            step: None,
            outputs: Object::new(),
            changed: false,
            steps: Vec::new(),
            residue: Vec::new(),
            millis: 0,
            exit: None,
        }
    }
}

/// The verdict on a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// All steps done (or, in a check, nothing to change and all probes passed).
    Succeeded,
    /// A check found a difference.
    Drifted,
    /// A step failed.
    Failed,
    /// Stopped on request.
    Cancelled,
    /// It was running when its process died, and it is not known how far the step got.
    Unknown,
}

/// What machine this is. Everything an agent can tell; the engine adds name, address and the like.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// The machine's own host name.
    pub hostname: String,
    /// `id` and `version` of os-release, such as `debian-12`.
    pub os: OsFacts,
    /// Debian's word for it: `amd64`, `arm64`.
    pub arch: String,
    /// Number of processors.
    pub cpus: u32,
    /// Bytes of memory.
    pub memory: u64,
    /// Running kernel.
    pub kernel: String,
    /// `/etc/machine-id`.
    pub machine_id: String,
    /// The kernel's boot id.
    pub boot_id: String,
    /// Whatever else is known.
    #[serde(default)]
    pub more: Value,
}

/// The operating system.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OsFacts {
    /// `debian-12`.
    pub id: String,
    /// `debian`.
    pub family: String,
    /// `12`.
    pub version: String,
}

/// Writes one frame.
///
/// # Errors
/// The writer's, or `InvalidInput` for a message above [`MAX_FRAME`].
pub fn write_frame(to: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    let bytes = encode(message)?;
    to.write_all(&bytes)?;
    to.flush()
}

/// The bytes of one frame, length first.
///
/// # Errors
/// `InvalidInput` for a message above [`MAX_FRAME`].
pub fn encode(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let body = serde_json::to_vec(message)?;
    let length = u32::try_from(body.len()).ok().filter(|length| *length <= MAX_FRAME);
    let Some(length) = length else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "message is larger than a frame may be"));
    };
    let mut bytes = Vec::with_capacity(body.len() + 4);
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(&body);
    Ok(bytes)
}

/// Reads one frame; `None` at a clean end.
///
/// # Errors
/// The reader's, or `InvalidData` for a frame that is too large or not what was expected.
pub fn read_frame<T: for<'de> Deserialize<'de>>(from: &mut impl Read) -> io::Result<Option<T>> {
    let mut length = [0; 4];
    match from.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let length = u32::from_be_bytes(length);
    if length > MAX_FRAME {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "frame is larger than allowed"));
    }
    let mut body = vec![0; length as usize];
    from.read_exact(&mut body)?;
    Ok(Some(serde_json::from_slice(&body)?))
}
