//! `unit`: a unit of systemd, enabled and running, restarted when something it reads has changed.
//!
//! A running unit is restarted when an input named in `restart_for` changed since the last success, when this job
//! changed one of `files`, or when one of `files` is younger than the unit's process. The last survives an attempt
//! that changed the file and failed before the restart.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use serde_json::json;
use time::PrimitiveDateTime;
use time::macros::format_description;

use crate::args::{AbsPath, Names};
use crate::context::{Context, Report};
use crate::error::{Result, StepError};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Unit {
    name: Names,
    #[serde(default)]
    enabled: Option<bool>,
    #[serde(default)]
    running: Option<bool>,
    #[serde(default)]
    restart_for: Vec<String>,
    #[serde(default)]
    reload_for: Vec<String>,
    #[serde(default)]
    files: Vec<AbsPath>,
}

/// What systemd says of a unit.
#[derive(Debug, Default)]
struct State(BTreeMap<String, String>);

pub(super) fn apply(args: &Unit, cx: &mut Context<'_>) -> Result<Report> {
    let name = name(args)?;
    let mut report = Report::unchanged();
    report.value = json!({"name": name});
    let mut state = State::of(&name, cx)?;
    if state.is("NeedDaemonReload", "yes") || state.is("LoadState", "not-found") {
        if !cx.dry {
            cx.quiet("systemctl", &["daemon-reload"])?;
            state = State::of(&name, cx)?;
        } else if state.is("LoadState", "not-found") {
            // The step that brings it would come first.
            report.diff(format!("unit:{name}"), "is not there yet");
            return Ok(report);
        }
    }
    if state.is("LoadState", "not-found") {
        return Err(StepError::UnitUnknown(name));
    }
    enable(args, &name, &state, &mut report, cx)?;
    let active = state.is_active();
    match args.running {
        Some(true) if !active => start(&name, &state, &mut report, cx)?,
        Some(false) if active => {
            report.diff(format!("unit:{name}"), "running -> stopped");
            report.effects.push(format!("interrupt:{name}"));
            if !cx.dry {
                cx.quiet("systemctl", &["stop", &name])?;
            }
        }
        Some(false) => {}
        _ if active => refresh(args, &name, &state, &mut report, cx)?,
        _ => {}
    }
    Ok(report)
}

fn enable(args: &Unit, name: &str, state: &State, report: &mut Report, cx: &mut Context<'_>) -> Result<()> {
    let now = state.get("UnitFileState");
    // Those that have no `[Install]` section are started by others.
    let enabled =
        matches!(now, "enabled" | "enabled-runtime" | "static" | "indirect" | "alias" | "generated" | "transient");
    match args.enabled {
        Some(true) if !enabled => {
            report.diff(format!("unit:{name}"), format!("{now} -> enabled"));
            if !cx.dry {
                cx.ledger.note_made(format!("enabled:{name}"))?;
                cx.quiet("systemctl", &["enable", name])?;
            }
        }
        Some(false) if matches!(now, "enabled" | "enabled-runtime") => {
            report.diff(format!("unit:{name}"), "enabled -> disabled");
            if !cx.dry {
                cx.quiet("systemctl", &["disable", name])?;
            }
        }
        _ => {}
    }
    Ok(())
}

fn start(name: &str, state: &State, report: &mut Report, cx: &mut Context<'_>) -> Result<()> {
    report.diff(format!("unit:{name}"), format!("{} -> running", state.get("ActiveState")));
    if cx.dry {
        return Ok(());
    }
    cx.ledger.note_made(format!("started:{name}"))?;
    if state.is("ActiveState", "failed") {
        // Or it may be over its limit of starts.
        cx.quiet("systemctl", &["reset-failed", name])?;
    }
    command("start", name, cx)
}

/// Restarts or reloads a running unit if it has to notice something.
fn refresh(args: &Unit, name: &str, state: &State, report: &mut Report, cx: &mut Context<'_>) -> Result<()> {
    let changed = |names: &[String]| names.iter().find(|name| cx.spec.changed.contains(name)).cloned();
    let touched = args.files.iter().find(|path| cx.keep.touched.contains(&path.0));
    let younger = || args.files.iter().find(|path| is_younger(path, state.started()));
    let because = changed(&args.restart_for)
        .map(|input| format!("input {input} changed"))
        .or_else(|| touched.or_else(younger).map(|path| format!("{} changed", path.display())));
    if let Some(because) = because {
        return restart(name, &because, report, cx);
    }
    let Some(input) = changed(&args.reload_for) else { return Ok(()) };
    if state.is("CanReload", "no") {
        return restart(name, &format!("input {input} changed, and it can not reload"), report, cx);
    }
    report.diff(format!("unit:{name}"), format!("reloaded: input {input} changed"));
    if cx.dry { Ok(()) } else { command("reload", name, cx) }
}

fn restart(name: &str, because: &str, report: &mut Report, cx: &mut Context<'_>) -> Result<()> {
    report.diff(format!("unit:{name}"), format!("restarted: {because}"));
    report.effects.push(format!("restart:{name}"));
    if cx.dry { Ok(()) } else { command("restart", name, cx) }
}

