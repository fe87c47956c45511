//! Examples, and the two adversaries against each other.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Fit, Prover, facts::Facts, fit};
use crate::schema::{compile, witness};

fn check(supplier: Value, consumer: Value, answer: &str) {
    let text = match fit(&supplier, &consumer) {
        Fit::Fits => "fits".to_owned(),
        Fit::DoesNotFit { place, reason } => {
            format!("no{}: {reason}", if place.is_empty() { place } else { format!(" {place}") })
        }
        Fit::Undecided { reason } => format!("undecided: {reason}"),
    };
    assert_eq!(text, answer, "{supplier} -> {consumer}");
}

#[test]
fn scalars() {
    check(json!({"type": "integer"}), json!({"type": "number"}), "fits");
    check(json!({"type": "number"}), json!({"type": "integer"}), "no: it may be number, but only integer is taken");
    check(json!({"type": "string"}), json!({}), "fits");
    check(json!({}), json!({"type": "string"}), "no: it may be null, which is not taken");
    check(json!({"type": "string", "format": "uri"}), json!({"type": "string"}), "fits");
    check(
        json!({"type": "string"}),
        json!({"type": "string", "format": "uri"}),
        "no: `format: \"uri\"` is not promised",
    );
    check(json!({"type": "integer", "minimum": 3}), json!({"type": "integer", "minimum": 1}), "fits");
    check(json!({"type": "integer", "minimum": 0}), json!({"minimum": 1}), "no: `minimum: 1` is not promised");
    check(json!({"enum": ["a", "b"]}), json!({"enum": ["c", "b", "a"]}), "fits");
    check(json!({"enum": ["a", "b"]}), json!({"enum": ["a"]}), "no: it may be \"b\", which is not taken");
    check(json!({"const": 3}), json!({"type": "integer", "maximum": 3}), "fits");
    check(json!({"type": "boolean"}), json!({"enum": [true, false, null]}), "fits");
    check(
        json!({"type": "string", "pattern": "^q{3}$"}),
        json!({"type": "string", "pattern": "^q+$"}),
        "undecided: `pattern: \"^q+$\"` is not promised",
    );
}

