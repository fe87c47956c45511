//! Arguments of `plinth hook`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// What can be done with web hooks.
#[derive(Debug, Subcommand)]
pub(crate) enum HookCommand {
    /// List them, with how far each is.
    List,
    /// Show one.
    Show {
        /// Its name.
        name: String,
    },
    /// Let events be sent somewhere from now on; prints the secret that signs them, once.
    ///
    /// Each event is sent at least once and in order. What is not taken is tried again, longer and longer apart, and holds up what comes
    /// after it for this hook alone.
    #[command(
        after_help = "Examples:\n  plinth hook add chat https://chat.example/in --kind 'deployment.*' --kind node.failed\n  \
        plinth hook add audit https://audit.example/plinth --deployment blue --ca audit-ca.pem"
    )]
    Add(HookAdd),
    /// Send no more to one.
    Remove {
        /// Its name.
        name: String,
    },
    /// Send an event of kind `hook.test`, and say what became of it. Exits with 1 if it was not taken.
    Test {
        /// Its name.
        name: String,
    },
    /// Go past the event that it fails to take: that one is not sent to it any more.
    Skip {
        /// Its name.
        name: String,
    },
}

/// A hook to be added.
#[derive(Debug, Args)]
pub(crate) struct HookAdd {
    /// Its name.
    pub(crate) name: String,
    /// Where to: `https://…`, or `http://` on the engine's own machine.
    pub(crate) url: String,
    /// Kinds of events, such as `node.up` or `deployment.*`; all without any.
    #[arg(long = "kind", value_name = "KIND")]
    pub(crate) kinds: Vec<String>,
    /// Deployments whose events are sent; all without any.
    #[arg(long = "deployment", value_name = "NAME")]
    pub(crate) deployments: Vec<String>,
    /// A file with the secret, `whsec_` and base64; `-` is standard input. One is made without it.
    #[arg(long, value_name = "FILE")]
    pub(crate) secret_file: Option<PathBuf>,
    /// Certificates in PEM that are trusted there, in place of those that the engine's machine trusts.
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
}
