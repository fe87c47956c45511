//! Proofs, one keyword of the consumer at a time.

use std::cmp::Ordering;

use serde_json::{Map, Value, json};

use super::facts::{Facts, Types};
use super::{Gap, Proof, Prover};
use crate::schema::compile;
use crate::schema::walk::escape;

/// Do the facts imply one keyword of the consumer?
pub(super) struct Question<'q, 'a> {
    pub(super) facts: &'q Facts<'a>,
    pub(super) consumer: &'q Map<String, Value>,
    pub(super) keyword: &'q str,
    pub(super) argument: &'q Value,
    pub(super) place: &'q str,
}

impl Question<'_, '_> {
    fn gap(&self, reason: String) -> Gap {
        Gap { place: self.place.to_owned(), reason, precise: true }
    }

    fn settled(&self, yes: bool, reason: impl FnOnce() -> String) -> Proof {
        if yes { Ok(()) } else { Err(self.gap(reason())) }
    }

    fn not_promised(&self) -> String {
        format!("`{}: {}` is not promised", self.keyword, self.argument)
    }

    /// Does any fact say the very same?
    fn same(&self) -> bool {
        self.facts.arguments(self.keyword).any(|argument| argument == self.argument)
    }

    fn below(&self, key: &str) -> String {
        format!("{}/{}", self.place, escape(key))
    }
}

impl Prover {
    pub(super) fn keyword(&self, q: &Question<'_, '_>) -> Proof {
        let about = subject(q.keyword);
        if !q.facts.types().meet(about) {
            return Ok(());
        }
        match q.keyword {
            "type" => {
                let (have, take) = (q.facts.types(), Types::named(q.argument));
                q.settled(have.within(take), || {
                    format!("it may be {}, but only {} is taken", have.names(), take.names())
                })
            }
            "enum" | "const" => q.settled(false, || format!("only {} is taken", q.argument)),
            "allOf" => list(q.argument).try_for_each(|part| self.prove(q.facts, part, q.place)),
            "anyOf" => self.any_of(q),
            "oneOf" => self.one_of(q),
            "not" => q.settled(Self::disjoint(q.facts, q.argument), || q.not_promised()),
            "minimum" | "exclusiveMinimum" | "maximum" | "exclusiveMaximum" => {
                q.settled(bounded(q), || q.not_promised())
            }
            "multipleOf" => q.settled(q.same() || is_multiple(q), || q.not_promised()),
            "minLength" | "minItems" => q.settled(at_least(q, 0), || q.not_promised()),
            "minProperties" => {
                let required: std::collections::BTreeSet<&str> = q.facts.required().collect();
                q.settled(at_least(q, required.len() as u64), || q.not_promised())
            }
            "maxLength" | "maxItems" => q.settled(at_most(q, None), || q.not_promised()),
            "maxProperties" => {
                let closed = q.facts.closed_keys().map(|keys| keys.len() as u64);
                q.settled(at_most(q, closed), || q.not_promised())
            }
            "pattern" => q.settled(q.same(), || q.not_promised()),
            "format" => q.settled(q.same() || wider_format(q), || q.not_promised()),
            "uniqueItems" => {
                let single = q.facts.arguments("maxItems").any(|most| most.as_u64().is_some_and(|most| most <= 1));
                q.settled(q.argument == &json!(false) || single || q.same(), || "elements may repeat".to_owned())
            }
            "items" | "prefixItems" => self.items(q),
            "properties" => self.properties(q),
            "required" => required(q),
            "additionalProperties" => self.other_keys(q),
            "patternProperties" => self.pattern_keys(q),
            "propertyNames" => self.key_names(q),
            "contains"
            | "minContains"
            | "maxContains"
            | "dependentRequired"
            | "dependentSchemas"
            | "if"
            | "then"
            | "else"
            | "unevaluatedItems"
            | "unevaluatedProperties"
            | "$ref"
            | "$dynamicRef"
            | "dependencies" => Err(Gap { precise: false, ..q.gap(format!("`{}` can not be compared", q.keyword)) }),
            // What is left annotates.
            _ => Ok(()),
        }
    }

    fn any_of(&self, q: &Question<'_, '_>) -> Proof {
        let mut first = None;
        for branch in list(q.argument) {
            match self.prove(q.facts, branch, q.place) {
                Ok(()) => return Ok(()),
                Err(gap) => first = first.or(Some(gap)),
            }
        }
        let precise = first.filter(|_| list(q.argument).count() == 1);
        Err(precise
            .unwrap_or_else(|| Gap { precise: false, ..q.gap("none of the allowed forms is promised".to_owned()) }))
    }

