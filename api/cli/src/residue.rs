//! `plinth residue`.

use std::process::ExitCode;

use engine_core::view::ResidueView;
use time::OffsetDateTime;

use crate::output::{CliError, Context};
use crate::table;

const RESIDUE: [&str; 5] = ["NODE", "ROLE", "WHAT", "REASON", "AGE"];

/// Prints what was promised to go and is still there; 1 if there is any.
pub(crate) async fn residue(context: &Context, name: &str) -> Result<ExitCode, CliError> {
    let all = context.client.residue(name).await?;
    context.print(&all, || things(&all), || text(name, &all))?;
    Ok(if all.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The end of a destroy: what of it is left. On standard error, for the answer was the plan.
pub(crate) async fn tell(context: &Context, name: &str) -> Result<(), CliError> {
    let all = context.client.residue(name).await?;
    eprint!("{}", text(name, &all));
    Ok(())
}

fn things(all: &[ResidueView]) -> Vec<String> {
    all.iter().flat_map(|one| one.things.iter().map(|thing| format!("{} {thing}", one.node))).collect()
}

fn text(name: &str, all: &[ResidueView]) -> String {
    if all.is_empty() {
        return format!("{name}: no residue\n");
    }
    let now = OffsetDateTime::now_utc();
    let row = |one: &ResidueView| {
        let what = if one.things.is_empty() { "everything".to_owned() } else { one.things.join(", ") };
        let cells = [one.node.clone(), one.role.clone(), what, one.reason.clone(), table::age(one.found_at, now)];
        cells.into_iter().map(Into::into).collect()
    };
    table::table(&RESIDUE, all.iter().map(row).collect())
}
