//! Walking a schema: which of its values are schemas themselves.

use serde_json::{Map, Value};

/// Keywords whose value is an object of schemas.
pub(super) const MAPS: [&str; 5] = ["properties", "patternProperties", "$defs", "definitions", "dependentSchemas"];
/// Keywords whose value is a schema.
const SINGLES: [&str; 11] = [
    "items",
    "additionalProperties",
    "propertyNames",
    "contains",
    "not",
    "if",
    "then",
    "else",
    "unevaluatedItems",
    "unevaluatedProperties",
    "contentSchema",
];
/// Keywords whose value is an array of schemas.
const LISTS: [&str; 4] = ["allOf", "anyOf", "oneOf", "prefixItems"];

/// The schemas directly inside a schema, each with the JSON pointer from it.
pub fn subschemas(schema: &Value) -> Vec<(String, &Value)> {
    let Value::Object(object) = schema else { return Vec::new() };
    let mut found = Vec::new();
    for (key, value) in object {
        match value {
            Value::Object(inner) if MAPS.contains(&key.as_str()) => {
                found.extend(inner.iter().map(|(name, sub)| (format!("/{key}/{}", escape(name)), sub)));
            }
            Value::Array(inner) if LISTS.contains(&key.as_str()) => {
                found.extend(inner.iter().enumerate().map(|(index, sub)| (format!("/{key}/{index}"), sub)));
            }
            sub if SINGLES.contains(&key.as_str()) => found.push((format!("/{key}"), sub)),
            _ => {}
        }
    }
    found
}

/// A copy of a schema in which every object that is a schema went through `change`, innermost first.
pub fn map_schema(schema: &Value, change: &dyn Fn(Map<String, Value>) -> Map<String, Value>) -> Value {
    let Value::Object(object) = schema else { return schema.clone() };
    let mapped = object
        .iter()
        .map(|(key, value)| {
            let value = match value {
                Value::Object(inner) if MAPS.contains(&key.as_str()) => {
                    Value::Object(inner.iter().map(|(name, sub)| (name.clone(), map_schema(sub, change))).collect())
                }
                Value::Array(inner) if LISTS.contains(&key.as_str()) => {
                    Value::Array(inner.iter().map(|sub| map_schema(sub, change)).collect())
                }
                sub if SINGLES.contains(&key.as_str()) => map_schema(sub, change),
                other => other.clone(),
            };
            (key.clone(), value)
        })
        .collect();
    Value::Object(change(mapped))
}

/// A part of a JSON pointer, escaped (RFC 6901).
pub(super) fn escape(part: &str) -> String {
    part.replace('~', "~0").replace('/', "~1")
}
