//! Checks that look at the whole: machines, neighbours on a node, imports, exports, parameters.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::closure::{Closure, Instance};
use super::{CompileInput, Findings, Site, one_of};
use crate::document::{BoundRole, ImportDoc, WorkloadDoc};
use crate::graph::{GraphRole, Imported, RoleName};
use crate::schema::{self, Fit};

/// Does every role work on the machines it is bound to? Machines not known yet are not checked.
pub(super) fn supports(input: &CompileInput, closure: &Closure, findings: &mut Findings) {
    // One example of each kind of machine in each group.
    let mut kinds: BTreeMap<(&str, Option<&str>, Option<&str>), &str> = BTreeMap::new();
    for (name, node) in input.nodes {
        kinds.entry((node.group.as_str(), node.os.as_deref(), node.arch.as_deref())).or_insert(name);
    }
    for instance in closure.instances.values() {
        let supports = &instance.role.doc.supports;
        for ((group, os, arch), node) in &kinds {
            if !instance.places.contains(group) {
                continue;
            }
            for (what, known, has) in [("os", &supports.os, os), ("arch", &supports.arch, arch)] {
                let Some(has) = has.filter(|has| !known.is_empty() && !known.iter().any(|one| one.as_str() == *has))
                else {
                    continue;
                };
                let message = format!("`{}` does not support {what} `{has}` of node `{node}`", instance.name);
                let known: Vec<&str> = known.iter().map(String::as_str).collect();
                let site = Site::of_role(&instance.role.source, &["supports", what]);
                findings.push(site.error("unsupported-node", message).expected(one_of(&known)));
            }
        }
    }
}

/// No two providers of one interface, and no conflicting pair, in one place.
pub(super) fn neighbours(closure: &Closure, findings: &mut Findings) {
    let mut provided: BTreeMap<&str, Vec<&Instance>> = BTreeMap::new();
    for instance in closure.instances.values() {
        for interface in &instance.role.doc.provides {
            provided.entry(interface).or_default().push(instance);
        }
    }
    for (interface, providers) in &provided {
        for (one, two) in pairs(providers) {
            let Some(place) = one.places.intersection(&two.places).next() else { continue };
            let message = format!("`{}` and `{}` both provide `{interface}` on `{place}`", one.name, two.name);
            let site = Site::of_role(&two.role.source, &["provides"]);
            findings.push(site.error("two-providers", message).expected("one provider on a node"));
        }
    }
    for one in closure.instances.values() {
        for (index, name) in one.role.doc.conflicts.iter().enumerate() {
            let others = closure.instances.values().filter(|two| {
                two.name != one.name && (two.role.doc.role == *name || two.role.doc.provides.contains(name))
            });
            for two in others {
                let Some(place) = one.places.intersection(&two.places).next() else { continue };
                let message = format!("`{}` conflicts with `{}` on `{place}`", one.name, two.name);
                let site = Site::of_role(&one.role.source, &["conflicts", &index.to_string()]);
                findings.push(site.error("conflict", message).expected("one of the two on a node"));
            }
        }
    }
}

fn pairs<'i, 'a>(of: &'i [&'i Instance<'a>]) -> impl Iterator<Item = (&'i Instance<'a>, &'i Instance<'a>)> {
    of.iter().enumerate().flat_map(move |(index, one)| of[index + 1..].iter().map(move |two| (*one, *two)))
}

