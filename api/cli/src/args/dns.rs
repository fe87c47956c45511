//! Arguments of `plinth dns`.

use clap::Subcommand;

/// What can be seen of names.
#[derive(Debug, Subcommand)]
pub(crate) enum DnsCommand {
    /// List zones.
    Zones,
    /// List the records of a zone, and the node roles that they belong to.
    #[command(after_help = "Example:\n  plinth dns records demo.plinth.internal")]
    Records {
        /// The zone.
        zone: String,
    },
}
