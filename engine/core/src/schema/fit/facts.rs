//! What is known of a value: a list of schemas that all admit it.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use serde_json::{Map, Value, json};

use crate::schema::compile;

/// Types of JSON values as a set of bits; `number` is whole numbers and broken ones (8) together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Types(u8);

impl Types {
    pub(super) const NULL: Self = Self(1);
    pub(super) const BOOLEAN: Self = Self(2);
    pub(super) const WHOLE: Self = Self(4);
    pub(super) const STRING: Self = Self(16);
    pub(super) const ARRAY: Self = Self(32);
    pub(super) const OBJECT: Self = Self(64);
    pub(super) const NUMBER: Self = Self(12);
    pub(super) const ALL: Self = Self(127);

    pub(super) fn named(argument: &Value) -> Self {
        match argument {
            Value::Array(all) => all.iter().map(Self::named).fold(Self(0), |sum, one| Self(sum.0 | one.0)),
            Value::String(name) => match name.as_str() {
                "null" => Self::NULL,
                "boolean" => Self::BOOLEAN,
                "integer" => Self::WHOLE,
                "number" => Self::NUMBER,
                "string" => Self::STRING,
                "array" => Self::ARRAY,
                "object" => Self::OBJECT,
                _ => Self(0),
            },
            _ => Self::ALL,
        }
    }

    pub(super) fn within(self, other: Self) -> bool {
        self.0 & !other.0 == 0
    }

    pub(super) fn meet(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub(super) fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub(super) fn names(self) -> String {
        if self == Self::ALL {
            return "anything".to_owned();
        }
        let mut names = Vec::new();
        for (bits, name) in [
            (Self::NULL, "null"),
            (Self::BOOLEAN, "boolean"),
            (Self::NUMBER, "number"),
            (Self::STRING, "string"),
            (Self::ARRAY, "array"),
            (Self::OBJECT, "object"),
        ] {
            match (bits, self.and(bits)) {
                (_, Self(0)) => {}
                (Self::NUMBER, Self::WHOLE) => names.push("integer"),
                _ => names.push(name),
            }
        }
        names.join(" or ")
    }

    /// One schema per type in the set, if there are several.
    fn cases(self) -> Option<Vec<&'static Value>> {
        static SCHEMAS: LazyLock<Vec<(Types, Value)>> = LazyLock::new(|| {
            ["null", "boolean", "number", "string", "array", "object"]
                .map(|name| (Types::named(&json!(name)), json!({"type": name})))
                .into()
        });
        let found: Vec<&Value> =
            SCHEMAS.iter().filter(|(bits, _)| self.meet(*bits)).map(|(_, schema)| schema).collect();
        (found.len() > 1).then_some(found)
    }
}

/// Schemas that all admit the value in question; `allOf` is already taken apart.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts<'a> {
    all: Vec<&'a Value>,
    /// `anyOf` and `oneOf` lists that a case was already chosen of.
    chosen: Vec<&'a Value>,
}

impl<'a> Facts<'a> {
    pub(super) fn of(schema: &'a Value) -> Self {
        let mut facts = Self::default();
        facts.add(schema);
        facts
    }

    fn add(&mut self, schema: &'a Value) {
        self.all.push(schema);
        for part in schema.get("allOf").and_then(Value::as_array).into_iter().flatten() {
            self.add(part);
        }
    }

    fn and(&self, schema: &'a Value) -> Self {
        let mut more = self.clone();
        more.add(schema);
        more
    }

    fn objects(&self) -> impl Iterator<Item = &'a Map<String, Value>> + '_ {
        self.all.iter().filter_map(|schema| schema.as_object())
    }

