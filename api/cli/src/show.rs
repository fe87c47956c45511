//! Lists and single things: deployments, roles, workloads, graphs.

use std::collections::BTreeMap;
use std::io;
use std::process::ExitCode;

use engine_catalog::written;
use engine_core::view::DeploymentView;
use serde_json::Value;
use time::OffsetDateTime;

use crate::args::{Look, Output};
use crate::output::{CliError, Context, print, structured};
use crate::table::{self, Shown};

/// `plinth deployment`.
pub(crate) async fn deployments(context: &Context, command: Look) -> Result<ExitCode, CliError> {
    let now = OffsetDateTime::now_utc();
    match command {
        Look::List => {
            let all = context.client.deployments().await?;
            context.print(
                &all,
                || all.iter().map(|one| one.name.clone()).collect(),
                || table::table(&DEPLOYMENTS, all.iter().map(|one| deployment_row(one, now)).collect()),
            )?;
        }
        Look::Show { name } => {
            let one = context.client.deployment(&name).await?;
            let text = || {
                let rows = vec![deployment_row(&one.deployment, now)];
                let by = format!("Committed by {} {} ago.\n", one.committed_by, table::age(one.committed_at, now));
                table::table(&DEPLOYMENTS, rows) + "\n" + &by + "\n" + &written(&one.document)
            };
            context.print(&one, || vec![name.clone()], text)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

const DEPLOYMENTS: [&str; 7] = ["DEPLOYMENT", "WORKLOAD", "HEALTH", "NODES", "ACTIVE", "REVISION", "AGE"];

fn deployment_row(one: &DeploymentView, now: OffsetDateTime) -> Vec<Shown> {
    let counts = one.counts;
    let all = counts.blocked + counts.ready + counts.running + counts.active + counts.failed + counts.leaving;
    vec![
        one.name.clone().into(),
        one.workload.clone().into(),
        table::health(one.health),
        one.nodes.to_string().into(),
        format!("{}/{all}", counts.active).into(),
        one.revision.to_string().into(),
        table::age(one.created_at, now).into(),
    ]
}

/// `plinth role`.
pub(crate) async fn roles(context: &Context, command: Look) -> Result<ExitCode, CliError> {
    match command {
        Look::List => {
            let all = context.client.roles().await?;
            let row = |role: &engine_core::request::RoleView| -> Vec<Shown> {
                let milestone = if role.milestone { "milestone" } else { "" };
                vec![
                    role.name.clone().into(),
                    role.version.clone().into(),
                    role.bundle.clone().into(),
                    milestone.into(),
                    role.about.clone().into(),
                ]
            };
            let text = || table::table(&["ROLE", "VERSION", "BUNDLE", "BIND", "ABOUT"], all.iter().map(row).collect());
            context.print(&all, || all.iter().map(|role| role.name.clone()).collect(), text)?;
        }
        Look::Show { name } => {
            let role = context.client.role(&name).await?;
            context.print(
                &role,
                || vec![name.clone()],
                || format!("# {}\n{}", role.source, written(&role.document)),
            )?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// `plinth workload`.
pub(crate) async fn workloads(context: &Context, command: Look) -> Result<ExitCode, CliError> {
    match command {
        Look::List => {
            let all = context.client.workloads().await?;
            let row = |one: &engine_core::request::WorkloadView| -> Vec<Shown> {
                let groups = one.groups.join(", ");
                vec![one.name.clone().into(), one.version.clone().into(), groups.into(), one.about.clone().into()]
            };
            let text = || table::table(&["WORKLOAD", "VERSION", "GROUPS", "ABOUT"], all.iter().map(row).collect());
            context.print(&all, || all.iter().map(|one| one.name.clone()).collect(), text)?;
        }
        Look::Show { name } => {
            let one = context.client.workload(&name).await?;
            context.print(&one, || vec![name.clone()], || written(&one.document))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// `plinth graph`.
pub(crate) async fn graph(context: &Context, name: &str) -> Result<ExitCode, CliError> {
    let format = match context.output {
        Output::Dot => "dot",
        Output::Mermaid => "mermaid",
        Output::Svg => "svg",
        Output::Table | Output::Json | Output::Yaml | Output::Name | Output::Markdown => "json",
    };
    let text = context.client.graph(name, format).await?;
    if context.output.is_drawing() {
        print(&text)?;
        return Ok(ExitCode::SUCCESS);
    }
    let graph: Value = serde_json::from_str(&text).map_err(io::Error::other)?;
    let roles = graph["roles"].as_array().cloned().unwrap_or_default();
    match context.output {
        Output::Json | Output::Yaml => structured(&graph, context.output)?,
        Output::Name => print(&roles.iter().map(|role| format!("{}\n", text_of(role, "name"))).collect::<String>())?,
        _ => print(&table::table(&["ROLE", "KIND", "STATES", "NEEDS"], roles.iter().map(role_row).collect()))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn text_of<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_default()
}

/// A role with how many of its instances are in which state, and what stands right above it.
fn role_row(role: &Value) -> Vec<Shown> {
    let mut states: BTreeMap<&str, usize> = BTreeMap::new();
    for state in role["vertices"].as_object().into_iter().flatten().filter_map(|(_, state)| state.as_str()) {
        *states.entry(state).or_default() += 1;
    }
    let states: Vec<String> = states.into_iter().map(|(state, count)| format!("{count} {state}")).collect();
    let mut needs: Vec<&str> =
        role["parents"].as_array().into_iter().flatten().map(|edge| text_of(edge, "parent")).collect();
    needs.sort_unstable();
    needs.dedup();
    vec![text_of(role, "name").into(), text_of(role, "kind").into(), states.join(", ").into(), needs.join(", ").into()]
}
