//! Documents that hold for all deployments, or that they can refer to: profiles, policies, rules, budgets.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Budget, Object, Policy, Silent};

/// Which of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum SettingKind {
    /// A named set of values.
    Profile,
    /// What may be done to machines.
    Policy,
    /// Labels by facts.
    Rule,
    /// How many nodes of all deployments may be out of service at once.
    Budget,
}

impl SettingKind {
    /// As stored and written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Profile => "profile",
            Self::Policy => "policy",
            Self::Rule => "rule",
            Self::Budget => "budget",
        }
    }
}

/// A named set of values. It has effect where a deployment is applied.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProfileDoc {
    /// Its name.
    pub profile: String,
    /// Prose.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub about: String,
    /// It holds for every deployment; any other one only where it is listed.
    #[serde(default)]
    pub global: bool,
    /// Of global ones: greater is stronger; of the same order the later by name.
    #[serde(default)]
    pub order: i32,
    /// `DEPLOYMENT-ROLE.input` to value.
    pub values: Object,
}

/// What may be done to machines, in all deployments, besides what each of them says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyDoc {
    /// Its name.
    pub policy: String,
    /// Prose.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub about: String,
    /// A plan with one of these effects is refused.
    #[serde(default)]
    pub forbid: Vec<String>,
    /// A job with one of these effects waits for an approval.
    #[serde(default)]
    pub approve: Vec<String>,
    /// When nodes that do not answer are taken out.
    #[serde(default, skip_serializing_if = "Silent::is_unsaid")]
    pub silent: Silent,
}

impl PolicyDoc {
    /// What it says.
    pub fn policy(&self) -> Policy {
        Policy { forbid: self.forbid.clone(), approve: self.approve.clone(), silent: self.silent.clone() }
    }
}

/// Labels that nodes get by what is known of them ([`crate::rule`]).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleDoc {
    /// Its name.
    pub rule: String,
    /// Prose.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub about: String,
    /// Rules are gone through from the least to the greatest, those of the same order by name.
    #[serde(default)]
    pub order: i32,
    /// An expression over facts and labels, as in `select`.
    pub when: String,
    /// Labels to values; templates over facts and labels are allowed.
    pub set: Object,
}

/// How many nodes may be out of service at once over all deployments whose workload has a budget of this name, besides what each
/// of them allows. In force from the next turn of each of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BudgetDoc {
    /// Its name; that of the budgets that it is about.
    pub budget: String,
    /// Prose.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub about: String,
    /// A number of nodes, or a percentage such as `"10%"` of those of all these deployments.
    pub max_unavailable: Value,
    /// Failed nodes that are borne before the circuit opens for all of them.
    #[serde(default)]
    pub failures: u32,
}

impl BudgetDoc {
    /// What it says.
    pub fn budget(&self) -> Budget {
        Budget { max_unavailable: self.max_unavailable.clone(), failures: self.failures, quorum: false }
    }
}
