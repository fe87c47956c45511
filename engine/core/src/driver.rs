//! The drivers that an engine has: work that is done in it and not on a node.
//!
//! A driver takes inputs and gives outputs as a role does; this table says which, so that a role that names one is
//! checked when it is loaded. What a driver does stands in the daemon.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::compile::facts;
use crate::document::RoleDoc;
use crate::schema::{Fit, fit, validate};

/// What a driver takes and gives.
#[derive(Clone, Debug)]
pub struct Driver {
    /// Inputs that it needs, each with the schema of what it takes.
    pub inputs: BTreeMap<&'static str, Value>,
    /// Outputs that it gives.
    pub outputs: BTreeMap<&'static str, Told>,
}

/// An output of a driver.
#[derive(Clone, Debug)]
pub struct Told {
    /// The schema of what it may be.
    pub schema: Value,
    /// What it is like; valid by the schema.
    pub example: Value,
}

/// Where a role does not fit its driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misfit {
    /// Stable code.
    pub code: &'static str,
    /// JSON pointer in the role.
    pub pointer: String,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub expected: String,
}

/// Makes secrets.
pub const RANDOM: &str = "secret.random";

/// How a certificate looks.
const PEM: &str = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";

static DRIVERS: LazyLock<BTreeMap<&'static str, Driver>> = LazyLock::new(|| {
    let text = json!({"type": "string", "minLength": 1});
    let names = facts::of_node("names").unwrap_or_default();
    let issuer = json!({
        "type": "object", "additionalProperties": false, "required": ["id", "generation"],
        "properties": {"id": {"type": "string", "format": "uuid"}, "generation": {"type": "integer", "minimum": 1}},
    });
    let duration = json!({"type": "string", "pattern": "^([0-9]+(s|m|h|d))+$"});
    let pem =
        json!({"type": "string", "minLength": 1, "maxLength": 1_048_576, "pattern": "^-----BEGIN [A-Z0-9 ]+-----\n"});
    let trust = json!({
        "type": "object", "additionalProperties": false, "required": ["generation", "certificates"],
        "properties": {
            "generation": {"type": "integer", "minimum": 1},
            "certificates": {"type": "array", "minItems": 1, "items": pem},
        },
    });
    // All that was revoked: 200,000 entries have less.
    let list =
        json!({"type": "string", "minLength": 1, "maxLength": 16_777_216, "pattern": "^-----BEGIN [A-Z0-9 ]+-----\n"});
    let usages = json!({"type": "array", "items": {"enum": ["server", "client"]}, "minItems": 1, "uniqueItems": true});
    let time =
        Told { schema: json!({"type": "string", "format": "date-time"}), example: json!("2026-12-24T18:00:00Z") };
    let mut drivers = dns();
    drivers.insert(
        RANDOM,
        Driver {
            inputs: BTreeMap::from([
                ("form", json!({"enum": ["letters", "hex", "base64"]})),
                ("length", json!({"type": "integer", "minimum": 8, "maximum": 1024})),
                ("lifetime", duration.clone()),
            ]),
            outputs: BTreeMap::from([
                ("value", Told { schema: json!({"type": "string", "minLength": 8}), example: json!("h7Gk2mQ9") }),
                ("renew_at", time.clone()),
            ]),
        },
    );
    drivers.extend([
        (
            "pki.authority",
            Driver {
                inputs: BTreeMap::from([
                    ("common_name", json!({"type": "string", "minLength": 1, "maxLength": 64})),
                    ("lifetime", duration.clone()),
                    ("list_lifetime", duration.clone()),
                    ("permitted", facts::of_deployment("name_constraints").unwrap_or_default()),
                    ("signed_by", json!({"enum": ["itself", "others"]})),
                ]),
                outputs: BTreeMap::from([
                    ("issuer", Told { schema: issuer.clone(), example: json!({"id": Uuid::nil(), "generation": 1}) }),
                    ("revoked", Told { schema: list, example: json!(PEM) }),
                    ("renew_at", time.clone()),
                    ("trust", Told { schema: trust, example: json!({"generation": 1, "certificates": [PEM]}) }),
                ]),
            },
        ),
        (
            "pki.leaf",
            Driver {
                inputs: BTreeMap::from([
                    ("issuer", issuer),
                    ("csr", text),
                    ("identity", facts::of_node("identity").unwrap_or_default()),
                    ("names", names),
                    ("usages", usages),
                    ("lifetime", duration),
                ]),
                outputs: BTreeMap::from([("chain", Told { schema: pem, example: json!(PEM) }), ("renew_at", time)]),
            },
        ),
    ]);
    drivers
});

