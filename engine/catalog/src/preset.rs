//! Presets: a role that `is` another one, with some inputs fixed.

use engine_core::schema;

use crate::load::{RoleSource, Sources};
use crate::report::{Report, known};

/// Merges every preset with what it is a preset of. One that can not be merged is broken.
pub(crate) fn merge_all(sources: &mut Sources) {
    let names: Vec<String> = sources.roles.keys().cloned().collect();
    for name in names {
        if sources.roles[&name].doc.is.is_some() {
            merge(sources, &name);
        }
    }
}

fn merge(sources: &mut Sources, name: &str) {
    let preset = sources.roles[name].clone();
    let report = Report::new(&preset.file, &preset.spans);
    let merged = base(sources, &preset, &report).map(|base| onto(&preset, &base, &report));
    let role = sources.roles.get_mut(name).expect("asked for by name");
    match merged {
        Some(merged) => *role = merged,
        None => role.broken = true,
    }
    sources.found.extend(report.into_found());
}

/// The role at the end of the chain of `is`.
fn base(sources: &Sources, preset: &RoleSource, report: &Report<'_>) -> Option<RoleSource> {
    let base_name = preset.doc.is.as_deref()?;
    let Some(base) = sources.roles.get(base_name) else {
        if !sources.unreadable.contains(base_name) {
            report.wrong(
                "unknown-role",
                "/is",
                format!("there is no role `{base_name}`"),
                known(sources.roles.keys().map(String::as_str)),
            );
        }
        return None;
    };
    if base.doc.is.is_some() {
        report.wrong(
            "preset-of-preset",
            "/is",
            format!("`{base_name}` is a preset itself"),
            "a role that is no preset",
        );
        return None;
    }
    (!base.broken).then(|| base.clone())
}

fn onto(preset: &RoleSource, base: &RoleSource, report: &Report<'_>) -> RoleSource {
    let mut doc = base.doc.clone();
    doc.role.clone_from(&preset.doc.role);
    doc.version.clone_from(&preset.doc.version);
    doc.about.clone_from(&preset.doc.about);
    doc.is.clone_from(&preset.doc.is);
    doc.with.clone_from(&preset.doc.with);
    doc.milestone = preset.doc.milestone;
    for (name, value) in &preset.doc.with {
        let pointer = format!("/with/{name}");
        let Some(input) = doc.inputs.get_mut(name) else {
            let inputs = known(base.doc.inputs.keys().map(String::as_str));
            report.wrong_key("unknown-input", &pointer, format!("`{}` has no input `{name}`", base.doc.role), inputs);
            continue;
        };
        report.problems(&pointer, schema::validate(&input.schema, value));
        input.from = None;
        input.default = Some(value.clone());
    }
    RoleSource { doc, files: base.files.clone(), ..preset.clone() }
}
