//! Arguments of `plinth secret`.

use std::path::PathBuf;

use clap::Subcommand;

/// What can be done with secrets. Nothing of it shows a value.
#[derive(Debug, Subcommand)]
pub(crate) enum SecretCommand {
    /// List the secrets of a deployment.
    List {
        /// The deployment.
        name: String,
    },
    /// Tell which node roles a secret reaches, and when they were last given a value.
    #[command(after_help = "Example:\n  plinth secret where blue parameters.password")]
    Where {
        /// The deployment.
        name: String,
        /// The secret, as `plinth secret list` names it.
        secret: String,
    },
    /// Let a role that makes a secret make another one. Whoever reads it runs again.
    #[command(after_help = "Example:\n  plinth secret rotate blue database-password")]
    Rotate {
        /// The deployment.
        name: String,
        /// The deployment role.
        role: String,
    },
    /// Seal everything that is sealed by the newest seal key. All engines of the database have to know it.
    Reseal,
    /// Print deployment documents with what is secret in them sealed, so that they may be kept among other files.
    ///
    /// Only engines with the same seal key open it again, and only for the deployment of that name.
    #[command(after_help = "Example:\n  plinth secret seal blue.yaml > blue.sealed.yaml")]
    Seal {
        /// The documents; `-` for standard input.
        file: PathBuf,
    },
}
