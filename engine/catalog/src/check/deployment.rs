//! One deployment, by itself and against the workload it names.

use engine_core::document::workload::GroupDoc;
use engine_core::document::{BindNodes, DeploymentDoc};
use engine_core::schedule::Schedule;
use engine_core::schema::validate;
use serde_json::Value;

use super::text;
use crate::load::Sources;
use crate::report::{Report, known};

/// What can be said without a catalog.
pub(crate) fn alone(doc: &DeploymentDoc, report: &Report<'_>) {
    text::duration(doc.expires_in.as_ref(), "/expires_in", report);
    let schedule = doc.check.as_ref().and_then(|check| check.schedule.as_deref());
    if let Some(Err(error)) = schedule.map(Schedule::parse) {
        let expected = "minute, hour, day, month and weekday, such as `0 3 * * *`".to_owned();
        report.wrong("bad-schedule", "/check/schedule", error.to_string(), expected);
    }
}

/// What can be said with a catalog.
pub(crate) fn check(doc: &DeploymentDoc, sources: &Sources, report: &Report<'_>) {
    let Some(workload) = sources.workloads.get(&doc.workload) else {
        let all = known(sources.workloads.keys().map(String::as_str));
        report.wrong("unknown-workload", "/workload", format!("there is no workload `{}`", doc.workload), all);
        return;
    };
    let workload = &workload.doc;
    for (name, bound) in &doc.nodes {
        let pointer = format!("/nodes/{name}");
        match workload.groups.get(name) {
            None => {
                let groups = known(workload.groups.keys().map(String::as_str));
                report.wrong_key(
                    "unknown-group",
                    &pointer,
                    format!("the workload `{}` has no group `{name}`", doc.workload),
                    groups,
                );
            }
            Some(group) => count(group, bound, &pointer, report),
        }
    }
    for name in workload
        .groups
        .iter()
        .filter(|(name, group)| group.count.minimum > 0 && !doc.nodes.contains_key(*name))
        .map(|(name, _)| name)
    {
        report.wrong(
            "too-few-nodes",
            "",
            format!("the group `{name}` of the workload gets no nodes"),
            format!("`{name}` under `nodes`"),
        );
    }
    if !workload.parameters.is_null() {
        report.problems("/parameters", validate(&workload.parameters, &Value::Object(doc.parameters.clone())));
    } else if let Some(name) = doc.parameters.keys().next() {
        report.error(
            "unknown-key",
            &format!("/parameters/{name}"),
            format!("the workload `{}` has no parameters", doc.workload),
        );
    }
    for name in doc.set.groups.keys().filter(|name| !workload.groups.contains_key(*name)) {
        let groups = known(workload.groups.keys().map(String::as_str).chain(["deployment", "nodes"]));
        report.wrong_key("unknown-group", &format!("/set/{name}"), format!("there is no group `{name}`"), groups);
    }
    for name in workload.imports.keys().filter(|name| !doc.imports.contains_key(*name)) {
        report.error("missing-import", "", format!("nothing is said about the import `{name}` of the workload"));
    }
}

fn count(group: &GroupDoc, bound: &BindNodes, pointer: &str, report: &Report<'_>) {
    let (given, pointer) = match bound {
        BindNodes::Names(names) => (u32::try_from(names.len()).ok(), pointer.to_owned()),
        BindNodes::Create(create) => (create.count, format!("{pointer}/count")),
        // As many as match.
        BindNodes::Select(select) if select.join && select.count.is_none() => return,
        BindNodes::Select(select) => (select.count, format!("{pointer}/count")),
    };
    let Some(number) = given.or(group.count.default) else {
        report.wrong("missing-key", &pointer, "how many nodes? The group has no default", "`count`");
        return;
    };
    let rule = &group.count;
    if number < rule.minimum {
        report.wrong(
            "too-few-nodes",
            &pointer,
            format!("{number} nodes are too few"),
            format!("at least {}", rule.minimum),
        );
    }
    if let Some(maximum) = rule.maximum.filter(|maximum| number > *maximum) {
        report.wrong("too-many-nodes", &pointer, format!("{number} nodes are too many"), format!("at most {maximum}"));
    }
    if rule.odd && number % 2 == 0 {
        report.wrong(
            "wrong-value",
            &pointer,
            format!("{number} is not odd, which the group asks for"),
            "an odd number",
        );
    }
}