    fn one_of(&self, q: &Question<'_, '_>) -> Proof {
        let gap = || Gap { precise: false, ..q.gap("not exactly one of the allowed forms is promised".to_owned()) };
        let branches: Vec<&Value> = list(q.argument).collect();
        let passed = branches.iter().position(|branch| self.prove(q.facts, branch, q.place).is_ok()).ok_or_else(gap)?;
        let others = branches.iter().enumerate().filter(|(index, _)| *index != passed);
        if others.map(|(_, branch)| branch).all(|branch| Self::disjoint(q.facts, branch)) { Ok(()) } else { Err(gap()) }
    }

    /// Is there no value of the facts that passes the schema? `false` means it was not shown.
    fn disjoint(facts: &Facts<'_>, schema: &Value) -> bool {
        let other = Facts::of(schema);
        if facts.are_impossible() || other.are_impossible() || !facts.types().meet(other.types()) {
            return true;
        }
        if let Some(values) = facts.values() {
            let validator = compile(schema);
            return validator.is_ok_and(|validator| values.iter().all(|value| !validator.is_valid(value)));
        }
        if let Some(values) = other.values() {
            return values.iter().all(|value| !facts.admit(value) || !other.admit(value));
        }
        if !facts.types().and(other.types()).within(Types::OBJECT) {
            return false;
        }
        let keys = facts.named_keys().into_iter().chain(other.named_keys());
        keys.chain(facts.required()).chain(other.required()).any(|key| {
            (facts.require(key) || other.require(key)) && {
                let here = facts.at_key(key);
                here.are_impossible() || disjoint_values(&here, &other.at_key(key))
            }
        })
    }

    fn items(&self, q: &Question<'_, '_>) -> Proof {
        let prefix = q.consumer.get("prefixItems").and_then(Value::as_array);
        let longest = q.facts.arguments("maxItems").filter_map(whole).min().unwrap_or(u64::MAX);
        let prove_at = |index: usize, schema: &Value, place: &str| {
            if index as u64 >= longest { Ok(()) } else { self.prove(&q.facts.at_index(index), schema, place) }
        };
        if q.keyword == "prefixItems" {
            let mut placed = list(q.argument).enumerate();
            return placed.try_for_each(|(index, schema)| prove_at(index, schema, &q.below(&index.to_string())));
        }
        let from = prefix.map_or(0, Vec::len);
        (from..=q.facts.tail().max(from)).try_for_each(|index| prove_at(index, q.argument, &q.below("*")))
    }

    fn properties(&self, q: &Question<'_, '_>) -> Proof {
        let mut wanted = q.argument.as_object().into_iter().flatten();
        wanted.try_for_each(|(key, schema)| self.prove(&q.facts.at_key(key), schema, &q.below(key)))
    }

    fn other_keys(&self, q: &Question<'_, '_>) -> Proof {
        let known = q.consumer.get("properties").and_then(Value::as_object);
        let patterns = q.consumer.get("patternProperties").and_then(Value::as_object);
        for key in q.facts.named_keys().into_iter().filter(|key| !known.is_some_and(|known| known.contains_key(*key))) {
            let here = q.facts.at_key(key);
            if q.argument == &Value::Bool(false) && !here.are_impossible() {
                // It may match a pattern of the consumer, which is not looked into.
                return Err(Gap { precise: patterns.is_none(), ..q.gap(format!("there may be a key `{key}`")) });
            }
            self.prove(&here, q.argument, &q.below(key))?;
        }
        for case in q.facts.at_other_keys() {
            if q.argument == &Value::Bool(false) && !case.are_impossible() {
                return Err(Gap { precise: patterns.is_none(), ..q.gap("there may be further keys".to_owned()) });
            }
            self.prove(&case, q.argument, &q.below("*"))?;
        }
        Ok(())
    }

    fn pattern_keys(&self, q: &Question<'_, '_>) -> Proof {
        for (pattern, schema) in q.argument.as_object().into_iter().flatten() {
            if let Some(known) = q.facts.at_pattern(pattern)
                && self.prove(&known, schema, &q.below("*")).is_ok()
            {
                continue;
            }
            for key in q.facts.named_keys() {
                self.prove(&q.facts.at_key(key), schema, &q.below(key))?;
            }
            for case in q.facts.at_other_keys() {
                self.prove(&case, schema, &q.below("*"))?;
            }
        }
        Ok(())
    }

    fn key_names(&self, q: &Question<'_, '_>) -> Proof {
        if let Some(keys) = q.facts.closed_keys() {
            let validator = compile(q.argument).map_err(|error| q.gap(error.to_string()))?;
            let refused = keys.into_iter().find(|key| !validator.is_valid(&json!(key)));
            return q.settled(refused.is_none(), || format!("there may be a key `{}`", refused.unwrap_or_default()));
        }
        let text = json!({"type": "string"});
        let known = q.facts.arguments("propertyNames").next();
        let schema = known.map_or_else(|| text.clone(), |known| json!({"allOf": [text, known]}));
        self.prove(&Facts::of(&schema), q.argument, q.place)
    }
}

