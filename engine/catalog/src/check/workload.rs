//! One workload: groups, milestones, parameters, choices, exports.

use std::collections::BTreeSet;

use engine_core::document::workload::Choice;
use engine_core::document::{BoundRole, Runs, Wire, WorkloadDoc};
use engine_core::schema::{Reach, schema_at, validate};
use engine_core::template;
use serde_json::Value;

use super::{text, uses, wires};
use crate::load::{RoleSource, Sources, WorkloadSource};
use crate::report::{Report, known};

/// Checks a workload.
pub(crate) fn check(workload: &WorkloadSource, sources: &Sources, report: &Report<'_>) {
    let doc = &workload.doc;
    if doc.workload != workload.folder {
        let message = format!("the workload `{}` stands in the folder `{}`", doc.workload, workload.folder);
        report.wrong("name-mismatch", "/workload", message, format!("`{}`", workload.folder));
    }
    text::version(&doc.version, "/version", report);
    counts(doc, report);
    for (group, bound) in &doc.roles {
        let pointer = format!("/roles/{group}");
        if group != "deployment" && !doc.groups.contains_key(group) {
            let groups = known(doc.groups.keys().map(String::as_str).chain(["deployment"]));
            report.wrong_key("unknown-group", &pointer, format!("there is no group `{group}`"), groups);
        }
        let mut seen = BTreeSet::new();
        for (index, role) in bound.iter().enumerate() {
            let pointer = format!("{pointer}/{index}");
            if !seen.insert(role.role.as_str()) {
                report.error("duplicate-role", &pointer, format!("`{}` is bound to `{group}` twice", role.role));
            }
            milestone(doc, group, role, &pointer, sources, report);
        }
    }
    choices(doc, sources, report);
    exports(doc, sources, report);
    parameters(doc, report);
}

fn counts(doc: &WorkloadDoc, report: &Report<'_>) {
    for (name, group) in &doc.groups {
        let count = &group.count;
        let pointer = format!("/groups/{name}/count");
        if count.maximum.is_some_and(|maximum| maximum < count.minimum) {
            report.error("wrong-value", &pointer, format!("`maximum` is below `minimum`, {}", count.minimum));
        }
        let Some(default) = count.default else { continue };
        if default < count.minimum || count.maximum.is_some_and(|maximum| default > maximum) {
            report.error(
                "wrong-value",
                &format!("{pointer}/default"),
                format!("{default} is not between `minimum` and `maximum`"),
            );
        }
        if count.odd && default % 2 == 0 {
            report.error(
                "wrong-value",
                &format!("{pointer}/default"),
                format!("{default} is not odd, which the group asks for"),
            );
        }
    }
}

fn milestone(doc: &WorkloadDoc, group: &str, bound: &BoundRole, pointer: &str, sources: &Sources, report: &Report<'_>) {
    let name = &bound.role;
    let Some(role) = sources.roles.get(name) else {
        if !sources.unreadable.contains(name) {
            let milestones =
                sources.roles.values().filter(|role| role.doc.milestone).map(|role| role.doc.role.as_str());
            report.wrong("unknown-role", pointer, format!("there is no role `{name}`"), known(milestones));
        }
        return;
    };
    if role.broken {
        return;
    }
    if !role.doc.milestone {
        report.wrong(
            "not-a-milestone",
            pointer,
            format!("`{name}` is no milestone: others pull it in"),
            "`milestone: true` in the role",
        );
    }
    match (role.doc.runs, group) {
        (Some(Runs::Node), "deployment") => {
            let groups = known(doc.groups.keys().map(String::as_str));
            report.wrong(
                "wrong-group",
                pointer,
                format!("`{name}` runs on nodes"),
                format!("a group of nodes: {groups}"),
            );
        }
        (Some(Runs::Deployment), group) if group != "deployment" => {
            report.wrong("wrong-group", pointer, format!("`{name}` runs once for the deployment"), "`deployment`");
        }
        _ => {}
    }
    inputs(bound, role, &format!("{pointer}/{name}"), sources, report);
}

fn inputs(bound: &BoundRole, role: &RoleSource, pointer: &str, sources: &Sources, report: &Report<'_>) {
    let site = wires::Site { sources, user: None, reader: &role.doc, report };
    for (name, wire) in &bound.from {
        let pointer = format!("{pointer}/from/{name}");
        if uses::known_input(&role.doc, name, &pointer, report) {
            wires::check(&site, wire, &pointer, Some(&role.doc.inputs[name].schema));
        }
        if bound.with.contains_key(name) {
            report.error("two-sources", &pointer, format!("`{name}` stands under `from` and under `with`"));
        }
    }
    for (name, value) in &bound.with {
        let pointer = format!("{pointer}/with/{name}");
        if uses::known_input(&role.doc, name, &pointer, report) && !uses::has_template(value) {
            report.problems(&pointer, validate(&role.doc.inputs[name].schema, value));
        }
    }
}

