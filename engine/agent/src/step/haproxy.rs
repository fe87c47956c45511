//! `haproxy`: the servers of one backend in a HAProxy that runs, as they should be, without loading it anew.
//!
//! The configuration on the disk is for the next start, and says the same. Only when the process was started with another
//! one it is loaded anew: it tells which by a variable of its own. Servers that come take no traffic before HAProxy has
//! itself seen them up, and those that go take none any more and may end what they do. While one is not up the job is put
//! away, and looks again later.

mod runtime;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::json;

use self::runtime::Runtime;
use crate::args::{AbsPath, Span};
use crate::context::{Context, Report};
use crate::error::{Result, StepError};
use crate::haproxy::Server;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);
/// A server that comes is waited for as long before the job is put away: most are up by then.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a process takes to load another configuration, at most.
const LOADS: Duration = Duration::from_secs(15);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Haproxy {
    /// Where the process takes commands.
    socket: AbsPath,
    /// The command that makes it load its files anew.
    reload: String,
    backend: String,
    /// What its variable `proc.plinth_BACKEND` says when it has loaded what is on the disk.
    loaded: String,
    /// `ADDRESS:PORT` by name.
    servers: BTreeMap<String, String>,
    /// What follows the address of each in the configuration.
    #[serde(default)]
    options: String,
    /// How long connections of a server that goes may last.
    #[serde(default = "ten_seconds")]
    drain: Span,
}

fn ten_seconds() -> Span {
    Span::seconds(10)
}

pub(super) fn apply(args: &Haproxy, cx: &mut Context<'_>) -> Result<Report> {
    check(args)?;
    let runtime = Runtime::new(&args.socket, &args.backend);
    let mut report = Report::unchanged();
    // It ends well only when all of them are.
    report.value = json!({"up": args.servers.keys().collect::<Vec<_>>()});
    let what = |server: &str| format!("haproxy:{}/{server}", args.backend);
    if !load(args, &runtime, &mut report, cx)? {
        return Ok(report);
    }
    let running = runtime.servers()?;
    let (stay, go): (Vec<&Server>, Vec<&Server>) =
        running.iter().partition(|server| args.servers.get(&server.name) == Some(&server.address));
    let moved = |name: &str| go.iter().any(|server| server.name == name);
    for server in &go {
        report.diff(what(&server.name), format!("{} -> nothing", server.address));
    }
    let comes = |name: &str| !stay.iter().any(|server| server.name == name);
    let new: Vec<(&String, &String)> = args.servers.iter().filter(|(name, _)| comes(name)).collect();
    for (name, address) in &new {
        report.diff(what(name), format!("nothing -> {address}"));
    }
    if cx.dry {
        let ill = stay.iter().filter(|server| cx.check && !server.is_up());
        ill.for_each(|server| report.diff(what(&server.name), server.says()));
        return Ok(report);
    }
    // Those that come first, so that somebody serves while others go. The same name can not be there twice.
    for (name, address) in new.iter().filter(|(name, _)| !moved(name)) {
        runtime.add(name, address, &args.options)?;
    }
    for server in &go {
        leave(args, &runtime, &server.name, cx)?;
    }
    for (name, address) in new.iter().filter(|(name, _)| moved(name)) {
        runtime.add(name, address, &args.options)?;
    }
    up(args, &runtime, cx)?;
    Ok(report)
}

/// Everything of it becomes a word of a command.
fn check(args: &Haproxy) -> Result<()> {
    let plain = |text: &str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:[]".contains(&byte))
    };
    let names = args.servers.iter().flat_map(|(name, address)| [name, address]);
    if let Some(text) = names.chain([&args.backend, &args.loaded]).find(|text| !plain(text)) {
        return Err(StepError::argument("haproxy", format!("`{text}` is no word of letters, digits and `-_.:`")));
    }
    if args.options.chars().any(|letter| letter.is_control() || letter == ';' || letter == '<') {
        return Err(StepError::argument("haproxy", "`options` are one line without `;` and `<`"));
    }
    Ok(())
}

/// Has the process loaded what is on the disk? If not it is told to, but in a dry run.
fn load(args: &Haproxy, runtime: &Runtime<'_>, report: &mut Report, cx: &mut Context<'_>) -> Result<bool> {
    if runtime.loaded().is_ok_and(|loaded| loaded.as_deref() == Some(&args.loaded)) {
        return Ok(true);
    }
    report.diff(format!("haproxy:{}", args.backend), "loads its configuration anew");
    if cx.dry {
        return Ok(false);
    }
    cx.quiet("bash", &["-e", "-u", "-o", "pipefail", "-c", &args.reload])?;
    let end = Instant::now() + LOADS;
    loop {
        let last = match runtime.loaded() {
            Ok(Some(loaded)) if loaded == args.loaded => return Ok(true),
            Ok(loaded) => format!("it runs with {}", loaded.as_deref().unwrap_or("another configuration")),
            Err(error) => error.to_string(),
        };
        if Instant::now() >= end {
            let (what, within) = (format!("haproxy with backend {}", args.backend), Span(LOADS).to_string());
            return Err(StepError::WaitTimeout { what, within, last });
        }
        cx.supervisor.pause(LOOK)?;
    }
}

/// No new connections; those that there are may end, but not for ever.
fn leave(args: &Haproxy, runtime: &Runtime<'_>, name: &str, cx: &mut Context<'_>) -> Result<()> {
    runtime.state(name, "drain")?;
    let end = Instant::now() + args.drain.0;
    let busy = |runtime: &Runtime<'_>| -> Result<u64> {
        Ok(runtime.servers()?.iter().find(|server| server.name == name).map_or(0, |server| server.sessions))
    };
    while busy(runtime)? > 0 && Instant::now() < end {
        cx.supervisor.pause(LOOK)?;
    }
    let left = busy(runtime)?;
    if left > 0 {
        cx.say(format!("{left} connections to {name} did not end within {}: they are cut", args.drain));
    }
    runtime.state(name, "maint")?;
    loop {
        runtime.cut(name)?;
        match runtime.delete(name) {
            // A connection goes a moment after it was cut.
            Err(_) if Instant::now() < end + LOADS => cx.supervisor.pause(LOOK)?,
            done => return done,
        }
    }
}

/// Until HAProxy sees all of them up; not for long.
fn up(args: &Haproxy, runtime: &Runtime<'_>, cx: &mut Context<'_>) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    loop {
        let servers = runtime.servers()?;
        for server in servers.iter().filter(|server| args.servers.contains_key(&server.name)) {
            if server.is_in_maintenance() {
                runtime.check(&server.name)?;
            } else if server.may_serve() {
                runtime.state(&server.name, "ready")?;
            }
        }
        let mut missing = args.servers.keys().filter_map(|name| {
            let server = servers.iter().find(|server| server.name == *name);
            let says = server.map_or_else(|| "nothing".to_owned(), Server::says);
            (!server.is_some_and(Server::is_up)).then(|| format!("haproxy says {says} of {}/{name}", args.backend))
        });
        let Some(saw) = missing.next() else { return Ok(()) };
        if Instant::now() >= end {
            return Err(StepError::NotYet(saw));
        }
        cx.supervisor.pause(LOOK)?;
    }
}
