//! `plinth ca` and `plinth cert`.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use engine_core::request::{ImportRequest, RotationMove, SignRequest};
use engine_core::view::{AuthorityView, CertificateView};
use serde_json::json;
use time::OffsetDateTime;

use crate::args::{CaCommand, CertCommand};
use crate::output::{CliError, Context};
use crate::table;

const CERTIFICATES: [&str; 7] = ["SERIAL", "NODE", "ROLE", "SIGNED BY", "USAGES", "ENDS", "STATE"];

/// Lists, shows, rotates or revokes.
pub(crate) async fn ca(context: &Context, command: CaCommand) -> Result<ExitCode, CliError> {
    match command {
        CaCommand::List { name } => {
            let all = context.client.authorities(&name).await?;
            let names = || all.iter().map(|one| format!("{}.{}", one.role, one.generation)).collect();
            context.print(&all, names, || authorities(&all))?;
        }
        CaCommand::Show { name, role } => {
            let mut all = context.client.authorities(&name).await?;
            all.retain(|one| one.role == role);
            if all.is_empty() {
                return Err(CliError::NoAuthority { name, role });
            }
            let names = || all.iter().map(|one| format!("{}.{}", one.role, one.generation)).collect();
            context.print(&all, names, || all.iter().map(authority).collect())?;
        }
        CaCommand::Revoke { name, role, reason } => {
            context.client.revoke_authority(&name, &role, reason).await?;
            let text = || format!("{role} goes over to another key; `plinth status {name}` shows how far it is\n");
            let done = json!({"deployment": name, "role": role, "reason": reason});
            context.print(&done, || vec![role.clone()], text)?;
        }
        CaCommand::Request { name, role } => {
            let made = context.client.request_authority(&name, &role).await?;
            context.print(&made, || vec![role.clone()], || made.request.clone())?;
        }
        CaCommand::Import { name, role, chain, key } => {
            let what = ImportRequest { chain: read(chain)?, key: key.map(read).transpose()? };
            context.client.import_authority(&name, &role, &what).await?;
            let text = || format!("{role} has taken it; `plinth ca list {name}` shows how far it is\n");
            context.print(&json!({"deployment": name, "role": role}), || vec![role.clone()], text)?;
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

fn read(path: PathBuf) -> Result<String, CliError> {
    fs::read_to_string(&path).map_err(|source| CliError::Read { path, source })
}

/// Seconds are enough.
fn moment(time: OffsetDateTime) -> String {
    time.to_string().split('.').next().unwrap_or_default().to_owned()
}

fn authority(one: &AuthorityView) -> String {
    let mut text = format!("{}, key {}: {}, ends {}\n", one.role, one.generation, one.state, moment(one.not_after));
    if let Some(reason) = &one.reason {
        let _ = writeln!(text, "revoked: {reason}");
    }
    if !one.waits_for.is_empty() {
        let _ = writeln!(text, "waits for {}", one.waits_for.join(", "));
    }
    let _ = writeln!(
        text,
        "{} signed; lists of what was revoked: {}/0.crl to {}.crl",
        one.issued,
        one.lists,
        one.parts - 1
    );
    text + &one.certificate
}

fn certificate(one: &CertificateView) -> String {
    let state = one.reason.as_ref().map(|reason| format!(", revoked: {reason}")).unwrap_or_default();
    let (names, usages) = (one.names.join(", "), one.usages.join(", "));
    format!(
        "{} for {}{state}\nnames {names}\nusages {usages}\nsigned by {}, holds from {} to {}\n{}",
        one.serial,
        one.node,
        one.authority,
        moment(one.not_before),
        moment(one.not_after),
        one.certificate
    )
}

fn authorities(all: &[AuthorityView]) -> String {
    let row = |one: &AuthorityView| {
        let cells = [
            one.role.clone(),
            one.generation.to_string(),
            one.state.clone(),
            moment(one.not_after),
            one.waits_for.join(", "),
        ];
        cells.into_iter().map(Into::into).collect()
    };
    table::table(&["AUTHORITY", "GENERATION", "STATE", "ENDS", "WAITS FOR"], all.iter().map(row).collect())
}

/// Lists, shows, signs, renews or revokes.
pub(crate) async fn cert(context: &Context, command: CertCommand) -> Result<ExitCode, CliError> {
    match command {
        CertCommand::List { name } => {
            let all = context.client.certificates(&name).await?;
            context.print(&all, || all.iter().map(|one| one.serial.clone()).collect(), || text(&all))?;
        }
        CertCommand::Show { serial } => {
            let one = context.client.certificate(serial.as_str()).await?;
            context.print(&one, || vec![serial.to_string()], || certificate(&one))?;
        }
        CertCommand::Sign { name, role, request, subject, names, usages, lifetime } => {
            let what = SignRequest {
                csr: read(request)?,
                subject,
                names,
                usages,
                lifetime: Some(lifetime),
                not_before: None,
                not_after: None,
            };
            let one = context.client.sign(&name, &role, &what).await?;
            context.print(&one, || vec![one.serial.clone()], || one.certificate.clone())?;
        }
        CertCommand::Renew { serial } => {
            context.client.renew(serial.as_str()).await?;
            let text = || format!("another one is signed in place of {serial}\n");
            context.print(&json!({"serial": serial}), || vec![serial.to_string()], text)?;
        }
        CertCommand::Revoke { serial, reason } => {
            context.client.revoke(serial.as_str(), reason).await?;
            let done = json!({"serial": serial, "reason": reason});
            context.print(&done, || vec![serial.to_string()], || format!("{serial} revoked\n"))?;
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
        let cells = [
            one.serial.clone(),
            one.node.clone(),
            one.role.clone().unwrap_or_else(|| "-".to_owned()),
            one.authority.clone(),
            one.usages.join(", "),
            moment(one.not_after),
            state,
        ];
        cells.into_iter().map(Into::into).collect()
    };
    table::table(&CERTIFICATES, all.iter().map(row).collect())
}
