//! What machines feel of a job, and what the policy says to it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Action, Approval, Item};
use crate::catalog::CatalogRole;
use crate::compile::render_with;
use crate::diagnostic::Diagnostic;
use crate::document::{Object, Policy, Step};

/// The closed list that policies name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum EffectKind {
    /// A unit is restarted.
    Restart,
    /// The machine is rebooted.
    Reboot,
    /// The machine is installed anew.
    Reinstall,
    /// Data is destroyed.
    Wipe,
    /// A service stops for good.
    Interrupt,
    /// It can not be told; every policy counts it as the worst.
    Unknown,
}

impl EffectKind {
    /// The effect that a policy names.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "restart" => Self::Restart,
            "reboot" => Self::Reboot,
            "reinstall" => Self::Reinstall,
            "wipe" => Self::Wipe,
            "interrupt" => Self::Interrupt,
            _ => return None,
        })
    }

    /// As people read it, with what it happens to.
    pub fn verb(self) -> &'static str {
        match self {
            Self::Restart => "restarts",
            Self::Reboot => "reboots",
            Self::Reinstall => "installs anew",
            Self::Wipe => "wipes",
            Self::Interrupt => "stops",
            Self::Unknown => "has unknown effects:",
        }
    }
}

/// One effect on a machine.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Effect {
    /// Which kind.
    pub kind: EffectKind,
    /// The unit, path or machine.
    pub what: String,
}

fn effect(kind: EffectKind, what: impl Into<String>) -> Effect {
    Effect { kind, what: what.into() }
}

/// Effects of a job that makes or remakes a node role.
pub(super) fn apply(role: Option<&CatalogRole>, is_new: bool, changed: &BTreeSet<&str>, content: bool) -> Vec<Effect> {
    let Some(role) = role else { return vec![effect(EffectKind::Unknown, "its role is not in the catalog")] };
    let steps = role.doc.apply.iter().flatten();
    let mut effects = BTreeSet::new();
    for step in steps.clone() {
        match step.kind.as_str() {
            "reboot" => {
                effects.insert(effect(EffectKind::Reboot, "the machine"));
            }
            "unit" if !is_new && (content || restarts(role, step, changed)) => {
                effects.insert(effect(EffectKind::Restart, unit_name(step)));
            }
            _ => {}
        }
    }
    if is_new && role.doc.destructive {
        effects.insert(effect(EffectKind::Reinstall, "the machine"));
    }
    effects.into_iter().collect()
}

fn unit_name(step: &Step) -> String {
    let name = step.args.get("name").unwrap_or(&step.args);
    name.as_str().map_or_else(|| name.to_string(), str::to_owned)
}

/// Does a unit restart when these inputs change: by `restart_for`, or because one of its `files` reads one of them?
fn restarts(role: &CatalogRole, unit: &Step, changed: &BTreeSet<&str>) -> bool {
    let names = |key: &str| unit.args.get(key).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    if names("restart_for").any(|input| changed.contains(input)) {
        return true;
    }
    let files: BTreeSet<&str> = names("files").collect();
    role.doc.apply.iter().flatten().any(|step| {
        let path = step.args.get("path").and_then(Value::as_str);
        path.is_some_and(|path| files.contains(path)) && reads(role, step, changed)
    })
}

fn reads(role: &CatalogRole, step: &Step, changed: &BTreeSet<&str>) -> bool {
    let mut text = step.args.to_string();
    text.push_str(step.when.as_deref().unwrap_or_default());
    text.push_str(step.each.as_deref().unwrap_or_default());
    for (key, folder) in [("template", "templates"), ("source", "files")] {
        if let Some(name) = step.args.get(key).and_then(Value::as_str)
            && let Some(bytes) = role.files.get(&format!("{folder}/{name}"))
        {
            text.push_str(&String::from_utf8_lossy(bytes));
        }
    }
    text.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| changed.contains(word))
}

/// Effects of a removal.
pub(super) fn leave(role: Option<&CatalogRole>, inputs: &Object) -> Vec<Effect> {
    let Some(role) = role else { return vec![effect(EffectKind::Unknown, "its role is not in the catalog")] };
    let units = role.doc.apply.iter().flatten().filter(|step| step.kind == "unit");
    let mut effects: BTreeSet<Effect> = units.map(|step| effect(EffectKind::Interrupt, unit_name(step))).collect();
    for path in &role.doc.destroys {
        effects.insert(effect(EffectKind::Wipe, path_of(path, inputs).unwrap_or_else(|| path.clone())));
    }
    effects.into_iter().collect()
}

/// A path of `destroys`, if what it reads is known.
pub(super) fn path_of(template: &str, inputs: &Object) -> Option<String> {
    match render_with(&Value::String(template.to_owned()), inputs).ok()? {
        Value::String(path) => Some(path.trim_end_matches('/').to_owned()).filter(|path| !path.is_empty()),
        _ => None,
    }
}

/// Checks a plan against the policy. What can not be decided is refused.
pub(super) fn policy(policy: &Policy, items: &[Item]) -> (Vec<Diagnostic>, Vec<Approval>) {
    let mut problems = Vec::new();
    let mut read = |words: &[String], key: &str| {
        let mut kinds = BTreeSet::new();
        for (index, word) in words.iter().enumerate() {
            match EffectKind::parse(word) {
                Some(kind) => {
                    kinds.insert(kind);
                }
                None => problems.push(
                    Diagnostic::error("unknown-effect", format!("/policy/{key}/{index}"), format!("no effect `{word}`"))
                        .expected("restart, reboot, reinstall, wipe or interrupt"),
                ),
            }
        }
        kinds
    };
    let (forbidden, approve) = (read(&policy.forbid, "forbid"), read(&policy.approve, "approve"));
    let mut approvals = BTreeSet::new();
    for item in items.iter().filter(|item| !matches!(item.action, Action::Untouched | Action::Outdated)) {
        for Effect { kind, what } in &item.effects {
            let unknown = *kind == EffectKind::Unknown;
            if forbidden.contains(kind) || (unknown && !forbidden.is_empty()) {
                let message = format!("{}/{} {} {what}, which the policy forbids", item.node, item.role, kind.verb());
                problems.push(Diagnostic::error("forbidden-effect", "/policy/forbid", message));
            } else if approve.contains(kind) || (unknown && !approve.is_empty()) {
                approvals.insert(Approval { node: item.node.clone(), role: item.role.clone(), effect: *kind });
            }
        }
    }
    (problems, approvals.into_iter().collect())
}
