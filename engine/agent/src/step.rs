//! The steps: what each does, how it is dry-run, and how it is undone.
//!
//! Every kind has a file with its arguments, `apply` (which looks at `Context::dry`) and, where there is something to
//! take away, `undo`. Each is written so that doing it twice is the same as doing it once. What was made is known by
//! the ledger as `KIND:NAME`; `take` takes away one such thing.

mod absent;
mod account;
mod certificate;
mod directory;
mod download;
mod file;
mod haproxy;
mod key;
mod link;
mod module;
mod output;
mod package;
mod reboot;
mod run;
mod unit;
mod unpack;
mod wait;

use std::path::Path;

use engine_core::document::Step;
use serde_json::Value;

use crate::args::read;
use crate::context::{Context, Report};
use crate::error::{Result, StepError};

/// Places that no role may take away as a whole.
const PROTECTED: [&str; 22] = [
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/home",
    "/lib",
    "/lib64",
    "/media",
    "/mnt",
    "/opt",
    "/proc",
    "/root",
    "/run",
    "/sbin",
    "/srv",
    "/sys",
    "/tmp",
    "/usr",
    "/var",
    "/var/lib",
    "/etc/systemd",
    "/etc/systemd/system",
];

/// Does a step, or says what it would do.
pub(crate) fn apply(kind: &str, args: Value, cx: &mut Context<'_>) -> Result<Report> {
    match kind {
        "absent" => absent::apply(&read(kind, args)?, cx),
        "certificate" => certificate::apply(&read(kind, args)?, cx),
        "directory" => directory::apply(&read(kind, args)?, cx),
        "download" => download::apply(&read(kind, args)?, cx),
        "file" => file::apply(&read(kind, args)?, cx),
        "group" => account::apply_group(&read(kind, args)?, cx),
        "haproxy" => haproxy::apply(&read(kind, args)?, cx),
        "key" => key::apply(&read(kind, args)?, cx),
        "link" => link::apply(&read(kind, args)?, cx),
        "module" => module::apply_module(&module::read(args)?, cx),
        "output" => output::apply(&args, cx),
        "package" => package::apply(&package::read(args)?, cx),
        "reboot" => reboot::apply(&read(kind, args)?, cx),
        "run" => run::apply(&read(kind, args)?, cx),
        "sysctl" => module::apply_sysctl(&read(kind, args)?, cx),
        "unit" => unit::apply(&read(kind, args)?, cx),
        "unpack" => unpack::apply(&read(kind, args)?, cx),
        "user" => account::apply_user(&read(kind, args)?, cx),
        "wait" => wait::apply(&read(kind, args)?, cx),
        _ => Err(StepError::UnknownKind(kind.to_owned())),
    }
}

/// Takes away what the step made.
pub(crate) fn undo(kind: &str, args: Value, cx: &mut Context<'_>) -> Result<Report> {
    match kind {
        "directory" => directory::undo(&read(kind, args)?, cx),
        "download" => download::undo(&read(kind, args)?, cx),
        "file" => file::undo(&read(kind, args)?, cx),
        "group" => account::undo_group(&read(kind, args)?, cx),
        "key" => key::undo(&read(kind, args)?, cx),
        "link" => link::undo(&read(kind, args)?, cx),
        "module" => module::undo_module(&module::read(args)?, cx),
        "package" => package::undo(&package::read(args)?, cx),
        "sysctl" => module::undo_sysctl(&read(kind, args)?, cx),
        "unit" => unit::undo(&read(kind, args)?, cx),
        "unpack" => unpack::undo(&read(kind, args)?, cx),
        "user" => account::undo_user(&read(kind, args)?, cx),
        // Nothing of them stays, or nothing is known of it: that is for the role's own `remove` and `destroys`.
        "absent" | "certificate" | "haproxy" | "output" | "reboot" | "run" | "wait" => Ok(Report::unchanged()),
        _ => Err(StepError::UnknownKind(kind.to_owned())),
    }
}

/// Takes away one thing of the ledger that no step names any more.
pub(crate) fn take(thing: &str, cx: &mut Context<'_>) -> Result<Report> {
    let Some((kind, name)) = thing.split_once(':') else { return Ok(Report::unchanged()) };
    match kind {
        "directory" => directory::take(Path::new(name), cx),
        "enabled" | "started" => unit::take(kind, name, cx),
        "file" => file::take(Path::new(name), cx),
        "link" => link::take(Path::new(name), cx),
        "module" => module::take_module(name, cx),
        "package" => package::take(&[name], cx),
        "tree" => unpack::take(thing, cx),
        "user" | "group" => account::take(kind, name, cx),
        _ => Ok(Report::unchanged()),
    }
}

/// Is a thing of the ledger on this machine, where it should not stay?
pub(crate) fn is_there(thing: &str) -> bool {
    match thing.split_once(':') {
        Some(("enabled" | "started", unit)) => unit::is_there(thing, unit),
        Some(("file" | "link" | "directory" | "tree" | "path", path)) => Path::new(path).symlink_metadata().is_ok(),
        Some((kind @ ("user" | "group"), name)) => account::is_there(kind, name),
        Some(("package", name)) => package::is_there(name),
        _ => false,
    }
}

/// Is it a place that no role may take away as a whole?
pub(crate) fn is_protected(path: &Path) -> bool {
    path.components().count() < 2 || PROTECTED.iter().any(|place| path == Path::new(place))
}

/// May the step be done again when nobody knows how far it got?
pub(crate) fn is_repeatable(step: &Step) -> bool {
    step.kind != "run" || ["unless", "creates", "asks"].iter().any(|guard| step.args.get(guard).is_some())
}

/// What it is, for people: `file /etc/hosts`.
pub(crate) fn title(kind: &str, args: &Value) -> String {
    const TELLING: [&str; 15] = [
        "about", "path", "name", "names", "url", "archive", "script", "tcp", "http", "unix", "unit", "command", "text",
        "cert", "backend",
    ];
    let telling = match args {
        Value::Object(args) if kind != "output" => TELLING.iter().find_map(|key| args.get(*key)).map(words),
        Value::Object(args) => Some(args.keys().cloned().collect::<Vec<_>>().join(" ")),
        other => Some(words(other)),
    };
    match telling.filter(|text| !text.is_empty()) {
        Some(text) => format!("{kind} {text}"),
        None => kind.to_owned(),
    }
}

fn words(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.lines().next().unwrap_or_default().to_owned(),
        Value::Array(items) => items.iter().map(words).collect::<Vec<_>>().join(" "),
        Value::Object(items) => items.values().next().map(words).unwrap_or_default(),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    if text.chars().count() > 80 { text.chars().take(79).chain(['…']).collect() } else { text }
}
