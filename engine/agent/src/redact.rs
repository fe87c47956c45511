//! Takes the values of secrets out of everything that people read.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use engine_core::document::Object;
use serde_json::Value;

use crate::protocol::{Diff, StepResult};

/// Shorter values would make a log unreadable and hide nothing.
const SHORTEST: usize = 4;

/// What stands in place of a secret.
const MASK: &str = "[secret]";

/// Knows the values that must not be seen: as they are, line by line, as JSON and as base64.
#[derive(Clone, Debug, Default)]
pub(crate) struct Redactor {
    needles: Vec<String>,
}

impl Redactor {
    /// For the secret ones among the inputs.
    pub(crate) fn new(inputs: &Object, secret: &[String]) -> Self {
        let mut needles = Vec::new();
        for value in secret.iter().filter_map(|name| inputs.get(name)) {
            collect(value, &mut needles);
        }
        needles.retain(|needle| needle.len() >= SHORTEST);
        // The longest first, or a part of a secret would be cut out of the whole.
        needles.sort_by(|a, b| b.len().cmp(&a.len()).then(a.cmp(b)));
        needles.dedup();
        Self { needles }
    }

    /// The text without secrets.
    pub(crate) fn text(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for needle in &self.needles {
            if text.contains(needle.as_str()) {
                text = text.replace(needle.as_str(), MASK);
            }
        }
        text
    }

    /// Is there a secret in it?
    pub(crate) fn finds(&self, bytes: &[u8]) -> bool {
        let text = String::from_utf8_lossy(bytes);
        self.needles.iter().any(|needle| text.contains(needle))
    }

    /// The result of a step without secrets.
    pub(crate) fn result(&self, result: StepResult) -> StepResult {
        if self.needles.is_empty() {
            return result;
        }
        let diff = |diff: Diff| Diff { what: self.text(&diff.what), text: self.text(&diff.text) };
        StepResult {
            title: self.text(&result.title),
            diffs: result.diffs.into_iter().map(diff).collect(),
            effects: result.effects.iter().map(|effect| self.text(effect)).collect(),
            ..result
        }
    }
}

fn collect(value: &Value, needles: &mut Vec<String>) {
    match value {
        Value::String(text) => {
            needles.push(text.clone());
            needles.push(STANDARD.encode(text));
            needles.push(Value::String(text.clone()).to_string().trim_matches('"').to_owned());
            // A line of a PEM or of a password file is as telling as the whole; a brace is not.
            needles.extend(text.lines().map(str::trim).filter(|line| line.len() >= 2 * SHORTEST).map(str::to_owned));
        }
        Value::Number(number) => needles.push(number.to_string()),
        Value::Array(items) => items.iter().for_each(|item| collect(item, needles)),
        Value::Object(items) => items.values().for_each(|item| collect(item, needles)),
        Value::Null | Value::Bool(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_go_in_every_form() {
        let inputs = json!({"password": "p\"ssw0rd", "keys": {"a": "line one of it\nline two of it"}, "port": 2379, "no": "visible"});
        let secret = ["password".to_owned(), "keys".to_owned()];
        let redactor = Redactor::new(inputs.as_object().unwrap(), &secret);
        assert_eq!(redactor.text(r#"x p"ssw0rd y"#), "x [secret] y");
        assert_eq!(redactor.text(r#"{"password":"p\"ssw0rd"}"#), r#"{"password":"[secret]"}"#);
        assert_eq!(redactor.text("+line two of it"), "+[secret]");
        assert_eq!(redactor.text(&STANDARD.encode("p\"ssw0rd")), "[secret]");
        assert_eq!(redactor.text("visible 2379"), "visible 2379");
    }
}
