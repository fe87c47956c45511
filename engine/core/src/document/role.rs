//! `roles/NAME/role.yaml`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Object;

/// What a vertex is per.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Runs {
    /// One node role on every node it is bound to.
    Node,
    /// One node role on the virtual node of the deployment.
    Deployment,
}

/// Where the action is performed: `self`, `engine`, `one ROLE`, or `{one: ROLE, else: self}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "AtText", into = "AtText")]
pub enum At {
    /// On the node role's own node.
    #[default]
    OwnNode,
    /// By a driver in the engine.
    Engine,
    /// On the node of the first active instance of a role, chosen at the claim.
    One {
        /// The role that is looked for.
        role: String,
        /// Run on the own node where no instance is active, instead of waiting.
        else_own_node: bool,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum AtText {
    Text(String),
    One(AtOne),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AtOne {
    one: String,
    #[serde(rename = "else", default, skip_serializing_if = "Option::is_none")]
    otherwise: Option<String>,
}

impl TryFrom<AtText> for At {
    type Error = String;

    fn try_from(text: AtText) -> Result<Self, String> {
        match text {
            AtText::Text(text) => match text.as_str() {
                "self" => Ok(Self::OwnNode),
                "engine" => Ok(Self::Engine),
                other => match other.strip_prefix("one ") {
                    Some(role) => Ok(Self::One { role: role.trim().to_owned(), else_own_node: false }),
                    None => Err(format!("`at: {other}` is not `self`, `engine` or `one ROLE`")),
                },
            },
            AtText::One(AtOne { one, otherwise }) => match otherwise.as_deref() {
                None => Ok(Self::One { role: one, else_own_node: false }),
                Some("self") => Ok(Self::One { role: one, else_own_node: true }),
                Some(other) => Err(format!("`else: {other}` is not `self`")),
            },
        }
    }
}

impl From<At> for AtText {
    fn from(at: At) -> Self {
        match at {
            At::OwnNode => Self::Text("self".to_owned()),
            At::Engine => Self::Text("engine".to_owned()),
            At::One { role, else_own_node: false } => Self::Text(format!("one {role}")),
            At::One { role, else_own_node: true } => Self::One(AtOne { one: role, otherwise: Some("self".to_owned()) }),
        }
    }
}

/// What a change of an input does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnChange {
    /// The node role becomes stale and runs again if its digest moved.
    #[default]
    Run,
    /// The value of the first success is kept and is not in the digest.
    Ignore,
}

/// A declared input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InputDoc {
    /// JSON Schema 2020-12; `$ref: types/NAME` names a shared type.
    pub schema: Value,
    /// The role's own wire, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The value when no layer says otherwise. `Some(Null)` is a default of null.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub default: Option<Value>,
    /// What a change does.
    #[serde(default)]
    pub on_change: OnChange,
    /// Is the value secret?
    #[serde(default)]
    pub secret: bool,
    /// Prose.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub about: String,
}

/// A declared output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutputDoc {
    /// JSON Schema 2020-12.
    pub schema: Value,
    /// Template over the inputs, when it follows from them; else an `output` step says what was found out.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub value: Option<Value>,
    /// Is the value secret?
    #[serde(default)]
    pub secret: bool,
    /// Prose.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub about: String,
}

fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// A private use of another role.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UseDoc {
    /// The role used.
    pub role: String,
    /// Rewired inputs: input name to wire text.
    #[serde(default)]
    pub from: BTreeMap<String, String>,
    /// Fixed inputs: a literal, or exactly `{{ INPUT }}` naming one input of the user.
    #[serde(default)]
    pub with: Object,
    /// Further requirements of this use.
    #[serde(default)]
    pub requires: Vec<String>,
}

/// What machines a role works on; empty lists mean any.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Supports {
    /// Such as `debian-12`.
    #[serde(default)]
    pub os: Vec<String>,
    /// Such as `amd64`.
    #[serde(default)]
    pub arch: Vec<String>,
}

/// One declarative item of an action: exactly one kind, plus `when`, `for` and `as`.
///
/// Arguments hold templates and are only typed after rendering, by the agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Object", into = "Object")]
pub struct Step {
    /// `file`, `package`, `unit`, `run`, …
    pub kind: String,
    /// Its arguments, templates not yet rendered.
    pub args: Value,
    /// Expression; the step is skipped when it is false.
    pub when: Option<String>,
    /// `NAME in EXPRESSION`: the step is done once per element.
    pub each: Option<String>,
    /// Name under which later steps see this step's result.
    pub save: Option<String>,
}

