//! What `plinth simulate` takes.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args as ClapArgs;

/// The fleet simulator.
#[derive(Clone, Debug, ClapArgs)]
pub(crate) struct Simulate {
    /// Name of the deployment.
    #[arg(long, default_value = "fleet")]
    pub(crate) name: String,
    /// Deployments, all at once. Where there are many, the time from commit to active is told of each.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) deployments: u32,
    /// Nodes of each deployment.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) nodes: u32,
    /// Roles on each node, each needs the one before it.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=500))]
    pub(crate) layers: u32,
    /// What fails follows from it.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Of a hundred layers so many fail at their first attempt.
    #[arg(long, default_value_t = 0, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    pub(crate) fail: u8,
    /// How long a job takes on its node.
    #[arg(long, default_value_t = 0, value_name = "MILLISECONDS")]
    pub(crate) latency: u64,
    /// Jobs at once.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) jobs: u32,
    /// So many nodes are added when the fleet is at rest; how many rows are read and written for it is told.
    #[arg(long, default_value_t = 0, value_name = "NODES", value_parser = clap::value_parser!(u32).range(0..=1000), conflicts_with = "deployments")]
    pub(crate) grow: u32,
    /// Nodes have names besides, and questions for them are answered here.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) dns: Option<SocketAddr>,
    /// The folder below which the database is kept meanwhile.
    #[arg(long, default_value = "/var/tmp", value_name = "DIR")]
    pub(crate) below: PathBuf,
    /// A database elsewhere in its place; the fleet is left in it.
    #[arg(long, value_name = "URL")]
    pub(crate) database: Option<String>,
}
