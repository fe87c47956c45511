//! Arguments of `plinth node`.

use std::path::PathBuf;

use clap::Subcommand;

/// What can be done with nodes.
#[derive(Debug, Subcommand)]
pub(crate) enum NodeCommand {
    /// List them.
    List,
    /// Show one with its node roles.
    Show {
        /// Its name.
        name: String,
    },
    /// Adopt the hosts that a file describes.
    #[command(after_help = "Example:\n  plinth node add docs/examples/ssh-nodes.yaml")]
    Add {
        /// Node documents; `-` is standard input.
        file: PathBuf,
    },
    /// Put a node aside: nothing begins on it, it is out of gathers, and nobody waits for it until it is back in.
    #[command(
        after_help = "What runs there ends. It counts as out of service in every budget; where there was no room for that, you are told.\n\n\
        Example:\n  plinth node aside blue-members-2"
    )]
    Aside {
        /// Its name.
        name: String,
    },
    /// Take a node back in that stood aside.
    #[command(after_help = "Example:\n  plinth node in blue-members-2")]
    In {
        /// Its name.
        name: String,
    },
    /// Give up a node that a deployment uses: it is dead, and never comes back.
    #[command(
        after_help = "Nothing is removed from it, nobody waits for it, and who gathers from its role goes on without it.\n\
        Apply the document again to have another one in its place.\n\nExample:\n  plinth node lost blue-members-2 --yes"
    )]
    Lost {
        /// Its name.
        name: String,
        /// Do not ask.
        #[arg(short, long)]
        yes: bool,
    },
    /// Let go of a node that no deployment uses: its host keeps neither our agent nor our key.
    #[command(after_help = "Example:\n  plinth node remove rack1-a")]
    Remove {
        /// Its name.
        name: String,
        /// Without a word to its host: it is dead, or belongs to others by now. What is ours there stays there.
        #[arg(long)]
        force: bool,
    },
}
