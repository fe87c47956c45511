//! One role, and the names that it mentions.

use std::collections::BTreeSet;

use engine_core::document::{At, RoleDoc, Runs, Scope, Step, Wire};
use engine_core::driver;
use engine_core::schema::{Fit, check as check_schema, fit, validate};
use serde_json::{Value, json};

use super::{files, templates, text, uses, wires};
use crate::load::{RoleSource, Sources};
use crate::report::{Report, known};

/// Checks a role; presets are merged already.
pub(crate) fn check(role: &RoleSource, sources: &Sources, report: &Report<'_>) {
    let doc = &role.doc;
    if doc.role != role.folder {
        report.wrong(
            "name-mismatch",
            "/role",
            format!("the role `{}` stands in the folder `{}`", doc.role, role.folder),
            format!("`{}`", role.folder),
        );
    }
    text::version(&doc.version, "/version", report);
    if doc.is.is_some() {
        only_preset_keys(role, report);
        return;
    }
    text::duration(doc.timeout.as_ref(), "/timeout", report);
    text::duration(doc.retry.as_ref().and_then(|retry| retry.backoff.as_ref()), "/retry/backoff", report);
    place(doc, report);
    for (key, list) in [("requires", &doc.requires), ("precedes", &doc.precedes), ("conflicts", &doc.conflicts)] {
        names_exist(list, &format!("/{key}"), sources, report);
    }
    inputs(doc, sources, report);
    uses::check(role, sources, report);
    outputs(doc, report);
    if doc.at == At::Engine {
        for misfit in driver::misfits(doc) {
            report.wrong(misfit.code, &misfit.pointer, misfit.message, misfit.expected);
        }
    }
    provides(doc, sources, report);
    files::check(role, report);
    templates::check(role, report);
}

/// The actions of a role that have steps.
pub(crate) fn actions(doc: &RoleDoc) -> impl Iterator<Item = (&'static str, &[Step])> {
    [("apply", &doc.apply), ("check", &doc.check), ("remove", &doc.remove), ("remove_only", &doc.remove_only)]
        .into_iter()
        .filter_map(|(name, steps)| Some((name, steps.as_deref()?)))
}

/// The name under which later steps see the result: `as` beside the step or in it.
pub(crate) fn saved(step: &Step) -> Option<&str> {
    step.save.as_deref().or_else(|| step.args.get("as")?.as_str().filter(|_| step.kind != "output"))
}

fn only_preset_keys(role: &RoleSource, report: &Report<'_>) {
    const ALLOWED: [&str; 6] = ["role", "version", "about", "is", "with", "milestone"];
    for key in report.spans.keys_of("").filter(|key| !ALLOWED.contains(key)) {
        let message = format!("a preset takes `{key}` from `{}`", role.doc.is.as_deref().unwrap_or_default());
        report.wrong_key("unknown-key", &format!("/{key}"), message, known(ALLOWED));
    }
}

/// Who performs it, and where.
fn place(doc: &RoleDoc, report: &Report<'_>) {
    if !doc.with.is_empty() {
        report.wrong_key("unknown-key", "/with", "`with` belongs to a preset", "`is: ROLE` beside it");
    }
    let Some(runs) = doc.runs else {
        report.wrong("missing-key", "", "`runs` is missing", "`runs: node` or `runs: deployment`");
        return;
    };
    match (&doc.at, &doc.driver) {
        (At::Engine, None) => {
            report.wrong("missing-driver", "/at", "nothing says what the engine is to do", "a `driver`")
        }
        (At::OwnNode | At::One { .. }, Some(driver)) => {
            report.wrong(
                "wrong-place",
                "/driver",
                format!("the driver `{driver}` works in the engine"),
                "`at: engine` beside it",
            );
        }
        _ => {}
    }
    if runs == Runs::Deployment && doc.at == At::OwnNode && doc.apply.is_some() {
        let message = "a role that runs once for the deployment has no node of its own for its steps";
        report.wrong("wrong-place", "/apply", message, "`at: one ROLE`, or a `driver` with `at: engine`");
    }
    let steps = actions(doc).next();
    if let (Some(_), Some((action, _))) = (&doc.driver, steps) {
        report.error(
            "wrong-place",
            &format!("/{action}"),
            "a driver brings apply, check and remove; steps beside it would never run",
        );
    }
    if doc.driver.is_none()
        && doc.apply.is_none()
        && let Some((action, _)) = steps
    {
        report.wrong(
            "missing-key",
            &format!("/{action}"),
            "there is nothing to check or remove without `apply`",
            "`apply` beside it",
        );
    }
    if let (Some(_), Some(_)) = (&doc.remove, &doc.remove_only) {
        report.error("two-sources", "/remove_only", "`remove` and `remove_only` exclude each other");
    }
}

/// Does every name stand for a role or an interface?
pub(crate) fn names_exist(names: &[String], pointer: &str, sources: &Sources, report: &Report<'_>) {
    for (index, name) in names.iter().enumerate() {
        let is_known = sources.roles.contains_key(name)
            || sources.interfaces.contains_key(name)
            || sources.unreadable.contains(name);
        if !is_known {
            let at = if pointer.ends_with("/role") { pointer.to_owned() } else { format!("{pointer}/{index}") };
            let all = sources.roles.keys().chain(sources.interfaces.keys()).map(String::as_str);
            report.wrong("unknown-role", &at, format!("there is no role or interface `{name}`"), known(all));
        }
    }
}

