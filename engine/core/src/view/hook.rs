//! Web hooks, as people see them.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// Asks for events to be sent somewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HookRequest {
    /// Its name.
    pub name: String,
    /// Where to: `https://…`, or `http://` on the engine's own machine.
    pub url: String,
    /// Kinds of events, such as `node.up` or `deployment.*`; all if there are none.
    #[serde(default)]
    pub kinds: Vec<String>,
    /// Names of deployments; events of all, and of none, if there are none.
    #[serde(default)]
    pub deployments: Vec<String>,
    /// The secret that signs, `whsec_` and base64 of 24 to 64 bytes; one is made if it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// Certificates in PEM that are trusted there; those that the engine's machine trusts if missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
}

/// A hook that was added, with its secret: it is told here and never again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct HookAdded {
    /// The hook.
    pub hook: HookView,
    /// What signs its deliveries.
    pub secret: String,
}

/// A web hook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct HookView {
    /// Its name.
    pub name: String,
    /// Where to.
    pub url: String,
    /// Kinds of events; all if there are none.
    pub kinds: Vec<String>,
    /// Names of deployments; all if there are none.
    pub deployments: Vec<String>,
    /// Number of the last event that it has, or does not want.
    pub after: i64,
    /// Events that were delivered.
    pub delivered: i64,
    /// When one was last.
    #[serde(default, with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub delivered_at: Option<OffsetDateTime>,
    /// How often the next one has failed.
    pub failed: i32,
    /// Code of what went wrong with it last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// What went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When it is tried again.
    #[serde(default, with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub next_try_at: Option<OffsetDateTime>,
    /// Who added it.
    pub added_by: String,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub added_at: OffsetDateTime,
}

/// What came of sending something to a hook to try it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct HookTest {
    /// The status that it answered with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// How long that took, in milliseconds.
    pub millis: u64,
    /// Code of what went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// What went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}
