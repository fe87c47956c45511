//! `plinth plan`, `apply`, `scale` and `destroy`.

use std::path::Path;
use std::process::ExitCode;

use engine_core::plan::{Plan, render};
use engine_core::request::{Document, Seen};
use engine_core::view::Applied;
use serde::{Deserialize, Serialize};

use crate::args::{Output, Until, What};
use crate::output::{CliError, Context, confirm, document, print};
use crate::{residue, scale, status};

/// `plinth plan`.
pub(crate) async fn plan(
    context: &Context,
    file: &Path,
    detailed: bool,
    out: Option<&Path>,
) -> Result<ExitCode, CliError> {
    let document = document(file)?;
    let plans = context.client.plan(&document).await?;
    if let Some(path) = out {
        // What is secret in it stands in no file in clear.
        let document = context.client.seal(&document).await?;
        let saved = Saved { plan_file: PLAN_FILE, document, plans: plans.clone() };
        let failed = |source| CliError::Write { path: path.to_owned(), source };
        let text = serde_json::to_string_pretty(&saved).map_err(|error| failed(error.into()))?;
        std::fs::write(path, text + "\n").map_err(failed)?;
    }
    shown(context, &plans, detailed)
}

/// Plans as the answer of a command.
fn shown(context: &Context, plans: &[Applied], detailed: bool) -> Result<ExitCode, CliError> {
    warn(plans);
    if context.output == Output::Markdown {
        print(&plans.iter().map(|one| render::markdown(&one.plan)).collect::<Vec<_>>().join("\n"))?;
    } else {
        context.print(&plans, || names(plans), || text(plans))?;
    }
    let (allowed, empty) = (plans.iter().all(|one| one.plan.is_allowed()), plans.iter().all(|one| one.plan.is_empty()));
    Ok(match (allowed, empty) {
        (false, _) => ExitCode::FAILURE,
        (true, false) if detailed => ExitCode::from(2),
        _ => ExitCode::SUCCESS,
    })
}

/// A plan that was kept, with the documents that it is of.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    /// [`PLAN_FILE`].
    plan_file: u32,
    document: Document,
    plans: Vec<Applied>,
}

/// The form of plan files.
const PLAN_FILE: u32 = 1;

fn saved(path: &Path) -> Result<Saved, CliError> {
    let bad = |what: String| CliError::BadPlanFile { path: path.to_owned(), what };
    let saved: Saved = serde_json::from_str(&document(path)?.text).map_err(|error| bad(error.to_string()))?;
    if saved.plan_file == PLAN_FILE { Ok(saved) } else { Err(bad(format!("its form is {}", saved.plan_file))) }
}

/// `plinth apply`: what is committed is what was shown, or nothing.
pub(crate) async fn apply(context: &Context, what: &What, yes: bool, wait: bool) -> Result<ExitCode, CliError> {
    let (document, plans) = match what {
        What::File(file) => {
            let document = document(file)?;
            let plans = context.client.plan(&document).await?;
            (document, plans)
        }
        What::Plan(path) => {
            let saved = saved(path)?;
            (saved.document, saved.plans)
        }
    };
    let exactly = matches!(what, What::Plan(_));
    commit(context, document, plans, exactly, How { plan_only: false, yes, wait }).await
}

/// How a change is carried out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct How {
    /// Show the plan, and no more.
    pub(crate) plan_only: bool,
    /// Do not ask.
    pub(crate) yes: bool,
    /// Follow to the end.
    pub(crate) wait: bool,
}

/// `plinth scale`.
pub(crate) async fn scale(
    context: &Context,
    name: &str,
    group: &str,
    count: u32,
    how: How,
) -> Result<ExitCode, CliError> {
    let detail = context.client.deployment(name).await?;
    let revision = detail.deployment.revision;
    let document = scale::scaled(detail, group, count)?;
    let mut plans = context.client.plan(&document).await?;
    if how.plan_only {
        return shown(context, &plans, false);
    }
    // The document is that of this revision: if somebody has committed since, theirs stays.
    for one in &mut plans {
        one.revision = revision;
    }
    commit(context, document, plans, false, how).await
}

async fn commit(
    context: &Context,
    document: Document,
    plans: Vec<Applied>,
    exactly: bool,
    how: How,
) -> Result<ExitCode, CliError> {
    show(context, &plans)?;
    if plans.iter().any(|one| !one.plan.is_allowed()) {
        return Err(CliError::Refused);
    }
    if !how.yes && plans.iter().any(|one| !one.plan.is_empty()) {
        confirm("Apply this?")?;
    }
    let seen = |one: &Applied| Seen {
        deployment: one.deployment.clone(),
        revision: one.revision,
        // What goes on meanwhile changes a plan, and who is asked here sees it; a plan that was kept is done exactly.
        plan: exactly.then(|| one.plan.digest()),
    };
    let seen = plans.iter().map(seen).collect();
    // Where nothing would be committed, the engine need not work it out once more.
    let changes = exactly || plans.iter().any(|one| one.changed);
    let applied = if changes { context.client.apply(document, seen).await? } else { plans };
    told(context, &applied)?;
    if how.wait {
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
        residue::tell(context, name).await?;
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
pub(crate) fn show(context: &Context, plans: &[Applied]) -> Result<(), CliError> {
    warn(plans);
    match context.output {
        Output::Table => print(&text(plans)),
        _ => Ok(()),
    }
}

pub(crate) fn told(context: &Context, applied: &[Applied]) -> Result<(), CliError> {
    let say = |one: &Applied| {
        let what = if one.changed { "committed as" } else { "unchanged," };
        format!("{}: {what} revision {}\n", one.deployment, one.revision)
    };
    context.print(&applied, || names(applied), || applied.iter().map(say).collect())
}
