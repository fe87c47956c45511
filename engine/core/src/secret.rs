//! Secret values, and what stands in their place.
//!
//! Wherever a value is kept, compared, planned with or shown, a secret is a **token**: an object with one key, `$secret`,
//! and a digest under a key of its own (HMAC-SHA-256, RFC 2104, over the canonical JSON of the value). Two secrets are the
//! same exactly when their tokens are, and a token says nothing else to whoever does not have the key. The values are sealed
//! apart from everything; only whoever performs a job puts them in the place of their tokens.

mod lineage;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use hmac::{Hmac, Mac as _};
use serde_json::{Map, Value};
use sha2::Sha256;

use crate::digest;
use crate::document::DeploymentDoc;

pub use lineage::{Reader, lineage};

/// The one key of a token.
const KEY: &str = "$secret";
/// What a digest is made for, so that the key serves nothing else.
const PURPOSE: &[u8] = b"plinth secret 1\0";
/// Hex digits of a digest.
const DIGITS: usize = 64;

/// Values by the digests of their tokens. Shows nothing of them when it is printed.
#[derive(Clone, Default, PartialEq)]
pub struct Clear(BTreeMap<String, Value>);

/// The key of digests. Shows nothing of itself when it is printed.
#[derive(Clone)]
pub struct DigestKey([u8; 32]);

/// A token whose value is not at hand.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nobody knows the secret {0}")]
pub struct UnknownSecret(pub String);

impl DigestKey {
    /// Of these bytes, which should be random.
    pub fn new(key: [u8; 32]) -> Self {
        Self(key)
    }

    /// For looks at documents after which nothing is kept.
    pub fn of_nobody() -> Self {
        Self([0; 32])
    }

    /// What stands for a value.
    pub fn token(&self, value: &Value) -> Value {
        Value::Object(Map::from_iter([(KEY.to_owned(), Value::String(self.digest(value)))]))
    }

    /// The digest in its token.
    pub fn digest(&self, value: &Value) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("any length will do");
        mac.update(PURPOSE);
        mac.update(digest::canonical(value).as_bytes());
        hex::encode(mac.finalize().into_bytes())
    }

    /// Puts its token in the place of a value, and remembers the value. A token stays as it is.
    pub fn hide(&self, value: &mut Value, clear: &mut Clear) {
        if digest_of(value).is_none() {
            let digest = self.digest(value);
            let token = Value::Object(Map::from_iter([(KEY.to_owned(), Value::String(digest.clone()))]));
            clear.0.insert(digest, std::mem::replace(value, token));
        }
    }
}

impl fmt::Debug for DigestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DigestKey")
    }
}

impl Clear {
    /// One more.
    pub fn insert(&mut self, digest: String, value: Value) {
        self.0.insert(digest, value);
    }

    /// All of these as well.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Each digest with its value.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.0.iter()
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value of a digest.
    pub fn get(&self, digest: &str) -> Option<&Value> {
        self.0.get(digest)
    }

