//! Templates: one strict MiniJinja for engine and agent alike.
//!
//! A template sees exactly the variables it is given. What is undefined is an error, nothing is escaped, a template
//! can not load another, and it runs out of fuel before it can hang. In a JSON value a string that is exactly one
//! `{{ expression }}` keeps the expression's type; any other string is text.
//!
//! Blocks (`{% … %}`) that stand alone on a line leave no empty line behind, and the last newline of a text is kept.
//! *Shell* texts differ in one thing: `{#` is no comment there, for bash writes `${#array[@]}`.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior};
use serde_json::{Map, Number, Value};
use sha2::{Digest as _, Sha256};

use crate::document::{Object, Step};

/// Instructions that one template may execute.
const FUEL: u64 = 2_000_000;

/// Why a template can not be rendered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// It does not parse.
    #[error("template does not parse: {0}")]
    Syntax(String),
    /// It reads something that is not there.
    #[error("template reads something undefined: {0}")]
    Undefined(String),
    /// It computes too long.
    #[error("template takes too many instructions")]
    Endless,
    /// Anything else, such as adding text to a number.
    #[error("template fails: {0}")]
    Failed(String),
    /// A `for:` that is not `NAME in EXPRESSION`.
    #[error("`for: {0}` is not `NAME in EXPRESSION`")]
    For(String),
    /// A `for:` over something that has no elements.
    #[error("`for: {0}` needs an array or an object")]
    NotALoop(String),
}

impl TemplateError {
    /// Stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Syntax(_) => "template-syntax",
            Self::Undefined(_) => "template-undefined",
            Self::Endless => "template-endless",
            Self::Failed(_) => "template-failed",
            Self::For(_) => "for-malformed",
            Self::NotALoop(_) => "for-not-a-loop",
        }
    }

    fn from(error: &Error) -> Self {
        let mut text = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
        if let Some(line) = error.line().filter(|line| *line > 1) {
            text = format!("line {line}: {text}");
        }
        match error.kind() {
            ErrorKind::SyntaxError | ErrorKind::UnknownFilter | ErrorKind::UnknownTest => Self::Syntax(text),
            ErrorKind::UndefinedError => Self::Undefined(text),
            ErrorKind::OutOfFuel => Self::Endless,
            _ => Self::Failed(text),
        }
    }
}

/// How a text is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syntax {
    /// Jinja as everybody knows it.
    Plain,
    /// For bash: `{#` does not begin a comment.
    Shell,
}

/// The variables that a text reads, `range`, `dict` and the like left out.
///
/// # Errors
/// `Syntax` when it does not parse.
pub fn undeclared(source: &str, syntax: Syntax) -> Result<BTreeSet<String>, TemplateError> {
    let environment = environment(syntax);
    let template = environment.template_from_str(source).map_err(|error| TemplateError::from(&error))?;
    Ok(without_globals(environment, template.undeclared_variables(false)))
}

/// The variables that an expression (a `when:`) reads.
///
/// # Errors
/// `Syntax` when it does not parse.
pub fn undeclared_in_expression(source: &str) -> Result<BTreeSet<String>, TemplateError> {
    let environment = environment(Syntax::Plain);
    let expression = environment.compile_expression(source).map_err(|error| TemplateError::from(&error))?;
    Ok(without_globals(environment, expression.undeclared_variables(false)))
}

/// The variables that the strings of a JSON value read.
///
/// # Errors
/// `Syntax` of the first that does not parse.
pub fn undeclared_in_value(value: &Value) -> Result<BTreeSet<String>, TemplateError> {
    let mut names = BTreeSet::new();
    each_text(value, Syntax::Plain, &mut |text, syntax| {
        names.extend(undeclared(text, syntax)?);
        Ok(())
    })?;
    Ok(names)
}

/// The variables that a step reads: its arguments, `when` and `for`; the item of its own `for` left out.
///
/// # Errors
/// `Syntax` or `For` of the first that does not parse.
pub fn undeclared_in_step(step: &Step) -> Result<BTreeSet<String>, TemplateError> {
    let mut names = BTreeSet::new();
    let mut visit = |text: &str, syntax| {
        names.extend(undeclared(text, syntax)?);
        Ok(())
    };
    match &step.args {
        Value::Object(args) => args
            .iter()
            .filter(|(key, _)| !is_literal(&step.kind, key))
            .try_for_each(|(key, value)| each_text(value, argument_syntax(&step.kind, key), &mut visit))?,
        args => each_text(args, argument_syntax(&step.kind, ""), &mut visit)?,
    }
    if let Some(when) = &step.when {
        names.extend(undeclared_in_expression(when)?);
    }
    if let Some(each) = &step.each {
        let (item, expression) = split_for(each)?;
        names.remove(item);
        names.extend(undeclared_in_expression(expression)?);
    }
    Ok(names)
}

/// Splits `NAME in EXPRESSION`.
///
/// # Errors
/// `For` when it is something else.
pub fn split_for(text: &str) -> Result<(&str, &str), TemplateError> {
    let wrong = || TemplateError::For(text.to_owned());
    let (name, expression) = text.split_once(" in ").ok_or_else(wrong)?;
    let (name, expression) = (name.trim(), expression.trim());
    if is_identifier(name) && !expression.is_empty() { Ok((name, expression)) } else { Err(wrong()) }
}

