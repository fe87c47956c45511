//! A plan as people read it.

use std::fmt::Write as _;

use serde_json::Value;

use super::{Action, Cause, Item, Plan, effects};
use crate::catalog::diff::Upgrade;

/// The plan as text. Untouched node roles are only counted.
pub fn text(plan: &Plan) -> String {
    let mut text = String::new();
    let totals = &plan.totals;
    let spared = match totals.may_be_spared {
        0 => String::new(),
        count => format!(" ({count} may be spared)"),
    };
    let _ = writeln!(
        text,
        "Plan for {}: {} to create, {} to re-run{spared}, {} to leave, {} outdated, {} untouched.",
        plan.deployment, totals.create, totals.re_run, totals.leave, totals.outdated, totals.untouched
    );
    let shown: Vec<&Item> = plan.items.iter().filter(|item| is_shown(item)).collect();
    let width = shown.iter().map(|item| item.node.len() + 1 + item.role.len()).max().unwrap_or(0);
    if !shown.is_empty() {
        text.push('\n');
    }
    for item in shown {
        line(&mut text, item, width);
    }
    if !plan.upgrades.is_empty() {
        text.push_str("\nOf another version of the catalog:\n");
        for one in &plan.upgrades {
            let _ = writeln!(text, "  {}", upgrade(one));
        }
    }
    for approval in &plan.approvals {
        let by = approval.by.as_ref().map(|by| format!(", as {by} wants")).unwrap_or_default();
        let _ = writeln!(
            text,
            "\nWaits for an approval{by}: {}/{}, for it is a {}.",
            approval.node, approval.role, approval.effect
        );
    }
    if !plan.problems.is_empty() {
        text.push_str("\nThis plan can not be applied:\n");
        for problem in &plan.problems {
            let _ = writeln!(text, "  {problem}");
        }
    }
    text
}

/// The plan as Markdown, for a pull request.
pub fn markdown(plan: &Plan) -> String {
    let plain = |text: &str| text.replace('|', "\\|").replace('\n', " ");
    let totals = &plan.totals;
    let mut text = format!(
        "### Plan for `{}`\n\n{} to create, {} to re-run ({} may be spared), {} to leave, {} outdated, {} untouched.\n",
        plan.deployment,
        totals.create,
        totals.re_run,
        totals.may_be_spared,
        totals.leave,
        totals.outdated,
        totals.untouched
    );
    let mut rows = plan.items.iter().filter(|item| is_shown(item)).peekable();
    if rows.peek().is_some() {
        text.push_str("\n| | node role | why, and what the machine feels |\n| --- | --- | --- |\n");
    }
    for item in rows {
        let (sign, word) = action(item);
        let why: Vec<String> = reasons(item).iter().map(|reason| plain(reason)).collect();
        let _ = writeln!(text, "| `{sign}` {word} | `{}/{}` | {} |", item.node, item.role, why.join("<br>"));
    }
    if !plan.upgrades.is_empty() {
        text.push_str("\nOf another version of the catalog:\n\n");
        for one in &plan.upgrades {
            let _ = writeln!(text, "- {}", plain(&upgrade(one)));
        }
    }
    for approval in &plan.approvals {
        let by = approval.by.as_ref().map(|by| format!(", as {by} wants")).unwrap_or_default();
        let _ = writeln!(
            text,
            "\nWaits for an approval{by}: `{}/{}`, a {}.",
            approval.node, approval.role, approval.effect
        );
    }
    if !plan.problems.is_empty() {
        text.push_str("\n**It can not be applied:**\n\n");
        for problem in &plan.problems {
            let _ = writeln!(text, "- {}", plain(&problem.to_string()));
        }
    }
    text
}

/// A role that goes over to another one of the catalog.
pub fn upgrade(one: &Upgrade) -> String {
    let name = if one.role == one.is { one.role.clone() } else { format!("{} ({})", one.role, one.is) };
    let Some(to) = &one.to else { return format!("{name}: {} is not in the catalog any more", one.from) };
    let versions = if *to == one.from { to.clone() } else { format!("{} -> {to}", one.from) };
    let again = if one.runs_again { "runs again" } else { "nothing runs for it" };
    format!("{name}: {versions}, differs in {}; {again}", one.parts.join(", "))
}

/// Changed ones, and untouched ones that there is something to say of.
fn is_shown(item: &Item) -> bool {
    item.action != Action::Untouched || !item.causes.is_empty()
}

fn action(item: &Item) -> (char, &'static str) {
    match item.action {
        Action::Create => ('+', "create"),
        Action::ReRun if item.may_be_spared => ('?', "re-run"),
        Action::ReRun => ('~', "re-run"),
        Action::Leave => ('-', "leave"),
        Action::Outdated => ('!', "outdated"),
        Action::Untouched => (' ', "untouched"),
    }
}

/// Why, and what machines feel of it.
fn reasons(item: &Item) -> Vec<String> {
    let mut reasons: Vec<String> = item.causes.iter().map(cause).collect();
    reasons.extend(item.effects.iter().map(effects::text));
    if item.effects_unknown {
        reasons.push("its effects can not be told: its role is not in the catalog".to_owned());
    }
    reasons
}

fn line(text: &mut String, item: &Item, width: usize) {
    let (sign, word) = action(item);
    let address = format!("{}/{}", item.node, item.role);
    let mut reasons = reasons(item).into_iter();
    let _ = write!(text, "  {sign} {word:<9} {address:<width$}");
    if let Some(first) = reasons.next() {
        let _ = write!(text, "  {first}");
    }
    text.push('\n');
    for reason in reasons {
        let _ = writeln!(text, "    {:<9} {:<width$}  {reason}", "", "");
    }
}

fn cause(cause: &Cause) -> String {
    match cause {
        Cause::New => "new".to_owned(),
        Cause::NotYet => "committed before, has not succeeded yet".to_owned(),
        Cause::Content => "the content of its role changed".to_owned(),
        Cause::Input { input, from, to, by } => match (from, to) {
            (Some(from), Some(to)) => format!("input {input}: from {} to {}, set by {by}", short(from), short(to)),
            (None, Some(to)) => format!("input {input}: {}, set by {by}", short(to)),
            (_, None) => format!("input {input} changed, set by {by}"),
        },
        Cause::InputGone { input } => format!("input {input} is gone"),
        Cause::Below { input, of } => format!("input {input}: runs below {of}, may be spared"),
        Cause::Override { input, layer: _ } => format!("input {input} is overridden for this node role alone"),
        Cause::Unbound => "bound no longer".to_owned(),
        Cause::Failed => "failed before; waits for a retry".to_owned(),
        Cause::Redeployed => "is redeployed".to_owned(),
    }
}

/// A value on one line, shortened.
fn short(value: &Value) -> String {
    const LONGEST: usize = 60;
    let text = value.to_string();
    if text.chars().count() <= LONGEST {
        return text;
    }
    let mut cut: String = text.chars().take(LONGEST).collect();
    cut.push('…');
    cut
}