/// Zones and names.
fn dns() -> BTreeMap<&'static str, Driver> {
    let labels = "^[a-z0-9]([a-z0-9-]*[a-z0-9])?([.][a-z0-9]([a-z0-9-]*[a-z0-9])?)*$";
    let name = json!({"type": "string", "minLength": 1, "maxLength": 253, "pattern": labels});
    let ttl = json!({"type": "integer", "minimum": 1, "maximum": 86400});
    let pushes = json!({
        "type": "array", "uniqueItems": true,
        "items": {
            "type": "object", "additionalProperties": false, "required": ["server", "key"],
            "properties": {"server": {"type": "string"}, "key": {"type": "string", "pattern": "^/"}, "api": {"type": "string"}},
        },
    });
    let zone = json!({
        "type": "object", "additionalProperties": false, "required": ["name", "reverse", "ttl", "pushes", "answered"],
        "properties": {"name": name, "reverse": {"type": "array", "items": name}, "ttl": ttl, "pushes": pushes,
                       "answered": {"type": "boolean"}},
    });
    let example =
        json!({"name": "demo.internal", "reverse": ["10.in-addr.arpa"], "ttl": 60, "pushes": [], "answered": true});
    let addresses = json!({"type": "object", "additionalProperties": {"type": "string", "format": "ipv4"}});
    let fqdn = Told { schema: name.clone(), example: json!("web.demo.internal") };
    BTreeMap::from([
        (
            "dns.zone",
            Driver {
                inputs: BTreeMap::from([
                    ("name", name.clone()),
                    ("subnets", json!({"type": "array", "items": {"type": "string"}})),
                    ("ttl", ttl),
                    ("pushes", pushes),
                    ("answered", json!({"type": "boolean"})),
                ]),
                outputs: BTreeMap::from([("zone", Told { schema: zone.clone(), example })]),
            },
        ),
        (
            "dns.record",
            Driver {
                inputs: BTreeMap::from([
                    ("zone", zone.clone()),
                    ("name", name.clone()),
                    ("address", json!({"type": "string"})),
                ]),
                outputs: BTreeMap::from([("fqdn", fqdn.clone())]),
            },
        ),
        (
            "dns.key",
            Driver {
                inputs: BTreeMap::from([
                    ("zone", zone.clone()),
                    ("name", name.clone()),
                    ("secret", json!({"type": "string"})),
                    ("below", json!({"type": "string", "maxLength": 253})),
                ]),
                outputs: BTreeMap::from([("name", fqdn.clone())]),
            },
        ),
        (
            "dns.service",
            Driver {
                inputs: BTreeMap::from([("zone", zone), ("name", name), ("addresses", addresses)]),
                outputs: BTreeMap::from([("fqdn", fqdn)]),
            },
        ),
    ])
}

/// The driver of this name.
pub fn find(name: &str) -> Option<&'static Driver> {
    DRIVERS.get(name)
}

/// The names of all drivers.
pub fn names() -> impl Iterator<Item = &'static str> {
    DRIVERS.keys().copied()
}

