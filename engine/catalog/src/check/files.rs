//! The files beside a role: those that steps name must be there, those that are there should be named.

use std::collections::BTreeSet;

use engine_core::diagnostic::Diagnostic;
use engine_core::document::Step;

use super::role::actions;
use crate::bundle::Folder;
use crate::load::RoleSource;
use crate::report::{Report, known};

/// Which argument of a step names a file in which folder.
const NAMED: [(&str, &str); 3] = [("template", "templates"), ("source", "files"), ("script", "scripts")];

/// Files that a step names: argument, folder, and the name as written.
fn named(step: &Step) -> impl Iterator<Item = (&'static str, &'static str, &str)> {
    NAMED.into_iter().filter_map(|(argument, folder)| Some((argument, folder, step.args.get(argument)?.as_str()?)))
}

/// Checks the files of a role. A preset has those of the role it is.
pub(crate) fn check(role: &RoleSource, report: &Report<'_>) {
    if role.doc.is.is_some() {
        return;
    }
    let mut used = BTreeSet::new();
    for (action, steps) in actions(&role.doc) {
        for (index, step) in steps.iter().enumerate() {
            for (argument, folder, name) in named(step) {
                let pointer = format!("/{action}/{index}/{}/{argument}", step.kind);
                used.extend(look_up(role, folder, name, &pointer, report));
            }
        }
    }
    for unused in role.files.keys().filter(|path| !used.contains(path.as_str())) {
        report.warning("unused-file", "", format!("no step names roles/{}/{unused}", role.folder));
    }
}

/// The template files that a step renders, as far as they are there.
pub(crate) fn templates_of(role: &RoleSource, step: &Step) -> Vec<String> {
    let templates = named(step).filter(|(argument, ..)| *argument == "template");
    templates
        .filter_map(|(_, folder, name)| Some((folder, names_of(role, name).ok()?)))
        .flat_map(|(folder, names)| names.into_iter().map(move |name| format!("{folder}/{name}")))
        .collect()
}

/// The paths that a name may stand for; what is missing is reported.
fn look_up(role: &RoleSource, folder: &str, name: &str, pointer: &str, report: &Report<'_>) -> Vec<String> {
    if folder == "files" && (name.contains("://") || name.starts_with('/')) {
        return Vec::new();
    }
    if name.split('/').any(|part| part == ".." || part.is_empty()) {
        report.wrong(
            "missing-file",
            pointer,
            format!("`{name}` leads out of {folder}/"),
            format!("the name of a file in {folder}/"),
        );
        return Vec::new();
    }
    let candidates = match names_of(role, name) {
        Ok(names) => names.into_iter().map(|name| format!("{folder}/{name}")).collect(),
        Err(why) => {
            report.error("unknown-file", pointer, why);
            Vec::new()
        }
    };
    for path in &candidates {
        if !role.files.contains_key(path) {
            let there = role.files.keys().filter_map(|path| path.strip_prefix(folder)?.strip_prefix('/'));
            report.wrong(
                "missing-file",
                pointer,
                format!("there is no file roles/{}/{path}", role.folder),
                known(there),
            );
        }
    }
    candidates
}

/// A name that depends on an input is looked up for each value that the input can have.
fn names_of(role: &RoleSource, name: &str) -> Result<Vec<String>, String> {
    let Some((before, rest)) = name.split_once("{{") else { return Ok(vec![name.to_owned()]) };
    let (expression, after) = rest.split_once("}}").ok_or_else(|| format!("`{name}` is not a template"))?;
    let mut parts = expression.trim().split('.').map(str::to_owned);
    let input = parts.next().unwrap_or_default();
    let path: Vec<String> = parts.collect();
    let declared = role.doc.inputs.get(&input).ok_or_else(|| format!("`{input}` in `{name}` is not an input"))?;
    let reached = match engine_core::schema::schema_at(&declared.schema, &path) {
        engine_core::schema::Reach::Always(schema) | engine_core::schema::Reach::Maybe(schema) => schema,
        engine_core::schema::Reach::Never(why) => return Err(why),
    };
    let values = reached.get("enum").and_then(serde_json::Value::as_array).ok_or_else(|| {
        format!(
            "which file `{name}` is can not be told before the run: the schema of `{}` is no `enum`",
            expression.trim()
        )
    })?;
    let mut names = Vec::new();
    for value in values {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        names.extend(names_of(role, &format!("{before}{text}{after}"))?);
    }
    Ok(names)
}

/// Files in a bundle's folders that nothing reads.
pub(crate) fn stray(folder: &Folder) -> Vec<Diagnostic> {
    folder
        .files
        .keys()
        .filter(|path| !is_known(path))
        .map(|path| {
            Diagnostic::error("stray-file", "", "nothing reads this file here").warning().in_file(folder.display(path))
        })
        .collect()
}

fn is_known(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    match parts.as_slice() {
        ["bundle.yaml"] | [.., "README.md"] | ["roles", _, "role.yaml"] | ["workloads", _, "workload.yaml"] => true,
        ["roles", _, "templates" | "files" | "scripts" | "tests", ..] | ["workloads", _, "tests", ..] => true,
        ["schemas", "types" | "interfaces", name] | ["schemas", name] => name.ends_with(".json"),
        _ => false,
    }
}
