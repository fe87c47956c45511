//! `plinth bundle`.

use std::path::PathBuf;
use std::process::ExitCode;

use engine_catalog::Folder;
use engine_core::catalog::diff::{CatalogChange, CatalogKind, Difference};
use engine_core::plan::render;
use engine_core::view::{BundleDiff, BundleFiles, BundleView, Pushed};
use time::OffsetDateTime;

use crate::args::BundleCommand;
use crate::output::{CliError, Context};
use crate::table::{self, Shown};

/// `plinth bundle`.
pub(crate) async fn bundle(context: &Context, command: BundleCommand) -> Result<ExitCode, CliError> {
    match command {
        BundleCommand::List => {
            let all = context.client.bundles().await?;
            let now = OffsetDateTime::now_utc();
            context.print(&all, || all.iter().map(|one| one.name.clone()).collect(), || list(&all, now))?;
        }
        BundleCommand::Push { paths } => {
            let pushed = context.client.push_bundles(read(&paths)?).await?;
            told(context, &pushed, "pushed")?;
        }
        BundleCommand::Remove { name } => {
            let pushed = context.client.remove_bundle(&name).await?;
            told(context, &pushed, "removed")?;
        }
        BundleCommand::Diff { paths } => {
            let diff = context.client.diff_bundles(read(&paths)?).await?;
            let names = || diff.changes.iter().map(|change| change.name.clone()).collect();
            context.print(&diff, names, || difference(&diff, !paths.is_empty()))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn read(paths: &[PathBuf]) -> Result<Vec<BundleFiles>, CliError> {
    let read = |path: &PathBuf| {
        if !path.exists() {
            return Err(CliError::NoSuchPath { path: path.clone() });
        }
        let folder = Folder::read(path).map_err(|one| CliError::Documents { file: path.clone(), found: vec![*one] })?;
        Ok(BundleFiles { path: path.display().to_string(), files: folder.packed() })
    };
    paths.iter().map(read).collect()
}

fn list(all: &[BundleView], now: OffsetDateTime) -> String {
    let row = |one: &BundleView| -> Vec<Shown> {
        let hash: String = one.hash.chars().take(12).collect();
        let by = one.pushed_by.clone().unwrap_or_else(|| "built in".to_owned());
        let age = one.pushed_at.map(|at| table::age(at, now)).unwrap_or_default();
        let numbers = [one.roles.to_string(), one.workloads.to_string()];
        [one.name.clone(), one.version.clone(), hash]
            .into_iter()
            .chain(numbers)
            .chain([by, age])
            .map(Into::into)
            .collect()
    };
    table::table(
        &["BUNDLE", "VERSION", "CONTENT", "ROLES", "WORKLOADS", "PUSHED BY", "AGE"],
        all.iter().map(row).collect(),
    )
}

fn told(context: &Context, pushed: &Pushed, done: &str) -> Result<(), CliError> {
    for warning in &pushed.warnings {
        eprintln!("{warning}");
    }
    let text = || match pushed.bundles.as_slice() {
        [] => "nothing to do: the catalog has them as they are\n".to_owned(),
        names => names.iter().map(|name| format!("{name} {done}\n")).collect::<String>() + &changes(&pushed.changes),
    };
    context.print(pushed, || pushed.bundles.clone(), text)
}

fn changes(all: &[CatalogChange]) -> String {
    if all.is_empty() {
        return String::new();
    }
    let row = |one: &CatalogChange| -> Vec<Shown> {
        let kind = match one.kind {
            CatalogKind::Role => "role",
            CatalogKind::Workload => "workload",
        };
        let change = match one.change {
            Difference::Added => "added",
            Difference::Changed => "changed",
            Difference::Removed => "removed",
        };
        let versions = match (&one.from, &one.to) {
            (Some(from), Some(to)) if from != to => format!("{from} -> {to}"),
            (from, to) => to.clone().or_else(|| from.clone()).unwrap_or_default(),
        };
        let runs = if one.runs_again { "runs again" } else { "" };
        [change, kind, &one.name, &versions, &one.parts.join(", "), runs].map(Into::into).into()
    };
    let rows = all.iter().map(row).collect();
    format!("\n{}", table::table(&["CHANGE", "KIND", "NAME", "VERSION", "DIFFERS IN", "WHEN APPLIED"], rows))
}

fn difference(diff: &BundleDiff, sent: bool) -> String {
    let mut text = match diff.changes.as_slice() {
        [] if sent => "the catalog has them as they are\n".to_owned(),
        all => changes(all).trim_start().to_owned(),
    };
    for behind in &diff.behind {
        text += &format!(
            "\ndeployment {} (workload {}) stays with what it was committed with:\n",
            behind.deployment, behind.workload
        );
        for role in &behind.roles {
            text += &format!("  {}\n", render::upgrade(role));
        }
    }
    let one = if diff.up_to_date == 1 { "deployment has" } else { "deployments have" };
    text += &format!("\n{} {one} what the catalog {}.\n", diff.up_to_date, if sent { "would have" } else { "has" });
    text.trim_start().to_owned()
}
