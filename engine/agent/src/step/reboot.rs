//! `reboot`: the job goes on after the machine has come back with another boot id.

use std::fs;
use std::time::Duration;

use serde::Deserialize;

use crate::args::Span;
use crate::context::{Context, Report};
use crate::error::{Result, StepError};
use crate::facts;
use crate::journal::{Reboot as Asked, Record};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Reboot {
    /// How long the machine may take to come back.
    #[serde(default = "ten_minutes")]
    within: Span,
    /// A command; no reboot if it succeeds.
    #[serde(default)]
    unless: Option<String>,
}

fn ten_minutes() -> Span {
    Span::seconds(600)
}

pub(super) fn apply(args: &Reboot, cx: &mut Context<'_>) -> Result<Report> {
    let asked = cx.reboot.take().filter(|asked| asked.step == cx.index);
    if asked.is_none() {
        if let Some(unless) = &args.unless {
            if cx.holds(unless)? {
                return Ok(Report::unchanged());
            }
        } else if cx.check {
            return Ok(Report::undecided());
        }
    }
    let mut report = Report::unchanged();
    report.effects.push("reboot".to_owned());
    if cx.dry {
        report.diff("reboot", "would reboot");
        return Ok(report);
    }
    let asked = match asked {
        Some(asked) => asked,
        None => note(args, cx)?,
    };
    if asked.boot_id != facts::boot_id() {
        report.diff("reboot", "rebooted");
        return Ok(report);
    }
    ask(cx)?;
    let spent = since_boot().saturating_sub(asked.since);
    let left = Duration::from_secs(asked.within).saturating_sub(Duration::from_millis(spent));
    // The time of a reboot is not that of the job.
    cx.supervisor.extend(left);
    cx.supervisor.pause(left)?;
    Err(StepError::RebootDidNotHappen(asked.within))
}

/// Writes down that the machine is about to go, and everything else with it.
fn note(args: &Reboot, cx: &mut Context<'_>) -> Result<Asked> {
    let (boot_id, within, since) = (facts::boot_id(), args.within.0.as_secs(), since_boot());
    cx.settle()?;
    let record = Record::Rebooting { step: cx.index, boot_id: boot_id.clone(), within, since };
    let written = cx.journal.record(&record).and_then(|()| cx.dir.sync()).and_then(|()| cx.journal.sync());
    written.map_err(StepError::io("writing", cx.dir.path()))?;
    Ok(Asked { step: cx.index, boot_id, within, since })
}

/// Asking twice for the same reboot does no harm: the boot id tells when it has happened.
fn ask(cx: &Context<'_>) -> Result<()> {
    match cx.quiet("systemctl", &["reboot"]) {
        Err(StepError::ProgramMissing { .. }) => cx.quiet("reboot", &[]).map(drop),
        other => other.map(drop),
    }
}

/// Milliseconds since the machine started.
fn since_boot() -> u64 {
    let text = fs::read_to_string("/proc/uptime").unwrap_or_default();
    let mut parts = text.split_whitespace().next().unwrap_or_default().split('.');
    let mut next = || parts.next().and_then(|part| part.parse::<u64>().ok()).unwrap_or(0);
    next() * 1000 + next() * 10
}
