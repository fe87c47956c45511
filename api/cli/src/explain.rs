//! `plinth why NAME NODE/ROLE`: from a node role to the end of its chain of causes.

mod deployment;

use std::process::ExitCode;

use engine_core::view::{InputView, JobView, WhyView};
use time::OffsetDateTime;

use crate::args::Place;
use crate::output::{CliError, Context};
use crate::table::{self, Shown};
pub(crate) use deployment::why_deployment;

/// `plinth why NAME NODE/ROLE`.
pub(crate) async fn why(
    context: &Context,
    name: &str,
    place: &Place,
    revision: Option<i32>,
) -> Result<ExitCode, CliError> {
    let why = context.client.why(name, &place.node, &place.role, revision).await?;
    let ends = || why.chain.last().map(|link| vec![link.what.clone()]).unwrap_or_default();
    context.print(&why, ends, || text(&why, OffsetDateTime::now_utc()))?;
    Ok(ExitCode::SUCCESS)
}

fn text(why: &WhyView, now: OffsetDateTime) -> String {
    let row = &why.node_role;
    let since = table::age(row.changed_at, now);
    let mut text = format!("{}/{} is {} since {since}; {}.\n", row.node, row.role, row.state, why.because);
    if let Some(cause) = &row.cause {
        text += &format!("{}\n", cause.says);
    }
    if let Some(message) = &row.message {
        text += &format!("{}\n", message.trim_end());
    }
    if let Some(saw) = &row.saw {
        text += &format!("It waits, and sees that {saw}.\n");
    }
    if let Some(at) = row.retry_at {
        text += &format!("It tries again at {}.\n", table::clock(at));
    }
    if why.chain.len() > 1 {
        text += "\nChain:\n";
        for (depth, link) in why.chain.iter().enumerate() {
            text += &format!("  {}{}: {}\n", "  ".repeat(depth), link.what, link.says);
        }
    }
    if !why.inputs.is_empty() {
        let row = |input: &InputView| -> Vec<Shown> {
            let value = match (&input.value, input.secret) {
                (_, true) => "(secret)".to_owned(),
                (Some(value), _) => short(&value.to_string()),
                (None, _) => "(not known)".to_owned(),
            };
            vec![input.name.clone().into(), value.into(), input.source.clone().into(), set_by(input).into()]
        };
        text += "\n";
        text += &table::table(&["INPUT", "VALUE", "FROM", "SET BY"], why.inputs.iter().map(row).collect());
    }
    if !why.jobs.is_empty() {
        let row = |job: &JobView| -> Vec<Shown> {
            let outcome = job.outcome.clone().unwrap_or_else(|| "running".to_owned());
            let code = job.code.as_ref().map(|code| format!(": {code}")).unwrap_or_default();
            vec![
                job.attempt.to_string().into(),
                job.action.clone().into(),
                format!("{outcome}{code}").into(),
                job.millis.map(|millis| format!("{millis} ms")).unwrap_or_default().into(),
                table::age(job.claimed_at, now).into(),
            ]
        };
        text += "\n";
        text += &table::table(&["ATTEMPT", "ACTION", "OUTCOME", "TOOK", "AGE"], why.jobs.iter().map(row).collect());
    }
    text
}

/// What set an input, and since which revision it does.
fn set_by(input: &InputView) -> String {
    let since = input.since.as_ref().map(|set| format!(", by {} since revision {}", set.by, set.revision));
    format!("{}{}", input.by, since.unwrap_or_default())
}

/// A value on one line.
fn short(text: &str) -> String {
    const LONGEST: usize = 60;
    if text.chars().count() <= LONGEST {
        return text.to_owned();
    }
    text.chars().take(LONGEST).chain(['…']).collect()
}
