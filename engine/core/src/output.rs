//! What goes into a job and what comes out of it: inputs are validated before it starts, outputs before it counts.

use serde_json::Value;

use crate::catalog::CatalogRole;
use crate::document::Object;
use crate::schema::{Problem, Validators};
use crate::settle::turn::Failure;
use crate::template;

/// Are the frozen inputs complete and valid?
///
/// # Errors
/// `input-missing` or `input-invalid`, naming the input.
pub fn check_inputs(role: &CatalogRole, inputs: &Object, validators: &Validators) -> Result<(), Failure> {
    for (name, input) in &role.doc.inputs {
        let Some(value) = inputs.get(name) else {
            let message =
                format!("input `{name}` has no value: what feeds it did not output one, or the fact is not known");
            return Err(failure("input-missing", message));
        };
        check(&input.schema, value, input.secret, validators)
            .map_err(|said| failure("input-invalid", format!("input `{name}`{said}")))?;
    }
    Ok(())
}

/// The outputs of a success: those that follow from inputs are computed, those that steps found out are taken, all are
/// validated.
///
/// # Errors
/// `output-undeclared`, `output-missing`, `output-invalid` or `output-template`, naming the output.
pub fn complete(
    role: &CatalogRole,
    inputs: &Object,
    found: &Object,
    validators: &Validators,
) -> Result<Object, Failure> {
    let declared = &role.doc.outputs;
    let stray = |name: &&String| declared.get(*name).is_none_or(|output| output.value.is_some());
    if let Some(name) = found.keys().find(stray) {
        let known: Vec<String> =
            declared.iter().filter(|(_, output)| output.value.is_none()).map(|(name, _)| format!("`{name}`")).collect();
        let known = known.join(", ");
        let expected = if known.is_empty() { "none".to_owned() } else { known };
        let message =
            format!("the job output `{name}`, which is not declared as found out by steps; expected: {expected}");
        return Err(failure("output-undeclared", message));
    }
    let mut outputs = Object::new();
    for (name, output) in declared {
        let value = match &output.value {
            Some(source) => template::value(source, inputs)
                .map_err(|error| failure("output-template", format!("output `{name}`: {error}")))?,
            None => found
                .get(name)
                .cloned()
                .ok_or_else(|| failure("output-missing", format!("no step found out the output `{name}`")))?,
        };
        check(&output.schema, &value, output.secret, validators)
            .map_err(|said| failure("output-invalid", format!("output `{name}`{said}")))?;
        outputs.insert(name.clone(), value);
    }
    Ok(outputs)
}

/// What is wrong with a value, to follow its name.
fn check(schema: &Value, value: &Value, secret: bool, validators: &Validators) -> Result<(), String> {
    let problems = validators.validate(schema, value, secret).map_err(|error| format!(": {error}"))?;
    let Some(Problem { pointer, message, expected, .. }) = problems.into_iter().next() else { return Ok(()) };
    let place = if pointer.is_empty() { String::new() } else { format!(" at {pointer}") };
    Err(match expected {
        Some(expected) => format!("{place}: {message}; expected {expected}"),
        None => format!("{place}: {message}"),
    })
}

fn failure(code: &str, message: String) -> Failure {
    Failure { code: code.to_owned(), message }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{check_inputs, complete};
    use crate::catalog::CatalogRole;
    use crate::document::{Object, RoleDoc};
    use crate::schema::Validators;

    fn role() -> CatalogRole {
        let doc: RoleDoc = serde_json::from_value(json!({
            "role": "r", "version": "1.0.0", "runs": "node",
            "inputs": {"port": {"schema": {"type": "integer", "maximum": 9}}},
            "outputs": {
                "url": {"schema": {"type": "string"}, "value": "http://x:{{ port }}"},
                "pid": {"schema": {"type": "integer"}},
            },
        }))
        .expect("a role");
        CatalogRole {
            doc,
            bundle: "test".to_owned(),
            files: std::collections::BTreeMap::new(),
            content: String::new(),
            source: String::new(),
        }
    }

    fn object(value: Value) -> Object {
        value.as_object().expect("an object").clone()
    }

    #[test]
    fn outputs_are_computed_taken_and_validated() {
        let complete = |found: Value| {
            complete(&role(), &object(json!({"port": 5})), &object(found), &Validators::default())
                .map(Value::Object)
                .map_err(|failure| failure.code)
        };
        assert_eq!(complete(json!({"pid": 7})), Ok(json!({"url": "http://x:5", "pid": 7})));
        assert_eq!(complete(json!({})), Err("output-missing".to_owned()));
        assert_eq!(complete(json!({"pid": "7"})), Err("output-invalid".to_owned()));
        assert_eq!(complete(json!({"pid": 7, "more": 1})), Err("output-undeclared".to_owned()));
        assert_eq!(complete(json!({"pid": 7, "url": "x"})), Err("output-undeclared".to_owned()));
    }

    #[test]
    fn inputs_are_complete_and_valid_or_named() {
        let check = |inputs: Value| check_inputs(&role(), &object(inputs), &Validators::default());
        assert_eq!(check(json!({"port": 5})), Ok(()));
        assert_eq!(check(json!({})).expect_err("missing").code, "input-missing");
        let failure = check(json!({"port": 50})).expect_err("too large");
        assert_eq!(failure.code, "input-invalid");
        assert!(failure.message.starts_with("input `port`"), "{}", failure.message);
    }
}
