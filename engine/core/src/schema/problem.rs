//! What the validator found, in words for the person who wrote the document.

use jsonschema::error::{TypeKind, ValidationErrorKind};
use jsonschema::{ValidationError, Validator};
use serde_json::Value;

use super::SchemaError;
use super::walk::escape;

/// One thing that is wrong with a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// JSON pointer of the place in the value.
    pub pointer: String,
    /// What is wrong, one sentence.
    pub message: String,
    /// What would have been right.
    pub expected: Option<String>,
    /// The keyword of JSON Schema that refused: `type`, `required`, `additionalProperties`, …
    pub keyword: &'static str,
}

impl Problem {
    pub(super) fn of_schema(error: &SchemaError) -> Self {
        Self { pointer: String::new(), message: error.to_string(), expected: None, keyword: "$schema" }
    }

    /// A stable code for documents: `unknown-key`, `missing-key`, `wrong-type` or `wrong-value`.
    pub fn code(&self) -> &'static str {
        match self.keyword {
            "additionalProperties" | "unevaluatedProperties" | "propertyNames" => "unknown-key",
            "required" => "missing-key",
            "type" => "wrong-type",
            "$schema" => "invalid-schema",
            _ => "wrong-value",
        }
    }

    /// Is it about the key that the pointer ends in, rather than about its value?
    pub fn is_about_key(&self) -> bool {
        self.code() == "unknown-key"
    }
}

/// Everything that is wrong with a value.
pub(super) fn collect(validator: &Validator, schema: &Value, value: &Value, secret: bool) -> Vec<Problem> {
    let reader = Reader { schema, secret };
    let mut problems: Vec<Problem> = validator.iter_errors(value).flat_map(|error| reader.read(&error)).collect();
    problems.dedup();
    problems
}

/// What the meta-schema found, in one sentence.
pub(super) fn of_meta(error: &ValidationError<'_>) -> String {
    match (error.kind(), error.instance_path().as_str().rsplit_once('/')) {
        (ValidationErrorKind::AnyOf { .. }, Some((_, "type"))) => {
            format!(
                "{} is not a type; expected one of string, integer, number, boolean, object, array, null",
                quoted(error.instance())
            )
        }
        (ValidationErrorKind::Format { format }, _) => format!("{} is not a valid {format}", quoted(error.instance())),
        _ => error.to_string(),
    }
}

struct Reader<'a> {
    schema: &'a Value,
    secret: bool,
}

