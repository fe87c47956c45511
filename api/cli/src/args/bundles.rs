//! Arguments of `plinth bundle`.

use std::path::PathBuf;

use clap::Subcommand;

/// What can be done with bundles.
#[derive(Debug, Subcommand)]
pub(crate) enum BundleCommand {
    /// List the bundles of the catalog: the one that is built in, and those that were pushed.
    List,
    /// Take bundles into the catalog of all engines, in place of those of their names: all of them, or none.
    ///
    /// Deployments stay with the contents that they were committed with; `plinth plan` shows what applying them again would
    /// bring, `plinth bundle diff` which ones that are.
    #[command(after_help = "Examples:\n  plinth bundle push ./etcd\n  plinth bundle push ./etcd shop-1.2.0.tar.gz")]
    Push {
        /// Folders of bundles, or archives of them (tar, also with gzip).
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<PathBuf>,
    },
    /// Take a bundle out of the catalog; `core` goes back to what is built in.
    #[command(after_help = "Example:\n  plinth bundle remove etcd")]
    Remove {
        /// Its name.
        name: String,
    },
    /// Show what pushing bundles would change, role by role, and which deployments are committed with something else.
    #[command(after_help = "Examples:\n  plinth bundle diff ./etcd   what would change, and for whom\n  \
        plinth bundle diff          which deployments are behind the catalog as it is")]
    Diff {
        /// Folders of bundles, or archives of them; the catalog as it is without any.
        #[arg(value_name = "PATH")]
        paths: Vec<PathBuf>,
    },
}
