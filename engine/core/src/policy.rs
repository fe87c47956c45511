//! Policies of all deployments together with that of one: whatever any of them forbids is forbidden, whatever any of them
//! wants approved is to be approved, and nodes that do not answer are waited for as long as the most patient of them says.

use std::collections::BTreeMap;

use crate::document::Policy;
use crate::silence::patience;

/// A policy that holds for all deployments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GlobalPolicy {
    /// Its name.
    pub name: String,
    /// Who set it.
    pub by: String,
    /// What it says.
    pub policy: Policy,
}

/// Who wants it, by [`key`]; what is not in it is said by the deployment alone.
pub type Wanted = BTreeMap<String, String>;

/// The key of something that is forbidden, to be approved, or done with a node that is `silent`.
pub fn key(what: &str, effect: &str) -> String {
    format!("{what} {effect}")
}

/// All of them in one, and who wants what.
pub fn merged(own: &Policy, global: &[GlobalPolicy]) -> (Policy, Wanted) {
    let (mut policy, mut wanted) = (own.clone(), Wanted::new());
    for one in global {
        let who = format!("policy `{}` (set by {})", one.name, one.by);
        for (what, said, all) in
            [("forbid", &one.policy.forbid, &mut policy.forbid), ("approve", &one.policy.approve, &mut policy.approve)]
        {
            for effect in said {
                let is_new = !all.contains(effect);
                if is_new {
                    all.push(effect.clone());
                }
                let said = wanted
                    .entry(key(what, effect))
                    .or_insert_with(|| if is_new { String::new() } else { "the policy of the deployment".to_owned() });
                *said = if said.is_empty() { who.clone() } else { format!("{said} and {who}") };
            }
        }
        for (what, said, most) in [
            ("aside", &one.policy.silent.aside, &mut policy.silent.aside),
            ("lost", &one.policy.silent.lost, &mut policy.silent.lost),
        ] {
            let Some(said) = said else { continue };
            if most.as_ref().is_none_or(|most| patience(most) < patience(said)) {
                *most = Some(said.clone());
                wanted.insert(key("silent", what), who.clone());
            }
        }
    }
    (policy, wanted)
}

#[cfg(test)]
mod tests {
    use super::{GlobalPolicy, key, merged};
    use crate::document::{Policy, Silent};

    fn policy(forbid: &[&str], approve: &[&str]) -> Policy {
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        Policy { forbid: owned(forbid), approve: owned(approve), silent: Silent::default() }
    }

    #[test]
    fn the_stricter_wins_and_it_is_known_who_it_is() {
        let global = |name: &str, policy| GlobalPolicy { name: name.to_owned(), by: "ann".to_owned(), policy };
        let all =
            [global("machines", policy(&["wipe"], &["reboot"])), global("more", policy(&["wipe", "reinstall"], &[]))];
        let (merged, wanted) = merged(&policy(&["reinstall"], &["restart"]), &all);
        assert_eq!(merged, policy(&["reinstall", "wipe"], &["restart", "reboot"]));
        assert_eq!(wanted[&key("forbid", "wipe")], "policy `machines` (set by ann) and policy `more` (set by ann)");
        assert_eq!(wanted[&key("forbid", "reinstall")], "the policy of the deployment and policy `more` (set by ann)");
        assert!(!wanted.contains_key(&key("approve", "restart")), "its own, and nobody else's");
    }

    #[test]
    fn the_most_patient_says_when_a_silent_node_is_taken_out() {
        let silent = |aside: Option<&str>, lost: Option<&str>| Policy {
            silent: Silent { aside: aside.map(str::to_owned), lost: lost.map(str::to_owned) },
            ..Policy::default()
        };
        let global = |name: &str, policy| GlobalPolicy { name: name.to_owned(), by: "ann".to_owned(), policy };
        let all = [global("usual", silent(Some("10m"), Some("2h"))), global("more", silent(Some("5m"), None))];
        let says = |own: Policy| {
            let (policy, wanted) = merged(&own, &all);
            let by = |what| wanted.get(&key("silent", what)).cloned().unwrap_or_default();
            format!("{:?} {}, {:?} {}", policy.silent.aside, by("aside"), policy.silent.lost, by("lost"))
        };
        insta::assert_snapshot!(says(Policy::default()), @r#"Some("10m") policy `usual` (set by ann), Some("2h") policy `usual` (set by ann)"#);
        insta::assert_snapshot!(says(silent(Some("60s"), Some("1d"))), @r#"Some("10m") policy `usual` (set by ann), Some("1d") "#);
        insta::assert_snapshot!(says(silent(Some("600s"), Some("never"))), @r#"Some("600s") , Some("never") "#);
    }
}
