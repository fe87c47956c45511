//! Looks for a value that one schema admits and another refuses. Both judgements are the validator's.

use serde_json::{Map, Value, json};

use super::compile;

/// A value of `supplier` that is not valid for `consumer`, if one is found.
pub(super) fn find(supplier: &Value, consumer: &Value) -> Option<Value> {
    let (admits, takes) = (compile(supplier).ok()?, compile(consumer).ok()?);
    samples(supplier, 4).into_iter().find(|value| admits.is_valid(value) && !takes.is_valid(value))
}

/// Values per schema at most; nothing is lost but witnesses.
const MOST: usize = 80;

/// Values that look as if the schema admitted them; not all of them are admitted.
pub(super) fn samples(schema: &Value, depth: usize) -> Vec<Value> {
    let mut found = match schema {
        Value::Object(object) => of_object(object, depth),
        Value::Bool(true) => anything(),
        _ => Vec::new(),
    };
    found.truncate(MOST);
    found
}

fn anything() -> Vec<Value> {
    vec![json!("a"), json!(0), json!(0.5), json!(true), Value::Null, json!([]), json!({}), json!("")]
}

fn of_object(object: &Map<String, Value>, depth: usize) -> Vec<Value> {
    let mut found = Vec::new();
    for choice in ["allOf", "anyOf", "oneOf"] {
        let Some(branches) = object.get(choice).and_then(Value::as_array) else { continue };
        if depth == 0 {
            return found;
        }
        let mut base = object.clone();
        base.remove(choice);
        if choice == "allOf" {
            let merged = branches.iter().filter_map(Value::as_object).fold(base, merge);
            return of_object(&merged, depth - 1);
        }
        for branch in branches.iter().filter_map(Value::as_object) {
            found.extend(
                of_object(&merge(base.clone(), branch), depth - 1).into_iter().take(MOST / branches.len().max(1)),
            );
        }
        return found;
    }
    if let Some(value) = object.get("const") {
        return vec![value.clone()];
    }
    if let Some(Value::Array(values)) = object.get("enum") {
        return values.clone();
    }
    found.extend(object.get("default").cloned());
    found.extend(object.get("examples").and_then(Value::as_array).into_iter().flatten().cloned());
    let mut kinds: Vec<Vec<Value>> = Vec::new();
    for kind in kinds_of(object) {
        kinds.push(match kind {
            "null" => vec![Value::Null],
            "boolean" => vec![json!(true), json!(false)],
            "integer" => numbers(object, false),
            "number" => numbers(object, true),
            "string" => texts(object),
            "array" => arrays(object, depth),
            _ => objects(object, depth),
        });
    }
    // A few of each type first, so that none is cut off.
    let longest = kinds.iter().map(Vec::len).max().unwrap_or(0);
    found.extend((0..longest).flat_map(|index| kinds.iter().filter_map(move |values| values.get(index).cloned())));
    found
}

fn kinds_of(object: &Map<String, Value>) -> Vec<&str> {
    match object.get("type") {
        Some(Value::String(kind)) => vec![kind],
        Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => vec!["string", "number", "object", "array", "boolean", "null"],
    }
}

/// Keywords of both; where both say something of a property, both are kept.
fn merge(mut base: Map<String, Value>, more: &Map<String, Value>) -> Map<String, Value> {
    for (key, value) in more {
        match (base.get_mut(key), value) {
            (Some(Value::Object(old)), Value::Object(new)) if key == "properties" => {
                for (name, schema) in new {
                    let both = old.get(name).map_or_else(|| schema.clone(), |old| json!({"allOf": [old, schema]}));
                    old.insert(name.clone(), both);
                }
            }
            (Some(Value::Array(old)), Value::Array(new)) if ["required", "allOf"].contains(&key.as_str()) => {
                old.extend(new.iter().cloned());
            }
            _ => {
                base.insert(key.clone(), value.clone());
            }
        }
    }
    base
}

fn numbers(object: &Map<String, Value>, broken: bool) -> Vec<Value> {
    let mut found = vec![json!(0), json!(1), json!(-1), json!(1_000_003)];
    let bounds = ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"];
    for bound in bounds.iter().filter_map(|name| object.get(*name)) {
        found.push(bound.clone());
        if let Some(whole) = bound.as_i64() {
            found.extend([
                json!(whole.saturating_add(1)),
                json!(whole.saturating_sub(1)),
                json!(whole.saturating_mul(2)),
            ]);
        }
        if let Some(float) = bound.as_f64().filter(|_| broken) {
            found.extend([json!(float + 0.5), json!(float - 0.5)]);
        }
    }
    if broken {
        found.extend([json!(0.5), json!(-0.25)]);
    }
    found
}