/// Does the deployment bind what the workload imports, and does that export what is wanted?
pub(super) fn imports(input: &CompileInput, workload: &WorkloadDoc, findings: &mut Findings) {
    let known: Vec<&str> = workload.imports.keys().map(String::as_str).collect();
    for name in input.document.imports.keys().filter(|name| !workload.imports.contains_key(*name)) {
        let message = format!("workload `{}` has no import `{name}`", workload.workload);
        let site = Site::of_deployment(&["imports", name]);
        findings.push(site.error("unknown-import", message).expected(one_of(&known)));
    }
    for (name, exports) in &workload.imports {
        let Some(from) = input.document.imports.get(name) else {
            let message = format!("workload `{}` imports `{name}`: from which deployment?", workload.workload);
            let site = Site::of_deployment(&["imports"]);
            findings.push(site.error("missing-import", message).expected(format!("`imports: {{{name}: DEPLOYMENT}}`")));
            continue;
        };
        let site = Site::of_deployment(&["imports", name]);
        let Some(available) = input.imports.get(name) else {
            findings.push(site.error("unknown-deployment", format!("no deployment `{from}` to import from")));
            continue;
        };
        for (export, wanted) in exports {
            let Some(schema) = available.get(export) else {
                let known: Vec<&str> = available.keys().map(String::as_str).collect();
                let message = format!("deployment `{from}` exports no `{export}`");
                findings.push(site.error("unknown-export", message).expected(one_of(&known)));
                continue;
            };
            if let Fit::DoesNotFit { place, reason } = schema::fit(schema, &wanted.schema) {
                let message = format!("export `{export}` of `{from}` does not fit import `{name}`{place}: {reason}");
                findings.push(site.error("does-not-fit", message));
            }
        }
    }
}

/// What the graph reads of other deployments.
pub(super) fn imported(input: &CompileInput, workload: &WorkloadDoc) -> BTreeMap<String, Imported> {
    let from = |name: &String| input.document.imports.get(name).cloned();
    let imported = |(name, exports): (&String, &BTreeMap<String, ImportDoc>)| {
        let exports = exports.iter().map(|(export, wanted)| (export.clone(), wanted.schema.clone())).collect();
        Some((name.clone(), Imported { deployment: from(name)?, exports }))
    };
    workload.imports.iter().filter_map(imported).collect()
}

/// The exports that name an output of a role of the deployment.
pub(super) fn exports(
    workload: &WorkloadDoc,
    roles: &BTreeMap<RoleName, GraphRole>,
    findings: &mut Findings,
) -> BTreeMap<String, (RoleName, String)> {
    let mut exports = BTreeMap::new();
    for (name, text) in &workload.exports {
        let site = Site::of_workload(&workload.workload, &["exports", name]);
        let Some((role, output)) = text.split_once('.') else {
            findings.push(site.error("bad-export", format!("`{text}` names no output")).expected("ROLE.OUTPUT"));
            continue;
        };
        match roles.get(role) {
            None => findings.push(site.error("no-supplier", format!("nobody binds `{role}`, which is exported"))),
            Some(found) if !found.on_virtual => {
                let message = format!("`{role}` runs on nodes: which instance is exported?");
                findings.push(site.error("wrong-scope", message).expected("a role that runs once for the deployment"));
            }
            Some(found) if !found.outputs.contains_key(output) => {
                let known: Vec<&str> = found.outputs.keys().map(String::as_str).collect();
                let message = format!("`{role}` has no output `{output}`");
                findings.push(site.error("unknown-output", message).expected(one_of(&known)));
            }
            Some(_) => {
                exports.insert(name.clone(), (role.to_owned(), output.to_owned()));
            }
        }
    }
    exports
}

/// Warns of parameters that reach no input.
pub(super) fn unused_parameters(workload: &WorkloadDoc, findings: &mut Findings) {
    let Some(properties) = workload.parameters.get("properties").and_then(Value::as_object) else { return };
    let mut words = BTreeSet::new();
    for BoundRole { with, .. } in workload.roles.values().flatten() {
        for value in with.values() {
            gather_words(value, &mut words);
        }
    }
    for name in properties.keys().filter(|name| !words.contains(name.as_str())) {
        let site = Site::of_workload(&workload.workload, &["parameters", "properties", name]);
        let message = format!("parameter `{name}` reaches no input");
        findings.push(site.error("unused-parameter", message).warning());
    }
}

/// All words of the texts of a value: a parameter that none of them is, is surely unused.
fn gather_words<'v>(value: &'v Value, into: &mut BTreeSet<&'v str>) {
    match value {
        Value::String(text) => into.extend(text.split(|c: char| !c.is_alphanumeric() && c != '_' && c != '-')),
        Value::Array(items) => items.iter().for_each(|item| gather_words(item, into)),
        Value::Object(items) => items.values().for_each(|item| gather_words(item, into)),
        _ => {}
    }
}
