//! `plinth drift`.

use std::process::ExitCode;
use std::time::Duration;

use engine_core::request::CheckRequest;
use engine_core::view::{DriftDiff, DriftReport, DriftView};
use time::OffsetDateTime;

use crate::args::Drift;
use crate::output::{CliError, Context};
use crate::table;

/// Between two looks at checks that run.
const PAUSE: Duration = Duration::from_millis(250);
const COLUMNS: [&str; 4] = ["NODE ROLE", "VERDICT", "CHECKED", "WHY"];

/// Checks, waits for what the checks find, and prints it; 1 if anything is not as it was made, or nobody can tell.
pub(crate) async fn drift(context: &Context, what: &Drift) -> Result<ExitCode, CliError> {
    let mine = |one: &DriftView| {
        what.role.as_ref().is_none_or(|role| *role == one.role)
            && what.node.as_ref().is_none_or(|node| *node == one.node)
    };
    if !what.last {
        let request = CheckRequest { role: what.role.clone(), node: what.node.clone() };
        context.client.check(&what.name, &request).await?;
    }
    let mut report = context.client.drift(&what.name).await?;
    while !what.last && report.node_roles.iter().any(|one| mine(one) && one.pending) {
        tokio::time::sleep(PAUSE).await;
        report = context.client.drift(&what.name).await?;
    }
    report.node_roles.retain(mine);
    let places = || report.node_roles.iter().map(place).collect();
    context.print(&report, places, || text(&report))?;
    let fine = report.node_roles.iter().all(|one| one.verdict.as_deref() == Some("conform"));
    Ok(if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn place(one: &DriftView) -> String {
    format!("{}/{}", one.node, one.role)
}

fn text(report: &DriftReport) -> String {
    let now = OffsetDateTime::now_utc();
    let row = |one: &DriftView| {
        let verdict = one.verdict.clone().unwrap_or_else(|| "never checked".to_owned());
        let age = one.checked_at.map(|at| table::age(at, now)).unwrap_or_default();
        let why = match (&one.code, &one.message) {
            (Some(code), Some(message)) => format!("[{code}] {message}"),
            (_, message) => message.clone().unwrap_or_default(),
        };
        [place(one), verdict, age, why].into_iter().map(Into::into).collect()
    };
    let mut text = table::table(&COLUMNS, report.node_roles.iter().map(row).collect());
    for one in report.node_roles.iter().filter(|one| !one.diffs.is_empty()) {
        text += &format!("\n{}\n{}", place(one), diffs(&one.diffs));
    }
    if let Some(schedule) = &report.schedule {
        let next = report.next_at.map(|at| format!(", next in {}", table::age(now, at))).unwrap_or_default();
        text += &format!("\nChecked by itself at `{schedule}` (UTC){next}; drift: {}.\n", report.on_drift);
    }
    text
}

/// What differs, step by step.
pub(crate) fn diffs(all: &[DriftDiff]) -> String {
    let mut text = String::new();
    for diff in all {
        text += &format!("  {}: {}\n", diff.step, diff.what);
        text.extend(diff.text.lines().map(|line| format!("    {line}\n")));
    }
    text
}
