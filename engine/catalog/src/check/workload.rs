//! One workload: groups, milestones, parameters, choices, exports.

use std::collections::BTreeSet;

use engine_core::document::workload::Choice;
use engine_core::document::{BoundRole, Runs, Wire, WorkloadDoc};
use engine_core::schema::{Reach, check as check_schema, schema_at, validate};
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
    if let Err(error) = check_schema(&doc.parameters)
        && !doc.parameters.is_null()
    {
        report.error(error.code(), &format!("/parameters{}", error.pointer), error.message.clone());
    }
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

/// Parameters that nobody reads.
fn parameters(doc: &WorkloadDoc, report: &Report<'_>) {
    let declared = doc.parameters.get("properties").and_then(Value::as_object);
    let mut texts = Vec::new();
    doc.roles.values().flatten().flat_map(|bound| bound.with.values()).for_each(|value| strings(value, &mut texts));
    for name in declared.into_iter().flat_map(|all| all.keys()) {
        if !texts.iter().any(|text| reads_parameter(text, name)) {
            report.warning(
                "unused-parameter",
                &format!("/parameters/properties/{name}"),
                format!("nothing reads the parameter `{name}`"),
            );
        }
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

fn reads_parameter(text: &str, name: &str) -> bool {
    text.match_indices("parameters").any(|(at, word)| {
        let rest = text[at + word.len()..].trim_start();
        let dotted = rest.strip_prefix('.').and_then(|rest| rest.strip_prefix(name));
        let after = |rest: &str| !rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
        dotted.is_some_and(after)
            || rest.starts_with(&format!("['{name}']"))
            || rest.starts_with(&format!("[\"{name}\"]"))
    })
}
