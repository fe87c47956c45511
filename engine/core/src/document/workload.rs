//! `workloads/NAME/workload.yaml`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Object;

/// How many nodes a group takes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupCount {
    /// Nodes when the deployment does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<u32>,
    /// Fewest.
    #[serde(default)]
    pub minimum: u32,
    /// Most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maximum: Option<u32>,
    /// Must the number be odd?
    #[serde(default)]
    pub odd: bool,
}

/// A value that comes from another deployment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportDoc {
    /// What it must be; references are resolved when the catalog is loaded.
    pub schema: Value,
    /// Prose.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub about: String,
}

/// A group of nodes that get the same milestones.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupDoc {
    /// Allowed sizes.
    #[serde(default)]
    pub count: GroupCount,
    /// Prose.
    #[serde(default)]
    pub about: String,
}

/// A milestone bound to a group, or to the deployment: `etcd`, or `{etcd: {with: …, from: …}}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Value", into = "Value")]
pub struct BoundRole {
    /// The role.
    pub role: String,
    /// Fixed inputs; templates over `parameters` are allowed here.
    pub with: Object,
    /// Rewired inputs: input name to wire text.
    pub from: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BoundBody {
    #[serde(default, skip_serializing_if = "Object::is_empty")]
    with: Object,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    from: BTreeMap<String, String>,
}

impl TryFrom<Value> for BoundRole {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        match value {
            Value::String(role) => Ok(Self { role, with: Object::new(), from: BTreeMap::new() }),
            Value::Object(object) if object.len() == 1 => {
                let (role, body) = object.into_iter().next().expect("one entry");
                let body: BoundBody = match body {
                    Value::Null => BoundBody { with: Object::new(), from: BTreeMap::new() },
                    body => serde_json::from_value(body).map_err(|error| error.to_string())?,
                };
                Ok(Self { role, with: body.with, from: body.from })
            }
            other => Err(format!("expected ROLE or {{ROLE: {{with, from}}}}, not {other}")),
        }
    }
}

impl From<BoundRole> for Value {
    fn from(bound: BoundRole) -> Self {
        if bound.with.is_empty() && bound.from.is_empty() {
            return Self::String(bound.role);
        }
        let body = BoundBody { with: bound.with, from: bound.from };
        let mut object = Object::new();
        object.insert(bound.role, serde_json::to_value(body).expect("plain data"));
        Self::Object(object)
    }
}

/// A named allowance of nodes that may be out of service at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// A number of nodes, or a percentage such as `"10%"`.
    pub max_unavailable: Value,
    /// Failed nodes that are borne before the circuit opens.
    #[serde(default)]
    pub failures: u32,
    /// Must a majority keep serving?
    #[serde(default)]
    pub quorum: bool,
}

/// A provider chosen for an interface, for the whole deployment or per group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Choice {
    /// The same everywhere.
    Everywhere(String),
    /// By group.
    ByGroup(BTreeMap<String, String>),
}

/// A workload as written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkloadDoc {
    /// Its name; also that of its folder.
    pub workload: String,
    /// Its version (semver).
    pub version: String,
    /// Prose.
    #[serde(default)]
    pub about: String,
    /// JSON Schema of the parameters; defaults of its properties apply.
    #[serde(default)]
    pub parameters: Value,
    /// Node groups.
    #[serde(default)]
    pub groups: BTreeMap<String, GroupDoc>,
    /// Milestones by group; the key `deployment` is the virtual node.
    #[serde(default)]
    pub roles: BTreeMap<String, Vec<BoundRole>>,
    /// Providers for interfaces.
    #[serde(default)]
    pub choose: BTreeMap<String, Choice>,
    /// Budgets.
    #[serde(default)]
    pub budgets: BTreeMap<String, Budget>,
    /// Outputs that other deployments may import: name to `ROLE.OUTPUT`.
    #[serde(default)]
    pub exports: BTreeMap<String, String>,
    /// Values that come from other deployments: import name to export name to what it must be.
    #[serde(default)]
    pub imports: BTreeMap<String, BTreeMap<String, ImportDoc>>,
}
