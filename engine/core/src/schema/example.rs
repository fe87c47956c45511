//! Some value that a schema admits: one of those that look so, or one put together from examples of its parts.

use serde_json::{Map, Value};

use super::{compile, witness};

/// Schemas within schemas that are looked into.
const DEEPEST: usize = 6;

pub(super) fn find(schema: &Value) -> Option<Value> {
    within(schema, DEEPEST)
}

fn within(schema: &Value, depth: usize) -> Option<Value> {
    let admits = compile(schema).ok()?;
    let found = witness::samples(schema, 4).into_iter().find(|value| admits.is_valid(value));
    found.or_else(|| together(schema, depth).filter(|value| admits.is_valid(value)))
}

/// Of an object what it must have, of an array as many as it must have.
fn together(schema: &Value, depth: usize) -> Option<Value> {
    let depth = depth.checked_sub(1)?;
    match schema["type"].as_str()? {
        "object" => {
            let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
            let part = |name: &str| Some((name.to_owned(), within(&schema["properties"][name], depth)?));
            required.map(part).collect::<Option<Map<String, Value>>>().map(Value::Object)
        }
        "array" => {
            let least = usize::try_from(schema["minItems"].as_u64().unwrap_or(0)).ok()?;
            let part = within(&schema["items"], depth)?;
            Some(Value::Array(vec![part; least]))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::find;

    #[test]
    fn examples_are_put_together_from_their_parts() {
        let port = json!({"type": "integer", "minimum": 1, "maximum": 65535});
        let name = json!({"type": "string", "pattern": "^x+$", "examples": ["xx"]});
        let zone = json!({"type": "object", "required": ["name", "ttl", "more"], "additionalProperties": false, "properties": {
            "name": name, "ttl": port, "other": {"type": "string"},
            "more": {"type": "array", "minItems": 2, "items": {"type": "object", "required": ["name", "port"],
                     "properties": {"name": name, "port": port}}}}});
        let found = find(&zone).expect("an example");
        assert_eq!((&found["name"], found["more"].as_array().map(Vec::len)), (&json!("xx"), Some(2)));
        assert_eq!(found["more"][1]["name"], "xx");
        assert_eq!(find(&json!({"type": "string", "pattern": "^q{7}$"})), None, "nobody says one");
        assert_eq!(find(&json!({"type": "string", "default": "as said"})), Some(json!("as said")));
    }
}
