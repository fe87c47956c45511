//! Values against schemas and templates over values, as compile and plan need them.

use serde_json::Value;

use crate::document::Object;
use crate::schema::Validators;
use crate::template;

/// What is wrong with a value: place and sentence. Says nothing of a secret.
pub(super) fn validate(schema: &Value, value: &Value, secret: bool) -> Vec<(String, String)> {
    match Validators::default().validate(schema, value, secret) {
        Ok(problems) => problems.into_iter().map(|problem| (problem.pointer, problem.message)).collect(),
        Err(error) => vec![(String::new(), error.to_string())],
    }
}

/// Renders all strings of a value; exactly one expression keeps its type.
pub(super) fn render(source: &Value, variables: &Object) -> Result<Value, String> {
    template::value(source, variables).map_err(|error| error.to_string())
}
