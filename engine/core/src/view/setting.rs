//! Profiles, policies, rules and budgets, and the labels of nodes, as people see them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use time::OffsetDateTime;

use crate::document::setting::SettingKind;
use crate::request::Document;

/// A profile, a policy, a rule or a budget.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SettingView {
    /// Which.
    pub kind: SettingKind,
    /// Its name.
    pub name: String,
    /// The document.
    pub document: Value,
    /// Who set it last.
    pub set_by: String,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub set_at: OffsetDateTime,
    /// Of a budget: by deployment how many nodes are out of service now, where there are any.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub out_of_service: BTreeMap<String, i64>,
}

/// What came of setting profiles, policies, rules or budgets, or of removing one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Settled {
    /// `KIND NAME` of those that are otherwise than before.
    pub changed: Vec<String>,
    /// Deployments that profiles and policies among them concern. Nothing changes there before they are applied.
    pub concerns: Vec<String>,
}

/// Asks which labels nodes would have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RuleTestRequest {
    /// Rules to be tried, in place of those of their names that are set; those that are set alone if missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document: Option<Document>,
}

/// What rules would make of a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RuleTest {
    /// The node.
    pub node: String,
    /// The labels that it would have by rules.
    pub labels: Vec<LabelView>,
    /// Names of labels by rules that would be other than they are, or be gone.
    pub changes: Vec<String>,
    /// Rules that can not be tried on it, each with why.
    pub problems: Vec<String>,
}

/// A label of a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LabelView {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: Value,
    /// The rule that set it; a person did if missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
}

/// Asks for labels of a node to be set or taken away.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LabelRequest {
    /// Labels to values.
    #[serde(default)]
    pub set: Map<String, Value>,
    /// Names of labels to be taken away.
    #[serde(default)]
    pub remove: Vec<String>,
}
