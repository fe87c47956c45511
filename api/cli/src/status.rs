//! `plinth status` and `plinth wait`: where everything stands, once or until Ctrl-C, which cancels nothing.
//!
//! Watching takes events as hints and reads the status again: what is shown is always one moment.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use api_client::Events;
use engine_core::settle::hood::Standing;
use engine_core::state::Goal;
use engine_core::view::{CertificatesView, Health, NodeRoleView, NodeView, RotationView, StatusView};
use time::OffsetDateTime;
use tokio::time::Instant;

use crate::args::{Output, Until};
use crate::output::{CliError, Context, print};
use crate::table::{self, Shown};

/// Events come in bunches; the status is not read more often than this.
const GATHER: Duration = Duration::from_millis(150);
/// Ages on a terminal go on even if nothing happens, and progress within a job has no event.
const TICK: Duration = Duration::from_secs(2);

/// `NODE/ROLE`.
pub(crate) fn address(row: &NodeRoleView) -> String {
    format!("{}/{}", row.node, row.role)
}

/// `plinth status`.
pub(crate) async fn status(context: &Context, name: &str, watch: bool) -> Result<ExitCode, CliError> {
    let status = context.client.status(name).await?;
    if !watch {
        let places = || status.node_roles.iter().map(address).collect();
        context.print(&status, places, || text(&status, OffsetDateTime::now_utc()))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut view = View::new(context.output);
    let mut source = Source::new(context, name, &status);
    view.show(context, &status)?;
    loop {
        let status = source.next().await?;
        view.show(context, &status)?;
        if status.deployment.health == Health::Gone {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

/// `plinth wait`.
pub(crate) async fn wait(
    context: &Context,
    name: &str,
    until: Until,
    timeout: Option<Duration>,
) -> Result<ExitCode, CliError> {
    let status = context.client.status(name).await?;
    let mut source = Source::new(context, name, &status);
    reached(&mut source, status, until, timeout, |_| Ok(())).await?;
    context.print(
        &serde_json::json!({"deployment": name}),
        || vec![name.to_owned()],
        || format!("{name} is {}\n", word(until)),
    )?;
    Ok(ExitCode::SUCCESS)
}

/// Shows what happens until it is over: reached, or failed.
pub(crate) async fn follow(
    context: &Context,
    name: &str,
    until: Until,
    timeout: Option<Duration>,
) -> Result<(), CliError> {
    let status = context.client.status(name).await?;
    let mut source = Source::new(context, name, &status);
    let quiet = context.output != Output::Table;
    let mut view = View::new(context.output);
    reached(&mut source, status, until, timeout, |status| if quiet { Ok(()) } else { view.show(context, status) }).await
}

fn word(until: Until) -> &'static str {
    match until {
        Until::Active => "active",
        Until::Gone => "gone",
    }
}

/// Waits until it is so; it fails when something failed and nothing moves any more.
async fn reached(
    source: &mut Source<'_>,
    first: StatusView,
    until: Until,
    timeout: Option<Duration>,
    mut show: impl FnMut(&StatusView) -> Result<(), CliError>,
) -> Result<(), CliError> {
    let deadline = timeout.map(|timeout| (Instant::now() + timeout, timeout));
    let mut status = first;
    loop {
        show(&status)?;
        if let Some(result) = verdict(&status, until) {
            return result.map_err(|what| CliError::Failed { name: status.deployment.name, what });
        }
        status = match deadline {
            None => source.next().await?,
            Some((at, limit)) => match tokio::time::timeout_at(at, source.next()).await {
                Ok(next) => next?,
                Err(_) => {
                    return Err(CliError::Timeout {
                        name: status.deployment.name,
                        health: status.deployment.health.as_str(),
                        wanted: word(until),
                        seconds: limit.as_secs(),
                    });
                }
            },
        };
    }
}

/// Is it over: reached, or can it not be reached any more? What does not depend on a failure goes on first.
fn verdict(status: &StatusView, until: Until) -> Option<Result<(), String>> {
    match (status.deployment.health, until) {
        (Health::Active, Until::Active) | (Health::Gone, Until::Gone) => return Some(Ok(())),
        (Health::Gone | Health::Destroying, Until::Active) => return Some(Err("it is being destroyed".to_owned())),
        (Health::Active | Health::Converging, Until::Gone) => {
            return Some(Err("it is not being destroyed".to_owned()));
        }
        (Health::Paused | Health::Converging | Health::Destroying, _) => return None,
        (Health::Failed, _) => {}
    }
    let moves = |row: &NodeRoleView| {
        matches!(row.state, engine_core::state::State::Running | engine_core::state::State::Ready)
            || row.retry_at.is_some()
    };
    let comes = |state: &str| matches!(state, "creating" | "joining");
    if status.node_roles.iter().any(moves) || status.nodes.iter().any(|node| comes(&node.state)) {
        return None;
    }
    let mut failed: Vec<String> = status
        .node_roles
        .iter()
        .filter_map(|row| Some(format!("{} failed: {}", address(row), row.code.as_ref()?)))
        .collect();
    failed.extend(
        status
            .nodes
            .iter()
            .filter(|node| node.state == "failed")
            .map(|node| format!("node {} failed: {}", node.name, node.code.as_deref().unwrap_or("unknown"))),
    );
    Some(Err(failed.join("; ")))
}

/// Statuses as they come, woken by events.
struct Source<'c> {
    context: &'c Context,
    name: String,
    events: Events,
    /// Somebody looks at the ages, or something runs.
    ticks: bool,
}

impl<'c> Source<'c> {
    fn new(context: &'c Context, name: &str, first: &StatusView) -> Self {
        let events = context.client.follow_events(Some(name), first.event);
        Self { context, name: name.to_owned(), events, ticks: ticks(first) }
    }

    async fn next(&mut self) -> Result<StatusView, CliError> {
        tokio::select! {
            event = self.events.next() => { event?; }
            () = tokio::time::sleep(TICK), if self.ticks => {}
        }
        // The rest of the bunch; a stream that never pauses does not keep us from looking.
        let until = Instant::now() + GATHER;
        while let Ok(event) = tokio::time::timeout_at(until, self.events.next()).await {
            event?;
        }
        let status = self.context.client.status(&self.name).await?;
        self.ticks = ticks(&status);
        Ok(status)
    }
}

fn ticks(status: &StatusView) -> bool {
    status.node_roles.iter().any(|row| row.job.is_some())
        || status.nodes.iter().any(|node| matches!(node.state.as_str(), "creating" | "joining" | "leaving"))
}

/// What was shown so far.
struct View {
    /// A terminal is drawn over; elsewhere only what changed is printed.
    redraw: bool,
    lines: usize,
    shown: BTreeMap<String, String>,
}

impl View {
    fn new(output: Output) -> Self {
        let redraw = output == Output::Table && io::stdout().is_terminal();
        Self { redraw, lines: 0, shown: BTreeMap::new() }
    }

    fn show(&mut self, context: &Context, status: &StatusView) -> Result<(), CliError> {
        let now = OffsetDateTime::now_utc();
        if context.output != Output::Table {
            return context.line(status, || status.deployment.health.as_str().to_owned(), String::new);
        }
        let said = if self.redraw { self.drawn(&text(status, now)) } else { self.changes(status) };
        print(&said)?;
        Ok(io::stdout().flush()?)
    }

    /// Over what was drawn before.
    fn drawn(&mut self, text: &str) -> String {
        let up = if self.lines == 0 { String::new() } else { format!("\x1b[{}A", self.lines) };
        self.lines = text.lines().count();
        let mut drawn = format!("{up}\r");
        for line in text.lines() {
            let _ = writeln!(drawn, "{line}\x1b[K");
        }
        drawn + "\x1b[J"
    }

    /// A line for each node role, node and deployment that is not as it was.
    fn changes(&mut self, status: &StatusView) -> String {
        let mut now = BTreeMap::new();
        let mut order = Vec::new();
        let mut add = |key: String, line: String| {
            order.push(key.clone());
            now.insert(key, line);
        };
        for row in &status.rotations {
            let held = if row.paused { ", held up" } else { "" };
            let line = format!("{} from key {} to {}: {}{held}", row.authority, row.from, row.to, row.stage.as_str());
            add(format!("rotation {}", row.authority), line);
        }
        for node in &status.nodes {
            let code = node.code.as_ref().map(|code| format!(": {code}")).unwrap_or_default();
            add(format!("node {}", node.name), format!("node {} {}{code}", node.name, node.state));
        }
        for row in &status.node_roles {
            let leaving = if row.goal == Goal::Absent { ", leaving" } else { "" };
            // What it waits for changes all the time; what holds it up for good is worth a line.
            let waits = row.cause.as_ref().is_some_and(|cause| cause.says.starts_with("waits for"));
            let says = if waits { String::new() } else { says(row) };
            let says = if says.is_empty() { says } else { format!(": {says}") };
            add(address(row), format!("{} {}{leaving}{says}", address(row), row.state));
        }
        let deployment = &status.deployment;
        add(String::new(), format!("{} {}", deployment.name, deployment.health.as_str()));
        let mut text = String::new();
        for key in order.iter().filter(|key| self.shown.get(*key) != now.get(*key)) {
            let _ = writeln!(text, "{}", now[key]);
        }
        for key in self.shown.keys().filter(|key| !now.contains_key(*key)) {
            let _ = writeln!(text, "{key} gone");
        }
        self.shown = now;
        text
    }
}

/// What there is to say of a node role beyond its state.
fn says(row: &NodeRoleView) -> String {
    if let Some(cause) = &row.cause {
        return cause.says.clone();
    }
    if let Some(code) = &row.code {
        let message = row.message.as_deref().map(|message| format!(": {message}")).unwrap_or_default();
        let again = row.retry_at.map(|at| format!(", tries again at {}", table::clock(at))).unwrap_or_default();
        return format!("{code}{again}{message}");
    }
    if let Some(saw) = &row.saw {
        return format!("waits, sees that {saw}");
    }
    match &row.progress {
        Some(progress) => format!("step {} of {}: {}", progress.step, progress.of, progress.title),
        None if row.paused => "paused".to_owned(),
        None => String::new(),
    }
}

/// Node roles as a table.
pub(crate) fn node_roles_table(rows: &[NodeRoleView], now: OffsetDateTime) -> String {
    let row = |row: &NodeRoleView| -> Vec<Shown> {
        let state = table::state(row.state, row.goal == Goal::Absent);
        vec![address(row).into(), state, table::age(row.changed_at, now).into(), says(row).into()]
    };
    table::table(&["NODE ROLE", "STATE", "SINCE", "SAYS"], rows.iter().map(row).collect())
}

/// When they end, in a line; more only if somebody should look.
fn certificates(held: &CertificatesView, now: OffsetDateTime) -> String {
    let mut text = format!("{} certificates in force", held.in_force);
    if let Some(end) = held.next_end {
        let hours = (end - now).whole_hours();
        let span = if hours >= 48 { format!("{} days", hours / 24) } else { format!("{hours} h") };
        let _ = write!(text, ", the next one ends in {span}");
    }
    if held.overdue > 0 {
        let _ = write!(text, "; {} not renewed although it was time", held.overdue);
    }
    if held.ended > 0 {
        let _ = write!(text, "; {} ended or revoked, with no other one in its place", held.ended);
    }
    text + ".\n"
}

/// Authorities that go over to another key.
fn rotations_table(rows: &[RotationView]) -> String {
    let row = |row: &RotationView| {
        let keys = format!("{} to {}", row.from, row.to);
        vec![row.authority.as_str().into(), keys.into(), row.stage.as_str().into(), waits(row).into()]
    };
    table::table(&["AUTHORITY", "KEY", "STAGE", "WAITS FOR"], rows.iter().map(row).collect())
}

/// What its next stage waits for.
fn waits(row: &RotationView) -> String {
    let checks = if row.absorbed { "checks of " } else { "" };
    match (row.paused, row.waits_for.as_slice()) {
        (true, _) => "`plinth ca rotate --resume`".to_owned(),
        (false, []) => String::new(),
        (false, named) => format!("{checks}{}", named.join(", ")),
    }
}

fn text(status: &StatusView, now: OffsetDateTime) -> String {
    let one = &status.deployment;
    let counts = one.counts;
    let mut parts: Vec<String> = Vec::new();
    for (count, word) in [
        (counts.active, "active"),
        (counts.running, "running"),
        (counts.ready, "ready"),
        (counts.blocked, "blocked"),
        (counts.failed, "failed"),
        (counts.leaving, "leaving"),
    ] {
        if count > 0 {
            parts.push(format!("{count} {word}"));
        }
    }
    let parts = if parts.is_empty() { "no node roles".to_owned() } else { parts.join(", ") };
    let (name, workload, health, revision) = (&one.name, &one.workload, one.health.as_str(), one.revision);
    let mut text = format!("{name} ({workload}) is {health}: {parts}; revision {revision}.\n");
    if let Some(held) = &status.certificates {
        text += &certificates(held, now);
    }
    if !status.rotations.is_empty() {
        text += "\n";
        text += &rotations_table(&status.rotations);
    }
    let is_out = |node: &&NodeView| node.state != "up" || node.standing != Standing::In;
    let troubled: Vec<NodeView> = status.nodes.iter().filter(is_out).cloned().collect();
    if !troubled.is_empty() {
        text += "\n";
        text += &crate::nodes::nodes_table(&troubled, now);
        text += &troubled.iter().map(crate::nodes::silence_text).collect::<String>();
    }
    if !status.node_roles.is_empty() {
        text += "\n";
        text += &node_roles_table(&status.node_roles, now);
    }
    text
}

#[cfg(test)]
mod tests;