#[test]
fn objects_and_arrays() {
    let member = json!({
        "type": "object", "additionalProperties": false, "required": ["name", "url"],
        "properties": {"name": {"type": "string"}, "url": {"type": "string", "format": "uri"}},
    });
    check(member.clone(), member.clone(), "fits");
    let looser = json!({"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}});
    check(member.clone(), looser.clone(), "fits");
    check(looser, member.clone(), "no: there may be further keys");
    let each = json!({"type": "array", "items": member});
    check(each.clone(), json!({"type": "array", "items": {"type": "object"}}), "fits");
    check(each.clone(), json!({"type": "array", "minItems": 1}), "no: `minItems: 1` is not promised");
    check(
        each,
        json!({"type": "array", "items": {"properties": {"url": {"type": "string", "format": "ipv4"}}}}),
        "no /*/url: `format: \"ipv4\"` is not promised",
    );
    check(
        json!({"type": "object", "additionalProperties": {"type": "string"}}),
        json!({"type": "object", "additionalProperties": {"type": "string"}, "minProperties": 1}),
        "no: `minProperties: 1` is not promised",
    );
    check(
        json!({"type": "array", "prefixItems": [{"type": "string"}], "items": {"type": "integer"}, "maxItems": 1}),
        json!({"type": "array", "items": {"type": "string"}}),
        "fits",
    );
}

#[test]
fn choices() {
    let by_kind = |kind: &str| json!({"type": "object", "required": ["kind"], "properties": {"kind": {"const": kind}, "size": {"type": "integer"}}});
    let both = json!({"oneOf": [by_kind("a"), by_kind("b")]});
    check(both.clone(), both.clone(), "fits");
    check(by_kind("a"), both.clone(), "fits");
    check(both.clone(), json!({"type": "object"}), "fits");
    check(json!({"type": ["string", "null"]}), json!({"anyOf": [{"type": "string"}, {"type": "null"}]}), "fits");
    check(
        json!({"type": "integer"}),
        json!({"oneOf": [{"type": "integer"}, {"type": "number"}]}),
        "no: it may be 0, and then the value has several of the allowed forms at once",
    );
    check(json!({"allOf": [{"type": "string"}, {"maxLength": 3}]}), json!({"type": "string", "maxLength": 5}), "fits");
}

fn any_schema() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!(true)),
        Just(json!({})),
        prop::sample::select(vec!["string", "integer", "number", "boolean", "null", "array", "object"])
            .prop_map(|kind| json!({"type": kind})),
        Just(json!({"type": ["string", "null"]})),
        (0..4, 0..4).prop_map(|(low, high)| json!({"type": "integer", "minimum": low, "maximum": high})),
        (0..4).prop_map(|low| json!({"type": "number", "exclusiveMinimum": low})),
        (0..3, 0..5).prop_map(|(low, high)| json!({"type": "string", "minLength": low, "maxLength": high})),
        Just(json!({"type": "string", "format": "ipv4"})),
        Just(json!({"type": "string", "pattern": "^a"})),
        Just(json!({"enum": ["a", 1, null]})),
        Just(json!({"const": "a"})),
        (1..4).prop_map(|step| json!({"multipleOf": step})),
    ];
    leaf.prop_recursive(3, 24, 3, |inner| {
        let key = || prop::sample::select(vec!["a", "b"]).prop_map(str::to_owned);
        prop_oneof![
            (inner.clone(), 0..3)
                .prop_map(|(items, least)| json!({"type": "array", "items": items, "minItems": least})),
            (inner.clone(), inner.clone())
                .prop_map(|(first, rest)| json!({"prefixItems": [first], "items": rest, "maxItems": 2})),
            inner.clone().prop_map(|items| json!({"items": items, "uniqueItems": true})),
            (
                prop::collection::btree_map(key(), inner.clone(), 0..3),
                prop::collection::btree_set(key(), 0..3),
                inner.clone()
            )
                .prop_map(|(properties, required, rest)| json!({
                    "type": "object", "properties": properties, "required": required, "additionalProperties": rest,
                })),
            (prop::collection::btree_map(key(), inner.clone(), 0..3)).prop_map(|properties| json!({
                "properties": properties, "additionalProperties": false, "minProperties": 1,
            })),
            (inner.clone(), inner.clone()).prop_map(|(a, rest)| json!({
                "type": "object", "patternProperties": {"^a": a}, "additionalProperties": rest,
            })),
            inner.clone().prop_map(|names| json!({"propertyNames": names, "maxProperties": 1})),
            prop::collection::vec(inner.clone(), 1..3).prop_map(|all| json!({"allOf": all})),
            prop::collection::vec(inner.clone(), 1..3).prop_map(|any| json!({"anyOf": any})),
            prop::collection::vec(inner.clone(), 1..3)
                .prop_map(|one| json!({"type": ["object", "string"], "oneOf": one})),
            inner.prop_map(|not| json!({"not": not})),
        ]
    })
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop::sample::select(vec![
        json!(null),
        json!(true),
        json!(0),
        json!(1),
        json!(2),
        json!(1.5),
        json!("a"),
        json!("ab"),
        json!(""),
        json!("10.0.0.1"),
    ]);
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::Array),
            prop::collection::btree_map(
                prop::sample::select(vec!["a", "b", "zz"]).prop_map(str::to_owned),
                inner,
                0..3
            )
            .prop_map(|map| json!(map)),
        ]
    })
}

proptest! {
    // Every case compiles schemas; PROPTEST_CASES asks for more.
    #![proptest_config(ProptestConfig::with_cases(
        std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(150)
    ))]

    #[test]
    fn what_fits_passes(supplier in any_schema(), consumer in any_schema(), values in prop::collection::vec(any_value(), 30)) {
        let proved = Prover { steps: std::cell::Cell::new(0) }.prove(&Facts::of(&supplier), &consumer, "").is_ok();
        if proved {
            prop_assert_eq!(witness::find(&supplier, &consumer), None);
            let (admits, takes) = (compile(&supplier).expect("schema"), compile(&consumer).expect("schema"));
            for value in values.iter().filter(|value| admits.is_valid(value)) {
                prop_assert!(takes.is_valid(value), "{} passes {} but not {}", value, supplier, consumer);
            }
        }
    }

    #[test]
    fn every_schema_fits_itself_and_more(schema in any_schema(), more in any_schema()) {
        prop_assert_eq!(fit(&schema, &schema), Fit::Fits);
        prop_assert_eq!(fit(&json!({"allOf": [schema, more]}), &schema), Fit::Fits);
        prop_assert_eq!(fit(&schema, &json!({"anyOf": [more, schema]})), Fit::Fits);
    }
}
