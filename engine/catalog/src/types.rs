//! Shared types and interfaces, and replacing `$ref`s by what they name.

use std::collections::BTreeMap;

use engine_core::schema;
use serde_json::{Map, Value, json};

/// `types/NAME` and `interfaces/NAME` by bundle, as they are written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Types {
    by_bundle: BTreeMap<String, BTreeMap<String, Value>>,
}

/// Why a `$ref` can not be replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RefError {
    /// JSON pointer of the `$ref` in the schema that was asked about.
    pub(crate) pointer: String,
    pub(crate) code: &'static str,
    pub(crate) message: String,
}

impl Types {
    /// Adds `types/NAME` or `interfaces/NAME` of a bundle.
    pub(crate) fn add(&mut self, bundle: &str, name: &str, schema: Value) {
        self.by_bundle.entry(bundle.to_owned()).or_default().insert(name.to_owned(), schema);
    }

    /// `types/NAME` or `interfaces/NAME` of a bundle as it is written; anything where there is none.
    pub(crate) fn get(&self, bundle: &str, name: &str) -> &Value {
        self.by_bundle.get(bundle).and_then(|all| all.get(name)).unwrap_or(&Value::Bool(true))
    }

    /// A copy of a schema, written in `bundle`, without any `$ref`; or all those that lead nowhere.
    pub(crate) fn inline(&self, bundle: &str, written: &Value) -> Result<Value, Vec<RefError>> {
        let mut errors = Vec::new();
        let inlined = self.replace(&Scope { bundle, root: written, names: Vec::new() }, written, "", &mut errors);
        if errors.is_empty() { Ok(inlined) } else { Err(errors) }
    }

    fn replace(&self, scope: &Scope<'_>, written: &Value, pointer: &str, errors: &mut Vec<RefError>) -> Value {
        let Value::Object(object) = written else { return written.clone() };
        let mut copy = object.clone();
        // Definitions are reached by reference, through the root, and are of no use afterwards.
        for keyword in ["$defs", "$schema", "$id"] {
            copy.remove(keyword);
        }
        let mut copy = Value::Object(copy);
        let below: Vec<String> = schema::subschemas(&copy).into_iter().map(|(below, _)| below).collect();
        for below in below {
            let inner = copy.pointer(&below).expect("just listed").clone();
            // Errors inside a shared type are told at the reference that led there.
            let at = if scope.names.is_empty() { format!("{pointer}{below}") } else { pointer.to_owned() };
            let replaced = self.replace(scope, &inner, &at, errors);
            *copy.pointer_mut(&below).expect("just listed") = replaced;
        }
        let Value::Object(mut copy) = copy else { unreachable!("made of an object above") };
        let Some(reference) = copy.remove("$ref") else { return Value::Object(copy) };
        let at = if scope.names.is_empty() { format!("{pointer}/$ref") } else { pointer.to_owned() };
        match self.named(scope, &reference, &at, errors) {
            Some(named) => join(named, copy),
            None => Value::Bool(true),
        }
    }

    fn named(&self, scope: &Scope<'_>, reference: &Value, at: &str, errors: &mut Vec<RefError>) -> Option<Value> {
        let mut fail = |code: &'static str, message: String| {
            errors.push(RefError { pointer: at.to_owned(), code, message });
            None
        };
        let Some(text) = reference.as_str() else {
            return fail("unknown-type", format!("`$ref` must be text, not {reference}"));
        };
        let (bundle, root, target) = match text.strip_prefix('#') {
            Some(local) => match scope.root.pointer(local) {
                Some(target) => (scope.bundle, scope.root, target),
                None => return fail("unknown-type", format!("there is no `{text}` in this schema")),
            },
            None => match self.find(scope.bundle, text) {
                Some((bundle, target)) => (bundle, target, target),
                None => return fail("unknown-type", self.unknown(text)),
            },
        };
        let name = if text.starts_with('#') {
            format!("{}{text}", scope.names.last().map_or("", String::as_str))
        } else {
            format!("{bundle}:{text}")
        };
        if scope.names.contains(&name) {
            let trail: Vec<&str> = scope.names.iter().chain([&name]).map(String::as_str).collect();
            return fail("recursive-type", format!("types may not contain themselves: {}", trail.join(" > ")));
        }
        let names = scope.names.iter().cloned().chain([name]).collect();
        Some(self.replace(&Scope { bundle, root, names }, target, at, errors))
    }

    /// `types/NAME` or `interfaces/NAME` is of the own bundle, else of core; `BUNDLE:…` of another.
    fn find<'a>(&'a self, bundle: &'a str, text: &'a str) -> Option<(&'a str, &'a Value)> {
        let in_bundle = |bundle: &'a str, name: &str| Some((bundle, self.by_bundle.get(bundle)?.get(name)?));
        match text.split_once(':') {
            Some((other, name)) => in_bundle(other, name),
            None => in_bundle(bundle, text).or_else(|| in_bundle("core", text)),
        }
    }

    fn unknown(&self, text: &str) -> String {
        match text.split_once(':') {
            Some((bundle, _)) if !self.by_bundle.contains_key(bundle) => {
                format!("`{text}` names a bundle that is not loaded")
            }
            _ if text.contains("types/") || text.contains("interfaces/") => format!("there is no schema `{text}`"),
            _ => format!("`{text}` is neither `types/NAME` nor `interfaces/NAME`"),
        }
    }
}

