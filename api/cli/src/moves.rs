//! `plinth retry`, `pause`, `resume`, `cancel` and `approve`.

use std::process::ExitCode;

use crate::args::Move;
use crate::output::{CliError, Context};

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Retry,
    Pause,
    Resume,
    Cancel,
    Approve,
}

/// Asks, and prints what it concerned.
pub(crate) async fn moves(context: &Context, kind: Kind, what: &Move) -> Result<ExitCode, CliError> {
    let (client, name) = (&context.client, what.name.as_str());
    let place = what.node_role.as_ref().map(ToString::to_string);
    let place = place.as_deref();
    let (moved, word) = match kind {
        Kind::Retry => (client.retry(name, place).await?, "retried"),
        Kind::Pause => (client.pause(name, place).await?, "paused"),
        Kind::Resume => (client.resume(name, place).await?, "resumed"),
        Kind::Cancel => (client.cancel(name, place).await?, "cancelled"),
        Kind::Approve => (client.approve(name, place).await?, "approved"),
    };
    let text = || match (moved.node_roles.is_empty(), kind) {
        (true, Kind::Pause | Kind::Resume) => format!("{name} {word}\n"),
        (true, Kind::Retry) => "nothing has failed\n".to_owned(),
        (true, Kind::Cancel) => "nothing runs\n".to_owned(),
        (true, Kind::Approve) => "nothing waits for an approval\n".to_owned(),
        (false, _) => moved.node_roles.iter().map(|place| format!("{place} {word}\n")).collect(),
    };
    context.print(&moved, || moved.node_roles.clone(), text)?;
    Ok(ExitCode::SUCCESS)
}
