//! Arguments of `plinth profile`, `plinth policy` and `plinth rule`.

use std::path::PathBuf;

use clap::Subcommand;

/// What can be done with profiles and policies.
#[derive(Debug, Subcommand)]
pub(crate) enum SettingCommand {
    /// List them.
    List,
    /// Show one.
    Show {
        /// Its name.
        name: String,
    },
    /// Set those of a file, in place of those of their names. Deployments have them when they are applied, and not before.
    Set {
        /// Documents; `-` is standard input. Profiles, policies and rules may stand in one file.
        file: PathBuf,
    },
    /// Remove one.
    Remove {
        /// Its name.
        name: String,
    },
}

/// What can be done with rules.
#[derive(Debug, Subcommand)]
pub(crate) enum RuleCommand {
    /// List them, in the order in which they are gone through.
    List,
    /// Show one.
    Show {
        /// Its name.
        name: String,
    },
    /// Set those of a file, in place of those of their names. They go through all nodes at once.
    Set {
        /// Documents; `-` is standard input. Profiles, policies and rules may stand in one file.
        file: PathBuf,
    },
    /// Remove one, and the labels that nodes have by it.
    Remove {
        /// Its name.
        name: String,
    },
    /// Show which labels nodes would have by rules. Changes nothing.
    #[command(after_help = "Examples:\n  plinth rule test               the rules that are set\n  \
        plinth rule test racks.yaml    and what these would change")]
    Test {
        /// Rules that are to be tried in place of those of their names.
        file: Option<PathBuf>,
    },
}
