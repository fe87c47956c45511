//! `plinth events` and `plinth logs`: what was, and then what comes, until Ctrl-C.

use std::process::ExitCode;

use api_client::LogEvent;
use engine_core::view::{EventView, JobView, LogLine};
use serde_json::Value;

use crate::args::{Output, Place};
use crate::output::{CliError, Context};
use crate::table;

/// `plinth events`.
pub(crate) async fn events(
    context: &Context,
    follow: bool,
    deployment: Option<&str>,
    limit: u32,
) -> Result<ExitCode, CliError> {
    let past = context.client.events(deployment, limit).await?;
    if !follow && matches!(context.output, Output::Json | Output::Yaml) {
        crate::output::structured(&past, context.output)?;
        return Ok(ExitCode::SUCCESS);
    }
    let tell = |event: &EventView| context.line(event, || event.seq.to_string(), || event_text(event));
    for event in &past {
        tell(event)?;
    }
    if follow {
        let mut events = context.client.follow_events(deployment, past.last().map_or(0, |event| event.seq));
        loop {
            tell(&events.next().await?)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// An event as people read it.
fn event_text(event: &EventView) -> String {
    let place: Vec<&str> =
        [&event.deployment, &event.node, &event.role].into_iter().flatten().map(String::as_str).collect();
    let mut text = format!("{}  {:<22} {}", table::clock(event.at), event.kind, place.join(" "));
    for key in ["code", "message", "revision", "reason"] {
        match event.detail.get(key) {
            None | Some(Value::Null) => {}
            Some(Value::String(value)) => text += &format!("  {value}"),
            Some(value) => text += &format!("  {key} {value}"),
        }
    }
    if event.principal != "engine" {
        text += &format!("  by {}", event.principal);
    }
    text
}

/// `plinth logs`.
pub(crate) async fn logs(context: &Context, name: &str, place: &Place, follow: bool) -> Result<ExitCode, CliError> {
    let tell = |line: &LogLine| context.line(line, || line.line.clone(), || line.line.clone());
    if !follow {
        for line in &context.client.log(name, &place.node, &place.role, None).await? {
            tell(line)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut log = context.client.follow_log(name, &place.node, &place.role);
    loop {
        match log.next().await? {
            LogEvent::Line(line) => tell(&line)?,
            LogEvent::End(job) => eprintln!("{}", end_text(&job)),
        }
    }
}

fn end_text(job: &JobView) -> String {
    let outcome = job.outcome.as_deref().unwrap_or("ended");
    let code = job.code.as_ref().map(|code| format!(": {code}")).unwrap_or_default();
    format!("{}/{}: attempt {} {outcome}{code}", job.node, job.role, job.attempt)
}