fn texts(object: &Map<String, Value>) -> Vec<Value> {
    const LONGEST: u64 = 4096;
    let length = |name: &str| object.get(name).and_then(Value::as_u64).filter(|length| *length <= LONGEST);
    let mut found: Vec<Value> = match object.get("format").and_then(Value::as_str) {
        Some("ipv4") => vec!["10.0.0.1"],
        Some("ipv6") => vec!["fd00::1"],
        Some("uri" | "iri") => vec!["http://a/b", "x:y"],
        Some("uri-reference" | "iri-reference") => vec!["a/b", "http://a"],
        Some("hostname" | "idn-hostname") => vec!["a", "a.b"],
        Some("date-time") => vec!["2026-01-01T00:00:00Z"],
        Some("date") => vec!["2026-01-01"],
        Some("time") => vec!["00:00:00Z"],
        Some("duration") => vec!["PT1S"],
        Some("email") => vec!["a@b.c"],
        Some("uuid") => vec!["00000000-0000-0000-0000-000000000000"],
        Some("regex") => vec!["a"],
        Some("json-pointer") => vec!["", "/a"],
        _ => vec![],
    }
    .into_iter()
    .map(|text| json!(text))
    .collect();
    let long = ["minLength", "maxLength"].iter().filter_map(|name| length(name));
    found.extend(
        long.flat_map(|length| ["a", "1"].map(|text| json!(text.repeat(usize::try_from(length).unwrap_or(0))))),
    );
    let known = [
        "",
        "a",
        "A",
        "1",
        "a b",
        "/a",
        "/a/b",
        "a.b",
        "a-b",
        "a_b",
        "5m",
        "1.0.0",
        "10%",
        "10.0.0.0/8",
        "0644",
        "x:y",
        "\n",
    ];
    found.extend(known.map(|text| json!(text)));
    found
}

fn arrays(object: &Map<String, Value>, depth: usize) -> Vec<Value> {
    let least = object.get("minItems").and_then(Value::as_u64).unwrap_or(0).min(16);
    let least = usize::try_from(least).unwrap_or(0);
    let placed = object.get("prefixItems").and_then(Value::as_array).cloned().unwrap_or_default();
    let rest = object.get("items").cloned().unwrap_or(Value::Bool(true));
    if depth == 0 {
        return vec![json!([])];
    }
    let of_rest = samples(&rest, depth - 1);
    let first: Vec<Value> = placed.iter().filter_map(|schema| samples(schema, depth - 1).into_iter().next()).collect();
    let filled = |length: usize| -> Value {
        let more = of_rest.iter().cycle().take(if of_rest.is_empty() { 0 } else { length.saturating_sub(first.len()) });
        first.iter().take(length).chain(more).cloned().collect()
    };
    let mut found = vec![filled(least), filled(least.max(first.len())), filled(least + 1)];
    let most = object.get("maxItems").and_then(Value::as_u64).and_then(|most| usize::try_from(most).ok());
    found.extend(most.filter(|most| *most <= 64).map(filled));
    for element in &of_rest {
        let mut values: Vec<Value> = first.clone();
        values.push(element.clone());
        let more = of_rest.iter().filter(|other| *other != element).cycle();
        let missing = least.saturating_sub(values.len());
        values.extend(more.take(missing).cloned());
        found.push(Value::Array(values));
        found.push(json!([element, element]));
    }
    for (index, schema) in placed.iter().enumerate() {
        for other in samples(schema, depth - 1) {
            let mut values = first.clone();
            if let Some(place) = values.get_mut(index) {
                *place = other;
                found.push(Value::Array(values));
            }
        }
    }
    found
}

fn objects(object: &Map<String, Value>, depth: usize) -> Vec<Value> {
    if depth == 0 {
        return vec![json!({})];
    }
    let properties = object.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
    let others = object.get("additionalProperties").cloned().unwrap_or(Value::Bool(true));
    let required: Vec<&str> =
        object.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    let of_key = |key: &str| samples(properties.get(key).unwrap_or(&others), depth - 1);
    let mut base = Map::new();
    for key in &required {
        if let Some(value) = of_key(key).into_iter().next() {
            base.insert((*key).to_owned(), value);
        }
    }
    let mut full = base.clone();
    for key in properties.keys() {
        if let Some(value) = of_key(key).into_iter().next() {
            full.entry(key.clone()).or_insert(value);
        }
    }
    let mut found = vec![Value::Object(base.clone()), Value::Object(full.clone())];
    for key in properties.keys().map(String::as_str).chain(required.iter().copied()) {
        let mut less = full.clone();
        less.remove(key);
        found.push(Value::Object(less));
        for value in of_key(key) {
            for start in [&base, &full] {
                let mut varied = start.clone();
                varied.insert(key.to_owned(), value.clone());
                found.push(Value::Object(varied));
            }
        }
    }
    let patterns = object.get("patternProperties").and_then(Value::as_object);
    let by_pattern = patterns.into_iter().flatten().flat_map(|(_, schema)| samples(schema, depth - 1));
    for value in samples(&others, depth - 1).into_iter().chain(by_pattern) {
        for name in ["zz", "a", "b"] {
            let mut more = base.clone();
            more.entry(name.to_owned()).or_insert_with(|| value.clone());
            found.push(Value::Object(more));
        }
    }
    let least = object.get("minProperties").and_then(Value::as_u64).unwrap_or(0).min(16);
    if let Some(value) = samples(&others, depth - 1).into_iter().next() {
        let mut more = base;
        more.extend((0..least).map(|index| (format!("k{index}"), value.clone())));
        found.push(Value::Object(more));
    }
    found
}
