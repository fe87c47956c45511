//! The reference of documents is made from the schemas, so that it can not say anything else.

use std::fmt::Write as _;

use serde_json::Value;

use crate::{read, root};

const KINDS: [&str; 10] =
    ["deployment", "workload", "role", "step", "node", "bundle", "profile", "policy", "rule", "budget"];

/// `PLINTH_UPDATE=1` with this test writes the pages.
#[test]
fn the_reference_of_documents_is_what_the_schemas_say() {
    for kind in KINDS {
        let schema = read(&root().join(format!("schemas/{kind}.json")));
        let schema: Value = serde_json::from_str(&schema).expect("JSON");
        let page = page(&schema);
        assert!(page.matches("\n| ").count() > 4, "{kind}: a page without keys");
        let path = root().join(format!("docs/reference/{kind}.md"));
        if std::env::var_os("PLINTH_UPDATE").is_some() {
            std::fs::write(&path, &page).expect("a page");
        }
        assert!(path.exists() && read(&path) == page, "docs/reference/{kind}.md is not what schemas/{kind}.json says");
    }
}

fn page(schema: &Value) -> String {
    let text = |key: &str| schema[key].as_str().unwrap_or_default();
    let mut page = format!("# {}\n\n{}\n\n", text("title"), text("description"));
    page += "| key | form | meaning |\n| --- | --- | --- |\n";
    rows(schema, schema, "", &mut page);
    page
}

/// A row for each key, then those below it.
fn rows(whole: &Value, schema: &Value, below: &str, page: &mut String) {
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, value) in schema["properties"].as_object().into_iter().flatten() {
        let said = value;
        let value = followed(whole, value);
        let path = format!("{below}{name}");
        let mut meaning = said["description"].as_str().or(value["description"].as_str()).unwrap_or_default().to_owned();
        if required.contains(&name.as_str()) {
            meaning += " **Required.**";
        }
        if let Some(default) = said.get("default").or(value.get("default")) {
            let _ = write!(meaning, " Default: `{default}`.");
        }
        let _ = writeln!(page, "| `{path}` | {} | {} |", cell(&form(whole, value)), cell(meaning.trim()));
        inside(whole, value, &path, page);
    }
}

fn inside(whole: &Value, value: &Value, path: &str, page: &mut String) {
    rows(whole, value, &format!("{path}."), page);
    for (key, below) in [("items", format!("{path}[].")), ("additionalProperties", format!("{path}.NAME."))] {
        let item = followed(whole, &value[key]);
        rows(whole, item, &below, page);
        alternatives(whole, item, &below, page);
    }
    alternatives(whole, value, &format!("{path}."), page);
}

fn alternatives(whole: &Value, value: &Value, below: &str, page: &mut String) {
    for choice in ["oneOf", "anyOf"].iter().filter_map(|key| value[*key].as_array()).flatten() {
        rows(whole, followed(whole, choice), below, page);
    }
}

/// What a reference inside of the document names.
fn followed<'a>(whole: &'a Value, value: &'a Value) -> &'a Value {
    let named = value["$ref"].as_str().and_then(|name| name.strip_prefix('#'));
    named.and_then(|pointer| whole.pointer(pointer)).unwrap_or(value)
}

fn form(whole: &Value, value: &Value) -> String {
    if let Some(title) = value["title"].as_str() {
        return title.to_owned();
    }
    if let Some(words) = value["enum"].as_array() {
        return words
            .iter()
            .map(|word| format!("`{}`", word.as_str().unwrap_or_default()))
            .collect::<Vec<_>>()
            .join(", ");
    }
    if let Some(all) = ["oneOf", "anyOf"].iter().find_map(|key| value[*key].as_array()) {
        let mut forms: Vec<String> = all.iter().map(|one| form(whole, followed(whole, one))).collect();
        forms.dedup();
        return forms.join(" or ");
    }
    match value["type"].as_str() {
        Some("array") => format!("list of {}", form(whole, followed(whole, &value["items"]))),
        Some("object") if value.get("properties").is_none() && value["additionalProperties"].is_object() => {
            format!("name to {}", form(whole, followed(whole, &value["additionalProperties"])))
        }
        Some("string") => match value["format"].as_str() {
            Some(format) => format!("text ({format})"),
            None => "text".to_owned(),
        },
        Some("boolean") => "`true` or `false`".to_owned(),
        Some("integer") => "whole number".to_owned(),
        Some(other) => other.to_owned(),
        None => "any value".to_owned(),
    }
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}