impl Reader<'_> {
    fn read(&self, error: &ValidationError<'_>) -> Vec<Problem> {
        use ValidationErrorKind as Kind;
        let at = error.instance_path().as_str();
        match error.kind() {
            Kind::AdditionalProperties { unexpected } | Kind::UnevaluatedProperties { unexpected } => unexpected
                .iter()
                .map(|key| Problem {
                    pointer: format!("{at}/{}", escape(key)),
                    message: format!("`{key}` is not a known key"),
                    expected: self.known_keys(error, key),
                    keyword: "additionalProperties",
                })
                .collect(),
            Kind::AnyOf { context } | Kind::OneOfNotValid { context } => match best(context, at) {
                Some(branch) => branch.iter().flat_map(|inner| self.read(inner)).collect(),
                None => vec![self.no_form(error)],
            },
            Kind::OneOfMultipleValid { .. } => vec![self.several_forms(error)],
            Kind::Required { property } => {
                let key = property.as_str().unwrap_or_default();
                let expected = self.title_of_key(error, key);
                vec![Problem { expected, ..self.one(error, format!("`{key}` is missing"), "required") }]
            }
            Kind::Type { kind } => {
                let expected = types(kind);
                let message = format!("{} is {}", subject(error), with_article(type_of(error.instance())));
                vec![Problem { expected: Some(expected), ..self.one(error, message, "type") }]
            }
            Kind::Enum { options } => {
                let known = options.as_array().map(|all| all.iter().map(quoted).collect::<Vec<_>>().join(", "));
                let message = format!("{} is not one of the allowed values", self.shown(error));
                vec![Problem {
                    expected: known.map(|known| format!("one of {known}")),
                    ..self.one(error, message, "enum")
                }]
            }
            Kind::Constant { expected_value } => {
                let message = format!("{} is not the expected value", self.shown(error));
                vec![Problem { expected: Some(quoted(expected_value)), ..self.one(error, message, "const") }]
            }
            Kind::Pattern { pattern } => {
                let message = format!("{} does not have the right form", self.shown(error));
                let problem = self.one(error, message, "pattern");
                let expected = problem.expected.clone().or_else(|| Some(format!("text that matches `{pattern}`")));
                vec![Problem { expected, ..problem }]
            }
            Kind::Format { format } => {
                vec![self.one(error, format!("{} is not a valid {format}", self.shown(error)), "format")]
            }
            Kind::PropertyNames { error: inner } => {
                let key = inner.instance().as_str().unwrap_or_default();
                let problem = self.one(inner, format!("`{key}` can not be a key here"), "propertyNames");
                vec![Problem { pointer: format!("{at}/{}", escape(key)), ..problem }]
            }
            Kind::FalseSchema => vec![self.one(error, format!("{} is not allowed here", subject(error)), "false")],
            Kind::Minimum { limit } => vec![self.limited(error, &format!("below {limit}"))],
            Kind::Maximum { limit } => vec![self.limited(error, &format!("above {limit}"))],
            Kind::MinLength { limit: 1 } | Kind::MinItems { limit: 1 } | Kind::MinProperties { limit: 1 } => {
                vec![self.one(error, format!("{} is empty", subject(error)), "minimum")]
            }
            Kind::UniqueItems => {
                vec![self.one(error, format!("{} has an element twice", subject(error)), "uniqueItems")]
            }
            _ => {
                let message = if self.secret { error.masked().to_string() } else { error.to_string() };
                vec![self.one(error, message, "other")]
            }
        }
    }

    fn limited(&self, error: &ValidationError<'_>, how: &str) -> Problem {
        self.one(error, format!("{} is {how}", self.shown(error)), "limit")
    }

    /// None of the branches of a choice.
    fn no_form(&self, error: &ValidationError<'_>) -> Problem {
        let keys = self.choice_of_keys(error);
        if keys.is_empty() {
            let titles: Vec<&str> =
                self.branches(error).iter().filter_map(|branch| branch.get("title")?.as_str()).collect();
            let problem = self.one(error, format!("{} has none of the allowed forms", subject(error)), "anyOf");
            let expected = problem.expected.clone().or_else(|| (!titles.is_empty()).then(|| titles.join(", or ")));
            return Problem { expected, ..problem };
        }
        let list = keys.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
        let message = format!("{} has none of the keys of which it takes one", subject(error));
        Problem { expected: Some(format!("one of {list}")), ..self.one(error, message, "required") }
    }

    /// More than one branch of a choice.
    fn several_forms(&self, error: &ValidationError<'_>) -> Problem {
        let keys = self.choice_of_keys(error);
        let given: Vec<String> =
            keys.iter().filter(|key| error.instance().get(**key).is_some()).map(|key| format!("`{key}`")).collect();
        let message = match given.as_slice() {
            [_, _, ..] => format!("{} exclude each other", given.join(" and ")),
            _ => format!("{} has several of the allowed forms at once", subject(error)),
        };
        Problem { expected: Some("only one of them".to_owned()), ..self.one(error, message, "oneOf") }
    }

    /// The branches of the choice that refused.
    fn branches(&self, error: &ValidationError<'_>) -> &[Value] {
        self.schema
            .pointer(error.schema_path().as_str())
            .and_then(Value::as_array)
            .map(Vec::as_slice)
            .unwrap_or_default()
    }

    /// Where every branch of a choice only requires one key: these keys.
    fn choice_of_keys(&self, error: &ValidationError<'_>) -> Vec<&str> {
        let only_key = |branch: &'_ Value| match branch.as_object() {
            Some(object) if object.len() == 1 => {
                object.get("required")?.as_array()?.first()?.as_str().map(str::to_owned)
            }
            _ => None,
        };
        let branches = self.branches(error);
        if branches.iter().all(|branch| only_key(branch).is_some()) {
            branches.iter().filter_map(|branch| branch["required"][0].as_str()).collect()
        } else {
            Vec::new()
        }
    }

    fn one(&self, error: &ValidationError<'_>, message: String, keyword: &'static str) -> Problem {
        let expected = self.said_by_schema(error);
        Problem { pointer: error.instance_path().as_str().to_owned(), message, expected, keyword }
    }

    /// `title` of the schema that refused, which our schemas use for "what belongs here".
    fn said_by_schema(&self, error: &ValidationError<'_>) -> Option<String> {
        Some(self.refusing(error)?.get("title")?.as_str()?.to_owned())
    }

    /// `title` of what belongs under a key that is missing.
    fn title_of_key(&self, error: &ValidationError<'_>, key: &str) -> Option<String> {
        let declared = self.refusing(error)?.get("properties")?.get(key)?;
        let named = declared
            .get("$ref")
            .and_then(Value::as_str)
            .and_then(|target| self.schema.pointer(target.strip_prefix('#')?));
        Some(declared.get("title").or_else(|| named?.get("title"))?.as_str()?.to_owned())
    }

    fn refusing(&self, error: &ValidationError<'_>) -> Option<&Value> {
        let (parent, _) = error.schema_path().as_str().rsplit_once('/')?;
        self.schema.pointer(parent)
    }

    fn known_keys(&self, error: &ValidationError<'_>, wrong: &str) -> Option<String> {
        let known: Vec<&String> = self.refusing(error)?.get("properties")?.as_object()?.keys().collect();
        let near = known.iter().map(|key| (distance(key, wrong), key)).min().filter(|(steps, _)| *steps <= 2);
        match near {
            Some((_, key)) => Some(format!("`{key}`")),
            None if known.is_empty() => Some("no keys".to_owned()),
            None => {
                Some(format!("one of {}", known.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ")))
            }
        }
    }

    fn shown(&self, error: &ValidationError<'_>) -> String {
        if self.secret { subject(error) } else { quoted(error.instance()) }
    }
}

/// The key or index that the error is about.
fn subject(error: &ValidationError<'_>) -> String {
    match error.instance_path().as_str().rsplit_once('/') {
        Some((_, last)) if last.bytes().all(|byte| byte.is_ascii_digit()) => format!("element {last}"),
        Some((_, last)) => format!("`{}`", last.replace("~1", "/").replace("~0", "~")),
        None => "the value".to_owned(),
    }
}

/// The branch that was most likely meant: the one with the fewest complaints about the value itself, none of them its type.
fn best<'a>(context: &'a [Vec<ValidationError<'static>>], at: &str) -> Option<&'a [ValidationError<'static>]> {
    let own = |error: &&ValidationError<'static>| error.instance_path().as_str() == at;
    let wrong_type = |branch: &&Vec<ValidationError<'static>>| {
        branch.iter().filter(own).any(|error| matches!(error.kind(), ValidationErrorKind::Type { .. }))
    };
    let mut candidates: Vec<(usize, &Vec<ValidationError<'static>>)> = context
        .iter()
        .filter(|branch| !wrong_type(branch))
        .map(|branch| (branch.iter().filter(own).count(), branch))
        .collect();
    candidates.sort_by_key(|(complaints, _)| *complaints);
    match candidates.as_slice() {
        [(_, only)] => Some(only),
        [(first, branch), (second, _), ..] if first < second => Some(branch),
        _ => None,
    }
}

fn quoted(value: &Value) -> String {
    const LONGEST: usize = 60;
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("`{}…`", &text[..end]),
        None => format!("`{text}`"),
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn types(kind: &TypeKind) -> String {
    match kind {
        TypeKind::Single(one) => with_article(&one.to_string()),
        TypeKind::Multiple(many) => {
            many.iter().map(|one| with_article(&one.to_string())).collect::<Vec<_>>().join(" or ")
        }
    }
}

fn with_article(name: &str) -> String {
    match name {
        "null" => "empty (null)".to_owned(),
        "integer" | "array" | "object" => format!("an {name}"),
        other => format!("a {other}"),
    }
}

/// Edits between two words.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, b) in other.iter().enumerate() {
            let replaced = corner + usize::from(a != *b);
            corner = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(corner + 1);
        }
    }
    row[other.len()]
}
