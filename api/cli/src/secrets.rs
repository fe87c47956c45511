//! `plinth secret`.

use std::process::ExitCode;

use engine_core::view::{SecretReader, SecretView};
use serde_json::json;
use time::OffsetDateTime;

use crate::args::SecretCommand;
use crate::output::{CliError, Context, document, print};
use crate::table;

/// Lists, tells, rotates or seals.
pub(crate) async fn secret(context: &Context, command: SecretCommand) -> Result<ExitCode, CliError> {
    match command {
        SecretCommand::List { name } => {
            let all = context.client.secrets(&name).await?;
            context.print(&all, || all.iter().map(|one| one.name.clone()).collect(), || listed(&all))?;
        }
        SecretCommand::Where { name, secret } => {
            let all = context.client.secrets(&name).await?;
            let known: Vec<String> = all.iter().map(|one| one.name.clone()).collect();
            let Some(found) = all.into_iter().find(|one| one.name == secret) else {
                return Err(CliError::NoSecret { deployment: name, secret, known: known.join(", ") });
            };
            let names = || found.readers.iter().map(|reader| format!("{}/{}", reader.node, reader.role)).collect();
            context.print(&found, names, || readers(&found.readers))?;
        }
        SecretCommand::Rotate { name, role } => {
            context.client.rotate_secret(&name, &role).await?;
            let text = || format!("{role} makes another one; whoever reads it runs again\n");
            context.print(&json!({"deployment": name, "role": role}), || vec![role.clone()], text)?;
        }
        SecretCommand::Reseal => {
            let done = context.client.reseal().await?;
            let text = || match done.unused.as_slice() {
                [] => format!("{} values sealed again; no key is unused\n", done.values),
                unused => format!(
                    "{} values sealed again; nothing is sealed by {} any more\n",
                    done.values,
                    unused.join(", ")
                ),
            };
            context.print(&done, || done.unused.clone(), text)?;
        }
        SecretCommand::Seal { file } => print(&context.client.seal(&document(&file)?).await?.text)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn listed(all: &[SecretView]) -> String {
    let row = |one: &SecretView| vec![one.name.clone().into(), one.readers.len().to_string().into()];
    table::table(&["SECRET", "REACHES"], all.iter().map(row).collect())
}

fn readers(all: &[SecretReader]) -> String {
    let now = OffsetDateTime::now_utc();
    let row = |one: &SecretReader| {
        let given = one.given_at.map_or_else(|| "not yet".to_owned(), |at| format!("{} ago", table::age(at, now)));
        vec![format!("{}/{}", one.node, one.role).into(), one.input.clone().into(), given.into()]
    };
    table::table(&["NODE ROLE", "INPUT", "GIVEN"], all.iter().map(row).collect())
}
