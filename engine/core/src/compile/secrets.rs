//! Secrets in the graph: a token in the place of each value, and nothing that shows one to whoever does not keep it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::closure::{Closure, Instance};
use super::parameters::Parameters;
use super::{CompileInput, Findings, Site};
use crate::document::{DeploymentDoc, WorkloadDoc};
use crate::graph::{Gathered, GraphInput, GraphRole, Kind, RoleName, Source};
use crate::secret::{self, Clear};
use crate::value::{Layer, Layered};

/// Outputs that are secret, of deployment roles and helpers.
type Secret = BTreeSet<(RoleName, String)>;

/// Puts tokens in the place of all secrets of the graph; says who would show one.
pub(super) fn hide(
    input: &CompileInput,
    workload: &WorkloadDoc,
    closure: &Closure,
    roles: &mut BTreeMap<RoleName, GraphRole>,
    findings: &mut Findings,
) -> Clear {
    let secret = outputs(roles);
    let mut clear = Clear::default();
    for (name, role) in roles {
        let Some(instance) = closure.instances.get(name) else { continue };
        for (input_name, one) in &mut role.inputs {
            let reading = Reading { input, workload, instance, name: input_name };
            reading.wire(one, &secret, findings);
            for value in values(one) {
                reading.value(value, instance.role.doc.inputs[input_name].secret, findings);
                if instance.role.doc.inputs[input_name].secret {
                    input.key.hide(&mut value.value, &mut clear);
                }
            }
        }
    }
    clear
}

/// The document as it is kept: what is secret in it are tokens.
pub(super) fn document(
    input: &CompileInput,
    parameters: &Parameters,
    roles: &BTreeMap<RoleName, GraphRole>,
    clear: &mut Clear,
) -> DeploymentDoc {
    let mut document = input.document.clone();
    let is_secret = |key: &str| {
        let (role, name) = key.rsplit_once('.')?;
        Some(roles.get(role)?.inputs.get(name)?.secret)
    };
    for (place, value) in secret::places(&mut document) {
        let key = place.rsplit_once('/').map_or("", |(_, key)| key);
        let hidden = if place.starts_with("/parameters/") {
            parameters.hidden.contains(key)
        } else {
            is_secret(key) == Some(true)
        };
        if hidden {
            input.key.hide(value, clear);
        }
    }
    document
}

/// Also marks what gathers secrets.
fn outputs(roles: &mut BTreeMap<RoleName, GraphRole>) -> Secret {
    let mut secret = Secret::new();
    for (name, role) in roles.iter() {
        let hidden = role.outputs.iter().filter(|(_, output)| output.secret);
        secret.extend(hidden.map(|(output, _)| (name.clone(), output.clone())));
    }
    let mut gathers = Secret::new();
    for (name, role) in roles {
        if let Kind::Gather { of: Gathered::Output { role: of, output, .. }, .. } = &role.kind
            && is_secret(&secret, of, output.as_deref())
        {
            for (output, value) in &mut role.outputs {
                value.secret = true;
                gathers.insert((name.clone(), output.clone()));
            }
        }
    }
    secret.append(&mut gathers);
    secret
}

fn is_secret(secret: &Secret, role: &str, output: Option<&str>) -> bool {
    secret.iter().any(|(of, name)| of == role && output.is_none_or(|output| output == name))
}

/// Everything that layers and overrides say.
fn values(input: &mut GraphInput) -> impl Iterator<Item = &mut Layered> {
    let layers = match &mut input.source {
        Source::Layers { base, groups, nodes } => {
            Some(base.iter_mut().chain(groups.values_mut()).chain(nodes.values_mut()))
        }
        _ => None,
    };
    layers.into_iter().flatten().chain(input.overrides.values_mut())
}

/// An input that is looked at.
struct Reading<'r, 'a> {
    input: &'r CompileInput<'a>,
    workload: &'r WorkloadDoc,
    instance: &'r Instance<'a>,
    name: &'r str,
}

impl Reading<'_, '_> {
    fn site(&self) -> Site {
        Site::of_role(&self.instance.role.source, &["inputs", self.name])
    }

    fn exposed(&self, what: &str, findings: &mut Findings) {
        let message =
            format!("`{}.{}` reads {what}, which is secret, and is not itself", self.instance.name, self.name);
        findings.push(self.site().error("secret-exposed", message).expected("`secret: true`"));
    }

    fn value(&self, value: &Layered, kept: bool, findings: &mut Findings) {
        if !kept {
            for parameter in &value.of {
                self.exposed(&format!("parameter `{parameter}`"), findings);
            }
        } else if matches!(value.layer, Layer::RoleDefault | Layer::Workload)
            && value.of.is_empty()
            && says(&value.value)
        {
            let message = format!(
                "the value of `{}.{}` is secret, and stands in {} for all to read",
                self.instance.name, self.name, value.by
            );
            let expected = "a parameter that is `writeOnly`, `set` in a deployment, or an output that is secret";
            findings.push(self.site().error("secret-in-clear", message).expected(expected).warning());
        }
    }

    fn wire(&self, one: &GraphInput, secret: &Secret, findings: &mut Findings) {
        let mut ends = vec![&one.source];
        while let Some(source) = ends.pop() {
            let (what, path) = match source {
                Source::Output { role, output, path, .. } => (end(secret, role, output.as_deref()), path),
                Source::Chosen { role, output, path, .. } => (end(secret, role, output.as_deref()), path),
                Source::At { role, output, path } => (end(secret, role, Some(output)), path),
                Source::Gather { helper } => {
                    if is_secret(secret, helper, None) && !one.secret {
                        self.exposed(&format!("`{helper}`"), findings);
                    }
                    continue;
                }
                Source::Import { import, output, path } => {
                    let wanted = self
                        .workload
                        .imports
                        .get(import)
                        .and_then(|exports| exports.get(output))
                        .map(|doc| &doc.schema);
                    let told = self.input.imports.get(import).and_then(|exports| exports.get(output));
                    let hidden = wanted.into_iter().chain(told).any(secret::is_write_only);
                    (hidden.then(|| format!("import `{import}.{output}`")), path)
                }
                Source::ByGroup { groups } => {
                    ends.extend(groups.values());
                    continue;
                }
                Source::Node { .. } | Source::Deployment { .. } | Source::Layers { .. } => continue,
            };
            let Some(what) = what else { continue };
            if !path.is_empty() {
                let message =
                    format!("{what} is secret, and of a secret nothing can be read by itself: `{}`", path.join("."));
                findings.push(self.site().error("does-not-fit", message).expected("the whole of it"));
            }
            if !one.secret {
                self.exposed(&what, findings);
            }
        }
    }
}

fn end(secret: &Secret, role: &str, output: Option<&str>) -> Option<String> {
    is_secret(secret, role, output).then(|| match output {
        Some(output) => format!("`{role}.{output}`"),
        None => format!("`{role}`"),
    })
}

/// Is there anything to be read in it?
fn says(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(items) => !items.is_empty(),
        Value::Bool(_) | Value::Number(_) => true,
    }
}
