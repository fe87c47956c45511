//! What is known of facts and fields before any node is there.

use serde_json::{Value, json};

/// The schema of a fact of a node; `None` for those that only discovery can tell.
pub(super) fn of_node(fact: &str) -> Option<Value> {
    Some(match fact {
        "name" => {
            json!({"type": "string", "minLength": 1, "maxLength": 63, "pattern": "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"})
        }
        "address" => json!({"type": "string", "format": "ipv4"}),
        "arch" => json!({"type": "string", "minLength": 1}),
        "cpus" | "generation" | "port" => json!({"type": "integer", "minimum": 0}),
        _ => return None,
    })
}

/// The schema of a field of the deployment.
pub(super) fn of_deployment(field: &str) -> Option<Value> {
    FIELDS.contains(&field).then(|| json!({"type": "string", "minLength": 1}))
}

/// Fields of the deployment that an input can read.
pub(super) const FIELDS: [&str; 2] = ["name", "workload"];
