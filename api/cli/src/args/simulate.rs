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
    /// A workload of the catalog in place of layers. Nothing is really done: what its roles find out is an example by the schema of each
    /// output (`default` and `examples` first), or what `--outputs` says.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["layers", "dns"])]
    pub(crate) workload: Option<String>,
    /// Bundles beside the built-in one, for `--workload`.
    #[arg(long, num_args = 1.., value_name = "PATH", requires = "workload")]
    pub(crate) bundle: Vec<PathBuf>,
    /// The group of the workload that has the nodes; others have as many as they have by default. Its only one if missing.
    #[arg(long, requires = "workload")]
    pub(crate) group: Option<String>,
    /// A parameter of the workload, its value in YAML.
    #[arg(long = "parameter", value_name = "NAME=VALUE", requires = "workload")]
    pub(crate) parameters: Vec<String>,
    /// What roles find out: a file with `ROLE: {OUTPUT: VALUE}`.
    #[arg(long, value_name = "FILE", requires = "workload")]
    pub(crate) outputs: Option<PathBuf>,
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
