//! `plinth node` and `plinth exec`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use engine_core::request::{Document, ExecRequest, NodeKey};
use engine_core::settle::hood::Standing;
use engine_core::silence;
use engine_core::view::{ExecEvent, LabelRequest, NodeRoleView, NodeView};
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::args::{Label, Output};
use crate::output::{CliError, Context, confirm, document};
use crate::settings;
use crate::status;
use crate::table::{self, Shown};

/// `plinth node list`.
pub(crate) async fn list(context: &Context) -> Result<ExitCode, CliError> {
    let nodes = context.client.nodes().await?;
    let now = OffsetDateTime::now_utc();
    let names = || nodes.iter().map(|node| node.name.clone()).collect();
    context.print(&nodes, names, || nodes_table(&nodes, now))?;
    Ok(ExitCode::SUCCESS)
}

/// Nodes as a table.
pub(crate) fn nodes_table(nodes: &[NodeView], now: OffsetDateTime) -> String {
    let row = |node: &NodeView| -> Vec<Shown> {
        let aside = if node.standing == Standing::Aside { ", aside" } else { "" };
        let code = node.code.as_ref().map(|code| format!(": {code}")).unwrap_or_default();
        let state = format!("{}{aside}{code}", node.state);
        let place = [&node.deployment, &node.group].into_iter().flatten().cloned().collect::<Vec<_>>().join("/");
        vec![
            node.name.clone().into(),
            state.into(),
            node.provider.clone().into(),
            node.address.clone().unwrap_or_default().into(),
            place.into(),
            table::age(node.changed_at, now).into(),
        ]
    };
    table::table(&["NODE", "STATE", "PROVIDER", "ADDRESS", "USED BY", "AGE"], nodes.iter().map(row).collect())
}

/// `plinth node show`.
pub(crate) async fn show(context: &Context, name: &str) -> Result<ExitCode, CliError> {
    let node = context.client.node(name).await?;
    let node_roles = context.client.node_roles(name).await?;
    let now = OffsetDateTime::now_utc();
    let places = || node_roles.iter().map(status::address).collect();
    let all = json!({"node": node, "node_roles": node_roles});
    context.print(&all, places, || node_text(&node, &node_roles, now))?;
    Ok(ExitCode::SUCCESS)
}

fn node_text(node: &NodeView, node_roles: &[NodeRoleView], now: OffsetDateTime) -> String {
    let mut text = nodes_table(std::slice::from_ref(node), now);
    if let Some(reason) = &node.reason {
        text += &format!("{reason}\n");
    }
    text += &silence_text(node);
    if !node.labels.is_empty() {
        let labels: Vec<String> = node.labels.iter().map(settings::label).collect();
        text += &format!("\nLabels: {}\n", labels.join(", "));
    }
    if let Value::Object(facts) = &node.facts {
        let row = |(name, value): (&String, &Value)| -> Vec<Shown> {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            vec![name.clone().into(), value.into()]
        };
        text += "\n";
        text += &table::table(&["FACT", "VALUE"], facts.iter().map(row).collect());
    }
    text += "\n";
    text + &status::node_roles_table(node_roles, now)
}

/// A line for one of which a policy makes something.
pub(crate) fn silence_text(node: &NodeView) -> String {
    let Some(silence) = &node.silence else { return String::new() };
    let stands = if node.standing == Standing::Aside { " stands aside" } else { "" };
    format!("{}{stands} {}\n", node.name, silence::says(silence).trim_start_matches([',', ' ']))
}

/// `plinth node add`: the first keys are read here, for they are files of this machine.
pub(crate) async fn add(context: &Context, file: &Path) -> Result<ExitCode, CliError> {
    let document = document(file)?;
    let keys = keys(&document, file)?;
    let names = context.client.add_nodes(document, keys).await?;
    let text = || names.iter().map(|name| format!("{name} added\n")).collect();
    context.print(&names, || names.clone(), text)?;
    Ok(ExitCode::SUCCESS)
}

fn keys(document: &Document, file: &Path) -> Result<Vec<NodeKey>, CliError> {
    let nodes = engine_catalog::read_nodes(&document.text, &document.file)
        .map_err(|found| CliError::Documents { file: file.to_owned(), found })?;
    let mut keys = Vec::new();
    for node in nodes {
        let text = |key: &str| node.get(key).and_then(Value::as_str);
        let (Some(name), Some(path)) = (text("node"), text("key")) else { continue };
        let path = home(path);
        let key = fs::read_to_string(&path).map_err(|source| CliError::Read { path, source })?;
        keys.push(NodeKey { node: name.to_owned(), key });
    }
    Ok(keys)
}

