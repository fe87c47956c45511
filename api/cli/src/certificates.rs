//! `plinth ca` and `plinth cert`.

use std::process::ExitCode;

use engine_core::request::RotationMove;
use engine_core::view::{AuthorityView, CertificateView};
use serde_json::json;
use time::OffsetDateTime;

use crate::args::{CaCommand, CertCommand};
use crate::output::{CliError, Context};
use crate::table;

const CERTIFICATES: [&str; 7] = ["SERIAL", "NODE", "ROLE", "SIGNED BY", "USAGES", "ENDS", "STATE"];

/// Lists, or rotates.
pub(crate) async fn ca(context: &Context, command: CaCommand) -> Result<ExitCode, CliError> {
    match command {
        CaCommand::List { name } => {
            let all = context.client.authorities(&name).await?;
            let names = || all.iter().map(|one| format!("{}.{}", one.role, one.generation)).collect();
            context.print(&all, names, || authorities(&all))?;
        }
        CaCommand::Rotate { name, role, ask } => {
            let says = match ask.what() {
                None => "goes over to another key",
                Some(RotationMove::Pause) => "stays in its stage until it is resumed",
                Some(RotationMove::Resume) => "goes on",
                Some(RotationMove::Back) => "goes back to the key before",
            };
            match ask.what() {
                None => context.client.rotate(&name, &role).await?,
                Some(what) => context.client.ask_rotation(&name, &role, what).await?,
            }
            let text = || format!("{role} {says}; `plinth status {name}` shows how far it is\n");
            context.print(&json!({"deployment": name, "role": role}), || vec![role.clone()], text)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn authorities(all: &[AuthorityView]) -> String {
    let row = |one: &AuthorityView| {
        let ends = one.not_after.to_string();
        let cells = [
            one.role.clone(),
            one.generation.to_string(),
            one.state.clone(),
            ends.split('.').next().unwrap_or_default().to_owned(),
            one.waits_for.join(", "),
        ];
        cells.into_iter().map(Into::into).collect()
    };
    table::table(&["AUTHORITY", "GENERATION", "STATE", "ENDS", "WAITS FOR"], all.iter().map(row).collect())
}

/// Lists, or revokes.
pub(crate) async fn cert(context: &Context, command: CertCommand) -> Result<ExitCode, CliError> {
    match command {
        CertCommand::List { name } => {
            let all = context.client.certificates(&name).await?;
            context.print(&all, || all.iter().map(|one| one.serial.clone()).collect(), || text(&all))?;
        }
        CertCommand::Revoke { serial, reason } => {
            context.client.revoke(&serial, reason).await?;
            let done = json!({"serial": serial, "reason": reason});
            context.print(&done, || vec![serial.clone()], || format!("{serial} revoked\n"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn text(all: &[CertificateView]) -> String {
    let now = OffsetDateTime::now_utc();
    let row = |one: &CertificateView| {
        let state = match (&one.reason, one.renew_at <= now) {
            (Some(reason), _) => format!("revoked: {reason}"),
            (None, true) => "renewal is due".to_owned(),
            (None, false) => "in force".to_owned(),
        };
        let ends = one.not_after.to_string();
        let cells = [
            one.serial.clone(),
            one.node.clone(),
            one.role.clone(),
            one.authority.clone(),
            one.usages.join(", "),
            ends.split('.').next().unwrap_or_default().to_owned(),
            state,
        ];
        cells.into_iter().map(Into::into).collect()
    };
    table::table(&CERTIFICATES, all.iter().map(row).collect())
}
