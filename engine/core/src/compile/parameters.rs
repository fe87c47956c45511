//! Parameters of a workload: defaults, unknown ones, and `with` templates over them.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::{Findings, Site, one_of, values};
use crate::document::{DeploymentDoc, Object, WorkloadDoc};
use crate::secret::{self, Clear, DigestKey};

/// Parameters, with defaults.
#[derive(Clone, Debug)]
pub(super) struct Parameters {
    values: Value,
    /// Those that are `writeOnly`.
    pub hidden: BTreeSet<String>,
}

impl Parameters {
    /// The hidden parameters that `value`, rendered from `source`, follows from: with another value of theirs it is not the same.
    pub(super) fn hidden_in(&self, source: &Value, value: &Value) -> Vec<String> {
        let follows = |name: &&String| {
            let mut other = self.values.clone();
            other[name.as_str()] = json!("\u{0}");
            render_with(source, &other).as_ref() != Ok(value)
        };
        self.hidden.iter().filter(|name| self.values.get(name.as_str()).is_some()).filter(follows).cloned().collect()
    }

    /// As they are kept: what is hidden are tokens.
    pub(super) fn kept(mut self, key: &DigestKey, clear: &mut Clear) -> Value {
        for name in &self.hidden {
            if let Some(value) = self.values.get_mut(name) {
                key.hide(value, clear);
            }
        }
        self.values
    }
}

/// The parameters with defaults applied. Findings say what is wrong with them.
pub(super) fn resolve(workload: &WorkloadDoc, document: &DeploymentDoc, findings: &mut Findings) -> Parameters {
    let schema = &workload.parameters;
    let properties = schema.get("properties").and_then(Value::as_object);
    let open = schema.get("additionalProperties").is_some_and(|others| others != &Value::Bool(false));
    let mut parameters = document.parameters.clone();
    for name in document.parameters.keys() {
        if !open && !properties.is_some_and(|known| known.contains_key(name)) {
            let known: Vec<&str> = properties.into_iter().flatten().map(|(name, _)| name.as_str()).collect();
            let message = format!("workload `{}` has no parameter `{name}`", workload.workload);
            findings.push(
                Site::of_deployment(&["parameters", name]).error("unknown-parameter", message).expected(one_of(&known)),
            );
            parameters.remove(name);
        }
    }
    let hidden: BTreeSet<String> = properties
        .into_iter()
        .flatten()
        .filter(|(_, schema)| secret::is_write_only(schema))
        .map(|(name, _)| name.clone())
        .collect();
    let mut parameters = Value::Object(parameters);
    add_defaults(schema, &mut parameters);
    if schema.is_object() {
        for (place, message) in values::validate(schema, &parameters, !hidden.is_empty()) {
            let site = Site { file: None, pointer: format!("/parameters{place}") };
            findings.push(site.error("bad-parameter", message));
        }
    }
    Parameters { values: parameters, hidden }
}

/// Fills in the defaults of missing properties, also inside properties that are there.
fn add_defaults(schema: &Value, value: &mut Value) {
    let (Some(properties), Value::Object(value)) = (schema.get("properties").and_then(Value::as_object), value) else {
        return;
    };
    for (name, property) in properties {
        if let Some(default) = property.get("default")
            && !value.contains_key(name)
        {
            value.insert(name.clone(), default.clone());
        }
        if let Some(value) = value.get_mut(name) {
            add_defaults(property, value);
        }
    }
}

/// A `with` of the workload, rendered. `None` when that fails; a finding says so.
pub(super) fn render(value: &Value, parameters: &Parameters, site: &Site, findings: &mut Findings) -> Option<Value> {
    match render_with(value, &parameters.values) {
        Ok(value) => Some(value),
        Err(reason) => {
            let message = format!("the template over `parameters` fails: {reason}");
            findings.push(site.error("bad-template", message).expected("names such as `parameters.NAME` only"));
            None
        }
    }
}

fn render_with(value: &Value, parameters: &Value) -> Result<Value, String> {
    let variables: Object = Map::from_iter([("parameters".to_owned(), parameters.clone())]);
    values::render(value, &variables)
}