/// Where a role and the driver that it names do not fit. Types of the role must be resolved.
pub fn misfits(role: &RoleDoc) -> Vec<Misfit> {
    let Some(name) = &role.driver else { return Vec::new() };
    let Some(driver) = find(name) else {
        let expected = names().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let message = format!("there is no driver `{name}`");
        return vec![Misfit { code: "driver-unknown", pointer: "/driver".to_owned(), message, expected }];
    };
    let mut found = Vec::new();
    for (input, taken) in &driver.inputs {
        let Some(declared) = role.inputs.get(*input) else {
            found.push(Misfit {
                code: "driver-input",
                pointer: "/driver".to_owned(),
                message: format!("the driver `{name}` needs an input `{input}`"),
                expected: format!("an input `{input}` of the schema {taken}"),
            });
            continue;
        };
        if let Fit::DoesNotFit { place, reason } = fit(&declared.schema, taken) {
            found.push(Misfit {
                code: "driver-input",
                pointer: format!("/inputs/{input}/schema"),
                message: format!("it admits what the driver `{name}` does not take: {reason}{}", at(&place)),
                expected: taken.to_string(),
            });
        }
    }
    for (output, declared) in role.outputs.iter().filter(|(_, output)| output.value.is_none()) {
        let Some(given) = driver.outputs.get(output.as_str()) else {
            let known = driver.outputs.keys().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            found.push(Misfit {
                code: "driver-output",
                pointer: format!("/outputs/{output}"),
                message: format!("the driver `{name}` gives no output `{output}`"),
                expected: format!("a `value`, or one of {known}"),
            });
            continue;
        };
        if let Some(reason) = refused(given, &declared.schema) {
            found.push(Misfit {
                code: "driver-output",
                pointer: format!("/outputs/{output}/schema"),
                message: format!("what the driver `{name}` gives does not fit it: {reason}"),
                expected: given.schema.to_string(),
            });
        }
    }
    found
}

/// Why a schema does not admit what a driver gives; `None` if it does, or if nobody can tell.
fn refused(given: &Told, schema: &Value) -> Option<String> {
    if let Some(problem) = validate(schema, &given.example).into_iter().next() {
        return Some(format!("{}{}", problem.message, at(&problem.pointer)));
    }
    match fit(&given.schema, schema) {
        Fit::DoesNotFit { place, reason } => Some(format!("{reason}{}", at(&place))),
        Fit::Fits | Fit::Undecided { .. } => None,
    }
}

fn at(place: &str) -> String {
    if place.is_empty() { String::new() } else { format!(" at {place}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(inputs: Value, outputs: Value) -> Vec<String> {
        let role = json!({"role": "r", "version": "1.0.0", "runs": "deployment", "at": "engine",
                          "driver": "pki.authority", "inputs": inputs, "outputs": outputs});
        let role: RoleDoc = serde_json::from_value(role).expect("a role");
        misfits(&role).into_iter().map(|one| format!("{} {} {}", one.code, one.pointer, one.message)).collect()
    }

    fn inputs() -> Value {
        let driver = find("pki.authority").expect("a driver");
        driver.inputs.iter().map(|(name, schema)| ((*name).to_owned(), json!({"schema": schema}))).collect()
    }

    #[test]
    fn examples_are_what_drivers_give() {
        for (output, told) in DRIVERS.values().flat_map(|driver| &driver.outputs) {
            assert!(crate::schema::check(&told.schema).is_ok(), "{output}");
            assert_eq!(validate(&told.schema, &told.example), [], "{output}");
        }
    }

    #[test]
    fn a_role_fits_its_driver_or_is_told_where_not() {
        assert_eq!(check(inputs(), json!({})), Vec::<String>::new());
        let mut wrong = inputs();
        wrong["lifetime"] = json!({"schema": {"type": "integer"}});
        wrong.as_object_mut().expect("inputs").remove("permitted");
        let outputs = json!({"trust": {"schema": {"type": "string"}}, "key": {"schema": true},
                             "about": {"schema": {"type": "string"}, "value": "x"}});
        let found = check(wrong, outputs);
        let told: Vec<&str> = found.iter().map(|one| one.split(" it ").next().unwrap_or_default()).collect();
        assert_eq!(told.len(), 4, "{found:#?}");
        assert!(told[0].starts_with("driver-input /inputs/lifetime/schema"), "{found:#?}");
        assert_eq!(told[1], "driver-input /driver the driver `pki.authority` needs an input `permitted`");
        assert_eq!(told[2], "driver-output /outputs/key the driver `pki.authority` gives no output `key`");
        assert!(told[3].starts_with("driver-output /outputs/trust/schema"), "{found:#?}");
    }
}
