//! What machines feel of a job, and what the policy says to it.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Action, Approval, Item};
use crate::catalog::CatalogRole;
use crate::compile::render_with;
use crate::diagnostic::Diagnostic;
use crate::document::{Object, Step};
use crate::effect::{Effect, EffectKind, Felt, effects_with};
use crate::graph::Graph;
use crate::policy::key;

/// Effects of a job that makes or remakes a node role. `None` when its role is not known.
pub(super) fn apply(
    role: Option<&CatalogRole>,
    is_new: bool,
    changed: &BTreeSet<&str>,
    content: bool,
) -> Option<Vec<Effect>> {
    let role = role?;
    let steps = role.doc.apply.as_deref().unwrap_or_default();
    let changed: BTreeSet<String> = match (is_new, content) {
        (true, _) => BTreeSet::new(),
        // Other steps, other files: whatever can be restarted may be.
        (false, true) => role.doc.inputs.keys().cloned().collect(),
        (false, false) => changed.iter().map(|input| (*input).to_owned()).collect(),
    };
    let text =
        |name: &str| role.files.get(&format!("templates/{name}")).and_then(|bytes| std::str::from_utf8(bytes).ok());
    let mut effects: BTreeSet<Effect> = effects_with(steps, &changed, text).into_iter().collect();
    if content && !is_new {
        effects
            .extend(units(steps).filter(|step| may_restart(step)).map(|step| of(EffectKind::Restart, unit_name(step))));
    }
    if is_new && role.doc.destructive {
        effects.insert(of(EffectKind::Reinstall, String::new()));
    }
    Some(effects.into_iter().collect())
}

/// What machines feel of a role's jobs, by what makes them run.
pub(crate) fn felt(role: &CatalogRole) -> Felt {
    let kinds = |effects: Option<Vec<Effect>>| -> BTreeSet<EffectKind> {
        effects.into_iter().flatten().map(|effect| effect.kind).collect()
    };
    let again =
        |changed: &[&str], content| kinds(apply(Some(role), false, &changed.iter().copied().collect(), content));
    let always = again(&[], false);
    let of = |input: &String| (input.clone(), &again(&[input], false) - &always);
    Felt {
        first: kinds(apply(Some(role), true, &BTreeSet::new(), false)),
        content: again(&[], true),
        inputs: role.doc.inputs.keys().map(of).filter(|(_, effects)| !effects.is_empty()).collect(),
        leave: kinds(leave(Some(role), &Object::new())),
        always,
    }
}

/// Effects of a removal. `None` when its role is not known.
pub(super) fn leave(role: Option<&CatalogRole>, inputs: &Object) -> Option<Vec<Effect>> {
    let role = role?;
    let steps = role.doc.apply.as_deref().unwrap_or_default();
    let mut effects: BTreeSet<Effect> = units(steps).map(|step| of(EffectKind::Interrupt, unit_name(step))).collect();
    for path in &role.doc.destroys {
        effects.insert(of(EffectKind::Wipe, path_of(path, inputs).unwrap_or_else(|| path.clone())));
    }
    Some(effects.into_iter().collect())
}

/// Effects of a node role that is taken away and made anew, its machine with it (`machine`) or not.
pub(super) fn anew(applied: Option<Vec<Effect>>, left: Option<Vec<Effect>>, machine: bool) -> Option<Vec<Effect>> {
    let reinstalled = machine.then(|| of(EffectKind::Reinstall, String::new()));
    let all: BTreeSet<Effect> = applied?.into_iter().chain(left?).chain(reinstalled).collect();
    Some(all.into_iter().collect())
}

fn of(kind: EffectKind, what: String) -> Effect {
    Effect { kind, what }
}

fn units(steps: &[Step]) -> impl Iterator<Item = &Step> {
    steps.iter().filter(|step| step.kind == "unit")
}

fn may_restart(unit: &Step) -> bool {
    unit.args.get("running") != Some(&Value::Bool(false))
        && ["restart_for", "files"].into_iter().any(|key| unit.args.get(key).is_some())
}

fn unit_name(unit: &Step) -> String {
    let name = unit.args.get("name").unwrap_or(&unit.args);
    name.as_str().map_or_else(|| name.to_string(), str::to_owned)
}

/// A path of `destroys`, if what it reads is known.
pub(super) fn path_of(template: &str, inputs: &Object) -> Option<String> {
    match render_with(&Value::String(template.to_owned()), inputs).ok()? {
        Value::String(path) => Some(path.trim_end_matches('/').to_owned()).filter(|path| !path.is_empty()),
        _ => None,
    }
}

/// An effect as people read it.
pub(super) fn text(effect: &Effect) -> String {
    let verb = match effect.kind {
        EffectKind::Restart => "restarts",
        EffectKind::Reboot => "reboots",
        EffectKind::Reinstall => "installs anew",
        EffectKind::Wipe => "wipes",
        EffectKind::Interrupt => "stops",
    };
    let what = if effect.what.is_empty() { "the machine" } else { &effect.what };
    format!("{verb} {what}")
}

/// The effects that a list of the policy names; other words are problems.
fn named(words: &[String], key: &str, problems: &mut Vec<Diagnostic>) -> BTreeSet<EffectKind> {
    let mut kinds = BTreeSet::new();
    for (index, word) in words.iter().enumerate() {
        match serde_json::from_value(Value::String(word.clone())) {
            Ok(kind) => {
                kinds.insert(kind);
            }
            Err(_) => problems.push(
                Diagnostic::error("unknown-effect", format!("/policy/{key}/{index}"), format!("no effect `{word}`"))
                    .expected("restart, reboot, reinstall, wipe or interrupt"),
            ),
        }
    }
    kinds
}

/// Checks a plan against the policy. What can not be told is refused where anything is forbidden.
pub(super) fn policy(graph: &Graph, items: &[Item]) -> (Vec<Diagnostic>, Vec<Approval>) {
    let (policy, mut problems) = (&graph.policy, Vec::new());
    let by = |what: &str, effect: EffectKind| graph.policy_by.get(&key(what, &effect.to_string())).cloned();
    let forbidden = named(&policy.forbid, "forbid", &mut problems);
    let approve = named(&policy.approve, "approve", &mut problems);
    let mut approvals = BTreeSet::new();
    for item in items.iter().filter(|item| !matches!(item.action, Action::Untouched | Action::Outdated)) {
        let address = super::address(&item.node, &item.role);
        if item.effects_unknown && !forbidden.is_empty() {
            let message = format!("{address} has effects that can not be told, and the policy forbids some");
            problems.push(Diagnostic::error("forbidden-effect", "/policy/forbid", message));
        }
        for effect in &item.effects {
            if forbidden.contains(&effect.kind) {
                let who = by("forbid", effect.kind).unwrap_or_else(|| "the policy".to_owned());
                let message = format!("{address} {}, which {who} forbids", text(effect));
                problems.push(Diagnostic::error("forbidden-effect", "/policy/forbid", message));
            } else if approve.contains(&effect.kind) {
                let by = by("approve", effect.kind);
                approvals.insert(Approval {
                    node: item.node.clone(),
                    role: item.role.clone(),
                    effect: effect.kind,
                    by,
                });
            }
        }
    }
    (problems, approvals.into_iter().collect())
}