/// Starts or restarts, and shows what the unit said if it does not stay up.
fn command(verb: &str, name: &str, cx: &mut Context<'_>) -> Result<()> {
    let result = cx.quiet("systemctl", &[verb, name]).map(drop);
    let failed = match &result {
        Ok(()) => {
            let state = State::of(name, cx)?;
            state.is("ActiveState", "failed") || state.is("SubState", "auto-restart")
        }
        Err(StepError::Command { .. }) => true,
        Err(_) => false,
    };
    if !failed {
        return result;
    }
    let journal = |of: &[&str]| {
        let all = [&["--lines", "20", "--no-pager", "--output", "cat", "--boot"], of].concat();
        cx.quiet("journalctl", &all).unwrap_or_default()
    };
    let said = journal(&["--unit", name]);
    for line in said.lines() {
        cx.say(format!("{name}: {line}"));
    }
    // What its own processes said last tells more than what systemd says of them.
    let own = journal(&[&format!("_SYSTEMD_UNIT={name}")]);
    let last = own.lines().last().or(said.lines().last()).unwrap_or_default().to_owned();
    Err(StepError::Command { what: format!("{verb} of {name}"), how: "failed".to_owned(), last })
}

pub(super) fn undo(args: &Unit, cx: &mut Context<'_>) -> Result<Report> {
    let name = name(args)?;
    let mut report = take("started", &name, cx)?;
    report.add(take("enabled", &name, cx)?);
    Ok(report)
}

/// Stops a unit that we started, disables one that we enabled.
pub(super) fn take(kind: &str, name: &str, cx: &mut Context<'_>) -> Result<Report> {
    let mut report = Report::unchanged();
    let thing = format!("{kind}:{name}");
    if cx.is_spared(&format!("unit:{name}")) {
        cx.ledger.hand_over(&thing)?;
        return Ok(report);
    }
    if !cx.ledger.made(&thing) {
        return Ok(report);
    }
    let state = State::of(name, cx)?;
    if kind == "started" && state.is_active() {
        cx.quiet("systemctl", &["stop", name])?;
        report.diff(format!("unit:{name}"), "running -> stopped");
        report.effects.push(format!("interrupt:{name}"));
    }
    if kind == "started" && state.is("ActiveState", "failed") {
        drop(cx.quiet("systemctl", &["reset-failed", name]));
    }
    if kind == "enabled" && matches!(state.get("UnitFileState"), "enabled" | "enabled-runtime") {
        cx.quiet("systemctl", &["disable", name])?;
        report.diff(format!("unit:{name}"), "enabled -> disabled");
    }
    cx.ledger.note_gone(&thing)?;
    Ok(report)
}

/// Is a unit of the ledger still started, or enabled?
pub(super) fn is_there(thing: &str, name: &str) -> bool {
    let verb = if thing.starts_with("enabled:") { "is-enabled" } else { "is-active" };
    let asked = std::process::Command::new("systemctl").args([verb, "--quiet", "--", name]).output();
    asked.is_ok_and(|answer| answer.status.success())
}

fn name(args: &Unit) -> Result<String> {
    let name = args.name.one("unit")?;
    if name.is_empty() || name.starts_with('-') || name.contains(['/', ' ']) {
        return Err(StepError::argument("unit", format!("`{name}` is no name of a unit")));
    }
    // systemctl adds the suffix by itself, the ledger must not know one unit by two names.
    Ok(if name.contains('.') { name } else { format!("{name}.service") })
}

impl State {
    fn of(name: &str, cx: &Context<'_>) -> Result<Self> {
        const PROPERTIES: &str = "--property=LoadState,ActiveState,SubState,UnitFileState,NeedDaemonReload,CanReload,\
                                  ExecMainStartTimestamp,InactiveExitTimestamp";
        let text = cx.quiet("systemctl", &["show", "--timestamp=us+utc", PROPERTIES, "--", name])?;
        Ok(Self::parse(&text))
    }

    fn parse(text: &str) -> Self {
        let pairs = text.lines().filter_map(|line| line.split_once('='));
        Self(pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
    }

    fn get(&self, key: &str) -> &str {
        self.0.get(key).map_or("", String::as_str)
    }

    fn is(&self, key: &str, value: &str) -> bool {
        self.get(key) == value
    }

    fn is_active(&self) -> bool {
        matches!(self.get("ActiveState"), "active" | "reloading" | "refreshing")
    }

    /// When its process began to read its files.
    fn started(&self) -> Option<SystemTime> {
        timestamp(self.get("ExecMainStartTimestamp")).or_else(|| timestamp(self.get("InactiveExitTimestamp")))
    }
}

/// `Fri 2026-11-20 12:46:31.123456 UTC`.
fn timestamp(text: &str) -> Option<SystemTime> {
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second].[subsecond]");
    let (_, rest) = text.split_once(' ')?;
    let parsed = PrimitiveDateTime::parse(rest.strip_suffix(" UTC")?, &format).ok()?.assume_utc();
    let micros = u64::try_from(parsed.unix_timestamp_nanos() / 1000).ok()?;
    Some(UNIX_EPOCH + Duration::from_micros(micros))
}

fn is_younger(path: &AbsPath, started: Option<SystemTime>) -> bool {
    let modified = fs::metadata(&path.0).and_then(|meta| meta.modified()).ok();
    matches!((modified, started), (Some(modified), Some(started)) if modified > started)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_systemd_says() {
        let state = State::parse("ActiveState=active\nExecMainStartTimestamp=Fri 2026-11-20 12:46:31.123456 UTC\n");
        assert!(state.is_active());
        let started = state.started().unwrap().duration_since(UNIX_EPOCH).unwrap();
        assert_eq!(started.as_micros(), 1_795_178_791_123_456);
        assert_eq!(State::parse("ExecMainStartTimestamp=\nInactiveExitTimestamp=n/a").started(), None);
    }
}
