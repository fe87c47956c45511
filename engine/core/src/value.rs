//! Values and the layers they come from.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The precedence table, weakest first: the order of declaration is the precedence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Layer {
    /// `default:` of the role's input.
    RoleDefault,
    /// A fact that discovery found out.
    Discovered,
    /// A profile that holds for every deployment.
    GlobalProfile,
    /// What the provider of the node says.
    Provider,
    /// A profile that the deployment lists.
    Profile,
    /// `with` in the workload (also of a preset and of `uses`).
    Workload,
    /// `set: {deployment: …}`.
    Deployment,
    /// `set: {GROUP: …}`.
    Group,
    /// `set: {nodes: {NAME: …}}`.
    Node,
    /// The explicit override of one node role.
    NodeRole,
}

impl Layer {
    /// As people read it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RoleDefault => "role default",
            Self::Discovered => "discovered fact",
            Self::GlobalProfile => "global profile",
            Self::Provider => "provider",
            Self::Profile => "profile",
            Self::Workload => "workload",
            Self::Deployment => "deployment",
            Self::Group => "group",
            Self::Node => "node",
            Self::NodeRole => "node role override",
        }
    }
}

/// A value that knows where it came from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Layered {
    /// The value.
    pub value: Value,
    /// Its layer.
    pub layer: Layer,
    /// What set it: `roles/etcd/role.yaml`, `workload etcd-cluster`, `deployment blue`, …
    pub by: String,
    /// Parameters that are `writeOnly` and that it follows from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub of: Vec<String>,
}

/// The strongest of several values; equal layers: the later one.
pub fn strongest<'a>(values: impl IntoIterator<Item = &'a Layered>) -> Option<&'a Layered> {
    values.into_iter().max_by_key(|value| value.layer)
}

/// Follows keys (and array positions) into a value.
pub fn at_path<'a>(value: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, key| match value {
        Value::Object(object) => object.get(key),
        Value::Array(array) => array.get(key.parse::<usize>().ok()?),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::{Layer, Layered, at_path, strongest};
    use serde_json::json;

    #[test]
    fn the_strongest_layer_wins_and_the_later_of_equals() {
        let value = |value: u32, layer| Layered { value: json!(value), layer, by: String::new(), of: Vec::new() };
        let all =
            [value(1, Layer::RoleDefault), value(2, Layer::Group), value(3, Layer::Group), value(4, Layer::Workload)];
        assert_eq!(strongest(&all).map(|v| &v.value), Some(&json!(3)));
        assert!(strongest([]).is_none());
    }

    #[test]
    fn paths_lead_into_objects_and_arrays() {
        let value = json!({"a": [{"b": 7}]});
        let path = |text: &str| text.split('.').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(at_path(&value, &path("a.0.b")), Some(&json!(7)));
        assert_eq!(at_path(&value, &path("a.1")), None);
        assert_eq!(at_path(&value, &[]), Some(&value));
    }
}
