//! What feeds each input of a deployment role, as written: a wire, an input of the user, or fixed values.

use std::collections::BTreeMap;

use serde_json::Value;

use super::parameters::{self, Parameters};
use super::{Findings, Site, names, one_of};
use crate::catalog::CatalogRole;
use crate::document::{BoundRole, UseDoc, Wire, WorkloadDoc};
use crate::value::{Layer, Layered};

/// What feeds an input.
#[derive(Clone, Debug)]
pub(super) enum Feed<'a> {
    /// A wire.
    Wire(FedBy),
    /// Whatever feeds this input of the user, then values set for the input itself.
    Forward {
        /// The deployment role that uses this one.
        user: String,
        /// Its input.
        input: &'a str,
    },
    /// Layers, with these values of `with`.
    Layers(Vec<Fixed<'a>>),
}

/// A wire and where it was written.
#[derive(Clone, Debug)]
pub(super) struct FedBy {
    /// The wire.
    pub wire: Wire,
    /// The deployment role whose `uses` its names mean; none for a wire of the workload.
    pub scope: Option<String>,
    /// Where it stands.
    pub site: Site,
}

/// A value of a `with`.
#[derive(Clone, Debug)]
pub(super) struct Fixed<'a> {
    /// Only on this group (or the virtual node).
    pub place: Option<&'a str>,
    /// The value.
    pub value: Layered,
    /// Where it stands.
    pub site: Site,
}

/// A milestone as the workload binds it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Binding<'a> {
    /// Group, or the virtual node.
    pub place: &'a str,
    /// Position in the list of that group.
    pub index: usize,
    /// The entry.
    pub doc: &'a BoundRole,
}

impl Binding<'_> {
    /// Where it stands.
    pub(super) fn site(&self, workload: &str, more: &[&str]) -> Site {
        let index = self.index.to_string();
        let mut path = vec!["roles", self.place, index.as_str()];
        if !more.is_empty() {
            path.push(&self.doc.role);
            path.extend(more);
        }
        Site::of_workload(workload, &path)
    }
}

/// The private use that a deployment role stems from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Used<'a, 'u> {
    /// The user's deployment role.
    pub user: &'u str,
    /// The user's role.
    pub user_role: &'a CatalogRole,
    /// The key under `uses`.
    pub local: &'a str,
    /// The entry.
    pub doc: &'a UseDoc,
}

/// Where a deployment role comes from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin<'a, 'u> {
    /// Its name.
    pub name: &'u str,
    /// Its role.
    pub role: &'a CatalogRole,
    /// The private use, if it is one.
    pub used: Option<Used<'a, 'u>>,
    /// Its bindings by the workload.
    pub bindings: &'u [Binding<'a>],
    /// The workload.
    pub workload: &'a WorkloadDoc,
    /// Its parameters.
    pub parameters: &'u Parameters,
}

/// What feeds each input. The later of role, preset, use and workload replaces the wire of the earlier.
pub(super) fn of<'a>(origin: Origin<'a, '_>, findings: &mut Findings) -> BTreeMap<&'a str, Feed<'a>> {
    unknown_inputs(origin, findings);
    let doc = &origin.role.doc;
    let mut feeds = BTreeMap::new();
    for name in doc.inputs.keys() {
        let mut feed = own(origin, name, findings);
        if let Some(used) = origin.used
            && let Some(by_use) = of_use(used, name, findings)
        {
            feed = by_use;
        }
        let feed = of_workload(origin, name, feed, findings);
        feeds.insert(name.as_str(), feed);
    }
    feeds
}

/// The role's own wire or default, or what a preset fixed.
fn own<'a>(origin: Origin<'a, '_>, name: &'a str, findings: &mut Findings) -> Feed<'a> {
    let (role, doc) = (origin.role, &origin.role.doc);
    if let Some(value) = doc.with.get(name) {
        let value = Layered { value: value.clone(), layer: Layer::Workload, by: role.source.clone(), of: Vec::new() };
        return Feed::Layers(vec![Fixed { place: None, value, site: Site::of_role(&role.source, &["with", name]) }]);
    }
    let input = &doc.inputs[name];
    let Some(text) = &input.from else { return Feed::Layers(Vec::new()) };
    let site = Site::of_role(&role.source, &["inputs", name, "from"]);
    if input.default.is_some() {
        let message = format!("input `{name}` of `{}` has a wire and a default", doc.role);
        findings.push(site.error("two-sources", message).expected("`from` or `default`, not both"));
    }
    parse(text, Some(origin.name), site, findings).map_or_else(|| Feed::Layers(Vec::new()), Feed::Wire)
}

