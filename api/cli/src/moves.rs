//! `plinth retry`, `pause`, `resume`, `cancel`, `approve` and `accept`.

use std::process::ExitCode;

use engine_core::request::Ask;

use crate::args::Move;
use crate::output::{CliError, Context};

/// Asks, and prints what it concerned.
pub(crate) async fn ask(context: &Context, ask: Ask, what: &Move) -> Result<ExitCode, CliError> {
    let (client, name) = (&context.client, what.name.as_str());
    let place = what.node_role.as_ref().map(ToString::to_string);
    let place = place.as_deref();
    let moved = client.ask(name, ask, place).await?;
    let word = match ask {
        Ask::Retry => "retried",
        Ask::Pause => "paused",
        Ask::Resume => "resumed",
        Ask::Cancel => "cancelled",
        Ask::Approve => "approved",
        Ask::Accept => "accepted",
    };
    let text = || match (moved.node_roles.is_empty(), ask) {
        (true, Ask::Pause | Ask::Resume) => format!("{name} {word}\n"),
        (true, Ask::Retry) => "nothing has failed\n".to_owned(),
        (true, Ask::Cancel) => "nothing runs\n".to_owned(),
        (true, Ask::Approve) => "nothing waits for an approval\n".to_owned(),
        (true, Ask::Accept) => "nothing has failed that succeeded before\n".to_owned(),
        (false, _) => moved.node_roles.iter().map(|place| format!("{place} {word}\n")).collect(),
    };
    context.print(&moved, || moved.node_roles.clone(), text)?;
    Ok(ExitCode::SUCCESS)
}
