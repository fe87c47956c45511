//! `schemas/step.json` says what the agent does.

use engine_agent::protocol::{Mode, Status};
use serde_json::{Value, json};

use crate::support::Agent;

fn schema() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../schemas/step.json");
    serde_json::from_str(&std::fs::read_to_string(path).expect(path)).expect("JSON")
}

/// One example of every kind, with all arguments that go together, none of which changes anything here.
fn examples() -> Vec<Value> {
    let access = json!({"owner": "root", "group": "root", "mode": "0600"});
    let with = |args: Value| {
        let all = [&args, &access].into_iter().filter_map(Value::as_object).flatten();
        Value::Object(all.map(|(key, value)| (key.clone(), value.clone())).collect())
    };
    vec![
        json!({"absent": {"path": "DIR/no", "recursive": true}}),
        json!({"certificate": {"cert": "/c", "key": "/k", "ca": "/a", "generation": 1, "as": "pair"}}),
        json!({"directory": with(json!({"path": "DIR/d"}))}),
        json!({"download": with(json!({"url": "https://x/y", "path": "DIR/y", "sha256": "0".repeat(64), "ca": "/c"}))}),
        json!({"file": with(json!({"path": "DIR/f", "content": "x", "diff": false, "as": "file"}))}),
        json!({"group": {"name": "nosuch", "gid": 1234, "system": true}}),
        json!({"haproxy": {"socket": "DIR/none", "reload": "true", "backend": "b", "loaded": "x", "servers": {"a": "10.0.0.1:80"}, "options": "check", "drain": "1s"}, "as": "seen"}),
        json!({"key": with(json!({"path": "DIR/k", "algorithm": "ed25519", "generation": 1, "subject": "n", "names": ["n", "10.0.0.1"]}))}),
        json!({"link": {"path": "DIR/l", "to": "f"}}),
        json!({"module": {"name": ["nosuch"]}}),
        json!({"module": "nosuch"}),
        json!({"package": ["bash"]}),
        json!({"package": {"names": {"debian": ["bash"]}, "start": false, "recommends": true, "refresh": "1d", "within": 5}}),
        json!({"reboot": {"within": "10m", "unless": "true"}}),
        json!({"run": {"about": "x", "text": "true", "unless": "true", "output": {"schema": {}}}, "as": "x"}),
        json!({"run": {"text": "true", "creates": "/etc"}, "for": "x in [1]", "when": "x == 1"}),
        json!({"sysctl": {"name": "kernel.ostype", "value": "Linux"}}),
        json!({"unpack": {"archive": "DIR/a", "into": "DIR/i", "creates": "/x", "strip": 1}}),
        json!({"user": {"name": "nosuch", "uid": 1234, "group": "root", "groups": ["nogroup"], "home": "/n", "shell": "/bin/sh", "comment": "c", "system": true}}),
        json!({"wait": {"http": "http://127.0.0.1:1", "status": [200, 204], "body": "x", "ca": "/c", "cert": "/d", "key": "/k", "within": "1s", "every": "10ms"}}),
        json!({"wait": {"tcp": "127.0.0.1:1"}}),
        json!({"wait": {"unix": "/x"}}),
        json!({"wait": {"path": "/x"}}),
        json!({"wait": {"command": "true"}}),
        json!({"wait": {"name": "localhost", "addresses": []}}),
    ]
}

#[test]
fn every_example_is_valid_and_the_agent_takes_it() {
    let agent = Agent::new();
    let schema = jsonschema::validator_for(&schema()).unwrap();
    for step in examples() {
        let step = Value::Object(agent.steps(json!([step])).remove(0).into());
        let errors: Vec<String> = schema.iter_errors(&step).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{step}: {errors:?}");
        let outcome = agent.run(&agent.job(Mode::Plan, json!([step]))).outcome;
        assert_eq!(outcome.status, Status::Succeeded, "{step}: {:?}", outcome.message);
    }
}

#[test]
fn every_kind_of_the_schema_is_known_to_the_agent() {
    let agent = Agent::new();
    let schema = schema();
    let kinds = schema["properties"].as_object().unwrap().keys();
    for kind in kinds.filter(|kind| !matches!(kind.as_str(), "when" | "for" | "as")) {
        let mut step = serde_json::Map::new();
        step.insert(kind.clone(), json!({"no such argument": 1}));
        let outcome = agent.run(&agent.job(Mode::Plan, json!([step]))).outcome;
        let code = outcome.code.as_deref();
        let expected = if kind == "output" { "output-undeclared" } else { "step-argument" };
        assert_eq!(code, Some(expected), "{kind}: {:?}", outcome.message);
    }
}

#[test]
fn what_the_schema_refuses() {
    let schema = jsonschema::validator_for(&schema()).unwrap();
    for step in [
        json!({}),
        json!({"file": {"path": "/x", "content": "a"}, "absent": {"path": "/x"}}),
        json!({"file": {"path": "x", "content": "a"}}),
        json!({"file": {"path": "/x", "content": "a", "mode": 640}}),
        json!({"file": {"path": "/x"}}),
        json!({"run": {"text": "a", "script": "b"}}),
        json!({"wait": {"within": "1s"}}),
        json!({"wait": {"tls": "a:1"}}),
        json!({"wait": {"name": "a"}}),
        json!({"wait": {"tcp": "a:1", "addresses": []}}),
        json!({"wait": {"name": "a", "addresses": [], "within": "1s"}}),
        json!({"file": {"path": "/x", "content": "a"}, "for": "x of y"}),
    ] {
        assert!(!schema.is_valid(&step), "{step}");
    }
}