    /// Puts values in the place of their tokens, wherever there are any.
    ///
    /// # Errors
    /// The first token whose value is not here.
    pub fn open(&self, value: &mut Value) -> Result<(), UnknownSecret> {
        if let Some(digest) = digest_of(value) {
            *value = self.0.get(digest).cloned().ok_or_else(|| UnknownSecret(digest.to_owned()))?;
            return Ok(());
        }
        match value {
            Value::Array(items) => items.iter_mut().try_for_each(|item| self.open(item)),
            Value::Object(items) => items.values_mut().try_for_each(|item| self.open(item)),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Clear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clear({})", self.0.len())
    }
}

/// The digest of a token; nothing of what is none.
pub fn digest_of(value: &Value) -> Option<&str> {
    let object = value.as_object().filter(|object| object.len() == 1)?;
    let digest = object.get(KEY)?.as_str()?;
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    (digest.len() == DIGITS && digest.bytes().all(hex)).then_some(digest)
}

/// Collects the digests of all tokens in a value.
pub fn digests(value: &Value, into: &mut BTreeSet<String>) {
    if let Some(digest) = digest_of(value) {
        into.insert(digest.to_owned());
        return;
    }
    match value {
        Value::Array(items) => items.iter().for_each(|item| digests(item, into)),
        Value::Object(items) => items.values().for_each(|item| digests(item, into)),
        _ => {}
    }
}

/// Is there a token in it?
pub fn any(value: &Value) -> bool {
    if digest_of(value).is_some() {
        return true;
    }
    match value {
        Value::Array(items) => items.iter().any(any),
        Value::Object(items) => items.values().any(any),
        _ => false,
    }
}

/// Does a schema say that nobody reads what is written (`writeOnly`, JSON Schema validation, section 9.4), of the whole or of
/// a part?
pub fn is_write_only(schema: &Value) -> bool {
    match schema {
        Value::Object(object) => {
            object.get("writeOnly") == Some(&Value::Bool(true)) || object.values().any(is_write_only)
        }
        Value::Array(items) => items.iter().any(is_write_only),
        _ => false,
    }
}

/// The values of a document that may be tokens: parameters, and values set for inputs.
pub fn places(document: &mut DeploymentDoc) -> impl Iterator<Item = (String, &mut Value)> {
    let DeploymentDoc { parameters, set, .. } = document;
    let of_parameters = parameters.iter_mut().map(|(name, value)| (format!("/parameters/{name}"), value));
    let everywhere = set.deployment.iter_mut().map(|(key, value)| (format!("/set/deployment/{key}"), value));
    let in_groups = set
        .groups
        .iter_mut()
        .flat_map(|(group, values)| values.iter_mut().map(move |(key, value)| (format!("/set/{group}/{key}"), value)));
    let on_nodes = set.nodes.iter_mut().flat_map(|(node, values)| {
        values.iter_mut().map(move |(key, value)| (format!("/set/nodes/{node}/{key}"), value))
    });
    of_parameters.chain(everywhere).chain(in_groups).chain(on_nodes)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_token_says_what_is_the_same_and_nothing_else() {
        let key = DigestKey::new([7; 32]);
        let (one, two) = (json!({"user": "u", "password": "hunter2"}), json!({"password": "hunter2", "user": "u"}));
        assert_eq!(key.token(&one), key.token(&two));
        assert_ne!(key.token(&json!("hunter2")), key.token(&json!("hunter3")));
        assert_ne!(key.token(&one), DigestKey::new([8; 32]).token(&one));
        assert!(!key.token(&one).to_string().contains("hunter2"));
        assert!(!format!("{key:?}").contains('7'));
    }

    #[test]
    fn what_is_hidden_is_opened_wherever_it_stands() {
        let key = DigestKey::new([7; 32]);
        let mut clear = Clear::default();
        let mut first = json!("hunter2");
        key.hide(&mut first, &mut clear);
        let token = first.clone();
        key.hide(&mut first, &mut clear);
        assert_eq!(first, token, "a token is not hidden once more");
        assert!(!format!("{clear:?}").contains("hunter2"));
        let mut within = json!({"a": [1, token], "b": token, "c": {"$secret": "no digest"}});
        assert!(any(&within) && !any(&json!({"c": {"$secret": "no digest"}})));
        clear.open(&mut within).expect("all are known");
        assert_eq!(within, json!({"a": [1, "hunter2"], "b": "hunter2", "c": {"$secret": "no digest"}}));
        let mut other = key.token(&json!("other"));
        let digest = digest_of(&other).expect("a token").to_owned();
        assert_eq!(clear.open(&mut other), Err(UnknownSecret(digest)));
    }

    #[test]
    fn write_only_is_found_in_parts_too() {
        assert!(is_write_only(&json!({"type": "string", "writeOnly": true})));
        assert!(is_write_only(&json!({"properties": {"password": {"writeOnly": true}}})));
        assert!(!is_write_only(&json!({"type": "string", "writeOnly": false})));
    }
}
