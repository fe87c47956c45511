//! `plinth history`.

use std::process::ExitCode;

use engine_core::view::RevisionView;
use time::OffsetDateTime;

use crate::args::History;
use crate::output::{CliError, Context};
use crate::table;

const REVISIONS: [&str; 5] = ["REVISION", "WHAT", "BY", "AGE", "PLAN"];

/// Prints the revisions of a deployment, newest first.
pub(crate) async fn history(context: &Context, what: &History) -> Result<ExitCode, CliError> {
    let all = context.client.revisions(&what.name, what.limit).await?;
    let now = OffsetDateTime::now_utc();
    let row = |one: &RevisionView| {
        let done =
            if one.nodes.is_empty() { one.what.clone() } else { format!("{} {}", one.what, one.nodes.join(", ")) };
        let cells =
            [one.number.to_string(), done, one.committed_by.clone(), table::age(one.committed_at, now), plan(one)];
        cells.into_iter().map(Into::into).collect()
    };
    context.print(
        &all,
        || all.iter().map(|one| one.number.to_string()).collect(),
        || table::table(&REVISIONS, all.iter().map(row).collect()),
    )?;
    Ok(ExitCode::SUCCESS)
}

fn plan(one: &RevisionView) -> String {
    let totals = one.totals;
    let counts = [(totals.create, "create"), (totals.re_run, "re-run"), (totals.leave, "leave")];
    let said: Vec<String> =
        counts.into_iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}")).collect();
    if said.is_empty() { "nothing runs".to_owned() } else { said.join(", ") }
}
