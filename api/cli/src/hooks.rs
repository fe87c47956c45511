//! `plinth hook`.

use std::process::ExitCode;

use engine_core::view::{HookRequest, HookView};
use serde_json::json;
use time::OffsetDateTime;

use crate::args::{HookAdd, HookCommand};
use crate::output::{CliError, Context, document};
use crate::table::{self, Shown};

/// `plinth hook`.
pub(crate) async fn hook(context: &Context, command: HookCommand) -> Result<ExitCode, CliError> {
    match command {
        HookCommand::List => {
            let all = context.client.hooks().await?;
            let now = OffsetDateTime::now_utc();
            context.print(&all, || all.iter().map(|one| one.name.clone()).collect(), || list(&all, now))?;
        }
        HookCommand::Show { name } => {
            let all = context.client.hooks().await?;
            let found = all.iter().find(|one| one.name == name);
            let one = found.ok_or_else(|| CliError::NoSetting { kind: "hook", name: name.clone() })?;
            context.print(one, || vec![name.clone()], || shown(one, OffsetDateTime::now_utc()))?;
        }
        HookCommand::Add(what) => {
            let added = context.client.add_hook(&request(what)?).await?;
            let text =
                || format!("{} added\nsecret: {}\nKeep it: it is not shown again.\n", added.hook.name, added.secret);
            context.print(&added, || vec![added.hook.name.clone()], text)?;
        }
        HookCommand::Remove { name } => {
            context.client.remove_hook(&name).await?;
            context.print(&json!({"removed": name}), || vec![name.clone()], || format!("{name} removed\n"))?;
        }
        HookCommand::Test { name } => {
            let test = context.client.test_hook(&name).await?;
            let text = || match (&test.message, test.status) {
                (Some(message), _) => format!("not taken after {} ms: {message}\n", test.millis),
                (None, status) => format!("taken after {} ms: {}\n", test.millis, status.unwrap_or_default()),
            };
            context.print(&test, || vec![name.clone()], text)?;
            return Ok(if test.code.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        HookCommand::Skip { name } => {
            let event = context.client.skip_hook(&name).await?;
            let said = || format!("{name} goes past event {event}\n");
            context.print(&json!({"hook": name, "skipped": event}), || vec![event.to_string()], said)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn request(what: HookAdd) -> Result<HookRequest, CliError> {
    let secret = what.secret_file.as_deref().map(document).transpose()?;
    let ca = what.ca.as_deref().map(document).transpose()?;
    Ok(HookRequest {
        name: what.name,
        url: what.url,
        kinds: what.kinds,
        deployments: what.deployments,
        secret: secret.map(|file| file.text.trim().to_owned()),
        ca: ca.map(|file| file.text),
    })
}

fn list(all: &[HookView], now: OffsetDateTime) -> String {
    let row = |one: &HookView| -> Vec<Shown> {
        let health = match one.failed {
            0 => "well".to_owned(),
            failed => format!("failed {failed} times: {}", one.code.as_deref().unwrap_or_default()),
        };
        let last = one.delivered_at.map(|at| table::age(at, now)).unwrap_or_default();
        let cells = [one.name.clone(), one.url.clone(), wants(one), one.delivered.to_string(), last, health];
        cells.map(Into::into).into()
    };
    table::table(&["HOOK", "URL", "WANTS", "DELIVERED", "LAST", "STATE"], all.iter().map(row).collect())
}

fn wants(one: &HookView) -> String {
    let of = |all: &[String], none: &str| if all.is_empty() { none.to_owned() } else { all.join(", ") };
    format!("{} of {}", of(&one.kinds, "everything"), of(&one.deployments, "all"))
}

fn shown(one: &HookView, now: OffsetDateTime) -> String {
    let mut text = list(std::slice::from_ref(one), now);
    text += &format!(
        "\nAdded by {} {} ago. It has all it wants up to event {}.\n",
        one.added_by,
        table::age(one.added_at, now),
        one.after
    );
    if let Some(message) = &one.message {
        text += &format!("{message}\n");
    }
    text
}