fn of_use<'a>(used: Used<'a, '_>, name: &str, findings: &mut Findings) -> Option<Feed<'a>> {
    let site = |key| Site::of_role(&used.user_role.source, &["uses", used.local, key, name]);
    let with = used.doc.with.get(name);
    if let Some(text) = used.doc.from.get(name) {
        if with.is_some() {
            findings.push(both(&site("from"), name, &used.doc.role));
        }
        return parse(text, Some(used.user), site("from"), findings).map(Feed::Wire);
    }
    let value = with?;
    if let Some(input) = value.as_str().and_then(names::only_name) {
        if let Some((input, _)) = used.user_role.doc.inputs.get_key_value(input) {
            return Some(Feed::Forward { user: used.user.to_owned(), input });
        }
        let known: Vec<&str> = used.user_role.doc.inputs.keys().map(String::as_str).collect();
        let message = format!("`{}` has no input `{input}` to forward", used.user_role.doc.role);
        findings.push(site("with").error("unknown-input", message).expected(one_of(&known)));
        return None;
    }
    if has_template(value) {
        let message = format!("`with` of `{}` is wiring, not a template", used.local);
        let expected = "a literal, or exactly `{{ INPUT }}` with one input of this role";
        findings.push(site("with").error("with-not-wiring", message).expected(expected));
        return None;
    }
    let by = format!("{} uses {}", used.user_role.source, used.local);
    let value = Layered { value: value.clone(), layer: Layer::Workload, by, of: Vec::new() };
    Some(Feed::Layers(vec![Fixed { place: None, value, site: site("with") }]))
}

/// What the workload's bindings make of it.
fn of_workload<'a>(origin: Origin<'a, '_>, name: &str, feed: Feed<'a>, findings: &mut Findings) -> Feed<'a> {
    let Origin { workload, parameters, bindings, .. } = origin;
    let mut wires: BTreeMap<&str, Binding> = BTreeMap::new();
    let mut fixed = Vec::new();
    for binding in bindings {
        let site = |key| binding.site(&workload.workload, &[key, name]);
        let value = binding.doc.with.get(name);
        if let Some(text) = binding.doc.from.get(name) {
            if value.is_some() {
                findings.push(both(&site("from"), name, &binding.doc.role));
            }
            wires.insert(text, *binding);
        } else if let Some(value_of) = value
            && let Some(value) = parameters::render(value_of, parameters, &site("with"), findings)
        {
            let by = format!("workload {}", workload.workload);
            let of = parameters.hidden_in(value_of, &value);
            let value = Layered { value, layer: Layer::Workload, by, of };
            fixed.push(Fixed { place: Some(binding.place), value, site: site("with") });
        }
    }
    if wires.is_empty() && fixed.is_empty() {
        return feed;
    }
    let rewired = bindings.iter().filter(|binding| binding.doc.from.contains_key(name)).count();
    let untouched = bindings.len() - rewired - fixed.len();
    let was_wired = !matches!(feed, Feed::Layers(_));
    if wires.len() > 1 || (rewired > 0 && rewired < bindings.len()) || (was_wired && untouched > 0) {
        let message = format!("input `{name}` of `{}` has a wire that is not the same in every group", origin.name);
        let expected = "one wire for all groups; values may differ";
        findings.push(bindings[0].site(&workload.workload, &[]).error("differs-by-group", message).expected(expected));
    }
    if let Some((text, binding)) = wires.first_key_value() {
        let site = binding.site(&workload.workload, &["from", name]);
        return parse(text, None, site, findings).map_or(feed, Feed::Wire);
    }
    match feed {
        Feed::Layers(mut before) => {
            before.extend(fixed);
            Feed::Layers(before)
        }
        Feed::Wire(_) | Feed::Forward { .. } => Feed::Layers(fixed),
    }
}

fn parse(text: &str, scope: Option<&str>, site: Site, findings: &mut Findings) -> Option<FedBy> {
    match text.parse::<Wire>() {
        Ok(wire) => Some(FedBy { wire, scope: scope.map(str::to_owned), site }),
        Err(error) => {
            let expected = "[each | map | one] SUPPLIER.OUTPUT[.path] [in GROUP], node.FACT, deployment.FIELD or import NAME.OUTPUT";
            findings.push(site.error("bad-wire", error.to_string()).expected(expected));
            None
        }
    }
}

fn both(site: &Site, name: &str, role: &str) -> crate::diagnostic::Diagnostic {
    site.error("two-sources", format!("input `{name}` of `{role}` is fed by `with` and by `from`"))
        .expected("one of the two")
}

fn has_template(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains("{{") || text.contains("{%"),
        Value::Array(items) => items.iter().any(has_template),
        Value::Object(items) => items.values().any(has_template),
        _ => false,
    }
}

fn unknown_inputs(origin: Origin, findings: &mut Findings) {
    let doc = &origin.role.doc;
    let known: Vec<&str> = doc.inputs.keys().map(String::as_str).collect();
    let mut check = |name: &String, site: Site| {
        if !doc.inputs.contains_key(name) {
            let message = format!("`{}` has no input `{name}`", doc.role);
            findings.push(site.error("unknown-input", message).expected(one_of(&known)));
        }
    };
    for name in doc.with.keys() {
        check(name, Site::of_role(&origin.role.source, &["with", name]));
    }
    if let Some(used) = origin.used {
        let keys = used.doc.with.keys().map(|name| ("with", name));
        for (key, name) in keys.chain(used.doc.from.keys().map(|name| ("from", name))) {
            check(name, Site::of_role(&used.user_role.source, &["uses", used.local, key, name]));
        }
    }
    for binding in origin.bindings {
        let keys = binding.doc.with.keys().map(|name| ("with", name));
        for (key, name) in keys.chain(binding.doc.from.keys().map(|name| ("from", name))) {
            check(name, binding.site(&origin.workload.workload, &[key, name]));
        }
    }
}
