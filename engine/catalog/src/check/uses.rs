//! Private uses of other roles.

use engine_core::document::{RoleDoc, UseDoc};
use engine_core::schema::{Fit, fit, validate};
use serde_json::Value;

use super::wires;
use crate::load::{RoleSource, Sources};
use crate::report::{Report, known};

/// Checks every entry under `uses`.
pub(crate) fn check(user: &RoleSource, sources: &Sources, report: &Report<'_>) {
    for (local, used) in &user.doc.uses {
        let pointer = format!("/uses/{local}");
        // What other bundles have is not known to whoever wrote this one; a local name means what is local anyway.
        let own = |role: &RoleSource| role.bundle == user.bundle || role.bundle == "core";
        if sources.roles.get(local).is_some_and(own) {
            let message = format!("`{local}` is also the name of a role: which of the two would a wire mean?");
            report.wrong_key("name-clash", &pointer, message, "a local name that is no role");
        }
        super::role::names_exist(&used.requires, &format!("{pointer}/requires"), sources, report);
        match sources.roles.get(&used.role) {
            Some(role) if !role.broken => inputs(user, used, &role.doc, &pointer, sources, report),
            Some(_) => {}
            None => {
                super::role::names_exist(std::slice::from_ref(&used.role), &format!("{pointer}/role"), sources, report)
            }
        }
    }
}

fn inputs(user: &RoleSource, used: &UseDoc, role: &RoleDoc, pointer: &str, sources: &Sources, report: &Report<'_>) {
    let site = wires::Site { sources, user: Some(&user.doc), reader: role, report };
    for (name, wire) in &used.from {
        let pointer = format!("{pointer}/from/{name}");
        if known_input(role, name, &pointer, report) {
            wires::check(&site, wire, &pointer, Some(&role.inputs[name].schema));
        }
        if used.with.contains_key(name) {
            report.error("two-sources", &pointer, format!("`{name}` stands under `from` and under `with`"));
        }
    }
    for (name, value) in &used.with {
        let pointer = format!("{pointer}/with/{name}");
        if known_input(role, name, &pointer, report) {
            fixed(user, value, &role.inputs[name].schema, &pointer, report);
        }
    }
}

/// A literal, or exactly one input of the user.
fn fixed(user: &RoleSource, value: &Value, schema: &Value, pointer: &str, report: &Report<'_>) {
    let Some(forwarded) = forwarded(value) else {
        if has_template(value) {
            let message = "`with` is wiring: a literal, or exactly one input as `{{ INPUT }}`";
            report.wrong("not-an-input", pointer, message, known(user.doc.inputs.keys().map(String::as_str)));
        } else {
            report.problems(pointer, validate(schema, value));
        }
        return;
    };
    let Some(input) = user.doc.inputs.get(forwarded) else {
        let inputs = known(user.doc.inputs.keys().map(String::as_str));
        report.wrong("not-an-input", pointer, format!("`{}` has no input `{forwarded}`", user.doc.role), inputs);
        return;
    };
    if let Fit::DoesNotFit { place, reason } = fit(&input.schema, schema) {
        let place = if place.is_empty() { String::new() } else { format!(" at {place}") };
        report.error(
            "does-not-fit",
            pointer,
            format!("what `{forwarded}` may be does not fit this input: {reason}{place}"),
        );
    }
}

/// The input that exactly `{{ INPUT }}` names.
pub(crate) fn forwarded(value: &Value) -> Option<&str> {
    let inner = value.as_str()?.trim().strip_prefix("{{")?.strip_suffix("}}")?.trim();
    let is_name = !inner.is_empty() && inner.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    is_name.then_some(inner)
}

/// Does a template stand anywhere in it?
pub(crate) fn has_template(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains("{{") || text.contains("{%"),
        Value::Array(items) => items.iter().any(has_template),
        Value::Object(object) => object.values().any(has_template),
        _ => false,
    }
}

/// Has the role this input? Says so if not.
pub(crate) fn known_input(role: &RoleDoc, name: &str, pointer: &str, report: &Report<'_>) -> bool {
    let is_known = role.inputs.contains_key(name);
    if !is_known {
        let inputs = known(role.inputs.keys().map(String::as_str));
        report.wrong_key("unknown-input", pointer, format!("`{}` has no input `{name}`", role.role), inputs);
    }
    is_known
}
