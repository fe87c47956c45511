//! Parameters of a workload: defaults, unknown ones, and `with` templates over them.

use serde_json::{Map, Value};

use super::{Findings, Site, one_of, values};
use crate::document::{DeploymentDoc, Object, WorkloadDoc};

/// The parameters with defaults applied. Findings say what is wrong with them.
pub(super) fn resolve(workload: &WorkloadDoc, document: &DeploymentDoc, findings: &mut Findings) -> Value {
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
    let mut parameters = Value::Object(parameters);
    add_defaults(schema, &mut parameters);
    if schema.is_object() {
        for (place, message) in values::validate(schema, &parameters, false) {
            let site = Site { file: None, pointer: format!("/parameters{place}") };
            findings.push(site.error("bad-parameter", message));
        }
    }
    parameters
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
pub(super) fn render(value: &Value, parameters: &Value, site: &Site, findings: &mut Findings) -> Option<Value> {
    let variables: Object = Map::from_iter([("parameters".to_owned(), parameters.clone())]);
    match values::render(value, &variables) {
        Ok(value) => Some(value),
        Err(reason) => {
            let message = format!("the template over `parameters` fails: {reason}");
            findings.push(site.error("bad-template", message).expected("names such as `parameters.NAME` only"));
            None
        }
    }
}