/// `~/` is the home of whoever gives the command.
fn home(path: &str) -> PathBuf {
    match (path.strip_prefix("~/"), std::env::var_os("HOME")) {
        (Some(rest), Some(home)) => PathBuf::from(home).join(rest),
        _ => PathBuf::from(path),
    }
}

/// `plinth node remove`.
pub(crate) async fn remove(context: &Context, name: &str, force: bool) -> Result<ExitCode, CliError> {
    context.client.remove_node(name, force).await?;
    context.print(
        &json!({"removed": name}),
        || vec![name.to_owned()],
        || format!("{name} {}\n", if force { "forgotten" } else { "leaves" }),
    )?;
    Ok(ExitCode::SUCCESS)
}

/// `plinth node aside` and `plinth node in`.
pub(crate) async fn stand(context: &Context, name: &str, aside: bool) -> Result<ExitCode, CliError> {
    let stood = context.client.stand_node(name, aside).await?;
    let text = || {
        let mut text = format!("{name} {}\n", if aside { "stands aside" } else { "is in" });
        for budget in &stood.beyond {
            text += &format!("budget {budget} had no room for it: more nodes are out of service now than it allows\n");
        }
        text
    };
    let standing = if aside { "aside" } else { "in" };
    let said = json!({"node": name, "standing": standing, "beyond": stood.beyond});
    context.print(&said, || vec![name.to_owned()], text)?;
    Ok(ExitCode::SUCCESS)
}

/// `plinth node label`.
pub(crate) async fn label(context: &Context, name: &str, labels: Vec<Label>) -> Result<ExitCode, CliError> {
    let mut request = LabelRequest::default();
    for label in labels {
        match label {
            Label::Set(label, value) => {
                request.set.insert(label, value);
            }
            Label::Remove(label) => request.remove.push(label),
        }
    }
    context.client.label_node(name, &request).await?;
    let node = context.client.node(name).await?;
    let said = || node.labels.iter().map(settings::label).collect::<Vec<_>>().join(", ");
    context.print(&node.labels, || vec![name.to_owned()], || format!("{name}: {}\n", said()))?;
    Ok(ExitCode::SUCCESS)
}

/// `plinth node lost`.
pub(crate) async fn lost(context: &Context, name: &str, yes: bool) -> Result<ExitCode, CliError> {
    if !yes {
        confirm(&format!("Give up {name} for good?"))?;
    }
    context.client.lose_node(name).await?;
    context.print(&json!({"lost": name}), || vec![name.to_owned()], || format!("{name} is lost\n"))?;
    Ok(ExitCode::SUCCESS)
}

/// `plinth exec`: what the nodes say, each line with its node; fails if the command fails anywhere.
pub(crate) async fn exec(
    context: &Context,
    nodes: Vec<String>,
    command: Vec<String>,
    timeout: Duration,
) -> Result<ExitCode, CliError> {
    let mut left: Vec<String> = nodes.clone();
    let mut running = context.client.exec(&ExecRequest { nodes, command, seconds: timeout.as_secs() }).await?;
    let mut good = true;
    while let Some(event) = running.next().await? {
        match &event {
            ExecEvent::Line { node, stream, line } => {
                if context.output == Output::Table && stream == "stderr" {
                    eprintln!("{node}: {line}");
                } else {
                    context.line(&event, || node.clone(), || format!("{node}: {line}"))?;
                }
            }
            ExecEvent::Ended { node, exit, code, message } => {
                left.retain(|other| other != node);
                good &= *exit == Some(0);
                if context.output != Output::Table {
                    context.line(&event, || node.clone(), String::new)?;
                } else if let Some(exit) = exit.filter(|exit| *exit != 0) {
                    eprintln!("{node}: exit {exit}");
                } else if exit.is_none() {
                    let code = code.as_deref().unwrap_or("unknown");
                    eprintln!("{node}: [{code}] {}", message.as_deref().unwrap_or("it could not be run"));
                }
            }
        }
    }
    for node in &left {
        eprintln!("{node}: how it ended is not known, for the connection to the engine ended first");
    }
    Ok(if good && left.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