fn choices(doc: &WorkloadDoc, sources: &Sources, report: &Report<'_>) {
    for (interface, choice) in &doc.choose {
        let pointer = format!("/choose/{interface}");
        if !sources.interfaces.contains_key(interface) {
            let all = known(sources.interfaces.keys().map(String::as_str));
            report.wrong_key("unknown-interface", &pointer, format!("there is no interface `{interface}`"), all);
            continue;
        }
        let chosen: Vec<(String, &String)> = match choice {
            Choice::Everywhere(role) => vec![(pointer, role)],
            Choice::ByGroup(groups) => {
                groups.iter().map(|(group, role)| (format!("{pointer}/{group}"), role)).collect()
            }
        };
        let provides = |role: &&RoleSource| role.doc.provides.contains(interface);
        for (pointer, role) in chosen {
            if sources.unreadable.contains(role) || sources.roles.get(role).as_ref().is_some_and(provides) {
                continue;
            }
            let providers = known(sources.roles.values().filter(provides).map(|role| role.doc.role.as_str()));
            report.wrong("unknown-role", &pointer, format!("no role `{role}` provides `{interface}`"), providers);
        }
    }
}

fn exports(doc: &WorkloadDoc, sources: &Sources, report: &Report<'_>) {
    for (name, export) in &doc.exports {
        let pointer = format!("/exports/{name}");
        let Ok(wire) = export.parse::<Wire>() else {
            report.wrong("bad-wire", &pointer, format!("`{export}` is not an output"), "ROLE.OUTPUT");
            continue;
        };
        let Some(role) = sources.roles.get(&wire.supplier) else {
            if !sources.unreadable.contains(&wire.supplier) {
                report.error("unknown-role", &pointer, format!("there is no role `{}`", wire.supplier));
            }
            continue;
        };
        let output = wire.output.as_deref().unwrap_or_default();
        match role.doc.outputs.get(output) {
            None if role.broken => {}
            None => {
                let outputs = known(role.doc.outputs.keys().map(String::as_str));
                report.wrong(
                    "unknown-output",
                    &pointer,
                    format!("`{}` has no output `{output}`", wire.supplier),
                    outputs,
                );
            }
            Some(found) => {
                if let Reach::Never(why) = schema_at(&found.schema, &wire.path) {
                    report.error("unknown-output", &pointer, format!("`{export}` leads nowhere: {why}"));
                }
            }
        }
    }
}

/// Parameters that are read and not declared, and those that are declared and not read.
fn parameters(doc: &WorkloadDoc, report: &Report<'_>) {
    let declared: BTreeSet<&str> = doc
        .parameters
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(name, _)| name.as_str())
        .collect();
    let mut read = BTreeSet::new();
    for (group, bound) in &doc.roles {
        for (index, role) in bound.iter().enumerate() {
            for (name, value) in &role.with {
                let pointer = format!("/roles/{group}/{index}/{}/with/{name}", role.role);
                let mut texts = Vec::new();
                strings(value, &mut texts);
                let names: BTreeSet<String> = texts.into_iter().flat_map(parameter_names).collect();
                for name in names.iter().filter(|name| !declared.contains(name.as_str())) {
                    let message = format!("the workload has no parameter `{name}`");
                    report.wrong("undefined-variable", &pointer, message, known(declared.iter().copied()));
                }
                read.extend(names);
                only_parameters(value, &pointer, report);
            }
        }
    }
    for name in declared.into_iter().filter(|name| !read.contains(*name)) {
        report.warning(
            "unused-parameter",
            &format!("/parameters/properties/{name}"),
            format!("nothing reads the parameter `{name}`"),
        );
    }
}

/// Templates of a workload see `parameters` and nothing else.
fn only_parameters(value: &Value, pointer: &str, report: &Report<'_>) {
    match template::undeclared_in_value(value) {
        Ok(names) => {
            for name in names.iter().filter(|name| *name != "parameters") {
                report.wrong(
                    "undefined-variable",
                    pointer,
                    format!("nothing called `{name}` can be seen here"),
                    "`parameters.NAME`",
                );
            }
        }
        Err(error) => report.error(error.code(), pointer, error.to_string()),
    }
}

fn strings<'v>(value: &'v Value, texts: &mut Vec<&'v str>) {
    match value {
        Value::String(text) => texts.push(text),
        Value::Array(items) => items.iter().for_each(|item| strings(item, texts)),
        Value::Object(object) => object.values().for_each(|item| strings(item, texts)),
        _ => {}
    }
}

/// `NAME` of every `parameters.NAME` and `parameters['NAME']` in the templates of a text.
fn parameter_names(text: &str) -> Vec<String> {
    if !template::is_template(text) {
        return Vec::new();
    }
    let named = |(at, word): (usize, &str)| {
        let rest = text[at + word.len()..].trim_start();
        let name = rest.strip_prefix('.').or_else(|| rest.strip_prefix("['")).or_else(|| rest.strip_prefix("[\""))?;
        let end = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(name.len());
        (end > 0).then(|| name[..end].to_owned())
    };
    text.match_indices("parameters").filter_map(named).collect()
}
