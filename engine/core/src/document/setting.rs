//! Documents that hold for all deployments, or that they can refer to: profiles, policies, rules.

use serde::{Deserialize, Serialize};

use super::{Object, Policy, Silent};

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
}

impl SettingKind {
    /// As stored and written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Profile => "profile",
            Self::Policy => "policy",
            Self::Rule => "rule",
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
