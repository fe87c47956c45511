//! Arguments of steps, after rendering.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::Value;

use crate::error::{Result, StepError};
use crate::facts;

/// Reads the arguments of a step into its type.
pub(crate) fn read<T: for<'de> Deserialize<'de>>(kind: &str, args: Value) -> Result<T> {
    serde_json::from_value(args).map_err(|error| StepError::argument(kind, error.to_string()))
}

/// A time span: `500ms`, `60s`, `2m`, `1h`, `7d`, or a number of seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span(pub(crate) Duration);

impl Span {
    pub(crate) const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }
}

impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0.subsec_millis() {
            0 => write!(f, "{} s", self.0.as_secs()),
            _ => write!(f, "{} ms", self.0.as_millis()),
        }
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        let value = Value::deserialize(from)?;
        let span = match &value {
            Value::Number(number) => number.as_u64().map(Duration::from_secs),
            Value::String(text) => span(text),
            _ => None,
        };
        span.map(Self).ok_or_else(|| D::Error::custom(format!("{value} is no time span such as `60s` or `2m`")))
    }
}

fn span(text: &str) -> Option<Duration> {
    let digits = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    Some(match unit {
        "ms" => Duration::from_millis(number),
        "" | "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(number.checked_mul(60)?),
        "h" => Duration::from_secs(number.checked_mul(3600)?),
        "d" => Duration::from_secs(number.checked_mul(86_400)?),
        _ => return None,
    })
}

/// An absolute path without `..`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct AbsPath(pub(crate) PathBuf);

impl<'de> Deserialize<'de> for AbsPath {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        absolute(&text).map(Self).ok_or_else(|| D::Error::custom(format!("`{text}` is no absolute path without `..`")))
    }
}

impl std::ops::Deref for AbsPath {
    type Target = Path;
    fn deref(&self) -> &Path {
        &self.0
    }
}

pub(crate) fn absolute(text: &str) -> Option<PathBuf> {
    let path = Path::new(text);
    let plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    // Collecting the components drops doubled and trailing slashes.
    (path.is_absolute() && plain && !text.contains('\0')).then(|| path.components().collect())
}

/// Permission bits as text, such as `"0640"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ModeBits(pub(crate) u32);

impl<'de> Deserialize<'de> for ModeBits {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        let value = Value::deserialize(from)?;
        let bits = value.as_str().and_then(|text| u32::from_str_radix(text, 8).ok()).filter(|bits| *bits <= 0o7777);
        bits.map(Self).ok_or_else(|| D::Error::custom(format!("mode {value} is no octal text such as \"0640\"")))
    }
}

/// One, many, or a map by `os.family` of either.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Names {
    One(String),
    Many(Vec<String>),
    ByFamily(BTreeMap<String, Names>),
}

impl Names {
    /// The names for this machine.
    pub(crate) fn here(&self, kind: &str) -> Result<Vec<String>> {
        match self {
            Self::One(name) => Ok(vec![name.clone()]),
            Self::Many(names) => Ok(names.clone()),
            Self::ByFamily(families) => {
                let family = facts::os().family;
                let missing = || StepError::argument(kind, format!("it has no name for the os family `{family}`"));
                families.get(&family).ok_or_else(missing)?.here(kind)
            }
        }
    }

    /// The only name for this machine.
    pub(crate) fn one(&self, kind: &str) -> Result<String> {
        match self.here(kind)?.as_slice() {
            [name] => Ok(name.clone()),
            names => Err(StepError::argument(kind, format!("it takes one name, not {}", names.len()))),
        }
    }
}

/// For `#[serde(default = …)]`.
pub(crate) fn yes() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn spans() {
        let check = |value: Value| read::<Span>("wait", value).map(|span| span.0.as_millis());
        assert_eq!(check(json!("500ms")).unwrap(), 500);
        assert_eq!(check(json!("2m")).unwrap(), 120_000);
        assert_eq!(check(json!(7)).unwrap(), 7000);
        assert_eq!(
            check(json!("soon")).unwrap_err().to_string(),
            "`wait`: \"soon\" is no time span such as `60s` or `2m`"
        );
    }

    #[test]
    fn paths_and_modes() {
        assert_eq!(absolute("/a//b/").unwrap(), Path::new("/a/b"));
        assert!(absolute("/a/../b").is_none() && absolute("a").is_none());
        assert_eq!(read::<ModeBits>("file", json!("0640")).unwrap().0, 0o640);
        assert!(read::<ModeBits>("file", json!(640)).is_err() && read::<ModeBits>("file", json!("9")).is_err());
    }
}
