//! Digests of values and of what a role is.
//!
//! A digest is SHA-256 over canonical JSON (keys sorted, no spaces), in hex. Two values have the same digest exactly
//! when they are the same JSON value, whatever order their keys were written in.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::document::{At, RoleDoc, Step};

/// SHA-256 of some bytes, in hex.
pub fn of_bytes(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// The digest of a value.
pub fn of(value: &Value) -> String {
    of_bytes(canonical(value).as_bytes())
}

/// Canonical JSON: keys sorted by their bytes, no spaces, whole floats as integers.
pub fn canonical(value: &Value) -> String {
    let mut text = String::new();
    write(value, &mut text);
    text
}

fn write(value: &Value, to: &mut String) {
    match value {
        Value::Array(items) => {
            to.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    to.push(',');
                }
                write(item, to);
            }
            to.push(']');
        }
        Value::Object(map) => {
            let sorted: BTreeMap<&String, &Value> = map.iter().collect();
            to.push('{');
            for (index, (key, item)) in sorted.into_iter().enumerate() {
                if index > 0 {
                    to.push(',');
                }
                to.push_str(&Value::String(key.clone()).to_string());
                to.push(':');
                write(item, to);
            }
            to.push('}');
        }
        Value::Number(number) => to.push_str(&canonical_number(number)),
        scalar => to.push_str(&scalar.to_string()),
    }
}

/// 1 and 1.0 are one JSON number, and Postgres may hand back either.
fn canonical_number(number: &serde_json::Number) -> String {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match number.as_f64() {
        Some(0.0) => "0".to_owned(),
        Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() < EXACT => format!("{float:.0}"),
        _ => number.to_string(),
    }
}

/// The content digest of a role: what a job of it would do, apart from the values of its inputs.
///
/// In it are `apply`, the executor (driver and `at`), the types of the inputs, the outputs (else a changed `value` would
/// reach nobody), and the bytes of the files. Not in it are prose, version, limits, wires and defaults of inputs, `check`, `remove`,
/// and files that only `check` and `remove` name.
pub fn content(doc: &RoleDoc, files: &BTreeMap<String, Vec<u8>>) -> String {
    let inputs: BTreeMap<&String, Value> =
        doc.inputs.iter().map(|(name, input)| (name, without_prose(&input.schema))).collect();
    let outputs: BTreeMap<&String, Value> = doc
        .outputs
        .iter()
        .map(|(name, output)| (name, json!({"schema": without_prose(&output.schema), "value": output.value})))
        .collect();
    let aside = named_only_aside(doc);
    let files: BTreeMap<&String, String> = files
        .iter()
        .filter(|(path, _)| !aside.contains(path.as_str()))
        .map(|(path, bytes)| (path, of_bytes(bytes)))
        .collect();
    of(&json!({
        "apply": doc.apply,
        "driver": doc.driver,
        "at": match &doc.at {
            At::OwnNode => json!("self"),
            At::Engine => json!("engine"),
            At::One { role, else_own_node } => json!({"one": role, "else_own_node": else_own_node}),
        },
        "inputs": inputs,
        "outputs": outputs,
        "files": files,
    }))
}

/// Files that `check`, `remove` or `remove_only` name and `apply` does not.
fn named_only_aside(doc: &RoleDoc) -> BTreeSet<String> {
    let apply: BTreeSet<String> = doc.apply.iter().flatten().flat_map(files_of).collect();
    let aside = [&doc.check, &doc.remove, &doc.remove_only].into_iter().flatten().flatten();
    aside.flat_map(files_of).filter(|path| !apply.contains(path)).collect()
}

/// The files that a step names, as `templates/X`, `files/X` or `scripts/X`. A name that is itself a template is given as it stands.
pub fn files_of(step: &Step) -> Vec<String> {
    [("template", "templates"), ("source", "files"), ("script", "scripts")]
        .into_iter()
        .filter_map(|(key, folder)| Some(format!("{folder}/{}", step.args.get(key)?.as_str()?)))
        .collect()
}

/// A schema without the keywords that only speak to people.
fn without_prose(schema: &Value) -> Value {
    const PROSE: [&str; 6] = ["title", "description", "$comment", "examples", "deprecated", "default"];
    crate::schema::map_schema(schema, &|mut object| {
        object.retain(|key, _| !PROSE.contains(&key.as_str()));
        object
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::{canonical, content, of};
    use crate::document::RoleDoc;

    fn role(value: Value) -> RoleDoc {
        serde_json::from_value(value).expect("a role")
    }

    fn base() -> Value {
        json!({
            "role": "x", "version": "1.0.0", "about": "a", "runs": "node",
            "inputs": {"port": {"schema": {"type": "integer", "description": "a port"}, "default": 1}},
            "outputs": {"url": {"schema": {"type": "string"}, "value": "http://{{ port }}"}},
            "apply": [{"file": {"path": "/x", "template": "x"}}],
            "check": [{"run": {"script": "probe.sh"}}],
        })
    }

    fn files() -> BTreeMap<String, Vec<u8>> {
        [("templates/x", "one"), ("scripts/probe.sh", "true")]
            .map(|(path, body)| (path.to_owned(), body.as_bytes().to_vec()))
            .into()
    }

    #[test]
    fn key_order_and_whole_floats_do_not_matter() {
        assert_eq!(canonical(&json!({"b": 1.0, "a": [null, "x\n", -0.0]})), r#"{"a":[null,"x\n",0],"b":1}"#);
        assert_ne!(of(&json!(1)), of(&json!("1")));
    }

    proptest! {
        #[test]
        fn what_people_read_changes_no_digest(
            about in ".*", version in "[0-9]\\.[0-9]\\.[0-9]", timeout in "[1-9]m",
            described in ".*", probe in ".*", default in any::<i64>(),
        ) {
            let mut changed = base();
            changed["about"] = json!(about);
            changed["version"] = json!(version);
            changed["timeout"] = json!(timeout);
            changed["retry"] = json!({"attempts": 3, "backoff": timeout});
            changed["inputs"]["port"]["about"] = json!(described);
            changed["inputs"]["port"]["schema"]["description"] = json!(described);
            changed["inputs"]["port"]["default"] = json!(default);
            changed["check"] = json!([{"run": {"text": probe}}, {"run": {"script": "probe.sh"}}]);
            changed["remove"] = json!([{"run": {"text": probe}}]);
            let mut bytes = files();
            bytes.insert("scripts/probe.sh".to_owned(), probe.into_bytes());
            prop_assert_eq!(content(&role(changed), &bytes), content(&role(base()), &files()));
        }
    }

    #[test]
    fn what_a_job_does_changes_the_digest() {
        let before = content(&role(base()), &files());
        for (pointer, value) in [
            ("/apply/0/file/path", json!("/y")),
            ("/inputs/port/schema/type", json!("number")),
            ("/outputs/url/value", json!("https://{{ port }}")),
        ] {
            let mut changed = base();
            *changed.pointer_mut(pointer).expect("there") = value;
            assert_ne!(content(&role(changed), &files()), before, "{pointer}");
        }
        for (key, value) in [("at", json!("one etcd")), ("driver", json!("pki.leaf"))] {
            let mut changed = base();
            changed[key] = value;
            assert_ne!(content(&role(changed), &files()), before, "{key}");
        }
        let mut bytes = files();
        bytes.insert("templates/x".to_owned(), b"two".to_vec());
        assert_ne!(content(&role(base()), &bytes), before);
    }
}