/// The types of value that a keyword speaks about; all others pass it.
fn subject(keyword: &str) -> Types {
    match keyword {
        "minimum" | "exclusiveMinimum" | "maximum" | "exclusiveMaximum" | "multipleOf" => Types::NUMBER,
        "minLength" | "maxLength" | "pattern" | "format" => Types::STRING,
        "minItems" | "maxItems" | "uniqueItems" | "items" | "prefixItems" | "contains" | "unevaluatedItems" => {
            Types::ARRAY
        }
        "properties"
        | "required"
        | "additionalProperties"
        | "patternProperties"
        | "propertyNames"
        | "minProperties"
        | "maxProperties"
        | "dependentRequired"
        | "dependentSchemas"
        | "unevaluatedProperties" => Types::OBJECT,
        _ => Types::ALL,
    }
}

fn disjoint_values(facts: &Facts<'_>, other: &Facts<'_>) -> bool {
    if other.are_impossible() || !facts.types().meet(other.types()) {
        return true;
    }
    match (facts.values(), other.values()) {
        (Some(values), _) | (None, Some(values)) => {
            values.iter().all(|value| !facts.admit(value) || !other.admit(value))
        }
        (None, None) => false,
    }
}

fn required(q: &Question<'_, '_>) -> Proof {
    let missing = list(q.argument).filter_map(Value::as_str).find(|key| !q.facts.require(key));
    match missing {
        Some(key) => Err(q.gap(format!("`{key}` may be missing"))),
        None => Ok(()),
    }
}

fn list(argument: &Value) -> impl Iterator<Item = &Value> {
    argument.as_array().into_iter().flatten()
}

fn whole(value: &Value) -> Option<u64> {
    value.as_u64()
}

fn at_least(q: &Question<'_, '_>, otherwise: u64) -> bool {
    let Some(wanted) = whole(q.argument) else { return false };
    q.facts.arguments(q.keyword).filter_map(whole).chain([otherwise]).any(|have| have >= wanted)
}

fn at_most(q: &Question<'_, '_>, otherwise: Option<u64>) -> bool {
    let Some(wanted) = whole(q.argument) else { return false };
    q.facts.arguments(q.keyword).filter_map(whole).chain(otherwise).any(|have| have <= wanted)
}

/// Is a bound of the consumer implied by one of the facts?
fn bounded(q: &Question<'_, '_>) -> bool {
    let (inclusive, exclusive, outward) = match q.keyword {
        "minimum" | "exclusiveMinimum" => ("minimum", "exclusiveMinimum", Ordering::Greater),
        _ => ("maximum", "exclusiveMaximum", Ordering::Less),
    };
    let strict = q.keyword == exclusive;
    let implied = |have: &Value, have_strict: bool| match compare(have, q.argument) {
        Some(order) if order == outward => true,
        Some(Ordering::Equal) => have_strict || !strict,
        _ => false,
    };
    q.facts.arguments(inclusive).any(|have| implied(have, false))
        || q.facts.arguments(exclusive).any(|have| implied(have, true))
}

/// Compares two numbers, where that can be done without rounding.
fn compare(one: &Value, other: &Value) -> Option<Ordering> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let exact = |value: &Value| value.as_i64().map(i128::from).or_else(|| value.as_u64().map(i128::from));
    if let (Some(one), Some(other)) = (exact(one), exact(other)) {
        return Some(one.cmp(&other));
    }
    let small = |value: &Value| value.as_f64().filter(|float| float.abs() < EXACT);
    small(one)?.partial_cmp(&small(other)?)
}

fn is_multiple(q: &Question<'_, '_>) -> bool {
    let Some(wanted) = whole(q.argument).filter(|wanted| *wanted > 0) else { return false };
    let integers = wanted == 1 && q.facts.types().and(Types::NUMBER) == Types::WHOLE;
    integers || q.facts.arguments("multipleOf").filter_map(whole).any(|have| have % wanted == 0)
}

/// Formats that are part of a wider one.
fn wider_format(q: &Question<'_, '_>) -> bool {
    let narrower: &[&str] = match q.argument.as_str() {
        Some("uri-reference" | "iri") => &["uri"],
        Some("iri-reference") => &["uri", "iri", "uri-reference"],
        _ => &[],
    };
    q.facts.arguments("format").filter_map(Value::as_str).any(|have| narrower.contains(&have))
}