struct Scope<'a> {
    bundle: &'a str,
    root: &'a Value,
    /// What was gone through to get here.
    names: Vec<String>,
}

/// What is named, together with the keywords beside the reference. Prose beside it wins over prose in it.
fn join(named: Value, beside: Map<String, Value>) -> Value {
    const PROSE: [&str; 5] = ["title", "description", "$comment", "examples", "default"];
    let (prose, rules): (Map<String, Value>, Map<String, Value>) =
        beside.into_iter().partition(|(key, _)| PROSE.contains(&key.as_str()));
    let mut whole = match named {
        Value::Object(object) if rules.is_empty() => object,
        Value::Bool(true) => rules,
        named if rules.is_empty() && prose.is_empty() => return named,
        named if rules.is_empty() => Map::from_iter([("allOf".to_owned(), json!([named]))]),
        named => Map::from_iter([("allOf".to_owned(), json!([named, rules]))]),
    };
    whole.extend(prose);
    Value::Object(whole)
}

/// An interface as outputs: every property of the schema must be there.
pub(crate) fn outputs_of(interface: &Value) -> BTreeMap<String, Value> {
    let properties = interface.get("properties").and_then(Value::as_object);
    properties.into_iter().flatten().map(|(name, schema)| (name.clone(), schema.clone())).collect()
}

/// An interface as the schema of all its outputs together, cut down to them.
pub(crate) fn whole(interface: &Value) -> Value {
    let mut whole = interface.clone();
    let names: Vec<String> = outputs_of(interface).into_keys().collect();
    if let Value::Object(object) = &mut whole {
        object.insert("type".to_owned(), json!("object"));
        object.insert("required".to_owned(), json!(names));
        object.insert("additionalProperties".to_owned(), json!(false));
    }
    whole
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Types;

    fn types() -> Types {
        let mut types = Types::default();
        types.add(
            "core",
            "types/port",
            json!({"$schema": "x", "title": "a port", "type": "integer", "maximum": 65535}),
        );
        types.add(
            "core",
            "types/pair",
            json!({"type": "array", "items": {"$ref": "#/$defs/one"}, "$defs": {"one": {"$ref": "types/port"}}}),
        );
        types.add("core", "types/tree", json!({"type": "array", "items": {"$ref": "types/leaf"}}));
        types.add("core", "types/leaf", json!({"anyOf": [{"type": "null"}, {"$ref": "types/tree"}]}));
        types.add("etcd", "types/port", json!({"const": 2379}));
        types
    }

    #[test]
    fn references_are_replaced() {
        let types = types();
        let port = json!({"title": "a port", "type": "integer", "maximum": 65535});
        assert_eq!(types.inline("x", &json!({"$ref": "types/port"})), Ok(port.clone()));
        assert_eq!(
            types.inline("etcd", &json!({"$ref": "types/port"})),
            Ok(json!({"const": 2379})),
            "own bundle first"
        );
        assert_eq!(types.inline("x", &json!({"$ref": "etcd:types/port"})), Ok(json!({"const": 2379})));
        assert_eq!(types.inline("x", &json!({"$ref": "types/pair"})), Ok(json!({"type": "array", "items": port})));
        assert_eq!(
            types.inline("x", &json!({"$ref": "types/port", "minimum": 1024, "description": "d"})),
            Ok(json!({"allOf": [port, {"minimum": 1024}], "description": "d"}))
        );
        let named_ref = json!({"type": "object", "properties": {"$ref": {"type": "string"}}, "default": {"$ref": "x"}});
        assert_eq!(types.inline("x", &named_ref), Ok(named_ref), "only schemas are looked into");
    }

    #[test]
    fn references_that_lead_nowhere_are_told_where() {
        let written = json!({"properties": {"a": {"$ref": "types/prot"}, "b": {"items": {"$ref": "types/tree"}}, "c": {"$ref": "no:types/x"}}});
        let errors = types().inline("x", &written).expect_err("three");
        let told: Vec<_> =
            errors.iter().map(|error| format!("{} {} {}", error.pointer, error.code, error.message)).collect();
        assert_eq!(
            told,
            [
                "/properties/a/$ref unknown-type there is no schema `types/prot`",
                "/properties/b/items/$ref recursive-type types may not contain themselves: core:types/tree > core:types/leaf > core:types/tree",
                "/properties/c/$ref unknown-type `no:types/x` names a bundle that is not loaded",
            ]
        );
    }
}
