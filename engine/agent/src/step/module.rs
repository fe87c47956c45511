//! `module` and `sysctl`: settings of the kernel, now and at every boot.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::file::{Access, put, take};
use crate::args::{self, Names};
use crate::context::{Context, Report};
use crate::error::{Result, StepError};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Args {
    name: Names,
}

/// The names of modules, which may stand alone.
pub(super) fn read(args: Value) -> Result<Vec<String>> {
    let names =
        if args.get("name").is_some() { args::read::<Args>("module", args)?.name } else { args::read("module", args)? };
    let names = names.here("module")?;
    let plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_');
    match names.iter().find(|name| name.is_empty() || name.starts_with('-') || !name.chars().all(plain)) {
        Some(name) => Err(StepError::argument("module", format!("`{name}` is no name of a module"))),
        None => Ok(names),
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sysctl {
    /// Dotted, as in `net.ipv4.ip_forward`.
    name: String,
    value: Value,
}

pub(super) fn apply_module(names: &[String], cx: &mut Context<'_>) -> Result<Report> {
    let mut report = Report::unchanged();
    for name in names {
        report.add(put(&module_file(name), format!("{name}\n").as_bytes(), &Access::default(), true, cx)?);
        if is_loaded(name) {
            continue;
        }
        report.diff(format!("module:{name}"), "loaded");
        if !cx.dry {
            cx.ledger.note_made(format!("module:{name}"))?;
            cx.quiet("modprobe", &[name])?;
        }
    }
    Ok(report)
}

pub(super) fn undo_module(names: &[String], cx: &mut Context<'_>) -> Result<Report> {
    let mut report = Report::unchanged();
    for name in names {
        report.add(take_module(name, cx)?);
    }
    Ok(report)
}

pub(super) fn take_module(name: &str, cx: &mut Context<'_>) -> Result<Report> {
    let mut report = take(&module_file(name), cx)?;
    let thing = format!("module:{name}");
    if cx.is_spared(&thing) {
        cx.ledger.hand_over(&thing)?;
    } else if cx.ledger.made(&thing) {
        // One that is in use stays until the next boot: it is no residue, for nothing loads it then.
        if is_loaded(name) && cx.quiet("modprobe", &["-r", name]).is_ok() {
            report.diff(&thing, "unloaded");
        }
        cx.ledger.note_gone(&thing)?;
    }
    Ok(report)
}

fn module_file(name: &str) -> PathBuf {
    PathBuf::from(format!("/etc/modules-load.d/plinth-{name}.conf"))
}

/// Loaded, or part of the kernel itself.
fn is_loaded(name: &str) -> bool {
    let name = name.replace('-', "_");
    if Path::new("/sys/module").join(&name).exists() {
        return true;
    }
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let builtin = fs::read_to_string(format!("/lib/modules/{}/modules.builtin", release.trim())).unwrap_or_default();
    builtin.lines().any(|line| line.ends_with(&format!("/{name}.ko")))
}

pub(super) fn apply_sysctl(args: &Sysctl, cx: &mut Context<'_>) -> Result<Report> {
    let (key, value) = (key(args)?, value(args)?);
    let mut report = Report::unchanged();
    let line = format!("{} = {value}\n", args.name);
    report.add(put(&sysctl_file(args), line.as_bytes(), &Access::default(), true, cx)?);
    let current = match fs::read_to_string(&key) {
        Ok(text) => text,
        // The module that brings it is not loaded yet.
        Err(error) if error.kind() == io::ErrorKind::NotFound && cx.dry => String::new(),
        Err(error) => return Err(StepError::io("reading", &key)(error)),
    };
    if words(&current) == words(&value) {
        return Ok(report);
    }
    let thing = format!("sysctl:{}", args.name);
    report.diff(&thing, format!("{} -> {value}", current.trim()));
    if !cx.dry {
        cx.ledger.note_original(&thing, Value::String(current.trim().to_owned()))?;
        fs::write(&key, &value).map_err(StepError::io("writing", &key))?;
    }
    Ok(report)
}

pub(super) fn undo_sysctl(args: &Sysctl, cx: &mut Context<'_>) -> Result<Report> {
    let mut report = take(&sysctl_file(args), cx)?;
    let thing = format!("sysctl:{}", args.name);
    if cx.is_spared(&thing) {
        return Ok(report);
    }
    let original = cx.ledger.original(&thing).and_then(Value::as_str).map(str::to_owned);
    if let Some(original) = original {
        let key = key(args)?;
        let current = fs::read_to_string(&key).unwrap_or_default();
        if words(&current) != words(&original) {
            fs::write(&key, &original).map_err(StepError::io("writing", &key))?;
            report.diff(&thing, format!("given back, {original}"));
        }
        cx.ledger.note_gone(&thing)?;
    }
    Ok(report)
}

fn sysctl_file(args: &Sysctl) -> PathBuf {
    PathBuf::from(format!("/etc/sysctl.d/90-plinth-{}.conf", args.name.replace('/', ".")))
}

fn key(args: &Sysctl) -> Result<PathBuf> {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '/');
    let parts: Vec<&str> = args.name.split('.').collect();
    if parts.len() < 2 || parts.iter().any(|part| part.is_empty() || !part.chars().all(plain)) {
        return Err(StepError::argument("sysctl", format!("`{}` is no name such as `net.ipv4.ip_forward`", args.name)));
    }
    // In names of interfaces a slash stands for a dot.
    let parts = parts.iter().map(|part| part.replace('/', "."));
    Ok(parts.fold(PathBuf::from("/proc/sys"), |path, part| path.join(part)))
}

fn value(args: &Sysctl) -> Result<String> {
    match &args.value {
        Value::String(text) if !text.contains('\n') => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        other => Err(StepError::argument("sysctl", format!("value {other} is neither a number nor one line of text"))),
    }
}

/// The kernel writes tabs where people write spaces.
fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}
