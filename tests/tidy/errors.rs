//! Every code that a person can see has a section under docs/errors, and docs/ERRORS.md lists them all.

use std::collections::{BTreeMap, BTreeSet};

use crate::{files, none, read, root, shown, sources};

/// Code to the pages that describe it.
fn documented() -> BTreeMap<String, Vec<String>> {
    let mut codes: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for page in files("docs/errors", ".md") {
        let name = page.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
        for line in read(&page).lines() {
            if let Some(code) = line.strip_prefix("## ") {
                codes.entry(code.trim().trim_matches('`').to_owned()).or_default().push(name.clone());
            }
        }
    }
    codes
}

fn index() -> String {
    let mut text = String::from(
        "# Errors\n\nEvery error has a stable code in brackets. Its page says what causes it and what to do.\n\n| code | page |\n| --- | --- |\n",
    );
    for (code, pages) in documented() {
        let links: Vec<String> =
            pages.iter().map(|page| format!("[{}](errors/{page}#{code})", page.trim_end_matches(".md"))).collect();
        text += &format!("| `{code}` | {} |\n", links.join(", "));
    }
    text
}

/// `PLINTH_UPDATE=1 cargo test -p tests --test tidy` writes it.
#[test]
fn the_index_of_errors_is_up_to_date() {
    let path = root().join("docs/ERRORS.md");
    if std::env::var_os("PLINTH_UPDATE").is_some() {
        std::fs::write(&path, index()).expect("docs/ERRORS.md is written");
    }
    assert!(read(&path) == index(), "docs/ERRORS.md is not what docs/errors/*.md makes; PLINTH_UPDATE=1 writes it");
}

/// Codes in `fn code(…)` bodies and in diagnostics.
fn used() -> BTreeSet<(String, String)> {
    let mut codes = BTreeSet::new();
    for path in sources() {
        let shown = shown(&path);
        if shown.starts_with("tests/") || shown.contains("/tests/") || shown.ends_with("testing.rs") {
            continue;
        }
        let text = read(&path);
        let text = text.split("#[cfg(test)]").next().unwrap_or_default();
        for rest in text.split("fn code(").skip(1) {
            let body = rest.split("\n    }\n").next().unwrap_or_default();
            codes.extend(quoted(body.split("=> ").skip(1)).map(|code| (code, shown.clone())));
        }
        let after = text.split("Diagnostic::error(").skip(1).map(str::trim_start);
        codes.extend(quoted(after).map(|code| (code, shown.clone())));
    }
    codes
}

fn quoted<'a>(texts: impl Iterator<Item = &'a str>) -> impl Iterator<Item = String> {
    texts.filter_map(|text| text.strip_prefix('"')?.split('"').next()).filter(|code| is_code(code)).map(str::to_owned)
}

fn is_code(text: &str) -> bool {
    text.contains('-') && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

#[test]
fn every_code_is_documented() {
    let documented = documented();
    let used = used();
    assert!(used.len() > 50, "only {} codes were found: the search is broken", used.len());
    let missing: Vec<String> = used
        .into_iter()
        .filter(|(code, _)| !documented.contains_key(code))
        .map(|(code, place)| format!("{code} ({place})"))
        .collect();
    none("codes without a section under docs/errors", &missing);
}
