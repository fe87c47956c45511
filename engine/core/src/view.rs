//! What people and programs see of an engine: the shapes of the API. Read by the server from the store, shown by the
//! command line. Times are RFC 3339 in UTC; ids are UUIDs; secrets never are in here.

mod bundle;
mod certificate;
mod dns;
mod hook;
mod node;
mod secret;
mod setting;
mod why;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;

pub use self::bundle::{Behind, BundleDiff, BundleFiles, BundleView, BundlesRequest, Pushed};
pub use self::certificate::{
    AuthorityRequestView, AuthorityView, CertificateView, CertificatesView, RotationView, Stage,
};
pub use self::dns::{RecordView, ZoneView};
pub use self::hook::{HookAdded, HookRequest, HookTest, HookView};
pub use self::node::{NodeView, SilenceView};
pub use self::secret::{Resealed, SecretReader, SecretView};
pub use self::setting::{LabelRequest, LabelView, RuleTest, RuleTestRequest, SettingView, Settled};
pub use self::why::{DeploymentWhyView, HeldView, InputView, PathStep, WhyLink, WhyView};
use crate::diagnostic::Diagnostic;
use crate::id::{DeploymentId, EngineId, JobId, VertexId};
use crate::plan::{Plan, Totals};
use crate::state::{Goal, State};

/// How a deployment as a whole is doing, worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// Something failed; what does not depend on it goes on.
    Failed,
    /// A person paused it.
    Paused,
    /// Something is still to be done.
    Converging,
    /// Everything leaves.
    Destroying,
    /// Nothing is to be done.
    Active,
    /// Destroyed; kept for its history.
    Gone,
}

/// How many node roles are where. Helpers are not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Counts {
    /// Held by a cause.
    pub blocked: i64,
    /// Wait for an engine.
    pub ready: i64,
    /// Have a job.
    pub running: i64,
    /// Nothing to be done.
    pub active: i64,
    /// The last job failed.
    pub failed: i64,
    /// On their way out, in whatever state.
    pub leaving: i64,
}

/// What one engine counts itself, since it was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// DNS questions that it answered, over UDP and over TCP.
    pub dns_answers: [i64; 2],
    /// Records that wait to be written.
    pub records_waiting: i64,
    /// Certificates of people that wait to be written.
    pub certificates_waiting: i64,
}

impl Health {
    /// How a deployment in this stored state is doing. `broken`: a node, or something that leaves, failed.
    pub fn of(state: &str, paused: bool, counts: Counts, broken: bool) -> Self {
        match state {
            "gone" => Self::Gone,
            _ if broken || counts.failed > 0 => Self::Failed,
            _ if paused => Self::Paused,
            "destroying" => Self::Destroying,
            _ if counts.blocked + counts.ready + counts.running + counts.leaving > 0 => Self::Converging,
            _ => Self::Active,
        }
    }

    /// As stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Paused => "paused",
            Self::Converging => "converging",
            Self::Destroying => "destroying",
            Self::Active => "active",
            Self::Gone => "gone",
        }
    }
}

impl Counts {
    /// Counts a vertex in.
    pub fn add(&mut self, state: State, goal: Goal) {
        let count = match (goal, state) {
            (_, State::Gone | State::Proposed) => return,
            (Goal::Absent, _) => &mut self.leaving,
            (Goal::Present, State::Blocked) => &mut self.blocked,
            (Goal::Present, State::Ready) => &mut self.ready,
            (Goal::Present, State::Running) => &mut self.running,
            (Goal::Present, State::Active) => &mut self.active,
            (Goal::Present, State::Failed) => &mut self.failed,
        };
        *count += 1;
    }
}

/// A deployment in a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DeploymentView {
    /// Its id.
    pub id: DeploymentId,
    /// Its name.
    pub name: String,
    /// The workload it binds.
    pub workload: String,
    /// How it is doing.
    pub health: Health,
    /// Held back by a person.
    pub paused: bool,
    /// The committed revision.
    pub revision: i32,
    /// Nodes bound to it.
    pub nodes: i64,
    /// Its node roles.
    pub counts: Counts,
    /// When it was first applied.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// When its document last changed.
    #[serde(with = "time::serde::rfc3339")]
    pub changed_at: OffsetDateTime,
}

/// A deployment with its committed document.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DeploymentDetail {
    /// As in a list.
    #[serde(flatten)]
    pub deployment: DeploymentView,
    /// The document of the committed revision.
    pub document: Value,
    /// Who committed it.
    pub committed_by: String,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub committed_at: OffsetDateTime,
    /// What it exports, as far as it is known.
    pub exports: Value,
}

