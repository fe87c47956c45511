//! What sqlx remembers of queries is about the queries that are there: builds without a database work.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{files, read};

/// The texts of all checked queries in the store; of one that is put together from several literals, the first.
fn written() -> BTreeSet<String> {
    let mut texts = BTreeSet::new();
    for path in files("engine/store", ".rs") {
        let source = read(&path);
        for name in ["query!(", "query_as!(", "query_scalar!("] {
            for rest in source.split(&format!("sqlx::{name}")).skip(1) {
                texts.extend(literal(rest));
            }
        }
    }
    texts
}

/// The first string literal of a text.
fn literal(text: &str) -> Option<String> {
    let at = text.find('"')?;
    if text[..at].ends_with("r#") {
        return text[at + 1..].split("\"#").next().map(str::to_owned);
    }
    let mut value = String::new();
    let mut rest = text[at + 1..].chars();
    loop {
        match rest.next()? {
            '"' => return Some(value),
            '\\' => value.push(rest.next()?),
            other => value.push(other),
        }
    }
}

#[test]
fn what_sqlx_remembers_is_what_is_written() {
    let remembered: BTreeSet<String> = files(".sqlx", ".json")
        .iter()
        .map(|path| {
            serde_json::from_str::<Value>(&read(path)).expect("JSON")["query"].as_str().expect("text").to_owned()
        })
        .collect();
    let written = written();
    assert!(written.len() > 50, "only {} queries were found: the search is broken", written.len());
    let known = |text: &&String| remembered.iter().any(|all| all.starts_with(text.as_str()));
    let missing: Vec<&String> = written.iter().filter(|text| !known(text)).collect();
    let used = |all: &&String| written.iter().any(|text| all.starts_with(text.as_str()));
    let stray: Vec<&String> = remembered.iter().filter(|all| !used(all)).collect();
    assert!(
        missing.is_empty() && stray.is_empty(),
        "`make sqlx` renews them; missing: {missing:#?}, stray: {stray:#?}"
    );
}
