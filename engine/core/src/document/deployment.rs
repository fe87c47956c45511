//! A deployment document: a workload bound to nodes and values.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Object;

/// Which nodes a group takes: a list of names, nodes to be created, or nodes to be selected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum BindNodes {
    /// These nodes.
    Names(Vec<String>),
    /// Nodes that a provider creates for this deployment.
    Create(CreateNodes),
    /// Nodes that match, in order of their names.
    Select(SelectNodes),
}

/// Nodes that a provider creates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateNodes {
    /// `lab`, `simulated`, …
    pub provider: String,
    /// How many; the group's default when missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
    /// Options of the provider.
    #[serde(default, skip_serializing_if = "Object::is_empty")]
    pub with: Object,
}

/// Nodes by facts and labels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SelectNodes {
    /// An expression over the facts of a node.
    pub select: String,
    /// How many; the group's default when missing. Where nodes join, the most; as many as the group bears when missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
    /// Free nodes that come to match join by themselves.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub join: bool,
}

impl BindNodes {
    /// Do nodes join by themselves?
    pub fn is_joined(&self) -> bool {
        matches!(self, Self::Select(select) if select.join)
    }
}

/// For how long a node may not answer before it is taken out: a time such as `10m`, or `never`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Silent {
    /// Then it is put aside, until it answers again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aside: Option<String>,
    /// Then it is lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<String>,
}

impl Silent {
    /// Nothing is said.
    pub fn is_unsaid(&self) -> bool {
        *self == Self::default()
    }
}

/// Effects that are never allowed, or wait for a person; and what becomes of nodes that do not answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// A plan with one of these is refused.
    #[serde(default)]
    pub forbid: Vec<String>,
    /// A job with one of these waits for an approval.
    #[serde(default)]
    pub approve: Vec<String>,
    /// When nodes that do not answer are taken out; never if nothing is said.
    #[serde(default, skip_serializing_if = "Silent::is_unsaid")]
    pub silent: Silent,
}

/// What becomes of a node role that is not as it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnDrift {
    /// It is told.
    #[default]
    Report,
    /// It is told, and the node role runs again.
    Repair,
}

/// When node roles are looked at, and what becomes of those that are not as they were made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckPolicy {
    /// A cron expression with five fields, in UTC ([`crate::schedule`]); only on demand without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<String>,
    /// What becomes of drift.
    #[serde(default)]
    pub on_drift: OnDrift,
}

/// Group and node layers: `DEPLOYMENT-ROLE.input` to value.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SetDoc {
    /// The node layer.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub nodes: BTreeMap<String, Object>,
    /// The deployment layer.
    #[serde(default, skip_serializing_if = "Object::is_empty")]
    pub deployment: Object,
    /// The group layer.
    #[serde(flatten)]
    pub groups: BTreeMap<String, Object>,
}

/// A deployment as written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeploymentDoc {
    /// Its name.
    pub deployment: String,
    /// The workload it binds.
    pub workload: String,
    /// Prose.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub about: String,
    /// Nodes by group.
    #[serde(default)]
    pub nodes: BTreeMap<String, BindNodes>,
    /// Parameter values.
    #[serde(default)]
    pub parameters: Object,
    /// Values for single inputs.
    #[serde(default)]
    pub set: SetDoc,
    /// Profiles in order, weakest first.
    #[serde(default)]
    pub profiles: Vec<String>,
    /// What may be done to machines.
    #[serde(default)]
    pub policy: Policy,
    /// Import name to deployment name.
    #[serde(default)]
    pub imports: BTreeMap<String, String>,
    /// Old name of a deployment role to its new one.
    #[serde(default)]
    pub moved: BTreeMap<String, String>,
    /// When node roles are checked, and what becomes of drift.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<CheckPolicy>,
    /// Its part of the places for jobs beside those of others; 1 when missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    /// Destroyed by itself after this time, such as `2h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<String>,
}