fn inputs(doc: &RoleDoc, sources: &Sources, report: &Report<'_>) {
    let site = wires::Site { sources, user: Some(doc), reader: doc, report };
    for (name, input) in &doc.inputs {
        let pointer = format!("/inputs/{name}");
        if let Some(wire) = &input.from {
            wires::check(&site, wire, &format!("{pointer}/from"), Some(&input.schema));
            own_wire(doc, wire, &format!("{pointer}/from"), report);
        }
        if let Some(default) = &input.default {
            if input.from.is_some() {
                let message = "an input that is fed by a wire takes no default";
                report.error("two-sources", &format!("{pointer}/default"), message);
            }
            if check_schema(&input.schema).is_ok() {
                report.problems(&format!("{pointer}/default"), validate(&input.schema, default));
            }
        }
    }
    if let At::One { role, .. } = &doc.at
        && !sources.roles.contains_key(role)
        && !sources.unreadable.contains(role)
    {
        report.wrong(
            "unknown-role",
            "/at",
            format!("there is no role `{role}`"),
            known(sources.roles.keys().map(String::as_str)),
        );
    }
}

fn own_wire(doc: &RoleDoc, wire: &str, pointer: &str, report: &Report<'_>) {
    let Ok(wire) = wire.parse::<Wire>() else { return };
    if wire.supplier == doc.role && matches!(wire.scope, Scope::Own) {
        report.error("cycle", pointer, format!("`{}` reads its own output", doc.role));
    }
    if doc.runs == Some(Runs::Deployment) && wire.reads_node() && wire.scope == Scope::Own {
        let message = format!("`{}` runs once for the deployment: which node's `{wire}`?", doc.role);
        report.wrong("missing-scope", pointer, message, format!("`each {wire}` or `map {wire}`"));
    }
}

fn outputs(doc: &RoleDoc, report: &Report<'_>) {
    let set = set_by_steps(doc, report);
    for (name, output) in &doc.outputs {
        let pointer = format!("/outputs/{name}");
        match (&output.value, &set) {
            (Some(_), Some(set)) if set.contains(name.as_str()) => {
                report.error("two-sources", &pointer, format!("`{name}` has a `value` and is set by a step"));
            }
            (None, Some(set)) if !set.contains(name.as_str()) && doc.driver.is_none() => {
                report.wrong_key(
                    "output-not-set",
                    &pointer,
                    format!("nothing sets the output `{name}`"),
                    "a `value`, or an `output` step",
                );
            }
            (Some(value), _) if !uses::has_template(value) && check_schema(&output.schema).is_ok() => {
                report.problems(&format!("{pointer}/value"), validate(&output.schema, value));
            }
            _ => {}
        }
    }
    let Some(renew_at) = &doc.renew_at else { return };
    match doc.outputs.get(renew_at) {
        None => {
            let outputs = known(doc.outputs.keys().map(String::as_str));
            report.wrong("unknown-output", "/renew_at", format!("there is no output `{renew_at}`"), outputs);
        }
        Some(output) => {
            if let Fit::DoesNotFit { .. } = fit(&output.schema, &json!({"type": "string", "format": "date-time"})) {
                report.wrong(
                    "wrong-type",
                    "/renew_at",
                    format!("the output `{renew_at}` is not a time"),
                    "{type: string, format: date-time}",
                );
            }
        }
    }
}

/// The outputs that steps set: `output` by name, `run` without `as` by the properties of its `output.schema`. None when an
/// `output` step is given an object that is known only at the run.
fn set_by_steps<'d>(doc: &'d RoleDoc, report: &Report<'_>) -> Option<BTreeSet<&'d str>> {
    let mut set = BTreeSet::new();
    for (action, steps) in actions(doc) {
        for (index, step) in steps.iter().enumerate() {
            let (values, below) = match step.kind.as_str() {
                "output" => (Some(&step.args), "output"),
                "run" if saved(step).is_none() => {
                    (step.args.pointer("/output/schema/properties"), "run/output/schema/properties")
                }
                _ => (None, ""),
            };
            let Some(values) = values else { continue };
            let Value::Object(values) = values else { return None };
            for name in values.keys() {
                let pointer = format!("/{action}/{index}/{below}/{name}");
                if action != "apply" {
                    report.wrong_key("wrong-place", &pointer, "only `apply` sets outputs", "the step under `apply`");
                } else if doc.outputs.contains_key(name) {
                    set.insert(name.as_str());
                } else {
                    let outputs = known(doc.outputs.keys().map(String::as_str));
                    report.wrong_key("unknown-output", &pointer, format!("`{name}` is not a declared output"), outputs);
                }
            }
        }
    }
    Some(set)
}

fn provides(doc: &RoleDoc, sources: &Sources, report: &Report<'_>) {
    for (index, name) in doc.provides.iter().enumerate() {
        let pointer = format!("/provides/{index}");
        let Some(wanted) = sources.interfaces.get(name) else {
            let all = known(sources.interfaces.keys().map(String::as_str));
            report.wrong("unknown-interface", &pointer, format!("there is no interface `{name}`"), all);
            continue;
        };
        for (output, schema) in wanted {
            match doc.outputs.get(output) {
                None => {
                    report.wrong(
                        "interface-not-met",
                        &pointer,
                        format!("the interface `{name}` has an output `{output}`, this role has none"),
                        format!("an output `{output}`"),
                    );
                }
                Some(own) => {
                    if let Fit::DoesNotFit { place, reason } = fit(&own.schema, schema) {
                        let place = if place.is_empty() { String::new() } else { format!(" at {place}") };
                        report.error(
                            "interface-not-met",
                            &format!("/outputs/{output}/schema"),
                            format!("it does not fit the output `{output}` of the interface `{name}`: {reason}{place}"),
                        );
                    }
                }
            }
        }
    }
}
