//! `plinth simulate`: the fleet simulator, in a folder of its own that goes with it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use engine_catalog::Folder;
use engine_core::diagnostic::Diagnostic;
use engine_daemon::simulate::{self, Fleet, Growth, Report, Workload};
use engine_store::connect::{self, Target};
use engine_store::embedded::{Embedded, EmbeddedConfig};
use serde_json::Value;

use crate::args::{Output, Simulate};
use crate::output::{CliError, document, print, structured};
use crate::serve::{ServeError, told_to_stop};

/// Postgres has to come up within this time.
const DATABASE_WITHIN: Duration = Duration::from_mins(1);

pub(crate) fn run(args: &Simulate, output: Output) -> Result<ExitCode, CliError> {
    let fleet = Fleet {
        name: args.name.clone(),
        deployments: args.deployments,
        nodes: args.nodes,
        layers: args.layers,
        seed: args.seed,
        fail: args.fail,
        latency: Duration::from_millis(args.latency),
        jobs: usize::try_from(args.jobs).unwrap_or(usize::MAX),
        grow: args.grow,
        dns: args.dns,
        workload: workload(args)?,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let report = runtime.block_on(async {
        tokio::select! {
            report = simulated(args, &fleet) => report.map(Some),
            () = told_to_stop() => Ok(None),
        }
    })?;
    let Some(report) = report else { return Ok(ExitCode::FAILURE) };
    match output {
        Output::Json | Output::Yaml => structured(&report, output)?,
        _ => print(&text(&report))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The workload that is simulated, if one is.
fn workload(args: &Simulate) -> Result<Option<Workload>, CliError> {
    let Some(name) = &args.workload else { return Ok(None) };
    let mut found = Workload { name: name.clone(), group: args.group.clone(), ..Workload::default() };
    for path in &args.bundle {
        let read = Folder::read(path);
        found.bundles.push(read.map_err(|one| CliError::Documents { file: path.clone(), found: vec![*one] })?);
    }
    let yaml = |text: &str, file: &Path| -> Result<Value, CliError> {
        let wrong = |error: serde_saphyr::Error| {
            let one = Diagnostic::error("invalid-yaml", "", error.to_string()).in_file(file.display().to_string());
            CliError::Documents { file: file.to_owned(), found: vec![one] }
        };
        serde_saphyr::from_str(text).map_err(wrong)
    };
    for one in &args.parameters {
        let (name, value) = one.split_once('=').unwrap_or((one, "true"));
        found.parameters.insert(name.to_owned(), yaml(value, Path::new("--parameter"))?);
    }
    if let Some(file) = &args.outputs {
        for (role, outputs) in yaml(&document(file)?.text, file)?.as_object().into_iter().flatten() {
            found.outputs.insert(role.clone(), outputs.as_object().cloned().unwrap_or_default());
        }
    }
    Ok(Some(found))
}

async fn simulated(args: &Simulate, fleet: &Fleet) -> Result<Report, ServeError> {
    let data = |source| ServeError::Data { path: args.below.clone(), source };
    let folder = tempfile::Builder::new().prefix("plinth-simulate-").tempdir_in(&args.below).map_err(data)?;
    // Postgres runs as somebody else when we are root.
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).map_err(data)?;
    // Ended with this value, also when we are interrupted.
    let postgres = match &args.database {
        Some(_) => None,
        None => Some(Embedded::start(EmbeddedConfig::new(folder.path().join("postgres"))).await?),
    };
    let target = match (&postgres, &args.database) {
        (Some(postgres), _) => postgres.target(),
        (None, url) => Target::url(url.as_deref().unwrap_or_default())?,
    };
    connect::wait_until_up(&target, DATABASE_WITHIN).await?;
    let report = simulate::run(&target, folder.path(), fleet, |line| eprintln!("{line}")).await;
    if let Some(postgres) = postgres {
        postgres.stop().await?;
    }
    Ok(report?)
}

fn text(report: &Report) -> String {
    let Report { deployments, nodes, node_roles, commit, nodes_up, converge, transitions, failed, again, .. } = report;
    let [median, most, nearly_all] = report.claimed_after;
    let how = match &report.commit_to_active {
        Some([fewest, median, nearly, most]) => format!(
            "\x20 {converge:9.2} s   from the first commit to the last one active\n\
             \x20 {median:9.2} s   from commit to active, median; fewest {fewest:.2}, 99 % {nearly:.2}, most {most:.2}\n"
        ),
        None => format!(
            "\x20 {nodes_up:9.2} s   nodes up\n\
             \x20 {converge:9.2} s   from letting go to active\n"
        ),
    };
    let grown = report.growth.as_ref().map_or_else(String::new, |grown| {
        let Growth { nodes, created, plan, commit, converge, rows_read, rows_written, .. } = grown;
        format!(
            "{nodes} nodes more, {created} node roles\n\
             \x20 {plan:9.2} s   plan; with its commit {commit:.2} s\n\
             \x20 {converge:9.2} s   from the commit to active\n\
             \x20 {rows_read:9}     rows read from the commit on, {rows_written} written\n"
        )
    });
    format!(
        "{deployments} deployments of {nodes} nodes, {node_roles} node roles\n\
         \x20 {commit:9.2} s   plan and commit; again, nothing to do: {again:.2} s\n\
         {how}\
         \x20 {transitions:9}     transitions, {:.0} in a second; {:.0} node roles in a second\n\
         \x20 {:9.4}     flushes for each transition, {:.0} bytes of write-ahead log, {:.0} pages looked at\n\
         \x20 {median:9.1} ms  from ready to claimed, median; 95 %: {most:.1}, 99 %: {nearly_all:.1}\n\
         \x20 {failed:9}     attempts failed and were asked for again\n\
         \x20 {:9}     MB of memory at most, without Postgres\n\
         {grown}",
        report.transitions_per_second,
        report.node_roles_per_second,
        report.flushes_per_transition,
        report.bytes_per_transition,
        report.pages_per_transition,
        memory() / 1_000_000,
    )
}

/// The most memory that this process ever had, in bytes.
fn memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) * 1024
}
