//! Wires: does what they name exist, and does it fit?

use engine_core::document::{At, RoleDoc, Runs, Scope, Wire};
use engine_core::schema::{Fit, Reach, fit, schema_at, wrap_each, wrap_map};
use serde_json::Value;

use crate::load::Sources;
use crate::report::{Report, known};

/// Where a wire is written.
pub(crate) struct Site<'a> {
    pub(crate) sources: &'a Sources,
    /// The role whose `uses` are seen from there; none in a workload.
    pub(crate) user: Option<&'a RoleDoc>,
    /// The role whose input is fed.
    pub(crate) reader: &'a RoleDoc,
    pub(crate) report: &'a Report<'a>,
}

/// What a supplier is.
enum Supplier<'a> {
    Role(&'a RoleDoc),
    Interface(&'a str, &'a std::collections::BTreeMap<String, Value>),
    /// Said to be wrong already, or not to be known here.
    Unknown,
}

/// Checks one wire into an input of this schema.
pub(crate) fn check(site: &Site<'_>, text: &str, pointer: &str, input: Option<&Value>) {
    let wire: Wire = match text.parse() {
        Ok(wire) => wire,
        Err(error) => {
            let error: engine_core::document::WireError = error;
            let expected = "[each | map | one] SUPPLIER.OUTPUT[.path] [in GROUP], node.FACT, deployment.FIELD, import NAME.OUTPUT or at ROLE.OUTPUT";
            site.report.wrong("bad-wire", pointer, error.to_string(), expected);
            return;
        }
    };
    if wire.reads_node() || wire.reads_deployment() || wire.scope == Scope::Import {
        return;
    }
    if wire.scope == Scope::At && !matches!(site.reader.at, At::One { .. }) {
        let message = format!("`{wire}` reads from the node chosen by `at`, but `{}` chooses none", site.reader.role);
        site.report.wrong("bad-wire", pointer, message, "`at: one ROLE` in the role");
        return;
    }
    let reader_runs = site.reader.runs.unwrap_or(Runs::Node);
    let Some(schema) = (match supplier(site, &wire.supplier, pointer) {
        Supplier::Role(role) => {
            if wire.scope == Scope::Own && reader_runs == Runs::Deployment && role.runs == Some(Runs::Node) {
                let message =
                    format!("`{}` runs once and `{}` on every node: which of them?", site.reader.role, role.role);
                site.report.wrong(
                    "missing-scope",
                    pointer,
                    message,
                    format!("`each {wire}`, `map {wire}` or `one {wire}`"),
                );
                return;
            }
            output_of(site, role, &wire, pointer)
        }
        Supplier::Interface(name, outputs) => interface_output(site, name, outputs, &wire, pointer),
        Supplier::Unknown => None,
    }) else {
        return;
    };
    let Some(supplied) = at_path(site, &schema, &wire, pointer) else { return };
    if let Some(input) = input {
        fits(site, &supplied, &wire, input, pointer);
    }
}

fn supplier<'a>(site: &Site<'a>, name: &'a str, pointer: &str) -> Supplier<'a> {
    let sources = site.sources;
    let local = site.user.and_then(|user| user.uses.get(name));
    let role = local.map_or(name, |used| used.role.as_str());
    if let Some(found) = sources.roles.get(role) {
        return if found.broken { Supplier::Unknown } else { Supplier::Role(&found.doc) };
    }
    if let Some((name, outputs)) = sources.interfaces.get_key_value(name) {
        return Supplier::Interface(name, outputs);
    }
    if local.is_none() && !sources.unreadable.contains(role) {
        let locals = site.user.into_iter().flat_map(|user| user.uses.keys());
        let all = locals.chain(sources.roles.keys()).chain(sources.interfaces.keys()).map(String::as_str);
        site.report.wrong(
            "unknown-role",
            pointer,
            format!("there is no role, interface or use called `{name}`"),
            known(all),
        );
    }
    Supplier::Unknown
}

fn output_of(site: &Site<'_>, role: &RoleDoc, wire: &Wire, pointer: &str) -> Option<Value> {
    let Some(output) = &wire.output else {
        let message = format!("`{wire}` names no output; only an interface can be read as a whole");
        site.report.wrong("unknown-output", pointer, message, known(role.outputs.keys().map(String::as_str)));
        return None;
    };
    let found = role.outputs.get(output);
    if found.is_none() {
        let outputs = known(role.outputs.keys().map(String::as_str));
        site.report.wrong("unknown-output", pointer, format!("`{}` has no output `{output}`", role.role), outputs);
    }
    found.map(|output| output.schema.clone())
}

fn interface_output(
    site: &Site<'_>,
    name: &str,
    outputs: &std::collections::BTreeMap<String, Value>,
    wire: &Wire,
    pointer: &str,
) -> Option<Value> {
    let Some(output) = &wire.output else {
        let required: Vec<&String> = outputs.keys().collect();
        return Some(
            serde_json::json!({"type": "object", "properties": outputs, "required": required, "additionalProperties": false}),
        );
    };
    let found = outputs.get(output);
    if found.is_none() {
        let message = format!("the interface `{name}` has no output `{output}`");
        site.report.wrong("unknown-output", pointer, message, known(outputs.keys().map(String::as_str)));
    }
    found.cloned()
}

fn at_path(site: &Site<'_>, schema: &Value, wire: &Wire, pointer: &str) -> Option<Value> {
    match schema_at(schema, &wire.path) {
        Reach::Always(schema) => Some(schema),
        // It may be missing when the value arrives; the engine says so then.
        Reach::Maybe(_) => None,
        Reach::Never(why) => {
            site.report.error("unknown-output", pointer, format!("`{wire}` leads nowhere: {why}"));
            None
        }
    }
}

/// How many there are is not known before nodes are bound, so what depends on the number is not asked here.
fn fits(site: &Site<'_>, supplied: &Value, wire: &Wire, input: &Value, pointer: &str) {
    let without = |keyword: &str| {
        let mut input = input.clone();
        if let Value::Object(object) = &mut input {
            object.remove(keyword);
        }
        input
    };
    let answer = match wire.scope {
        Scope::Each => fit(&wrap_each(supplied, 0), &without("minItems")),
        Scope::Map => fit(&wrap_map(supplied, 0), &without("minProperties")),
        Scope::Own | Scope::One | Scope::At | Scope::Import => fit(supplied, input),
    };
    if let Fit::DoesNotFit { place, reason } = answer {
        let place = if place.is_empty() { String::new() } else { format!(" at {place}") };
        site.report.error(
            "does-not-fit",
            pointer,
            format!("what `{wire}` supplies does not fit the input: {reason}{place}"),
        );
    }
}
