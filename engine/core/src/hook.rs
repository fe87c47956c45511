//! Web hooks: which events a hook wants, how they are signed, and when they are tried again.
//!
//! Deliveries are as [Standard Webhooks](https://www.standardwebhooks.com) has them, so that receivers need no code of ours.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::view::EventView;

/// How the text of a secret begins; base64 of the key follows.
pub const SECRET: &str = "whsec_";
/// The longest wait between two tries.
const LONGEST: Duration = Duration::from_hours(1);

/// The key behind the text of a secret; `None` if it is none, or too short to be one.
pub fn key(secret: &str) -> Option<Vec<u8>> {
    let key = STANDARD.decode(secret.strip_prefix(SECRET)?).ok()?;
    (24..=64).contains(&key.len()).then_some(key)
}

/// A key as people keep it.
pub fn secret(key: &[u8]) -> String {
    format!("{SECRET}{}", STANDARD.encode(key))
}

/// The header `webhook-signature` of a delivery: by its id, the seconds since 1970 at which it is sent, and its body.
pub fn signature(key: &[u8], id: &str, timestamp: i64, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(format!("{id}.{timestamp}.{body}").as_bytes());
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

/// The id of an event's delivery, the same whenever it is sent again.
pub fn id(event: &EventView) -> String {
    format!("evt_{}", event.seq)
}

/// The body of a delivery.
pub fn body(event: &EventView) -> Value {
    let event = json!(event);
    json!({"type": event["kind"], "timestamp": event["at"], "data": event})
}

/// Does a hook want an event? Kinds are names such as `node.up`, or `node.*`; empty lists want everything.
pub fn wants(kinds: &[String], deployments: &[String], event: &EventView) -> bool {
    let is_kind = |kind: &String| match kind.strip_suffix('*') {
        Some(begin) => event.kind.starts_with(begin),
        None => *kind == event.kind,
    };
    (kinds.is_empty() || kinds.iter().any(is_kind))
        && (deployments.is_empty() || event.deployment.as_ref().is_some_and(|name| deployments.contains(name)))
}

/// How long to wait after so many tries of one delivery that failed.
pub fn backoff(failed: u32) -> Duration {
    Duration::from_secs(1).saturating_mul(2_u32.saturating_pow(failed.saturating_sub(1))).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use time::OffsetDateTime;

    use super::{backoff, body, id, key, secret, signature, wants};
    use crate::view::EventView;

    fn event(kind: &str, deployment: Option<&str>) -> EventView {
        EventView {
            seq: 7,
            at: OffsetDateTime::UNIX_EPOCH,
            kind: kind.to_owned(),
            deployment: deployment.map(str::to_owned),
            node: None,
            role: None,
            job: None,
            principal: "ann".to_owned(),
            detail: json!({"x": 1}),
        }
    }

    /// The example that libraries of Standard Webhooks are tested with.
    #[test]
    fn signatures_are_those_of_standard_webhooks() {
        let text = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let key = key(text).expect("a secret");
        assert_eq!(secret(&key), text);
        let signed = signature(&key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, r#"{"test": 2432232314}"#);
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        for wrong in ["", "whsec_", "whsec_AAAA", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_!"] {
            assert_eq!(super::key(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn events_are_wanted_by_kind_and_deployment() {
        let words = |all: &[&str]| all.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let up = event("node.up", Some("blue"));
        for (kinds, deployments, wanted) in [
            (vec![], vec![], true),
            (vec!["node.up"], vec![], true),
            (vec!["node.*"], vec!["blue", "green"], true),
            (vec!["*"], vec!["green"], false),
            (vec!["node", "node-role.*", "node.upper"], vec![], false),
        ] {
            assert_eq!(wants(&words(&kinds), &words(&deployments), &up), wanted, "{kinds:?} {deployments:?}");
        }
        assert!(!wants(&[], &words(&["blue"]), &event("bundle.pushed", None)), "it is of no deployment");
        assert_eq!(
            (id(&up).as_str(), &body(&up)["type"], &body(&up)["data"]["seq"]),
            ("evt_7", &json!("node.up"), &json!(7))
        );
    }

    #[test]
    fn waits_grow_to_an_hour() {
        let waits: Vec<u64> = [1, 2, 3, 11, 12, 13, 40, u32::MAX].map(|failed| backoff(failed).as_secs()).into();
        assert_eq!(waits, [1, 2, 4, 1024, 2048, 3600, 3600, 3600]);
    }
}
