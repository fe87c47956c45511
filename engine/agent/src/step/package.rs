//! `package`: packages of Debian, by apt. Where dpkg's status says that all is there, apt is not started at all.

mod apt;
mod dpkg;

use serde::Deserialize;
use serde_json::Value;

use self::apt::Apt;
use self::dpkg::Status;
use crate::args::{self, Names, Span, yes};
use crate::context::{Context, Report};
use crate::error::{Result, StepError};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Args {
    names: Names,
    /// May the package start its services when it is installed?
    #[serde(default = "yes")]
    start: bool,
    /// Also what the packages recommend.
    #[serde(default)]
    recommends: bool,
    /// Fetch the index anew if it is older.
    #[serde(default)]
    refresh: Option<Span>,
    /// How long another user of the package database is waited for.
    #[serde(default = "two_minutes")]
    within: Span,
}

fn two_minutes() -> Span {
    Span::seconds(120)
}

/// The arguments, which may be names alone.
pub(super) fn read(args: Value) -> Result<Args> {
    if args.get("names").is_some() {
        return args::read("package", args);
    }
    let names = args::read::<Names>("package", args)?;
    Ok(Args { names, start: true, recommends: false, refresh: None, within: two_minutes() })
}

/// Splits `NAME=VERSION`.
fn split(wanted: &str) -> (&str, Option<&str>) {
    wanted.split_once('=').map_or((wanted, None), |(name, version)| (name, Some(version)))
}

pub(super) fn apply(args: &Args, cx: &mut Context<'_>) -> Result<Report> {
    let wanted = names(args)?;
    let mut report = Report::unchanged();
    let before = Status::read()?;
    let missing: Vec<&String> = wanted.iter().filter(|name| !before.has(name)).collect();
    if missing.is_empty() {
        return Ok(report);
    }
    if cx.dry {
        for name in missing {
            report.diff(format!("package:{}", split(name).0), "would be installed");
        }
        return Ok(report);
    }
    let apt = Apt::begin(args.within.0, cx)?;
    // Who had the lock before us may have brought what we want.
    let before = Status::read()?;
    let missing: Vec<&str> = wanted.iter().filter(|name| !before.has(name)).map(String::as_str).collect();
    if missing.is_empty() {
        return Ok(report);
    }
    for name in &missing {
        let name = split(name).0;
        if before.version(name).is_none() {
            cx.ledger.note_made(format!("package:{name}"))?;
        }
    }
    apt.install(&missing, args.start, args.recommends, args.refresh.map(|span| span.0), cx)?;
    let after = Status::read()?;
    for (name, version) in after.installed() {
        match before.version(name) {
            Some(old) if old == version => {}
            Some(old) => report.diff(format!("package:{name}"), format!("{old} -> {version}")),
            None => {
                report.diff(format!("package:{name}"), format!("installed, {version}"));
                if !cx.ledger.made(&format!("package:{name}")) {
                    cx.ledger.note_made(format!("dependency:{name}"))?;
                }
            }
        }
    }
    match wanted.iter().find(|name| !after.has(name)) {
        Some(name) => Err(StepError::PackageUnknown(name.clone())),
        None => Ok(report),
    }
}

pub(super) fn undo(args: &Args, cx: &mut Context<'_>) -> Result<Report> {
    let names = names(args)?;
    let names: Vec<&str> = names.iter().map(|name| split(name).0).collect();
    take(&names, cx)
}

/// Takes packages away that we installed and nobody else claims, and what came with them and nobody needs any more.
pub(super) fn take(names: &[&str], cx: &mut Context<'_>) -> Result<Report> {
    let mut report = Report::unchanged();
    let status = Status::read()?;
    let mut gone = Vec::new();
    for name in names {
        let thing = format!("package:{name}");
        if cx.is_spared(&thing) {
            cx.ledger.hand_over(&thing)?;
        } else if cx.ledger.made(&thing) {
            if status.version(name).is_some() {
                gone.push(*name);
            } else {
                cx.ledger.note_gone(&thing)?;
            }
        }
    }
    if gone.is_empty() {
        return Ok(report);
    }
    let apt = Apt::begin(two_minutes().0, cx)?;
    apt.purge(&gone, cx)?;
    let ours: Vec<String> =
        cx.ledger.all_made().iter().filter_map(|thing| thing.strip_prefix("dependency:")).map(str::to_owned).collect();
    let orphans: Vec<String> = apt
        .orphans(cx)?
        .into_iter()
        .filter(|name| ours.contains(name) && !cx.is_spared(&format!("package:{name}")))
        .collect();
    if !orphans.is_empty() {
        apt.purge(&orphans.iter().map(String::as_str).collect::<Vec<_>>(), cx)?;
    }
    let after = Status::read()?;
    let touched =
        gone.iter().map(|name| ("package", *name)).chain(ours.iter().map(|name| ("dependency", name.as_str())));
    for (kind, name) in touched {
        if after.version(name).is_none() {
            report.diff(format!("package:{name}"), "purged");
            cx.ledger.note_gone(&format!("{kind}:{name}"))?;
        }
    }
    Ok(report)
}

/// Is a package installed?
pub(super) fn is_there(name: &str) -> bool {
    Status::read().is_ok_and(|status| status.version(name).is_some())
}

fn names(args: &Args) -> Result<Vec<String>> {
    let names = args.names.here("package")?;
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "+-.:=~*_".contains(letter);
    match names.iter().find(|name| name.is_empty() || name.starts_with('-') || !name.chars().all(plain)) {
        Some(name) => Err(StepError::argument("package", format!("`{name}` is no name of a package"))),
        None => Ok(names),
    }
}
