//! Who a node is in its deployment, and how it is called there: facts that follow from others.
//!
//! They are never stored, so they can not disagree with what they follow from. Nodes are called by names within the zone
//! of their deployment, for an authority that is confined to the zone can then sign for whoever joins later.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::document::Object;

/// Zones of deployments are below this one.
const ABOVE: &str = "plinth.internal";

/// Facts that follow from `name`, `address` and the deployment.
const DERIVED: [&str; 2] = ["identity", "names"];

/// The DNS zone of a deployment.
pub fn zone(deployment: &str) -> String {
    format!("{deployment}.{ABOVE}")
}

/// Names that an authority of a deployment may sign for: those within its zone. Addresses are not confined, for a
/// deployment has no list of subnets.
pub fn name_constraints(deployment: &str) -> Value {
    json!({"dns": [zone(deployment)], "subnets": []})
}

/// The name in the zone of a deployment at which lists of what was revoked are.
pub const LISTS: &str = "crl";

/// Where lists of what an authority of a deployment revoked can be had. The name is in the deployment's own zone, so that it
/// stays whoever answers there.
pub fn lists(deployment: &str, authority: &str) -> String {
    format!("http://{LISTS}.{}/{authority}", zone(deployment))
}

/// A field of the deployment that follows from its name.
pub fn of_deployment(field: &str, deployment: &str) -> Option<Value> {
    match field {
        "name_constraints" => Some(name_constraints(deployment)),
        "zone" => Some(Value::String(zone(deployment))),
        _ => None,
    }
}

/// A fact of a node in a deployment, as found out or derived: `names` are all under which others reach it, its address
/// among them, `identity` says with those whose key it is. `None` while it is not known.
pub fn fact(facts: &Object, deployment: &str, fact: &str) -> Option<Value> {
    if !DERIVED.contains(&fact) {
        return facts.get(fact).cloned();
    }
    let (name, address) = (facts.get("name")?.as_str()?, facts.get("address")?.as_str()?);
    let names = json!([format!("{name}.{}", zone(deployment)), address]);
    Some(if fact == "names" { names } else { json!({"name": name, "names": names}) })
}

/// These facts, and those that follow from them.
pub fn with_derived(facts: &BTreeSet<String>) -> BTreeSet<String> {
    let moves = facts.contains("name") || facts.contains("address");
    let derived = DERIVED.iter().filter(|_| moves).map(|fact| (*fact).to_owned());
    facts.iter().cloned().chain(derived).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_called_by_its_zone_and_address() {
        let facts = json!({"name": "blue-members-1", "address": "10.1.2.3", "cpus": 2});
        let facts = facts.as_object().expect("facts");
        let names = json!(["blue-members-1.blue.plinth.internal", "10.1.2.3"]);
        assert_eq!(fact(facts, "blue", "names"), Some(names.clone()));
        assert_eq!(fact(facts, "blue", "identity"), Some(json!({"name": "blue-members-1", "names": names})));
        assert_eq!(fact(facts, "blue", "cpus"), Some(json!(2)));
        let unknown = Object::from_iter([("name".to_owned(), json!("blue-members-1"))]);
        assert_eq!(fact(&unknown, "blue", "names"), None, "its address is not known yet");
    }

    #[test]
    fn the_zone_of_names_is_that_which_authorities_are_confined_to() {
        assert_eq!(of_deployment("zone", "blue"), Some(json!("blue.plinth.internal")));
        let constraints = of_deployment("name_constraints", "blue").expect("a field");
        assert_eq!(constraints["dns"], json!(["blue.plinth.internal"]));
        assert_eq!(of_deployment("name", "blue"), None, "it is stored");
    }

    #[test]
    fn what_follows_from_an_address_moves_with_it() {
        let with = |fact: &str| with_derived(&BTreeSet::from([fact.to_owned()]));
        assert_eq!(with("cpus").len(), 1);
        assert_eq!(Vec::from_iter(with("address")), ["address", "identity", "names"]);
    }
}
