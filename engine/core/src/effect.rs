//! What a run would do to a machine that people care about, read from the steps without running them.
//!
//! Effects are upper bounds: what a `when` would skip and what a step would find already done is not known here. A
//! first start is no effect, nor is a reload.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::document::Step;
use crate::template;

/// The closed list of what policies name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum EffectKind {
    /// A running unit is restarted.
    Restart,
    /// The machine reboots.
    Reboot,
    /// The machine gets a new operating system.
    Reinstall,
    /// Data that no step made is taken away.
    Wipe,
    /// A running unit is stopped.
    Interrupt,
}

/// One effect.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Effect {
    /// What kind.
    pub kind: EffectKind,
    /// On what: a unit, as written in the role. Empty for the whole machine.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub what: String,
}

/// What machines feel of the jobs of a role, by what makes them run; upper bounds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Felt {
    /// Of the first run.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub first: BTreeSet<EffectKind>,
    /// Of every other run.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub always: BTreeSet<EffectKind>,
    /// Of a run with another content, or one that a person asked for.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub content: BTreeSet<EffectKind>,
    /// Of a run with another value of an input.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub inputs: BTreeMap<String, BTreeSet<EffectKind>>,
    /// Of the removal.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub leave: BTreeSet<EffectKind>,
}

impl fmt::Display for EffectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Restart => "restart",
            Self::Reboot => "reboot",
            Self::Reinstall => "reinstall",
            Self::Wipe => "wipe",
            Self::Interrupt => "interrupt",
        })
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.what.is_empty() { self.kind.fmt(f) } else { write!(f, "{}:{}", self.kind, self.what) }
    }
}

/// The effects of running `steps` again after `changed_inputs` changed, in the order of the steps.
///
/// What a template file reads is not known here: any change is taken to change the file that it makes.
pub fn effects(steps: &[Step], changed_inputs: &BTreeSet<String>) -> Vec<Effect> {
    effects_with(steps, changed_inputs, |_| None)
}

/// The same, where `template` gives the text of `templates/NAME`, so that only what the text reads counts.
pub fn effects_with<'a>(
    steps: &[Step],
    changed_inputs: &BTreeSet<String>,
    template: impl Fn(&str) -> Option<&'a str>,
) -> Vec<Effect> {
    // A result of an earlier step may differ when what the step reads differs.
    let mut changed = changed_inputs.clone();
    let mut files: BTreeSet<&str> = BTreeSet::new();
    let mut found: Vec<Effect> = Vec::new();
    for step in steps {
        let differs = reads_changed(step, &changed, &template);
        if differs && step.kind != "output" {
            changed.extend(saved(step).map(str::to_owned));
        }
        if let Some(path) = text(step, "path").filter(|_| differs) {
            files.insert(path);
        }
        let effect = match step.kind.as_str() {
            "reboot" => Some(Effect { kind: EffectKind::Reboot, what: String::new() }),
            "unit" => of_unit(step, &changed, &files),
            _ => None,
        };
        found.extend(effect.filter(|effect| !found.contains(effect)));
    }
    found
}

fn of_unit(step: &Step, changed: &BTreeSet<String>, files: &BTreeSet<&str>) -> Option<Effect> {
    let what = unit_name(step.args.get("name")?)?;
    if step.args.get("running") == Some(&Value::Bool(false)) {
        return Some(Effect { kind: EffectKind::Interrupt, what });
    }
    let names =
        |key: &str| step.args.get(key).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let restarts =
        names("restart_for").any(|input| changed.contains(input)) || names("files").any(|path| files.contains(path));
    restarts.then_some(Effect { kind: EffectKind::Restart, what })
}

/// A map by `os.family` has the same unit under several names: the first stands for it.
fn unit_name(name: &Value) -> Option<String> {
    match name {
        Value::String(text) => Some(text.clone()),
        Value::Object(families) => families.values().next().and_then(unit_name),
        _ => None,
    }
}

fn reads_changed<'a>(step: &Step, changed: &BTreeSet<String>, template: &impl Fn(&str) -> Option<&'a str>) -> bool {
    if changed.is_empty() {
        return false;
    }
    // A script sees every input; a text that does not parse is somebody else's error and may read anything.
    let Ok(mut names) = template::undeclared_in_step(step) else { return true };
    if step.kind == "run" {
        return true;
    }
    if let Some(name) = text(step, "template") {
        let Some(source) = template(name) else { return true };
        let Ok(read) = template::undeclared(source, template::Syntax::Plain) else { return true };
        names.extend(read);
    }
    !names.is_disjoint(changed)
}

fn text<'a>(step: &'a Step, key: &str) -> Option<&'a str> {
    step.args.get(key).and_then(Value::as_str)
}

fn saved(step: &Step) -> impl Iterator<Item = &str> {
    step.save.as_deref().into_iter().chain(text(step, "as"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(changed: &[&str], template: Option<&str>) -> String {
        let steps: Vec<Step> = serde_json::from_value(json!([
            {"package": {"names": ["etcd"], "start": false}},
            {"file": {"path": "/etc/default/etcd", "template": "etcd.env"}},
            {"file": {"path": "/etc/motd", "content": "{{ motd }}"}},
            {"run": {"text": "true", "unless": "true", "as": "joined"}},
            {"unit": {"name": "etcd.service", "running": true, "restart_for": ["tls", "joined"], "files": ["/etc/default/etcd"]}},
            {"unit": {"name": "motd", "reload_for": ["motd"]}},
            {"unit": {"name": "cron", "running": false}, "when": "quiet"},
            {"reboot": {"unless": "true"}},
        ]))
        .unwrap();
        let changed = changed.iter().map(|name| (*name).to_owned()).collect();
        let found = effects_with(&steps[..3], &changed, |_| template).into_iter().chain(effects_with(
            &[&steps[..3], &steps[4..]].concat(),
            &changed,
            |_| template,
        ));
        found.map(|effect| effect.to_string()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_a_change_does() {
        assert_eq!(check(&["tls"], Some("{{ name }}")), "restart:etcd.service interrupt:cron reboot");
        assert_eq!(check(&["name"], Some("{{ name }}")), "restart:etcd.service interrupt:cron reboot");
        assert_eq!(check(&["motd"], Some("{{ name }}")), "interrupt:cron reboot");
        // Nobody can say what the template reads.
        assert_eq!(check(&["motd"], None), "restart:etcd.service interrupt:cron reboot");
        assert_eq!(check(&[], None), "interrupt:cron reboot");
    }

    #[test]
    fn a_script_passes_changes_on() {
        let steps: Vec<Step> = serde_json::from_value(json!([
            {"run": {"text": "true", "as": "joined"}},
            {"file": {"path": "/x", "content": "{{ joined }}"}},
            {"unit": {"name": "x", "files": ["/x"]}},
        ]))
        .unwrap();
        let found = effects(&steps, &["any".to_owned()].into());
        assert_eq!(found, [Effect { kind: EffectKind::Restart, what: "x".to_owned() }]);
        assert!(effects(&steps, &BTreeSet::new()).is_empty());
    }
}
