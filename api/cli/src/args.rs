//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use engine_catalog::Kind;

/// A build system for clusters.
#[derive(Debug, Parser)]
#[command(name = "plinth", version, arg_required_else_help = true)]
pub(crate) struct Args {
    /// How to print the answer.
    #[arg(short, long, global = true, value_enum, default_value_t = Output::Table, env = "PLINTH_OUTPUT_FORMAT")]
    pub(crate) output: Output,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Forms of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Table,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
    /// Names only, one a line.
    Name,
}

/// Commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Check bundles, roles, workloads and deployments without a server.
    ///
    /// Prints every problem at once, each with file, line, column, the place in the document, what was expected and a
    /// code that docs/ERRORS.md explains. Exits with 1 if there is an error; warnings alone exit with 0.
    #[command(after_help = "Examples:\n  plinth check .                      the bundle in this folder\n  \
        plinth check roles/etcd             one role, with the bundle around it\n  \
        plinth check deployments/ -o json   every document below a folder, as JSON")]
    Check {
        /// Bundle folders, files, or folders of them.
        #[arg(required = true)]
        paths: Vec<PathBuf>,
    },
    /// Print the JSON Schema of a kind of document, for editors and other tools.
    #[command(after_help = "Example:\n  plinth schema role > role.schema.json")]
    Schema {
        /// Which kind.
        #[arg(value_parser = kind)]
        kind: Kind,
    },
    /// Begin something new.
    New {
        /// What.
        #[command(subcommand)]
        kind: NewKind,
    },
    /// Print the version.
    Version,
    /// Print a completion script.
    #[command(after_help = "Example:\n  plinth completion bash > /etc/bash_completion.d/plinth")]
    Completion {
        /// For which shell.
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
}

/// New things.
#[derive(Debug, Subcommand)]
pub(crate) enum NewKind {
    /// A role that loads and runs as it stands.
    #[command(after_help = "Example:\n  plinth new role web-server --into ./my-bundle")]
    Role {
        /// Its name.
        name: String,
        /// The bundle folder.
        #[arg(long, default_value = ".")]
        into: PathBuf,
    },
}

fn kind(text: &str) -> Result<Kind, String> {
    let known = || Kind::ALL.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(", ");
    Kind::ALL.into_iter().find(|kind| kind.name() == text).ok_or_else(|| format!("expected one of {}", known()))
}
