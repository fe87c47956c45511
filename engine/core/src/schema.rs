//! JSON Schema 2020-12: the one place that knows the validator.
//!
//! Nothing is ever fetched: a `$ref` that is not inside the schema is an error. Formats are checked, patterns run in
//! linear time. [`fit`] says whether everything that one schema admits is admitted by another.

mod example;
mod fit;
mod path;
mod problem;
mod walk;
mod witness;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use jsonschema::{Draft, PatternOptions, Validator};
use serde_json::{Value, json};

pub use fit::{Fit, fit};
pub use path::{Reach, schema_at};
pub use problem::Problem;
pub use walk::{map_schema, subschemas};

/// A schema that is not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a JSON Schema: {message}")]
pub struct SchemaError {
    /// JSON pointer of the place in the schema.
    pub pointer: String,
    /// What is wrong.
    pub message: String,
}

impl SchemaError {
    /// Stable code.
    pub fn code(&self) -> &'static str {
        "invalid-schema"
    }
}

/// Compiled schemas by digest, so that each is compiled once. Whoever validates a lot owns one.
#[derive(Debug, Default)]
pub struct Validators {
    compiled: Mutex<HashMap<String, Arc<Validator>>>,
}

impl Validators {
    /// What is wrong with a value; empty when nothing is. Messages show no part of the value when it is `secret`.
    ///
    /// # Errors
    /// When the schema is none.
    pub fn validate(&self, schema: &Value, value: &Value, secret: bool) -> Result<Vec<Problem>, SchemaError> {
        Ok(problem::collect(&*self.get(schema)?, schema, value, secret))
    }

    /// Is the value valid?
    ///
    /// # Errors
    /// When the schema is none.
    pub fn is_valid(&self, schema: &Value, value: &Value) -> Result<bool, SchemaError> {
        Ok(self.get(schema)?.is_valid(value))
    }

    fn get(&self, schema: &Value) -> Result<Arc<Validator>, SchemaError> {
        let key = crate::digest::of(schema);
        if let Some(found) = self.lock().get(&key) {
            return Ok(Arc::clone(found));
        }
        let validator = Arc::new(compile(schema)?);
        self.lock().insert(key, Arc::clone(&validator));
        Ok(validator)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Validator>>> {
        self.compiled.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is wrong with a value, for a schema that is used once. A schema that is none is itself the problem.
pub fn validate(schema: &Value, value: &Value) -> Vec<Problem> {
    match compile(schema) {
        Ok(validator) => problem::collect(&validator, schema, value, false),
        Err(error) => vec![Problem::of_schema(&error)],
    }
}

/// Is this a JSON Schema that can be used: valid by the meta-schema, its references inside it, its patterns readable?
///
/// # Errors
/// What is wrong with it, and where.
pub fn check(schema: &Value) -> Result<(), SchemaError> {
    compile(schema).map(drop)
}

/// Some value that a schema admits, if one is found: its default or one of its examples where it has some, else something plain.
pub fn example(schema: &Value) -> Option<Value> {
    example::find(schema)
}

/// The schema of what `each` gathers: an array of at least so many elements.
pub fn wrap_each(schema: &Value, at_least: usize) -> Value {
    let mut wrapped = json!({"type": "array", "items": schema});
    if at_least > 0 {
        wrapped["minItems"] = json!(at_least);
    }
    wrapped
}

/// The schema of what `map` gathers: an object by node name with at least so many entries.
pub fn wrap_map(schema: &Value, at_least: usize) -> Value {
    let mut wrapped = json!({"type": "object", "additionalProperties": schema});
    if at_least > 0 {
        wrapped["minProperties"] = json!(at_least);
    }
    wrapped
}

fn compile(schema: &Value) -> Result<Validator, SchemaError> {
    // Building validates the schema by the meta-schema first.
    jsonschema::options()
        .with_draft(Draft::Draft202012)
        .should_validate_formats(true)
        .with_pattern_options(PatternOptions::regex())
        .offline()
        .build(schema)
        .map_err(|error| SchemaError {
            pointer: error.instance_path().as_str().to_owned(),
            message: problem::of_meta(&error),
        })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Validators, check, validate};

    #[test]
    fn formats_are_checked_and_nothing_is_fetched() {
        let ipv4 = json!({"type": "string", "format": "ipv4"});
        assert_eq!(validate(&ipv4, &json!("10.0.0.1")), vec![]);
        assert_eq!(validate(&ipv4, &json!("10.0.0.256"))[0].message, "`10.0.0.256` is not a valid ipv4");
        let fetched = check(&json!({"$ref": "https://example.org/x.json"})).expect_err("refused");
        assert_eq!(fetched.code(), "invalid-schema");
        assert!(check(&json!({"type": "strin"})).is_err());
        assert!(check(&json!({"pattern": "("})).is_err());
        assert!(check(&json!({"pattern": "(?=x)"})).is_err(), "look-around is not linear");
    }

    #[test]
    fn secrets_are_not_repeated() {
        let validators = Validators::default();
        let schema = json!({"type": "object", "properties": {"key": {"type": "string", "maxLength": 3}}});
        let problems = validators.validate(&schema, &json!({"key": "hunter2"}), true).expect("schema");
        assert_eq!(problems.len(), 1);
        assert!(!format!("{problems:?}").contains("hunter2"), "{problems:?}");
        assert!(validators.is_valid(&schema, &json!({"key": "abc"})).expect("schema"));
    }
}
