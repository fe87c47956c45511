//! Templates: does everything that they read exist?
//!
//! A step sees the declared inputs, the results that earlier steps of its action saved with `as`, and the item of its own
//! `for`. Outputs and `destroys` see the inputs.

use std::collections::BTreeSet;

use engine_core::diagnostic::Diagnostic;
use engine_core::document::Step;
use engine_core::template::{self, Syntax, TemplateError};
use serde_json::Value;

use super::files;
use super::role::{actions, saved};
use crate::load::RoleSource;
use crate::report::{Report, known};

/// Checks all templates of a role.
pub(crate) fn check(role: &RoleSource, report: &Report<'_>) {
    let inputs: BTreeSet<String> = role.doc.inputs.keys().cloned().collect();
    for (name, output) in &role.doc.outputs {
        if let Some(value) = &output.value {
            let pointer = format!("/outputs/{name}/value");
            let read = template::undeclared_in_value(value);
            if !output.secret {
                shown(role, read.as_ref().ok(), &pointer, report);
            }
            judge(read, &inputs, value, &pointer, report);
        }
    }
    for (index, path) in role.doc.destroys.iter().enumerate() {
        let pointer = format!("/destroys/{index}");
        let read = template::undeclared(path, Syntax::Plain);
        shown(role, read.as_ref().ok(), &pointer, report);
        judge(read, &inputs, &Value::Null, &pointer, report);
    }
    for (action, all) in actions(&role.doc) {
        let mut visible = inputs.clone();
        for (index, one) in all.iter().enumerate() {
            step(role, one, &format!("/{action}/{index}"), &visible, report);
            visible.extend(saved(one).map(str::to_owned));
        }
    }
}

/// What of a step ends on command lines, in names of things or in outputs that all may read: everything but the contents of files,
/// the texts of scripts, and outputs that are secret.
fn in_the_open(step: &Step, role: &RoleSource) -> Step {
    let Value::Object(args) = &step.args else { return step.clone() };
    let kept = |key: &str| match step.kind.as_str() {
        "file" => key == "content",
        "run" => key == "text",
        "output" => role.doc.outputs.get(key).is_some_and(|output| output.secret),
        _ => false,
    };
    let args = args.iter().filter(|(key, _)| !kept(key)).map(|(key, value)| (key.clone(), value.clone())).collect();
    Step { args: Value::Object(args), ..step.clone() }
}

/// Everybody sees what is made of these names: none of them may be secret.
fn shown(role: &RoleSource, read: Option<&BTreeSet<String>>, pointer: &str, report: &Report<'_>) {
    for name in read.into_iter().flatten() {
        if role.doc.inputs.get(name).is_some_and(|input| input.secret) {
            let message = format!("input `{name}` is secret, and what follows from it here is not");
            report.wrong("secret-exposed", pointer, message, "an output with `secret: true`, or another input");
        }
    }
}

fn step(role: &RoleSource, step: &Step, pointer: &str, visible: &BTreeSet<String>, report: &Report<'_>) {
    let mut inside = visible.clone();
    if let Some(each) = &step.each {
        let at = format!("{pointer}/for");
        match template::split_for(each) {
            Ok((item, expression)) => {
                inside.insert(item.to_owned());
                judge(template::undeclared_in_expression(expression), visible, &Value::Null, &at, report);
            }
            Err(error) => report.wrong(error.code(), &at, error.to_string(), "NAME in EXPRESSION"),
        }
    }
    if let Some(when) = &step.when {
        judge(template::undeclared_in_expression(when), &inside, &Value::Null, &format!("{pointer}/when"), report);
    }
    let bare = Step { when: None, each: None, ..step.clone() };
    let open = template::undeclared_in_step(&in_the_open(&bare, role));
    shown(role, open.as_ref().ok(), &format!("{pointer}/{}", step.kind), report);
    judge(template::undeclared_in_step(&bare), &inside, &step.args, &format!("{pointer}/{}", step.kind), report);
    for path in files::templates_of(role, step) {
        if let Some(Ok(text)) = role.files.get(&path).map(|bytes| std::str::from_utf8(bytes)) {
            file(role, &path, text, &inside, report);
        }
    }
}

/// Reports names that are not visible, at the text that reads them.
fn judge(
    names: Result<BTreeSet<String>, TemplateError>,
    visible: &BTreeSet<String>,
    within: &Value,
    pointer: &str,
    report: &Report<'_>,
) {
    match names {
        Ok(names) => {
            for name in names.difference(visible) {
                let at = format!("{pointer}{}", first_reader(within, name).unwrap_or_default());
                report.wrong(
                    "undefined-variable",
                    &at,
                    format!("nothing called `{name}` can be seen here"),
                    seen(visible),
                );
            }
        }
        Err(error) => report.error(error.code(), pointer, error.to_string()),
    }
}

fn seen(visible: &BTreeSet<String>) -> String {
    known(visible.iter().map(String::as_str))
}

/// JSON pointer of the first text in a value that has this word in it.
fn first_reader(value: &Value, name: &str) -> Option<String> {
    match value {
        Value::String(text) => word(text, name).map(|_| String::new()),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .find_map(|(index, item)| first_reader(item, name).map(|below| format!("/{index}{below}"))),
        Value::Object(object) => object.iter().find_map(|(key, item)| {
            first_reader(item, name).map(|below| format!("/{}{below}", crate::yaml::escape(key)))
        }),
        _ => None,
    }
}

/// Where a word first stands in a text by itself, as the number of bytes before it.
fn word(text: &str, name: &str) -> Option<usize> {
    let part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.match_indices(name)
        .map(|(at, _)| at)
        .find(|at| !text[..*at].ends_with(part) && !text[at + name.len()..].starts_with(part))
}

/// A template file: its findings point into it.
fn file(role: &RoleSource, path: &str, text: &str, visible: &BTreeSet<String>, report: &Report<'_>) {
    let folder = role.file.trim_end_matches("role.yaml");
    let tell = |code: &str, message: String, at: Option<usize>, expected: Option<String>| {
        let before = &text[..at.unwrap_or(0)];
        let mut found = Diagnostic::error(code, "", message).in_file(format!("{folder}{path}"));
        let small = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        found.line = Some(small(before.matches('\n').count() + 1));
        found.column = Some(small(before.rsplit('\n').next().unwrap_or_default().chars().count() + 1));
        found.expected = expected;
        report.elsewhere(found);
    };
    match template::undeclared(text, Syntax::Plain) {
        Ok(names) => {
            for name in names.difference(visible) {
                tell(
                    "undefined-variable",
                    format!("nothing called `{name}` can be seen here"),
                    word(text, name),
                    Some(seen(visible)),
                );
            }
        }
        Err(error) => tell(error.code(), error.to_string(), None, None),
    }
}