/// Renders a text.
///
/// # Errors
/// See [`TemplateError`].
pub fn text(source: &str, variables: &Object, syntax: Syntax) -> Result<String, TemplateError> {
    if !source.contains('{') {
        return Ok(source.to_owned());
    }
    let rendered = environment(syntax)
        .template_from_str(source)
        .and_then(|template| template.render(minijinja::Value::from(Serde(variables))))
        .map_err(|error| TemplateError::from(&error));
    match rendered {
        // Inside a text the engine does not say which name it was.
        Err(TemplateError::Undefined(text)) => {
            let missing = undeclared(source, syntax)?.into_iter().filter(|name| !variables.contains_key(name));
            let missing: Vec<String> = missing.collect();
            Err(TemplateError::Undefined(if missing.is_empty() { text } else { missing.join(", ") }))
        }
        other => other,
    }
}

/// Evaluates an expression, keeping its type.
///
/// # Errors
/// See [`TemplateError`].
pub fn expression(source: &str, variables: &Object) -> Result<Value, TemplateError> {
    let result = environment(Syntax::Plain)
        .compile_expression(source)
        .and_then(|expression| expression.eval(minijinja::Value::from(Serde(variables))))
        .map_err(|error| TemplateError::from(&error))?;
    to_json(&result, source)
}

/// Is an expression (a `when:`) true?
///
/// # Errors
/// See [`TemplateError`].
pub fn holds(source: &str, variables: &Object) -> Result<bool, TemplateError> {
    Ok(match expression(source, variables)? {
        Value::Null => false,
        Value::Bool(yes) => yes,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(items) => !items.is_empty(),
    })
}

/// The name and the items of a `for:`. An object gives its keys, as in Jinja.
///
/// # Errors
/// See [`TemplateError`].
pub fn items<'a>(each: &'a str, variables: &Object) -> Result<(&'a str, Vec<Value>), TemplateError> {
    let (name, source) = split_for(each)?;
    match expression(source, variables)? {
        Value::Array(items) => Ok((name, items)),
        Value::Object(items) => Ok((name, items.into_iter().map(|(key, _)| Value::String(key)).collect())),
        _ => Err(TemplateError::NotALoop(each.to_owned())),
    }
}

/// Renders every string of a JSON value. Keys are left as they are.
///
/// # Errors
/// See [`TemplateError`].
pub fn value(source: &Value, variables: &Object) -> Result<Value, TemplateError> {
    value_in(source, variables, Syntax::Plain)
}

/// Renders the arguments of a step; texts of `run` are shell texts.
///
/// # Errors
/// See [`TemplateError`].
pub fn step_arguments(step: &Step, variables: &Object) -> Result<Value, TemplateError> {
    let Value::Object(args) = &step.args else {
        return value_in(&step.args, variables, argument_syntax(&step.kind, ""));
    };
    let mut rendered = Map::new();
    for (key, argument) in args {
        let argument = if is_literal(&step.kind, key) {
            argument.clone()
        } else {
            value_in(argument, variables, argument_syntax(&step.kind, key))?
        };
        rendered.insert(key.clone(), argument);
    }
    Ok(Value::Object(rendered))
}

/// Does a text hold anything that a template would replace?
pub fn is_template(text: &str) -> bool {
    text.contains("{{") || text.contains("{%")
}

/// A schema is no template: its patterns are for the validator.
fn is_literal(kind: &str, key: &str) -> bool {
    (kind, key) == ("run", "output")
}

fn argument_syntax(kind: &str, key: &str) -> Syntax {
    match (kind, key) {
        ("run", _) | (_, "unless" | "command") => Syntax::Shell,
        _ => Syntax::Plain,
    }
}

fn each_text(
    value: &Value,
    syntax: Syntax,
    visit: &mut impl FnMut(&str, Syntax) -> Result<(), TemplateError>,
) -> Result<(), TemplateError> {
    match value {
        Value::String(text) => visit(text, syntax),
        Value::Array(items) => items.iter().try_for_each(|item| each_text(item, syntax, visit)),
        Value::Object(items) => items.values().try_for_each(|item| each_text(item, syntax, visit)),
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
    }
}