impl TryFrom<Object> for Step {
    type Error = String;

    fn try_from(mut object: Object) -> Result<Self, String> {
        let mut word = |key: &str| match object.remove(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(format!("`{key}` must be text, not {other}")),
        };
        let (when, each, save) = (word("when")?, word("for")?, word("as")?);
        let mut rest = object.into_iter();
        match (rest.next(), rest.next()) {
            (Some((kind, args)), None) => Ok(Self { kind, args, when, each, save }),
            (None, _) => Err("a step names what it does: `file`, `package`, `run`, …".to_owned()),
            (Some((one, _)), Some((two, _))) => {
                Err(format!("a step does one thing, this one names `{one}` and `{two}`"))
            }
        }
    }
}

impl From<Step> for Object {
    fn from(step: Step) -> Self {
        let mut object = Self::new();
        object.insert(step.kind, step.args);
        for (key, value) in [("when", step.when), ("for", step.each), ("as", step.save)] {
            if let Some(text) = value {
                object.insert(key.to_owned(), Value::String(text));
            }
        }
        object
    }
}

/// How often a job that failed is tried by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryDoc {
    /// Tries in all, the first among them.
    pub attempts: u32,
    /// The wait before the second try, such as `10s`; each later one is twice as long as the one before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff: Option<String>,
}

/// A role as written. A preset has `is` and `with` and nothing else but its name, version and prose.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RoleDoc {
    /// Its name; also that of its folder.
    pub role: String,
    /// Its version (semver). In no digest.
    pub version: String,
    /// One or two sentences for people. In no digest.
    #[serde(default)]
    pub about: String,
    /// The role this one is a preset of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is: Option<String>,
    /// Inputs fixed by the preset.
    #[serde(default, skip_serializing_if = "Object::is_empty")]
    pub with: Object,
    /// What a vertex is per. Missing only in a preset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runs: Option<Runs>,
    /// Where the action is performed.
    #[serde(default)]
    pub at: At,
    /// May users bind it?
    #[serde(default)]
    pub milestone: bool,
    /// Interfaces it provides.
    #[serde(default)]
    pub provides: Vec<String>,
    /// Roles and interfaces that must be active before it.
    #[serde(default)]
    pub requires: Vec<String>,
    /// Roles that come after it where both are bound.
    #[serde(default)]
    pub precedes: Vec<String>,
    /// Roles that can not stand on the same node.
    #[serde(default)]
    pub conflicts: Vec<String>,
    /// Budgets that a re-run takes from.
    #[serde(default)]
    pub disrupts: Vec<String>,
    /// Machines it works on.
    #[serde(default)]
    pub supports: Supports,
    /// Private uses of other roles, by local name.
    #[serde(default)]
    pub uses: BTreeMap<String, UseDoc>,
    /// Declared inputs.
    #[serde(default)]
    pub inputs: BTreeMap<String, InputDoc>,
    /// Declared outputs.
    #[serde(default)]
    pub outputs: BTreeMap<String, OutputDoc>,
    /// Paths that go with the role beyond what its steps made; templates over the inputs.
    #[serde(default)]
    pub destroys: Vec<String>,
    /// Never re-run once it served, unless armed.
    #[serde(default)]
    pub destructive: bool,
    /// The driver in the engine that performs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// Steps that bring it about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apply: Option<Vec<Step>>,
    /// Probes after the dry run of `apply`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<Vec<Step>>,
    /// Steps before the inverse of `apply`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remove: Option<Vec<Step>>,
    /// Steps instead of the inverse of `apply`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remove_only: Option<Vec<Step>>,
    /// How long a job of it may take, such as `5m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
    /// What becomes of a job that failed; without it a person decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<RetryDoc>,
    /// The output (a date-time) after which it is stale.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renew_at: Option<String>,
}

impl RoleDoc {
    /// Has it no work at all: neither steps nor a driver?
    pub fn is_noop(&self) -> bool {
        self.apply.as_ref().is_none_or(Vec::is_empty) && self.driver.is_none()
    }
}
