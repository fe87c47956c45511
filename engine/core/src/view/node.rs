//! Nodes as people see them.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;

use super::LabelView;
use crate::id::NodeId;
use crate::settle::hood::Standing;

/// A node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct NodeView {
    /// Its id.
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// Where it comes from.
    pub provider: String,
    /// `creating`, `joining`, `up`, `unreachable`, `failed`, `leaving`; `rebuilding` while a redeploy empties it.
    pub state: String,
    /// Whether it takes part.
    pub standing: Standing,
    /// Code of what is wrong with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// What is wrong with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Its address, once known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The deployment that uses it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<String>,
    /// Its group there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Made for that deployment and destroyed with it.
    pub owned: bool,
    /// What is known of it, with its labels.
    pub facts: Value,
    /// Its labels, by name.
    #[serde(default)]
    pub labels: Vec<LabelView>,
    /// It does not answer, or was put aside for that, and its deployment has a policy for such nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silence: Option<SilenceView>,
    /// When it last moved.
    #[serde(with = "time::serde::rfc3339")]
    pub changed_at: OffsetDateTime,
}

/// What a policy makes of a node that does not answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SilenceView {
    /// Since when it does not answer; missing once it does again.
    #[serde(default, with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub since: Option<OffsetDateTime>,
    /// Seconds of that in which an engine looked that could see the others.
    pub seconds: i64,
    /// Which policy put it aside; it comes back by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aside_by: Option<String>,
    /// Why a policy does not take it out, although it did not answer for so long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<String>,
}
