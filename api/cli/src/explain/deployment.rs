//! `plinth why NAME`: what holds a deployment, and where the time of a revision went.

use std::process::ExitCode;

use engine_core::view::{DeploymentWhyView, HeldView, PathStep};
use time::OffsetDateTime;

use crate::output::{CliError, Context};
use crate::table::{self, Shown};

/// `plinth why NAME`.
pub(crate) async fn why_deployment(context: &Context, name: &str, revision: Option<i32>) -> Result<ExitCode, CliError> {
    let why = context.client.why_deployment(name, revision).await?;
    let ends = || why.held.iter().map(|held| held.says.clone()).collect();
    context.print(&why, ends, || deployment(&why, OffsetDateTime::now_utc()))?;
    Ok(ExitCode::SUCCESS)
}

fn deployment(why: &DeploymentWhyView, now: OffsetDateTime) -> String {
    let since = table::age(why.committed_at, now);
    let mut text = format!("Revision {} was {} by {} {since} ago.\n", why.revision, why.what, why.committed_by);
    if why.current {
        text.insert_str(0, &format!("{} is {}. ", why.name, why.health.as_str()));
    }
    if let Some(left) = why.remaining {
        text += &format!("What is left may take {}, by what such jobs took before", seconds(left));
        let unknown =
            if why.unknown.is_empty() { String::new() } else { format!(", and what {} take", why.unknown.join(", ")) };
        text += &format!("{unknown}.\n");
    }
    if !why.held.is_empty() {
        let row = |held: &HeldView| {
            vec![held.count.to_string().into(), held.says.clone().into(), held.example.clone().into()]
        };
        text += "\n";
        text += &table::table(&["HELD", "BY", "SUCH AS"], why.held.iter().map(row).collect());
    }
    let row = |step: &PathStep| -> Vec<Shown> {
        let after =
            step.after.as_ref().map_or_else(|| step.because.clone(), |after| format!("{after} ({})", step.because));
        let (waited, took) = (millis(step.waited), millis(step.took));
        let what = format!("{}/{}", step.node, step.role);
        vec![waited.into(), took.into(), step.action.clone().into(), what.into(), after.into()]
    };
    if !why.path.is_empty() {
        let took: i64 = why.path.iter().map(|step| step.waited + step.took).sum();
        text += &format!("\nWhat decided how long it took: {}\n", millis(took));
        text += &table::table(&["WAITED", "TOOK", "ACTION", "NODE ROLE", "AFTER"], why.path.iter().map(row).collect());
    }
    if !why.slowest.is_empty() {
        let row = |step: &PathStep| -> Vec<Shown> {
            vec![millis(step.took).into(), step.action.clone().into(), format!("{}/{}", step.node, step.role).into()]
        };
        text += "\nSlowest jobs\n";
        text += &table::table(&["TOOK", "ACTION", "NODE ROLE"], why.slowest.iter().map(row).collect());
    }
    text
}

fn millis(millis: i64) -> String {
    seconds(u64::try_from(millis).unwrap_or(0))
}

/// Tenths of seconds up to a minute, then minutes.
fn seconds(millis: u64) -> String {
    if millis < 60_000 {
        return format!("{}.{} s", millis / 1000, millis % 1000 / 100);
    }
    format!("{} min {} s", millis / 60_000, millis % 60_000 / 1000)
}
