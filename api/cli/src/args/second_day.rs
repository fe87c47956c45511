//! Arguments of what is done to a deployment that runs.

use clap::Args as ClapArgs;

/// What is to be made anew, and how to go about it.
#[derive(Debug, ClapArgs)]
pub(crate) struct Redeploy {
    /// The deployment.
    pub(crate) name: String,
    /// Only these of its nodes.
    #[arg(long = "node", num_args = 1.., value_name = "NODE")]
    pub(crate) nodes: Vec<String>,
    /// Do not ask.
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// Approve what `policy.approve` wants approved of it.
    #[arg(long)]
    pub(crate) approve: bool,
    /// Follow until everything is active, or something failed.
    #[arg(long)]
    pub(crate) wait: bool,
}

/// Whose history.
#[derive(Debug, ClapArgs)]
pub(crate) struct History {
    /// The deployment.
    pub(crate) name: String,
    /// How many revisions of the past.
    #[arg(long, default_value_t = 100)]
    pub(crate) limit: u32,
}

/// What is to be checked.
#[derive(Debug, ClapArgs)]
pub(crate) struct Drift {
    /// The deployment.
    pub(crate) name: String,
    /// Only this deployment role.
    #[arg(long)]
    pub(crate) role: Option<String>,
    /// Only this node; `deployment` for roles that run once.
    #[arg(long)]
    pub(crate) node: Option<String>,
    /// Do not check; print what the last checks found.
    #[arg(long)]
    pub(crate) last: bool,
}
