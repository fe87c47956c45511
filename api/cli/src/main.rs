//! The `plinth` command.
//!
//! What needs no engine is done here: checking documents, schemas, a new role, completions. The rest asks the engine
//! through its API. Data goes to standard output, everything else to standard error. Exit codes: 0 ok, 1 failed,
//! 2 wrong usage, 3 not found, 4 conflict, 5 timed out waiting, 6 not let in.

mod args;
mod bundles;
mod certificates;
mod deploy;
mod dns;
mod doctor;
mod documents;
mod drift;
mod dry_run;
mod explain;
mod follow;
mod history;
mod hooks;
mod local;
mod moves;
mod nodes;
mod output;
mod redeploy;
mod residue;
mod scale;
mod secrets;
mod serve;
mod settings;
mod show;
mod simulate;
mod status;
mod table;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser};

use args::{Args, Command, NewKind, NodeCommand};
use engine_core::document::setting::SettingKind;
use engine_core::request::Ask;
use output::{CliError, Context};

/// Turns make and drop many small values on several threads, which the allocator of glibc spends a third of an engine's time on.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    reset_sigpipe();
    let args = Args::parse();
    if !args.output.fits(&args.command) {
        let said = "dot, mermaid and svg are forms of `plinth graph`, markdown of `plinth plan`; expected table, json, yaml or name\n";
        Args::command().error(clap::error::ErrorKind::InvalidValue, said).exit()
    }
    match run(args) {
        Ok(code) => code,
        Err(error) => {
            error.tell();
            error.exit()
        }
    }
}

fn run(args: Args) -> Result<ExitCode, CliError> {
    let output = args.output;
    match args.command {
        Command::Check { paths } => documents::check(&paths, output),
        Command::Schema { kind } => documents::schema(kind),
        Command::New { kind: NewKind::Role { name, into } } => documents::new_role(&name, &into, output),
        Command::Version => documents::version(output),
        Command::Completion { shell } => documents::completion(shell),
        Command::Serve(args) => serve::run(args),
        Command::Simulate(args) => simulate::run(&args, output),
        Command::Lab { command } => local::lab(command),
        Command::Database { command } => local::database(command, output),
        command => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(ask(command, &args.engine, output))
        }
    }
}

/// Commands that ask the engine.
async fn ask(command: Command, engine: &args::Engine, output: args::Output) -> Result<ExitCode, CliError> {
    if let Command::Doctor = command {
        return doctor::doctor(engine, output).await;
    }
    let context = Context::new(engine, output)?;
    let context = &context;
    match command {
        Command::Plan { file, dry_run: true, .. } => dry_run::dry_run(context, &file).await,
        Command::Plan { file, detailed_exitcode, out, dry_run: false } => {
            deploy::plan(context, &file, detailed_exitcode, out.as_deref()).await
        }
        Command::Apply { file, plan, yes, wait } => {
            deploy::apply(context, &args::What::of(file, plan), yes, wait).await
        }
        Command::Scale { name, group, count, plan_only, yes, wait } => {
            let how = deploy::How { plan_only, yes, wait };
            deploy::scale(context, &name, &group, count, how).await
        }
        Command::Destroy { name, yes, wait } => deploy::destroy(context, &name, yes, wait).await,
        Command::Redeploy(what) => redeploy::redeploy(context, &what).await,
        Command::Drift(what) => drift::drift(context, &what).await,
        Command::Residue { name } => residue::residue(context, &name).await,
        Command::Ca { command } => certificates::ca(context, command).await,
        Command::Cert { command } => certificates::cert(context, command).await,
        Command::Secret { command } => secrets::secret(context, command).await,
        Command::History(what) => history::history(context, &what).await,
        Command::Status { name, watch } => status::status(context, &name, watch).await,
        Command::Graph { name } => show::graph(context, &name).await,
        Command::Why { name, node_role: Some(place), revision } => explain::why(context, &name, &place, revision).await,
        Command::Why { name, node_role: None, revision } => explain::why_deployment(context, &name, revision).await,
        Command::Logs { name, node_role, follow } => follow::logs(context, &name, &node_role, follow).await,
        Command::Retry(what) => moves::ask(context, Ask::Retry, &what).await,
        Command::Pause(what) => moves::ask(context, Ask::Pause, &what).await,
        Command::Resume(what) => moves::ask(context, Ask::Resume, &what).await,
        Command::Cancel(what) => moves::ask(context, Ask::Cancel, &what).await,
        Command::Approve(what) => moves::ask(context, Ask::Approve, &what).await,
        Command::Accept(what) => moves::ask(context, Ask::Accept, &what).await,
        Command::Events { follow, deployment, limit } => {
            follow::events(context, follow, deployment.as_deref(), limit).await
        }
        Command::Exec { nodes, timeout, command } => nodes::exec(context, nodes, command, timeout).await,
        Command::Node { command: NodeCommand::List } => nodes::list(context).await,
        Command::Node { command: NodeCommand::Show { name } } => nodes::show(context, &name).await,
        Command::Node { command: NodeCommand::Add { file } } => nodes::add(context, &file).await,
        Command::Node { command: NodeCommand::Aside { name } } => nodes::stand(context, &name, true).await,
        Command::Node { command: NodeCommand::In { name } } => nodes::stand(context, &name, false).await,
        Command::Node { command: NodeCommand::Label { name, labels } } => nodes::label(context, &name, labels).await,
        Command::Node { command: NodeCommand::Lost { name, yes } } => nodes::lost(context, &name, yes).await,
        Command::Node { command: NodeCommand::Remove { name, force } } => nodes::remove(context, &name, force).await,
        Command::Dns { command } => dns::dns(context, command).await,
        Command::Bundle { command } => bundles::bundle(context, command).await,
        Command::Hook { command } => hooks::hook(context, command).await,
        Command::Profile { command } => settings::setting(context, SettingKind::Profile, command).await,
        Command::Budget { command } => settings::setting(context, SettingKind::Budget, command).await,
        Command::Policy { command } => settings::setting(context, SettingKind::Policy, command).await,
        Command::Rule { command } => settings::rule(context, command).await,
        Command::Role { command } => show::roles(context, command).await,
        Command::Workload { command } => show::workloads(context, command).await,
        Command::Deployment { command } => show::deployments(context, command).await,
        Command::Wait { name, until, timeout } => status::wait(context, &name, until, Some(timeout)).await,
        Command::Serve(_)
        | Command::Simulate(_)
        | Command::Lab { .. }
        | Command::Database { .. }
        | Command::Check { .. }
        | Command::Doctor
        | Command::Schema { .. }
        | Command::New { .. }
        | Command::Version
        | Command::Completion { .. } => Ok(ExitCode::SUCCESS),
    }
}

/// `plinth … | head` ends quietly.
#[allow(unsafe_code)]
fn reset_sigpipe() {
    // SAFETY: called once, before any thread exists; SIG_DFL is a valid disposition.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
    }
}
