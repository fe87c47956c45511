//! `plinth profile`, `plinth policy`, `plinth budget` and `plinth rule`.

use std::path::Path;
use std::process::ExitCode;

use engine_catalog::written;
use engine_core::document::setting::SettingKind;
use engine_core::view::{LabelView, RuleTest, SettingView, Settled};
use serde_json::Value;
use time::OffsetDateTime;

use crate::args::{RuleCommand, SettingCommand};
use crate::output::{CliError, Context, document};
use crate::table::{self, Shown};

/// `plinth profile`, `plinth policy` and `plinth budget`.
pub(crate) async fn setting(
    context: &Context,
    kind: SettingKind,
    command: SettingCommand,
) -> Result<ExitCode, CliError> {
    match command {
        SettingCommand::List => list(context, kind).await?,
        SettingCommand::Show { name } => show(context, kind, &name).await?,
        SettingCommand::Set { file } => set(context, &file).await?,
        SettingCommand::Remove { name } => remove(context, kind, &name).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// `plinth rule`.
pub(crate) async fn rule(context: &Context, command: RuleCommand) -> Result<ExitCode, CliError> {
    match command {
        RuleCommand::List => list(context, SettingKind::Rule).await?,
        RuleCommand::Show { name } => show(context, SettingKind::Rule, &name).await?,
        RuleCommand::Set { file } => set(context, &file).await?,
        RuleCommand::Remove { name } => remove(context, SettingKind::Rule, &name).await?,
        RuleCommand::Test { file } => {
            let all = context.client.test_rules(file.as_deref().map(document).transpose()?).await?;
            for problem in all.iter().flat_map(|one| one.problems.iter().map(move |problem| (&one.node, problem))) {
                eprintln!("{}: {}", problem.0, problem.1);
            }
            let changed = all.iter().filter(|one| !one.changes.is_empty());
            context.print(&all, || changed.map(|one| one.node.clone()).collect(), || tests(&all))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(context: &Context, kind: SettingKind) -> Result<(), CliError> {
    let mut all = context.client.settings(kind).await?;
    let order = |one: &SettingView| one.document["order"].as_i64().unwrap_or(0);
    if kind == SettingKind::Rule {
        all.sort_by(|one, other| (order(one), &one.name).cmp(&(order(other), &other.name)));
    }
    let now = OffsetDateTime::now_utc();
    let row = |one: &SettingView| -> Vec<Shown> {
        let about = one.document["about"].as_str().unwrap_or_default();
        let cells = [one.name.clone(), says(one), one.set_by.clone(), table::age(one.set_at, now)];
        cells.into_iter().chain([about.to_owned()]).map(Into::into).collect()
    };
    let header = match kind {
        SettingKind::Profile => ["PROFILE", "HOLDS FOR", "SET BY", "AGE", "ABOUT"],
        SettingKind::Policy => ["POLICY", "SAYS", "SET BY", "AGE", "ABOUT"],
        SettingKind::Rule => ["RULE", "WHEN", "SET BY", "AGE", "ABOUT"],
        SettingKind::Budget => ["BUDGET", "ALLOWS", "SET BY", "AGE", "ABOUT"],
    };
    context.print(
        &all,
        || all.iter().map(|one| one.name.clone()).collect(),
        || table::table(&header, all.iter().map(row).collect()),
    )
}

/// What it comes to, in a few words.
fn says(one: &SettingView) -> String {
    let document = &one.document;
    let words = |key: &str| -> Option<String> {
        let words: Vec<&str> = document[key].as_array()?.iter().filter_map(Value::as_str).collect();
        (!words.is_empty()).then(|| format!("{key} {}", words.join(", ")))
    };
    match one.kind {
        SettingKind::Profile if document["global"] == Value::Bool(true) => "all deployments".to_owned(),
        SettingKind::Profile => "those that list it".to_owned(),
        SettingKind::Policy => {
            let times = document["silent"].as_object().map(|times| {
                let time =
                    |(what, after): (&String, &Value)| format!("{what} after {}", after.as_str().unwrap_or_default());
                format!("silent {}", times.iter().map(time).collect::<Vec<_>>().join(", "))
            });
            [words("forbid"), words("approve"), times].into_iter().flatten().collect::<Vec<_>>().join("; ")
        }
        SettingKind::Rule => document["when"].as_str().unwrap_or_default().to_owned(),
        SettingKind::Budget => {
            let most = document["max_unavailable"].to_string();
            let out: Vec<String> =
                one.out_of_service.iter().map(|(deployment, count)| format!("{count} in {deployment}")).collect();
            let now = if out.is_empty() { "none".to_owned() } else { out.join(", ") };
            format!("{} out of service, now {now}", most.trim_matches('"'))
        }
    }
}

async fn show(context: &Context, kind: SettingKind, name: &str) -> Result<(), CliError> {
    let all = context.client.settings(kind).await?;
    let found = all.iter().find(|one| one.name == name);
    let one = found.ok_or_else(|| CliError::NoSetting { kind: kind.as_str(), name: name.to_owned() })?;
    context.print(one, || vec![name.to_owned()], || written(&one.document))
}

async fn set(context: &Context, file: &Path) -> Result<(), CliError> {
    let settled = context.client.set(&document(file)?).await?;
    told(context, &settled, "set")
}

async fn remove(context: &Context, kind: SettingKind, name: &str) -> Result<(), CliError> {
    let settled = context.client.remove_setting(kind, name).await?;
    told(context, &settled, "removed")
}

fn told(context: &Context, settled: &Settled, done: &str) -> Result<(), CliError> {
    let text = || {
        if settled.changed.is_empty() {
            return "nothing to do: they are set as they are\n".to_owned();
        }
        let mut text: String = settled.changed.iter().map(|one| format!("{one} {done}\n")).collect();
        if !settled.concerns.is_empty() {
            text += &format!("concerns, when they are applied: {}\n", settled.concerns.join(", "));
        }
        text
    };
    context.print(settled, || settled.changed.clone(), text)
}

fn tests(all: &[RuleTest]) -> String {
    let row = |one: &RuleTest| -> Vec<Shown> {
        let labels: Vec<String> = one.labels.iter().map(label).collect();
        vec![one.node.clone().into(), labels.join(", ").into(), one.changes.join(", ").into()]
    };
    table::table(&["NODE", "LABELS BY RULES", "WOULD CHANGE"], all.iter().map(row).collect())
}

/// A label with the rule that set it.
pub(crate) fn label(label: &LabelView) -> String {
    let value = label.value.as_str().map_or_else(|| label.value.to_string(), str::to_owned);
    match &label.rule {
        Some(rule) => format!("{}={value} (rule {rule})", label.name),
        None => format!("{}={value}", label.name),
    }
}