fn value_in(source: &Value, variables: &Object, syntax: Syntax) -> Result<Value, TemplateError> {
    Ok(match source {
        Value::String(source) => match sole_expression(source) {
            Some(inner) => expression(inner, variables)?,
            None => Value::String(text(source, variables, syntax)?),
        },
        Value::Array(items) => {
            Value::Array(items.iter().map(|item| value_in(item, variables, syntax)).collect::<Result<_, _>>()?)
        }
        Value::Object(items) => {
            let render = |(key, item): (&String, &Value)| Ok((key.clone(), value_in(item, variables, syntax)?));
            Value::Object(items.iter().map(render).collect::<Result<_, _>>()?)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => source.clone(),
    })
}

/// The expression of a string that is exactly one `{{ expression }}`.
pub fn sole_expression(text: &str) -> Option<&str> {
    let inner = text.strip_prefix("{{")?.strip_suffix("}}")?;
    let inner = inner.strip_prefix('-').unwrap_or(inner);
    let inner = inner.strip_suffix('-').unwrap_or(inner);
    // `{{ a }}-{{ b }}` begins and ends like one, but its inside is no expression.
    environment(Syntax::Plain).compile_expression(inner).is_ok().then_some(inner.trim())
}

fn without_globals(environment: &Environment<'_>, names: impl IntoIterator<Item = String>) -> BTreeSet<String> {
    let globals: BTreeSet<&str> = environment.globals().map(|(name, _)| name).collect();
    names.into_iter().filter(|name| !globals.contains(name.as_str())).collect()
}

fn is_identifier(name: &str) -> bool {
    let mut letters = name.chars();
    letters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && letters.all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
}

fn environment(syntax: Syntax) -> &'static Environment<'static> {
    static PLAIN: LazyLock<Environment<'static>> = LazyLock::new(|| build(Syntax::Plain));
    static SHELL: LazyLock<Environment<'static>> = LazyLock::new(|| build(Syntax::Shell));
    match syntax {
        Syntax::Plain => &PLAIN,
        Syntax::Shell => &SHELL,
    }
}

fn build(syntax: Syntax) -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_fuel(Some(FUEL));
    let mut config = SyntaxConfig::builder();
    config.trim_blocks(true).lstrip_blocks(true).keep_trailing_newline(true);
    if syntax == Syntax::Shell {
        config.comment_delimiters("{#!", "!#}");
    }
    environment.set_syntax(config.build().expect("the delimiters are distinct"));
    // It would print every variable, secrets too.
    environment.remove_global("debug");
    environment.add_filter("shell_quote", shell_quote);
    environment.add_filter("sha256", |text: String| hex::encode(Sha256::digest(text)));
    environment.add_filter("b64encode", |text: String| STANDARD.encode(text));
    environment.add_filter("tojson", to_json_text);
    environment
}

/// As in Jinja, but without HTML's escapes: `&` in a configuration file stays `&`.
fn to_json_text(value: &minijinja::Value, options: Kwargs) -> Result<String, Error> {
    let indent: Option<bool> = options.get::<Option<u32>>("indent")?.map(|spaces| spaces > 0);
    options.assert_all_used()?;
    let fail = |error: String| Error::new(ErrorKind::BadSerialization, error);
    let value = to_json(value, "tojson").map_err(|error| fail(error.to_string()))?;
    if indent == Some(true) { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }
        .map_err(|error| fail(error.to_string()))
}

/// One word for bash, or all elements of an array as words.
fn shell_quote(value: &minijinja::Value) -> Result<String, Error> {
    if matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable) {
        let words: Result<Vec<String>, Error> = value.try_iter()?.map(|item| shell_quote(&item)).collect();
        return Ok(words?.join(" "));
    }
    if !matches!(value.kind(), ValueKind::String | ValueKind::Number | ValueKind::Bool) {
        return Err(Error::new(ErrorKind::InvalidOperation, format!("a {} is no shell word", value.kind())));
    }
    Ok(format!("'{}'", value.to_string().replace('\'', r"'\''")))
}

/// Like serialising, but what is undefined or no data is an error instead of null.
fn to_json(value: &minijinja::Value, what: &str) -> Result<Value, TemplateError> {
    let failed = |error: Error| TemplateError::from(&error);
    Ok(match value.kind() {
        ValueKind::Undefined => return Err(TemplateError::Undefined(what.to_owned())),
        ValueKind::None => Value::Null,
        ValueKind::Bool => Value::Bool(value.is_true()),
        ValueKind::Number => Value::Number(number(value)),
        ValueKind::String => Value::String(value.as_str().unwrap_or_default().to_owned()),
        ValueKind::Seq | ValueKind::Iterable => {
            let items: Result<Vec<Value>, _> =
                value.try_iter().map_err(failed)?.map(|item| to_json(&item, what)).collect();
            Value::Array(items?)
        }
        ValueKind::Map => {
            let mut object = Map::new();
            for key in value.try_iter().map_err(failed)? {
                let item = value.get_item(&key).map_err(failed)?;
                object.insert(key.to_string(), to_json(&item, what)?);
            }
            Value::Object(object)
        }
        kind => return Err(TemplateError::Failed(format!("`{what}` gives a {kind}, which is no data"))),
    })
}

fn number(value: &minijinja::Value) -> Number {
    if let Ok(number) = i64::try_from(value.clone()) {
        // 2.0 stays 2.0, but what was counted is whole.
        if value.is_integer() {
            return number.into();
        }
    }
    if let (true, Ok(number)) = (value.is_integer(), u64::try_from(value.clone())) {
        return number.into();
    }
    f64::try_from(value.clone()).ok().and_then(Number::from_f64).unwrap_or_else(|| 0.into())
}

#[cfg(test)]
mod tests;
