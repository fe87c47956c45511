//! `plinth plan`, `apply` and `destroy`.

use std::path::Path;
use std::process::ExitCode;

use engine_core::plan::{Plan, render};
use engine_core::request::Seen;
use engine_core::view::Applied;

use crate::args::{Output, Until};
use crate::output::{CliError, Context, confirm, document, print};
use crate::status;

/// `plinth plan`.
pub(crate) async fn plan(context: &Context, file: &Path, detailed: bool) -> Result<ExitCode, CliError> {
    let plans = context.client.plan(&document(file)?).await?;
    warn(&plans);
    context.print(&plans, || names(&plans), || text(&plans))?;
    let (allowed, empty) = (plans.iter().all(|one| one.plan.is_allowed()), plans.iter().all(|one| one.plan.is_empty()));
    Ok(match (allowed, empty) {
        (false, _) => ExitCode::FAILURE,
        (true, false) if detailed => ExitCode::from(2),
        _ => ExitCode::SUCCESS,
    })
}

/// `plinth apply`: what is committed is what was shown, or nothing.
pub(crate) async fn apply(context: &Context, file: &Path, yes: bool, wait: bool) -> Result<ExitCode, CliError> {
    let document = document(file)?;
    let plans = context.client.plan(&document).await?;
    show(context, &plans)?;
    if plans.iter().any(|one| !one.plan.is_allowed()) {
        return Err(CliError::Refused);
    }
    if !yes && plans.iter().any(|one| !one.plan.is_empty()) {
        confirm("Apply this?")?;
    }
    let seen = plans.iter().map(|one| Seen { deployment: one.deployment.clone(), revision: one.revision }).collect();
    // Where nothing would be committed, the engine need not work it out once more.
    let changes = plans.iter().any(|one| one.changed);
    let applied = if changes { context.client.apply(document, seen).await? } else { plans };
    told(context, &applied)?;
    if wait {
        for one in &applied {
            status::follow(context, &one.deployment, Until::Active, None).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// `plinth destroy`.
pub(crate) async fn destroy(context: &Context, name: &str, yes: bool, wait: bool) -> Result<ExitCode, CliError> {
    let plan = context.client.plan_destroy(name).await?;
    show(context, std::slice::from_ref(&plan))?;
    if !plan.plan.is_allowed() {
        return Err(CliError::Refused);
    }
    if !yes {
        confirm(&format!("Destroy {name}?"))?;
    }
    let applied = context.client.destroy(name).await?;
    told(context, &[applied])?;
    if wait {
        status::follow(context, name, Until::Gone, None).await?;
    }
    Ok(ExitCode::SUCCESS)
}

fn names(plans: &[Applied]) -> Vec<String> {
    plans.iter().map(|one| one.deployment.clone()).collect()
}

fn text(plans: &[Applied]) -> String {
    plans.iter().map(|one| one_text(&one.plan)).collect::<Vec<_>>().join("\n")
}

fn one_text(plan: &Plan) -> String {
    if plan.is_empty() && plan.problems.is_empty() {
        return format!("Plan for {}: nothing to do, {} untouched.\n", plan.deployment, plan.totals.untouched);
    }
    render::text(plan)
}

fn warn(plans: &[Applied]) {
    for finding in plans.iter().flat_map(|one| &one.warnings) {
        eprintln!("{finding}");
    }
}

/// For people the plan comes before the question; for programs the answer is what was done.
fn show(context: &Context, plans: &[Applied]) -> Result<(), CliError> {
    warn(plans);
    match context.output {
        Output::Table => print(&text(plans)),
        _ => Ok(()),
    }
}

fn told(context: &Context, applied: &[Applied]) -> Result<(), CliError> {
    let say = |one: &Applied| {
        let what = if one.changed { "committed as" } else { "unchanged," };
        format!("{}: {what} revision {}\n", one.deployment, one.revision)
    };
    context.print(&applied, || names(applied), || applied.iter().map(say).collect())
}