/// A revision of a deployment, in its history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RevisionView {
    /// Its number.
    pub number: i32,
    /// `applied`, `joined`, `redeployed` or `destroyed`.
    pub what: String,
    /// Nodes that joined, or were redeployed if not all of the deployment was.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<String>,
    /// Who committed it.
    pub committed_by: String,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub committed_at: OffsetDateTime,
    /// What its plan came to.
    pub totals: Totals,
}

/// The one thing that holds a node role, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CauseView {
    /// The stored key of the cause.
    pub key: String,
    /// `held back by a/etcd failed: step-failed`, `waits for a/etcd (running)`, …: the end of the chain, named.
    pub says: String,
}

/// How far a running job is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Progress {
    /// Number of the step, from 1.
    pub step: u32,
    /// Of how many.
    pub of: u32,
    /// What the step is, such as `package etcd-server`.
    pub title: String,
}

/// A node role as it stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct NodeRoleView {
    /// Its id.
    pub id: VertexId,
    /// Its node; `deployment` is the virtual one.
    pub node: String,
    /// Its deployment role.
    pub role: String,
    /// Where it stands.
    pub state: State,
    /// What it is to become.
    pub goal: Goal,
    /// Its last success is in force.
    pub serving: bool,
    /// Held back by a person.
    pub paused: bool,
    /// What holds it, while blocked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<CauseView>,
    /// Code of the last failure, while failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Message of the last failure, while failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Its running job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobId>,
    /// How far that is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// What that saw last of what it waits for outside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub saw: Option<String>,
    /// Attempts so far.
    pub attempts: i32,
    /// When it is tried again by itself, while failed.
    #[serde(default, with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<OffsetDateTime>,
    /// When it last moved.
    #[serde(with = "time::serde::rfc3339")]
    pub changed_at: OffsetDateTime,
}

/// A deployment with all that there is to see of it at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct StatusView {
    /// The deployment.
    pub deployment: DeploymentView,
    /// Its node roles, parents before children, then by node; helpers left out.
    pub node_roles: Vec<NodeRoleView>,
    /// Its nodes.
    pub nodes: Vec<NodeView>,
    /// Its authorities that go over to another key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rotations: Vec<RotationView>,
    /// What its nodes hold of certificates; none if none were ever signed for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificates: Option<CertificatesView>,
    /// Number of the newest event that this view has seen.
    pub event: i64,
}

/// An attempt at an action of a node role.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct JobView {
    /// Its id.
    pub id: JobId,
    /// The node role.
    pub vertex: VertexId,
    /// Its node.
    pub node: String,
    /// Its deployment role.
    pub role: String,
    /// `apply`, `check` or `remove`.
    pub action: String,
    /// Which attempt of this node role.
    pub attempt: i32,
    /// Revision it was claimed under.
    pub revision: i32,
    /// When it was claimed.
    #[serde(with = "time::serde::rfc3339")]
    pub claimed_at: OffsetDateTime,
    /// When its outcome was recorded.
    #[serde(default, with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<OffsetDateTime>,
    /// `succeeded`, `failed`, `cancelled`, `unknown`, `abandoned`, `drifted`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// Code of the failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// What failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Milliseconds on the agent's monotonic clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub millis: Option<i64>,
    /// How far it is, or came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// What it saw last of what it waits for outside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub saw: Option<String>,
    /// When it looks at that again; nobody follows it until then.
    #[serde(default, with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub look_at: Option<OffsetDateTime>,
    /// Results of its steps, with diffs; secrets redacted on the node.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub steps: Value,
}

/// Something that was promised to go and is still there, or was never taken away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ResidueView {
    /// On which node.
    pub node: String,
    /// Whose it was.
    pub role: String,
    /// `left`: its remove could not take it away; `found`: it was there when everything had left; `skipped`: nothing was
    /// removed.
    pub kind: String,
    /// `KIND:NAME` each, such as `file:/etc/x` or `user:etcd`; `path:` is what `destroys` names.
    pub things: Vec<String>,
    /// In words.
    pub reason: String,
    /// The remove, if it was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobId>,
    /// When it became known.
    #[serde(with = "time::serde::rfc3339")]
    pub found_at: OffsetDateTime,
}

/// Something that is not as it was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DriftDiff {
    /// The step that would change it.
    pub step: String,
    /// What it is: a path, `unit:NAME`, ….
    #[serde(default)]
    pub what: String,
    /// How it differs; secrets redacted on the node.
    #[serde(default)]
    pub text: String,
}

