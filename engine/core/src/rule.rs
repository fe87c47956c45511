//! Rules: which labels nodes have by what is known of them.
//!
//! A label that a person set, or a fact, is stronger than any rule. Rules see facts, labels, and what rules before them set.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::compile::bind::selects;
use crate::document::Object;
use crate::document::setting::RuleDoc;
use crate::template;

/// Facts that nodes have of themselves: no label may be called so.
pub const RESERVED: [&str; 15] = [
    "address",
    "arch",
    "cpus",
    "generation",
    "hostname",
    "identity",
    "kernel",
    "machine_id",
    "memory",
    "name",
    "names",
    "os",
    "os_family",
    "os_version",
    "port",
];

/// What rules make of a node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ruled {
    /// Labels that they set, but for those that the node has already.
    pub labels: Object,
    /// Which rule set each.
    pub by: BTreeMap<String, String>,
    /// Rules that could not be tried on this node, and why.
    pub problems: Vec<(String, String)>,
}

/// The order in which rules are gone through.
pub fn sort(rules: &mut [RuleDoc]) {
    rules.sort_by(|one, other| (one.order, &one.rule).cmp(&(other.order, &other.rule)));
}

/// Goes through rules that are in order. `known`: facts of the node, and labels that people set.
pub fn labels(rules: &[RuleDoc], name: &str, known: &Object) -> Ruled {
    let mut ruled = Ruled::default();
    let mut seen = known.clone();
    seen.entry("name").or_insert_with(|| json!(name));
    for rule in rules {
        match selects(&rule.when, name, &seen) {
            Ok(true) => {}
            Ok(false) => continue,
            Err(reason) => {
                ruled.problems.push((rule.rule.clone(), reason));
                continue;
            }
        }
        for (label, said) in rule.set.iter().filter(|(label, _)| !known.contains_key(*label)) {
            match template::value(said, &seen) {
                Ok(value @ (Value::String(_) | Value::Number(_) | Value::Bool(_))) => {
                    ruled.labels.insert(label.clone(), value);
                    ruled.by.insert(label.clone(), rule.rule.clone());
                }
                Ok(_) => ruled.problems.push((rule.rule.clone(), format!("label `{label}` would be no plain value"))),
                Err(error) => ruled.problems.push((rule.rule.clone(), format!("label `{label}`: {error}"))),
            }
        }
        seen.extend(ruled.labels.clone());
    }
    ruled
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Ruled, labels, sort};
    use crate::document::setting::RuleDoc;

    fn rule(name: &str, order: i32, when: &str, set: Value) -> RuleDoc {
        let set = serde_json::from_value(set).expect("an object");
        RuleDoc { rule: name.to_owned(), about: String::new(), order, when: when.to_owned(), set }
    }

    fn of(rules: &[RuleDoc], known: Value) -> Ruled {
        let mut rules = rules.to_vec();
        sort(&mut rules);
        labels(&rules, "r7-3", &serde_json::from_value(known).expect("an object"))
    }

    #[test]
    fn rules_are_gone_through_in_order_and_see_what_those_before_set() {
        let rules = [
            rule("pool", 20, "size = 'big' and rack = '7'", json!({"pool": "storage"})),
            rule("rack", 0, "name is startingwith('r')", json!({"rack": "{{ name[1] }}"})),
            rule("size", 10, "cpus >= 8", json!({"size": "big"})),
            rule("also-size", 15, "cpus >= 64", json!({"size": "huge"})),
        ];
        let big = of(&rules, json!({"cpus": 8}));
        assert_eq!(json!(big.labels), json!({"rack": "7", "size": "big", "pool": "storage"}));
        assert_eq!(big.by["pool"], "pool");
        let huge = of(&rules, json!({"cpus": 64}));
        assert_eq!(
            (&huge.labels["size"], huge.by["size"].as_str()),
            (&json!("huge"), "also-size"),
            "the later is stronger"
        );
        assert!(!huge.labels.contains_key("pool"), "and the next sees that");
        assert_eq!(json!(of(&rules, json!({})).labels), json!({"rack": "7"}), "what is not known does not match");
    }

    #[test]
    fn what_people_and_machines_say_is_stronger_and_what_can_not_be_tried_is_told() {
        let rules = [
            rule("size", 0, "cpus >= 8", json!({"size": "big"})),
            rule("odd", 1, "cpus >", json!({"x": 1})),
            rule("list", 2, "cpus >= 1", json!({"y": "{{ [1] }}", "z": "{{ nobody }}", "fine": true})),
        ];
        let ruled = of(&rules, json!({"cpus": 8, "size": "mine"}));
        assert_eq!(json!(ruled.labels), json!({"fine": true}));
        let names: Vec<&str> = ruled.problems.iter().map(|(rule, _)| rule.as_str()).collect();
        assert_eq!(names, ["odd", "list", "list"]);
    }
}