    /// The arguments that a keyword has in them.
    pub(super) fn arguments<'s>(&'s self, keyword: &'s str) -> impl Iterator<Item = &'a Value> + 's {
        self.objects().filter_map(move |object| object.get(keyword))
    }

    /// Is there no such value at all?
    pub(super) fn are_impossible(&self) -> bool {
        self.all.contains(&&Value::Bool(false)) || self.types() == Types(0)
    }

    pub(super) fn contain(&self, schema: &Value) -> bool {
        self.all.contains(&schema)
    }

    pub(super) fn types(&self) -> Types {
        self.arguments("type").map(Types::named).fold(Types::ALL, Types::and)
    }

    /// All the values there can be, where these are few. Not each of them need be one.
    pub(super) fn values(&self) -> Option<Vec<Value>> {
        if let Some(one) = self.arguments("const").next() {
            return Some(vec![one.clone()]);
        }
        if let Some(Value::Array(several)) = self.arguments("enum").next() {
            return Some(several.clone());
        }
        let types = self.types();
        let few = Types(Types::NULL.0 | Types::BOOLEAN.0);
        types.within(few).then(|| {
            [(Types::NULL, Value::Null), (Types::BOOLEAN, json!(true)), (Types::BOOLEAN, json!(false))]
                .into_iter()
                .filter(|(bits, _)| types.meet(*bits))
                .map(|(_, value)| value)
                .collect()
        })
    }

    /// Are all of them true of this value?
    pub(super) fn admit(&self, value: &Value) -> bool {
        self.all.iter().all(|schema| compile(schema).is_ok_and(|validator| validator.is_valid(value)))
    }

    /// The cases of one choice that was not made yet: by `anyOf`, by `oneOf`, or by type.
    pub(super) fn cases(&self) -> Option<Vec<Self>> {
        let open = self
            .arguments("anyOf")
            .chain(self.arguments("oneOf"))
            .find(|list| !self.chosen.iter().any(|done| std::ptr::eq(*done, *list)));
        if let Some(list) = open {
            let branches = list.as_array()?;
            let cases = branches.iter().map(|branch| {
                let mut case = self.and(branch);
                case.chosen.push(list);
                case
            });
            return Some(cases.collect());
        }
        let cases = self.types().cases()?;
        Some(cases.into_iter().map(|schema| self.and(schema)).collect())
    }

    pub(super) fn require(&self, key: &str) -> bool {
        self.required().any(|name| name == key)
    }

    pub(super) fn required(&self) -> impl Iterator<Item = &'a str> + '_ {
        self.arguments("required").filter_map(Value::as_array).flatten().filter_map(Value::as_str)
    }

    /// The keys that are spoken of by name.
    pub(super) fn named_keys(&self) -> BTreeSet<&'a str> {
        self.arguments("properties")
            .filter_map(Value::as_object)
            .flat_map(|all| all.keys().map(String::as_str))
            .collect()
    }

    /// Can there be no keys but the named ones?
    pub(super) fn closed_keys(&self) -> Option<BTreeSet<&'a str>> {
        self.objects()
            .find(|object| {
                object.get("additionalProperties") == Some(&Value::Bool(false))
                    && !object.contains_key("patternProperties")
            })
            .map(|object| {
                let named = object.get("properties").and_then(Value::as_object);
                named.into_iter().flat_map(|all| all.keys().map(String::as_str)).collect()
            })
    }

    /// What is known of the value under a key, if the key is there.
    pub(super) fn at_key(&self, key: &str) -> Self {
        let mut facts = Self::default();
        for object in self.objects() {
            let named = object.get("properties").and_then(|all| all.get(key));
            if let Some(schema) = named.or_else(|| others(object)) {
                facts.add(schema);
            }
        }
        facts
    }

    /// What is known of the values under keys that nobody names: a list of cases.
    pub(super) fn at_other_keys(&self) -> Vec<Self> {
        let mut known = Self::default();
        for object in self.objects() {
            if let Some(schema) = others(object) {
                known.add(schema);
            }
        }
        let patterns = self.objects().find(|object| object.contains_key("patternProperties"));
        let Some(object) = patterns else { return vec![known] };
        let by_pattern = object["patternProperties"].as_object().into_iter().flat_map(Map::values);
        let rest = object.get("additionalProperties");
        let mut cases: Vec<Self> = by_pattern.chain(rest).map(|schema| known.and(schema)).collect();
        if rest.is_none() {
            cases.push(known);
        }
        cases
    }

    /// What is known of the values under keys that match a pattern which the supplier names too.
    pub(super) fn at_pattern(&self, pattern: &str) -> Option<Self> {
        let schema = self.arguments("patternProperties").find_map(|all| all.get(pattern))?;
        Some(Self::of(schema))
    }

    /// What is known of the element at an index, if there is one.
    pub(super) fn at_index(&self, index: usize) -> Self {
        let mut facts = Self::default();
        for object in self.objects() {
            let prefix = object.get("prefixItems").and_then(Value::as_array);
            let placed = prefix.and_then(|all| all.get(index));
            if let Some(schema) = placed.or_else(|| object.get("items")) {
                facts.add(schema);
            }
        }
        facts
    }

    /// The first index from which all elements are spoken of alike.
    pub(super) fn tail(&self) -> usize {
        self.arguments("prefixItems").filter_map(Value::as_array).map(Vec::len).max().unwrap_or(0)
    }
}

/// What holds for the keys that an object schema does not name; nothing is said where patterns may match.
fn others(object: &Map<String, Value>) -> Option<&Value> {
    if object.contains_key("patternProperties") { None } else { object.get("additionalProperties") }
}
