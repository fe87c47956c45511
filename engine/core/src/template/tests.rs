//! What templates give, and what they say when they can not.

use insta::assert_snapshot;
use serde_json::json;

use super::*;

fn variables() -> Object {
    let value = json!({
        "name": "etcd", "port": 2379, "on": true, "list": ["a", "b"], "map": {"y": 2, "x": 1},
        "word": "it's", "none": null, "member": {"url": "http://a"},
    });
    value.as_object().unwrap().clone()
}

fn check(source: Value) -> String {
    match value(&source, &variables()) {
        Ok(value) => value.to_string(),
        Err(error) => format!("{}: {error}", error.code()),
    }
}

#[test]
fn one_expression_keeps_its_type() {
    assert_snapshot!(check(json!("{{ port }}")), @"2379");
    assert_snapshot!(check(json!("{{ port }}/")), @r#""2379/""#);
    assert_snapshot!(check(json!("{{ name }}{{ port }}")), @r#""etcd2379""#);
    assert_snapshot!(check(json!({"a": ["{{ list }}", "{{- on -}}", 1]})), @r#"{"a":[["a","b"],true,1]}"#);
    assert_snapshot!(check(json!("{{ map | dictsort | map('last') | list }}")), @"[1,2]");
    assert_snapshot!(check(json!("{{ {'a': port, 'b': [none]} }}")), @r#"{"a":2379,"b":[null]}"#);
    assert_snapshot!(check(json!("{{ port / 2 }}")), @"1189.5");
    assert_snapshot!(check(json!("{{ list | join }}")), @r#""ab""#);
    assert_snapshot!(check(json!("{{ 18446744073709551615 }}")), @"18446744073709551615");
}

#[test]
fn what_is_undefined_is_an_error() {
    assert_snapshot!(check(json!("{{ nobody }}")), @"template-undefined: template reads something undefined: nobody");
    assert_snapshot!(check(json!("x {{ nobody }}")), @"template-undefined: template reads something undefined: nobody");
    assert_snapshot!(check(json!("{{ member.nothing }}")), @"template-undefined: template reads something undefined: member.nothing");
    assert_snapshot!(check(json!("{{ [member.nothing] }}")), @"template-undefined: template reads something undefined: [member.nothing]");
    assert_snapshot!(check(json!("{{ nobody | default('x') }}")), @r#""x""#);
    assert!(holds("nobody", &variables()).is_err());
}

#[test]
fn syntax_errors_name_the_line() {
    assert_snapshot!(check(json!("a\n{{ b ")), @"template-syntax: template does not parse: line 2: unexpected end of input, expected end of variable block");
    assert_snapshot!(check(json!("{{ a | nosuch }} ")), @"template-syntax: template does not parse: filter nosuch is unknown");
    assert_snapshot!(check(json!("{% for x in range(100000) %}{% for y in range(100000) %}a{% endfor %}{% endfor %}")), @"template-endless: template takes too many instructions");
}

#[test]
fn filters() {
    assert_snapshot!(check(json!("{{ word | shell_quote }}")), @r#""'it'\\''s'""#);
    assert_snapshot!(check(json!("{{ list | shell_quote }}")), @r#""'a' 'b'""#);
    assert_snapshot!(check(json!("{{ 'a' | sha256 }}")), @r#""ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb""#);
    assert_snapshot!(check(json!("{{ {'b': '<&>', 'a': 1.0} | tojson }}")), @r#""{\"a\":1.0,\"b\":\"<&>\"}""#);
    assert_snapshot!(check(json!("{{ [1] | tojson(indent=2) }}")), @r#""[\n  1\n]""#);
    assert_snapshot!(check(json!("{{ [name, port] | tojson | sha256 | length }}")), @"64");
}

#[test]
fn texts_keep_their_last_newline_and_lose_lines_of_blocks() {
    let source = "{% for x in list %}\n  {% if on %}\n{{ x }}\n  {% endif %}\n{% endfor %}\nend\n";
    assert_eq!(text(source, &variables(), Syntax::Plain).unwrap(), "a\nb\nend\n");
    assert_eq!(text("${#a[@]} {{ port }}", &variables(), Syntax::Shell).unwrap(), "${#a[@]} 2379");
}

#[test]
fn steps_tell_what_they_read() {
    let step = |value: Value| Step::try_from(value.as_object().unwrap().clone()).unwrap();
    let read = |value: Value| match undeclared_in_step(&step(value)) {
        Ok(names) => names.into_iter().collect::<Vec<_>>().join(" "),
        Err(error) => format!("{}: {error}", error.code()),
    };
    assert_snapshot!(read(json!({"file": {"path": "{{ a.b }}", "content": "{% for i in range(n) %}{{ i }}{% endfor %}"}})), @"a n");
    assert_snapshot!(read(json!({"route": {"to": "{{ cidrs[peer] }}"}, "for": "peer in cidrs", "when": "peer != me"})), @"cidrs me");
    assert_snapshot!(read(json!({"run": {"text": "echo ${#x[@]}"}})), @"");
    assert_snapshot!(read(json!({"package": "{{ packages }}"})), @"packages");
    assert_snapshot!(read(json!({"run": {"text": "true"}, "for": "x of y"})), @"for-malformed: `for: x of y` is not `NAME in EXPRESSION`");
}

#[test]
fn loops() {
    let names = variables();
    assert_eq!(items("x in list", &names).unwrap(), ("x", vec![json!("a"), json!("b")]));
    assert_eq!(items("x in map", &names).unwrap(), ("x", vec![json!("x"), json!("y")]));
    assert_eq!(items("x in port", &names).unwrap_err().code(), "for-not-a-loop");
    assert!(holds("port == 2379 and name in ['etcd']", &names).unwrap());
    assert!(!holds("not (port == 2379)", &names).unwrap());
}