/// What the last check of a node role found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DriftView {
    /// Its node.
    pub node: String,
    /// Its deployment role.
    pub role: String,
    /// A check is asked for or runs; the rest is that of the one before.
    pub pending: bool,
    /// `conform`, `drifted` or `unknown`; nothing if it was never checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<String>,
    /// Code of why it is unknown, or of the probe that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The same in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What differs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub diffs: Vec<DriftDiff>,
    /// The check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobId>,
    /// When it ended.
    #[serde(default, with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub checked_at: Option<OffsetDateTime>,
}

/// What the last checks of a deployment found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DriftReport {
    /// Node roles that were checked, or are to be, by node and role.
    pub node_roles: Vec<DriftView>,
    /// When they are checked by themselves: a cron expression in UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<String>,
    /// The next time.
    #[serde(default, with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub next_at: Option<OffsetDateTime>,
    /// `report` or `repair`.
    pub on_drift: String,
}

/// A line of a job's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LogLine {
    /// Its job.
    pub job: JobId,
    /// Counts within the job.
    pub seq: i64,
    /// When the engine had it.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// `stdout`, `stderr` or `agent`.
    pub stream: String,
    /// The line, without its end.
    pub line: String,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct EventView {
    /// Counts up; the position in the stream.
    pub seq: i64,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// `node-role.claim`, `node.up`, `deployment.committed`, …
    pub kind: String,
    /// The deployment's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<String>,
    /// The node's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The deployment role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// The job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobId>,
    /// Who caused it: `engine`, or a person's name.
    pub principal: String,
    /// What explains it.
    pub detail: Value,
}

/// An engine that runs on the database.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct EngineView {
    /// Its id.
    pub id: EngineId,
    /// Its version.
    pub version: String,
    /// Where it runs.
    pub host: String,
    /// Its process.
    pub pid: i32,
    /// Since when.
    #[serde(with = "time::serde::rfc3339")]
    pub started_at: OffsetDateTime,
    /// Does its lease hold?
    pub alive: bool,
}

/// What a commit did, or that there was nothing to commit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Applied {
    /// The deployment.
    pub deployment: String,
    /// Its committed revision now.
    pub revision: i32,
    /// Was a new revision committed? Not if document and roles are those of the old one.
    pub changed: bool,
    /// What it does.
    pub plan: Plan,
    /// Worth a look.
    pub warnings: Vec<Diagnostic>,
}

/// What a request to move node roles moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Moved {
    /// Node roles concerned, `NODE/ROLE`.
    pub node_roles: Vec<String>,
}

/// What came of a node's stepping aside.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Stood {
    /// Budgets that had no room for it to be out of service.
    pub beyond: Vec<String>,
}

/// What a command on nodes says, as it runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ExecEvent {
    /// A line.
    Line {
        /// The node.
        node: String,
        /// `stdout` or `stderr`.
        stream: String,
        /// The line.
        line: String,
    },
    /// It ended on a node.
    Ended {
        /// The node.
        node: String,
        /// The exit status; missing if it could not be run.
        exit: Option<i32>,
        /// Why it could not.
        code: Option<String>,
        /// The same in words.
        message: Option<String>,
    },
}

/// What sort of refusal it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalKind {
    /// What was sent can not be right.
    Invalid,
    /// There is no such thing.
    NotFound,
    /// It does not fit what is there now.
    Conflict,
    /// Not at the moment; may be tried again.
    Unavailable,
    /// A fault of the engine.
    Internal,
}

/// Why something was not done. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// What sort.
    pub kind: RefusalKind,
    /// Stable code; each has a section in docs/ERRORS.md.
    pub code: String,
    /// One sentence.
    pub message: String,
    /// Findings in a document, if it was one.
    #[serde(default)]
    pub diagnostics: Vec<Diagnostic>,
}

impl Refusal {
    /// A refusal without findings.
    pub fn new(kind: RefusalKind, code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { kind, code: code.into(), message: message.into(), diagnostics: Vec::new() }
    }

    /// Documents with findings; the code is that of the first error.
    pub fn findings(diagnostics: Vec<Diagnostic>) -> Self {
        let errors = diagnostics.iter().filter(|finding| finding.is_error()).count();
        let code = diagnostics.iter().find(|finding| finding.is_error()).map_or("invalid", |finding| &finding.code);
        let message = format!("{errors} {}", if errors == 1 { "error" } else { "errors" });
        Self { kind: RefusalKind::Invalid, code: code.to_owned(), message, diagnostics }
    }
}
