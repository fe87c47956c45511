//! YAML to JSON values, with the line and column of every value and every key.

use std::collections::BTreeMap;
use std::fmt;

use engine_core::diagnostic::Diagnostic;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::{Location, Spanned};

/// A value as people read documents.
pub fn written(value: &Value) -> String {
    serde_saphyr::to_string(value).unwrap_or_else(|_| value.to_string())
}

/// A line and a column, both from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) line: u32,
    pub(crate) column: u32,
}

impl From<Location> for Place {
    fn from(location: Location) -> Self {
        let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX).max(1);
        Self { line: small(location.line()), column: small(location.column()) }
    }
}

/// Where the values and keys of a document stand, by JSON pointer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spans {
    values: BTreeMap<String, Place>,
    keys: BTreeMap<String, Place>,
}

impl Spans {
    /// Where a value stands; of the nearest one around it when it does not stand there itself.
    pub(crate) fn value(&self, pointer: &str) -> Option<Place> {
        let mut pointer = pointer;
        loop {
            if let Some(place) = self.values.get(pointer) {
                return Some(*place);
            }
            pointer = pointer.rsplit_once('/')?.0;
        }
    }

    /// The keys of the object under a pointer.
    pub(crate) fn keys_of<'s>(&'s self, pointer: &'s str) -> impl Iterator<Item = &'s str> + 's {
        self.keys
            .keys()
            .filter_map(move |key| key.strip_prefix(pointer)?.strip_prefix('/'))
            .filter(|rest| !rest.contains('/'))
    }

    /// Where a key stands; the value where it has none.
    pub(crate) fn key(&self, pointer: &str) -> Option<Place> {
        self.keys.get(pointer).copied().or_else(|| self.value(pointer))
    }
}

/// One YAML document.
#[derive(Clone, Debug)]
pub(crate) struct Parsed {
    pub(crate) value: Value,
    pub(crate) spans: Spans,
}

/// Reads all documents of a file. Only exactly `true` and `false` are booleans; keys must be text and may not repeat.
pub(crate) fn parse(text: &str) -> Result<Vec<Parsed>, Box<Diagnostic>> {
    let options = serde_saphyr::options! {
        strict_booleans: true,
        with_snippet: false,
        merge_keys: serde_saphyr::options::MergeKeyPolicy::Error,
    };
    let documents: Vec<Spanned<Node>> = serde_saphyr::from_multiple_with_options(text, options).map_err(refused)?;
    Ok(documents
        .into_iter()
        .map(|document| {
            let mut spans = Spans::default();
            let value = flatten(document, String::new(), &mut spans);
            Parsed { value, spans }
        })
        .collect())
}

fn refused(error: serde_saphyr::Error) -> Box<Diagnostic> {
    let place = error.location().filter(|location| location.line() > 0).map(Place::from);
    let text = error.without_snippet().to_string();
    // The place is said by the diagnostic.
    let message = text.split(" at line ").next().unwrap_or_default().lines().next().unwrap_or_default().to_owned();
    // The parser speaks to programmers about its options; people who write documents have none.
    let message = message.split(", set ").next().unwrap_or_default().to_owned();
    let mut diagnostic = Diagnostic::error("invalid-yaml", "", message);
    diagnostic.line = place.map(|place| place.line);
    diagnostic.column = place.map(|place| place.column);
    Box::new(diagnostic)
}

fn flatten(node: Spanned<Node>, pointer: String, spans: &mut Spans) -> Value {
    let value = match node.value {
        Node::Scalar(value) => value,
        Node::Array(items) => items
            .into_iter()
            .enumerate()
            .map(|(index, item)| flatten(item, format!("{pointer}/{index}"), spans))
            .collect(),
        Node::Object(entries) => {
            let mut object = Map::new();
            for (key, item) in entries {
                let below = format!("{pointer}/{}", escape(&key.value));
                spans.keys.insert(below.clone(), key.referenced.into());
                object.insert(key.value, flatten(item, below, spans));
            }
            Value::Object(object)
        }
    };
    spans.values.insert(pointer, node.referenced.into());
    value
}

/// A part of a JSON pointer, escaped (RFC 6901).
pub(crate) fn escape(part: &str) -> String {
    part.replace('~', "~0").replace('/', "~1")
}

enum Node {
    Scalar(Value),
    Array(Vec<Spanned<Node>>),
    Object(Vec<(Spanned<String>, Spanned<Node>)>),
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text, a number, true, false, null, an array or an object")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Node, E> {
        Number::from_f64(value)
            .map(|number| Node::Scalar(Value::Number(number)))
            .ok_or_else(|| E::custom("numbers must be finite"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        Node::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Node::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(Node::Object(entries))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::parse;

    #[test]
    fn yes_and_on_are_text() {
        let parsed = parse("on: yes\nno: [off, true, ~, 010, 0x1f, 1.5, 1.0.0, '7']\n").expect("yaml");
        assert_eq!(parsed[0].value, json!({"on": "yes", "no": ["off", true, null, 10.0, 31, 1.5, "1.0.0", "7"]}));
    }

    #[test]
    fn values_and_keys_know_their_place() {
        let parsed = parse("role: x\ninputs:\n  port: {schema: 7}\n---\n- a/b: |\n    text\n").expect("yaml");
        let place = |index: usize, pointer: &str| {
            let spans: &super::Spans = &parsed[index].spans;
            let (value, key) = (spans.value(pointer).expect("value"), spans.key(pointer).expect("key"));
            ((value.line, value.column), (key.line, key.column))
        };
        assert_eq!(place(0, "/inputs/port/schema"), ((3, 18), (3, 10)));
        assert_eq!(place(0, "/inputs/port"), ((3, 9), (3, 3)));
        assert_eq!(place(0, "/inputs/port/none/below"), ((3, 9), (3, 9)), "nearest around it");
        assert_eq!(place(1, "/0/a~1b").1, (5, 3));
    }

    #[test]
    fn what_is_not_yaml_says_where() {
        for (text, line) in [("a: 1\na: 2\n", 2), ("a: [1\n", 1), ("a: 1\n b: 2\n", 2), ("<<: {a: 1}\n", 1)] {
            let diagnostic = parse(text).expect_err(text);
            assert_eq!((diagnostic.code.as_str(), diagnostic.line), ("invalid-yaml", Some(line)), "{diagnostic}");
        }
    }
}
