//! The schema of a place inside a value.

use serde_json::{Value, json};

/// What a path into a value of some schema leads to.
#[derive(Clone, Debug, PartialEq)]
pub enum Reach {
    /// Always something of this schema.
    Always(Value),
    /// Something of this schema, or nothing: a key on the way may be missing.
    Maybe(Value),
    /// Never anything, for this reason.
    Never(String),
}

/// The schema of what lies at `path` in every value of `schema`.
pub fn schema_at(schema: &Value, path: &[String]) -> Reach {
    let mut reached = Reach::Always(schema.clone());
    for key in path {
        reached = match reached {
            Reach::Always(schema) => step(&schema, key),
            Reach::Maybe(schema) => match step(&schema, key) {
                Reach::Always(schema) => Reach::Maybe(schema),
                other => other,
            },
            never @ Reach::Never(_) => return never,
        };
    }
    reached
}

fn step(schema: &Value, key: &str) -> Reach {
    let object = match schema {
        Value::Bool(true) => return Reach::Maybe(Value::Bool(true)),
        Value::Object(object) => object,
        _ => return Reach::Never("nothing is admitted there".to_owned()),
    };
    if let Some(kinds) = object.get("type")
        && !names_object(kinds)
    {
        return Reach::Never(format!("`{key}` is looked up in something that is not an object but {kinds}"));
    }
    let certain = object.get("type") == Some(&json!("object"));
    let required = object.get("required").and_then(Value::as_array).is_some_and(|all| all.contains(&json!(key)));
    let own = own_step(object, key, certain && required);
    let all = object.get("allOf").and_then(Value::as_array).into_iter().flatten().map(|part| step(part, key));
    let mut reached = std::iter::once(own).chain(all).reduce(both).expect("at least the own keywords");
    for choice in ["anyOf", "oneOf"] {
        let branches = object.get(choice).and_then(Value::as_array).into_iter().flatten();
        if let Some(one_of) = branches.map(|branch| step(branch, key)).reduce(either) {
            reached = both(reached, one_of);
        }
    }
    // What a part leaves open, the whole may say.
    match reached {
        Reach::Maybe(schema) if certain && required => Reach::Always(schema),
        other => other,
    }
}

fn own_step(object: &serde_json::Map<String, Value>, key: &str, certain: bool) -> Reach {
    let found = |schema: &Value| if certain { Reach::Always(schema.clone()) } else { Reach::Maybe(schema.clone()) };
    if let Some(named) = object.get("properties").and_then(|all| all.get(key)) {
        return if named == &Value::Bool(false) {
            Reach::Never(format!("`{key}` is never there"))
        } else {
            found(named)
        };
    }
    match object.get("additionalProperties") {
        _ if object.contains_key("patternProperties") => found(&Value::Bool(true)),
        Some(Value::Bool(false)) => Reach::Never(format!("`{key}` is never there")),
        Some(others) => found(others),
        None => found(&Value::Bool(true)),
    }
}

fn names_object(kinds: &Value) -> bool {
    match kinds {
        Value::String(kind) => kind == "object",
        Value::Array(all) => all.contains(&json!("object")),
        _ => false,
    }
}

/// Both hold.
fn both(one: Reach, other: Reach) -> Reach {
    match (one, other) {
        (never @ Reach::Never(_), _) | (_, never @ Reach::Never(_)) => never,
        (Reach::Maybe(one), Reach::Maybe(other)) => Reach::Maybe(all_of(one, other)),
        (Reach::Always(one) | Reach::Maybe(one), Reach::Always(other) | Reach::Maybe(other)) => {
            Reach::Always(all_of(one, other))
        }
    }
}

/// One of them holds.
fn either(one: Reach, other: Reach) -> Reach {
    match (one, other) {
        (Reach::Never(_), Reach::Never(reason)) => Reach::Never(reason),
        (Reach::Never(_), Reach::Always(schema) | Reach::Maybe(schema))
        | (Reach::Always(schema) | Reach::Maybe(schema), Reach::Never(_)) => Reach::Maybe(schema),
        (Reach::Always(one), Reach::Always(other)) => Reach::Always(any_of(one, other)),
        (Reach::Always(one) | Reach::Maybe(one), Reach::Always(other) | Reach::Maybe(other)) => {
            Reach::Maybe(any_of(one, other))
        }
    }
}

fn all_of(one: Value, other: Value) -> Value {
    match (one, other) {
        (Value::Bool(true), schema) | (schema, Value::Bool(true)) => schema,
        (one, other) if one == other => one,
        (one, other) => json!({"allOf": [one, other]}),
    }
}

fn any_of(one: Value, other: Value) -> Value {
    if one == other { one } else { json!({"anyOf": [one, other]}) }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Reach, schema_at};

    fn at(schema: &Value, path: &str) -> Reach {
        let path: Vec<String> = path.split('.').map(str::to_owned).collect();
        schema_at(schema, &path)
    }

    #[test]
    fn paths_know_whether_they_lead_somewhere() {
        let member = json!({
            "type": "object", "additionalProperties": false, "required": ["name"],
            "properties": {"name": {"type": "string"}, "port": {"type": "integer"}},
        });
        assert_eq!(at(&member, "name"), Reach::Always(json!({"type": "string"})));
        assert_eq!(at(&member, "port"), Reach::Maybe(json!({"type": "integer"})));
        assert!(matches!(at(&member, "url"), Reach::Never(_)));
        assert!(matches!(at(&member, "name.first"), Reach::Never(_)));
        let map = json!({"type": "object", "additionalProperties": member});
        assert_eq!(at(&map, "a.name"), Reach::Maybe(json!({"type": "string"})));
        let either = json!({"type": "object", "required": ["x"], "oneOf": [
            {"properties": {"x": {"const": 1}}}, {"properties": {"x": {"const": 2}}}]});
        assert_eq!(at(&either, "x"), Reach::Always(json!({"anyOf": [{"const": 1}, {"const": 2}]})));
    }
}
