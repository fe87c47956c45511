//! What people and programs send to the API, and the frames around what they get: shared by server and client.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;

use crate::diagnostic::Diagnostic;
use crate::document::Runs;

/// A document as a person sent it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Document {
    /// Its text, YAML or JSON.
    pub text: String,
    /// Where it came from, for messages.
    pub file: String,
}

/// A revision that a person saw before deciding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Seen {
    /// Name of the deployment.
    pub deployment: String,
    /// Its revision; 0 if it was not there.
    pub revision: i32,
    /// Digest of the plan that exactly is to be done ([`crate::plan::Plan::digest`]); another plan by now is a conflict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
}

/// Asks for deployments to be committed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ApplyRequest {
    /// Their documents.
    pub document: Document,
    /// What the person saw; another revision by now is a conflict.
    #[serde(default)]
    pub seen: Vec<Seen>,
}

/// What can be asked of node roles that are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Ask {
    /// Run again what failed.
    Retry,
    /// Start nothing any more; what runs ends.
    Pause,
    /// Take a pause back.
    Resume,
    /// Stop running jobs: they fail with code `cancelled` once the agent says so.
    Cancel,
    /// Allow what waits for an approval, as it is now; if it changes, it asks again.
    Approve,
    /// Take what failed as it last succeeded, until its next change: it holds nobody back.
    Accept,
}

/// Asks for something to be done to one node role, or to all that it can be done to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AskRequest {
    /// What.
    pub ask: Ask,
    /// `NODE/ROLE`; all of the deployment if missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_role: Option<String>,
}

/// Asks for nodes of a deployment to be made anew, or for all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RedeployRequest {
    /// Names of the nodes; all of the deployment if there are none.
    #[serde(default)]
    pub nodes: Vec<String>,
    /// The revision that the person saw; another one by now is a conflict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<i32>,
    /// The person approves what `policy.approve` wants approved of it.
    #[serde(default)]
    pub approve: bool,
}

/// Asks for a node to stand aside, or to come back in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StandRequest {
    /// Aside, or in again.
    pub aside: bool,
}

/// Why a certificate is revoked, by the words of RFC 5280.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RevocationReason {
    /// Nobody says.
    #[default]
    Unspecified,
    /// Somebody else may have its key.
    KeyCompromise,
    /// Its holder is somebody else now.
    AffiliationChanged,
    /// Another one stands in its place.
    Superseded,
    /// Its holder is gone.
    CessationOfOperation,
    /// Its holder may no more.
    PrivilegeWithdrawn,
}

impl RevocationReason {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Unspecified,
        Self::KeyCompromise,
        Self::AffiliationChanged,
        Self::Superseded,
        Self::CessationOfOperation,
        Self::PrivilegeWithdrawn,
    ];

    /// As stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::KeyCompromise => "key-compromise",
            Self::AffiliationChanged => "affiliation-changed",
            Self::Superseded => "superseded",
            Self::CessationOfOperation => "cessation-of-operation",
            Self::PrivilegeWithdrawn => "privilege-withdrawn",
        }
    }

    /// The reason stored under this word.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == text)
    }
}

/// What a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum CertificateUsage {
    /// Its holder is connected to.
    Server,
    /// Its holder connects.
    Client,
}

impl CertificateUsage {
    /// As stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Client => "client",
        }
    }
}

/// Asks an authority of a deployment for a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SignRequest {
    /// A request in PEM (PKCS #10), for this subject and exactly these names.
    pub csr: String,
    /// Who it is for: the common name, and nothing else.
    pub subject: String,
    /// DNS names and addresses.
    pub names: Vec<String>,
    /// What it is for.
    pub usages: Vec<CertificateUsage>,
    /// How long it holds, such as `30d` or `12h`; 30 days if neither this nor `not_after` is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifetime: Option<String>,
    /// From when on it has to hold; not later than now.
    #[serde(default, with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub not_before: Option<OffsetDateTime>,
    /// Its end; less if the authority ends before.
    #[serde(default, with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub not_after: Option<OffsetDateTime>,
}

/// Brings an authority the certificate that somebody else signed for it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportRequest {
    /// Certificates in PEM: its own, then those above it, each signed by the next.
    pub chain: String,
    /// Its private key in PEM (PKCS #8, not encrypted; ECDSA P-256), if it is not that of the request which waits. It is sealed at
    /// once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

impl std::fmt::Debug for ImportRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ImportRequest").field("chain", &self.chain).finish_non_exhaustive()
    }
}

/// What can be asked of an authority that goes over to another key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RotationMove {
    /// It stays in its stage.
    Pause,
    /// It goes on.
    Resume,
    /// The key before signs again, and the other one is retired.
    Back,
}

/// Asks something of an authority that goes over to another key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RotationRequest {
    /// What.
    pub ask: RotationMove,
}

/// Asks for a certificate to be revoked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RevokeRequest {
    /// Why.
    #[serde(default)]
    pub reason: RevocationReason,
}

/// Asks for checks: of all node roles with steps, of those of one role, or on one node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckRequest {
    /// The deployment role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// The node; `deployment` for roles that run once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
}

/// A private key for a node.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NodeKey {
    /// Name of the node.
    pub node: String,
    /// The key in OpenSSH's form.
    pub key: String,
}

impl std::fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeKey").field("node", &self.node).finish_non_exhaustive()
    }
}

/// Asks for hosts to be adopted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddNodesRequest {
    /// Node documents.
    pub document: Document,
    /// Keys by which they let us in.
    #[serde(default)]
    pub keys: Vec<NodeKey>,
}

/// Asks for a command to be run on nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExecRequest {
    /// Names of the nodes.
    pub nodes: Vec<String>,
    /// The command and its arguments.
    pub command: Vec<String>,
    /// How long it may take.
    #[serde(default = "a_minute")]
    pub seconds: u64,
}

fn a_minute() -> u64 {
    60
}

/// A part of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Page<T> {
    /// The things.
    pub items: Vec<T>,
    /// Where the next part begins (`after`), if there is more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// What the API says when it does not do what it was asked: problem+json (RFC 9457).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Problem {
    /// `urn:plinth:error:CODE`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The status in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// One sentence.
    pub detail: String,
    /// Stable code; each has a section in docs/ERRORS.md.
    pub code: String,
    /// Findings in a document, if it was one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub diagnostics: Vec<Diagnostic>,
    /// Path of the request.
    #[serde(default)]
    pub instance: String,
    /// Finds the request in the log of the engine.
    #[serde(default)]
    pub request_id: String,
}

/// The version of an engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Version {
    /// Such as `0.1.0`.
    pub version: String,
}

/// A role of the catalog, in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RoleView {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What it is for.
    pub about: String,
    /// The bundle it comes from.
    pub bundle: String,
    /// May it be bound?
    pub milestone: bool,
    /// What a node role is per.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runs: Option<Runs>,
    /// Interfaces it provides.
    pub provides: Vec<String>,
}

/// A role of the catalog.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RoleDetail {
    /// As in a list.
    #[serde(flatten)]
    pub role: RoleView,
    /// Where it was read from.
    pub source: String,
    /// Hash of what counts as its content.
    pub content: String,
    /// Its document, presets and references resolved.
    pub document: Value,
    /// Its files, by relative path.
    pub files: Vec<String>,
}

/// A workload of the catalog, in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct WorkloadView {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What it is for.
    pub about: String,
    /// Its groups.
    pub groups: Vec<String>,
}

/// A workload of the catalog.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct WorkloadDetail {
    /// As in a list.
    #[serde(flatten)]
    pub workload: WorkloadView,
    /// Its document.
    pub document: Value,
}
