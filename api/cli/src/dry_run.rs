//! `plinth plan --dry-run`.

use std::path::Path;
use std::process::ExitCode;

use engine_core::plan::dry_run::{DryRun, DryRunView};

use crate::drift::diffs;
use crate::output::{CliError, Context, document};

/// Asks the nodes what steps would change there, and prints it.
pub(crate) async fn dry_run(context: &Context, file: &Path) -> Result<ExitCode, CliError> {
    let all = context.client.dry_run(&document(file)?).await?;
    let places = || all.iter().flat_map(|one| &one.node_roles).map(place).collect();
    context.print(&all, places, || all.iter().map(text).collect())?;
    Ok(ExitCode::SUCCESS)
}

fn place(one: &DryRunView) -> String {
    format!("{}/{}", one.node, one.role)
}

fn text(of: &DryRun) -> String {
    if of.node_roles.is_empty() {
        return format!("{}: nothing runs again\n", of.deployment);
    }
    let mut text = String::new();
    for one in &of.node_roles {
        text += &match (&one.code, &one.message) {
            (Some(code), Some(message)) => format!("{}: [{code}] {message}\n", place(one)),
            _ if one.diffs.is_empty() => format!("{}: changes nothing that can be told before\n", place(one)),
            _ => format!("{}\n", place(one)),
        };
        text += &diffs(&one.diffs);
    }
    text
}
