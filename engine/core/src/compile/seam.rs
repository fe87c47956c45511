//! Values against schemas and templates over values, as compile and plan need them.

use serde_json::Value;

use crate::document::Object;
use crate::schema::Validators;

/// What is wrong with a value: place and sentence. Says nothing of a secret.
pub(super) fn validate(schema: &Value, value: &Value, secret: bool) -> Vec<(String, String)> {
    match Validators::default().validate(schema, value, secret) {
        Ok(problems) => problems.into_iter().map(|problem| (problem.pointer, problem.message)).collect(),
        Err(error) => vec![(String::new(), error.to_string())],
    }
}

/// Renders all strings of a value; exactly one expression keeps its type.
pub(super) fn render(source: &Value, variables: &Object) -> Result<Value, String> {
    match source {
        Value::String(text) => render_text(text, variables),
        Value::Array(items) => items.iter().map(|item| render(item, variables)).collect(),
        Value::Object(items) => {
            let rendered = items.iter().map(|(key, item)| Ok((key.clone(), render(item, variables)?)));
            rendered.collect::<Result<Object, _>>().map(Value::Object)
        }
        other => Ok(other.clone()),
    }
}

fn render_text(text: &str, variables: &Object) -> Result<Value, String> {
    let mut environment = minijinja::Environment::new();
    environment.set_undefined_behavior(minijinja::UndefinedBehavior::Strict);
    let context = minijinja::Value::from(minijinja::value::Serde(variables));
    if let Some(expression) = super::names::only_expression(text) {
        let value = environment
            .compile_expression(expression)
            .and_then(|expression| expression.eval(context))
            .map_err(|error| error.to_string())?;
        if value.is_undefined() {
            return Err(format!("`{expression}` is undefined"));
        }
        return serde_json::to_value(&value).map_err(|error| error.to_string());
    }
    environment.render_str(text, context).map(Value::String).map_err(|error| error.to_string())
}
