//! What is known of facts and fields before any node is there.

use serde_json::{Value, json};

/// The schema of a fact of a node; `None` for those that only discovery can tell.
pub(crate) fn of_node(fact: &str) -> Option<Value> {
    Some(match fact {
        "name" => {
            json!({"type": "string", "minLength": 1, "maxLength": 63, "pattern": "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"})
        }
        "address" => json!({"type": "string", "format": "ipv4"}),
        "arch" => json!({"type": "string", "minLength": 1}),
        "names" => names(),
        "identity" => json!({"type": "object", "additionalProperties": false, "required": ["name", "names"],
                             "properties": {"name": of_node("name")?, "names": names()}}),
        "cpus" | "generation" | "port" => json!({"type": "integer", "minimum": 0}),
        _ => return None,
    })
}

/// Under which others reach a node: a name within the zone of its deployment, and its address.
fn names() -> Value {
    json!({"type": "array", "minItems": 1, "uniqueItems": true,
           "items": {"type": "string", "minLength": 1, "maxLength": 253, "pattern": "^[a-z0-9:]([a-z0-9.:-]*[a-z0-9:])?$"}})
}

/// The schema of a field of the deployment.
pub(crate) fn of_deployment(field: &str) -> Option<Value> {
    match field {
        "name_constraints" => Some(json!({
            "type": "object", "additionalProperties": false, "required": ["dns", "subnets"],
            "properties": {
                "dns": {"type": "array", "uniqueItems": true,
                        "items": {"type": "string", "pattern": "^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$", "maxLength": 253}},
                "subnets": {"type": "array", "uniqueItems": true,
                            "items": {"type": "string", "pattern": "^[0-9a-f.:]+/[0-9]{1,3}$"}},
            },
        })),
        "zone" => Some(json!({"type": "string", "minLength": 1, "maxLength": 253,
                              "pattern": "^[a-z0-9]([a-z0-9-]*[a-z0-9])?([.][a-z0-9]([a-z0-9-]*[a-z0-9])?)*$"})),
        _ => FIELDS.contains(&field).then(|| json!({"type": "string", "minLength": 1})),
    }
}

/// Fields of the deployment that an input can read.
pub(super) const FIELDS: [&str; 4] = ["name", "name_constraints", "workload", "zone"];
