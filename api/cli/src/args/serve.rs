//! Arguments of `plinth serve`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

/// How the engine is to run.
#[derive(Clone, Debug, Args)]
pub(crate) struct Serve {
    /// Where everything is kept: endpoint, token, the private Postgres.
    #[arg(long, env = "PLINTH_DATA", value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Where the API listens, on this machine.
    #[arg(long, default_value = "127.0.0.1:7480", value_name = "ADDRESS")]
    pub(crate) listen: SocketAddr,
    /// The database; a private one if missing.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_name = "URL")]
    pub(crate) database: Option<String>,
    /// The file of the key that opens what is sealed in the database. If missing, the credential `plinth-seal-key` of
    /// systemd, or else `seal.key` in the data directory, which is made at the first start.
    #[arg(long, env = "PLINTH_SEAL_KEY", value_name = "FILE")]
    pub(crate) seal_key: Option<PathBuf>,
    /// Answer DNS questions here, over UDP and TCP; an address of this machine that those who ask can reach.
    #[arg(long, num_args = 1.., value_name = "ADDRESS:PORT")]
    pub(crate) dns: Vec<SocketAddr>,
    /// Serve lists of what authorities revoked here, by HTTP and nothing else; an address of this machine that those who ask can
    /// reach. Certificates name port 80 of `crl.ZONE`, which `--dns` answers with these addresses.
    #[arg(long, num_args = 1.., value_name = "ADDRESS:PORT")]
    pub(crate) lists: Vec<SocketAddr>,
    /// Bundles that are pushed at the start, as `plinth bundle push` does; folders or archives.
    #[arg(long, num_args = 1.., value_name = "PATH")]
    pub(crate) bundle: Vec<PathBuf>,
}
