//! The command line.

mod bundles;
mod certificates;
mod dns;
mod hooks;
mod local;
mod nodes;
mod second_day;
mod secrets;
mod serve;
mod settings;
mod simulate;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use engine_catalog::Kind;

pub(crate) use bundles::BundleCommand;
pub(crate) use certificates::{CaCommand, CertCommand};
pub(crate) use dns::DnsCommand;
pub(crate) use hooks::{HookAdd, HookCommand};
pub(crate) use local::{DatabaseAt, DatabaseCommand, LabCommand};
pub(crate) use nodes::{Label, NodeCommand};
pub(crate) use second_day::{Drift, History, Redeploy};
pub(crate) use secrets::SecretCommand;
pub(crate) use serve::Serve;
pub(crate) use settings::{RuleCommand, SettingCommand};
pub(crate) use simulate::Simulate;

const EXITS: &str = "Exit codes:\n  0 ok   1 failed   2 wrong usage   3 not found   4 conflict   5 timed out waiting   \
                     6 not let in\n\nThe engine is found by --endpoint and --token, or PLINTH_ENDPOINT and \
                     PLINTH_TOKEN, or the file that `plinth serve` keeps in its data directory.";

/// A build system for clusters.
#[derive(Debug, Parser)]
#[command(name = "plinth", version, arg_required_else_help = true, after_help = EXITS)]
pub(crate) struct Args {
    /// How to print the answer; `dot`, `mermaid` and `svg` are for `graph`.
    #[arg(short, long, global = true, value_enum, default_value_t = Output::Table, env = "PLINTH_OUTPUT_FORMAT")]
    pub(crate) output: Output,
    /// Where the engine is.
    #[command(flatten)]
    pub(crate) engine: Engine,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Where the engine is, and how to get in.
#[derive(Clone, Debug, ClapArgs)]
pub(crate) struct Engine {
    /// The engine, such as http://127.0.0.1:7480.
    #[arg(long, global = true, env = "PLINTH_ENDPOINT", value_name = "URL")]
    pub(crate) endpoint: Option<String>,
    /// What lets us in.
    #[arg(long, global = true, env = "PLINTH_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub(crate) token: Option<String>,
}

/// Forms of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Table,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
    /// Names only, one a line.
    Name,
    /// Graphviz.
    Dot,
    /// Mermaid.
    Mermaid,
    /// A picture.
    Svg,
    /// A plan for a pull request.
    Markdown,
}

impl Output {
    /// Is it a form of a graph and of nothing else?
    pub(crate) fn is_drawing(self) -> bool {
        matches!(self, Self::Dot | Self::Mermaid | Self::Svg)
    }

    /// Can this command answer in this form?
    pub(crate) fn fits(self, command: &Command) -> bool {
        match self {
            Self::Dot | Self::Mermaid | Self::Svg => matches!(command, Command::Graph { .. }),
            Self::Markdown => {
                matches!(command, Command::Plan { .. } | Command::Scale { plan_only: true, .. })
            }
            Self::Table | Self::Json | Self::Yaml | Self::Name => true,
        }
    }
}

/// Commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the engine and its API on this machine.
    #[command(after_help = "Examples:\n  plinth serve                              with a private Postgres\n  \
        plinth serve --database postgres://plinth@db.example/plinth")]
    Serve(Serve),
    /// Run the engine and a Postgres of its own over nodes that exist only in memory, and measure it.
    ///
    /// A deployment of layers is committed and held until all nodes are up, then let go. Roles have no steps unless there
    /// is a latency or a failure to simulate. Everything is taken away at the end.
    #[command(after_help = "Examples:\n  plinth simulate --nodes 1000 --layers 20\n  \
        plinth simulate --nodes 200 --latency 500 --fail 10 --seed 7 -o json")]
    Simulate(Simulate),
    /// Check bundles, roles, workloads and deployments without a server.
    ///
    /// Prints every problem at once, each with file, line, column, the place in the document, what was expected and a
    /// code that docs/ERRORS.md explains. Exits with 1 if there is an error; warnings alone exit with 0.
    #[command(after_help = "Examples:\n  plinth check .                      the bundle in this folder\n  \
        plinth check roles/etcd             one role, with the bundle around it\n  \
        plinth check deployments/ -o json   every document below a folder, as JSON")]
    Check {
        /// Bundle folders, files, or folders of them.
        #[arg(required = true)]
        paths: Vec<PathBuf>,
    },
    /// Show what applying a file would do. Changes nothing.
    #[command(after_help = "Examples:\n  plinth plan blue.yaml\n  \
        plinth plan blue.yaml --detailed-exitcode   exits with 0: nothing to do, 2: changes, 1: error\n  \
        plinth plan blue.yaml --out blue.plan       keeps it, for `plinth apply --plan blue.plan`\n  \
        plinth plan blue.yaml --dry-run             asks the nodes what the steps would change there\n  \
        plinth plan blue.yaml -o markdown           for a pull request")]
    Plan {
        /// Deployment documents; `-` is standard input.
        file: PathBuf,
        /// Exit with 2 if there is something to do.
        #[arg(long)]
        detailed_exitcode: bool,
        /// Keep the plan in this file, for `plinth apply --plan`.
        #[arg(long, value_name = "PLAN")]
        out: Option<PathBuf>,
        /// Show what the steps would change on the nodes, file by file, instead of the plan. Changes nothing there.
        #[arg(long, conflicts_with_all = ["out", "detailed_exitcode"])]
        dry_run: bool,
    },
    /// Commit the deployments of a file, after showing what that does.
    #[command(after_help = "Examples:\n  plinth apply blue.yaml\n  \
        plinth apply blue.yaml --yes --wait   asks nothing, follows to the end, exits with 1 on a failure\n  \
        plinth apply --plan blue.plan         exactly what `plinth plan blue.yaml --out blue.plan` said, or nothing")]
    Apply {
        /// Deployment documents; `-` is standard input.
        #[arg(required_unless_present = "plan", conflicts_with = "plan")]
        file: Option<PathBuf>,
        /// A plan that was kept: exactly this is done, or nothing.
        #[arg(long, value_name = "PLAN")]
        plan: Option<PathBuf>,
        /// Do not ask.
        #[arg(short, long)]
        yes: bool,
        /// Follow until everything is active, or something failed.
        #[arg(long)]
        wait: bool,
    },
    /// Commit a deployment with another number of nodes in a group, after showing what that does.
    ///
    /// What is committed is the document in force with another `count` of the group. New nodes are made and joined; of
    /// those that are too many the newest leave: what reads them goes on without them, then they are taken apart.
    #[command(after_help = "Examples:\n  plinth scale blue members 5 --plan-only   what it would do\n  \
        plinth scale blue members 5 --yes --wait\n  plinth scale blue members 3")]
    Scale {
        /// The deployment.
        name: String,
        /// The group; its nodes come from a provider or a selection.
        group: String,
        /// How many nodes it is to have.
        count: u32,
        /// Show the plan and change nothing.
        #[arg(long, conflicts_with_all = ["yes", "wait"])]
        plan_only: bool,
        /// Do not ask.
        #[arg(short, long)]
        yes: bool,
        /// Follow until everything is active, or something failed.
        #[arg(long)]
        wait: bool,
    },
    /// Let everything of a deployment leave, and its own nodes with it.
    #[command(after_help = "Example:\n  plinth destroy blue --yes --wait")]
    Destroy {
        /// The deployment.
        name: String,
        /// Do not ask.
        #[arg(short, long)]
        yes: bool,
        /// Follow until it is gone, or something failed.
        #[arg(long)]
        wait: bool,
    },
    /// Make a deployment anew, or some of its nodes: machines are made again, every role runs again.
    ///
    /// Machines that were made for the deployment are destroyed and made again under their names. Node roles run again in
    /// order, also destructive ones. Everything else goes on, and runs again only where what it reads comes out otherwise.
    #[command(
        after_help = "Examples:\n  plinth redeploy blue --yes --wait\n  plinth redeploy blue --node blue-members-2"
    )]
    Redeploy(Redeploy),
    /// Check whether everything is as it was made, and show what is not. Changes nothing, unless the deployment repairs drift.
    #[command(after_help = "Examples:\n  plinth drift blue\n  plinth drift blue --role etcd --node blue-members-1\n  \
        plinth drift blue --last   what the last checks found, by schedule or by hand\n\n\
        Exits with 0 if everything conforms, with 1 if something drifted or nobody can tell.")]
    Drift(Drift),
    /// Print what a deployment promised to take away and did not; also of one that is gone. Exits with 1 if there is any.
    #[command(after_help = "Example:\n  plinth residue blue")]
    Residue {
        /// The deployment.
        name: String,
    },
    /// Authorities that sign certificates for a deployment.
    Ca {
        /// What to do with them.
        #[command(subcommand)]
        command: CaCommand,
    },
    /// Certificates that authorities of deployments signed.
    Cert {
        /// What to do with them.
        #[command(subcommand)]
        command: CertCommand,
    },
    /// Secrets of deployments: where they go, and documents that may hold them.
    Secret {
        /// What to do with them.
        #[command(subcommand)]
        command: SecretCommand,
    },
    /// Print the revisions of a deployment: who committed what, and when.
    #[command(after_help = "Example:\n  plinth history blue")]
    History(History),
    /// Show where every node role of a deployment stands, and what it waits for.
    #[command(after_help = "Examples:\n  plinth status blue\n  \
        plinth status blue --watch   follows until Ctrl-C, which cancels nothing")]
    Status {
        /// The deployment.
        name: String,
        /// Follow; without a terminal prints what changed, line by line.
        #[arg(short, long)]
        watch: bool,
    },
    /// Print the graph of a deployment.
    #[command(after_help = "Examples:\n  plinth graph blue\n  plinth graph blue -o svg > blue.svg\n  \
        plinth graph blue -o dot | dot -Tpng > blue.png")]
    Graph {
        /// The deployment.
        name: String,
    },
    /// Say why a deployment or a node role is where it is, and where its time went.
    #[command(after_help = "Examples:\n  plinth why blue\n  plinth why blue blue-members-1/etcd\n  \
        plinth why blue deployment/etcd-ready\n  plinth why blue --revision 3   what decided how long that took")]
    Why {
        /// The deployment.
        name: String,
        /// The node role, `NODE/ROLE`; NODE is `deployment` for roles that run once. Without it: the deployment.
        #[arg(value_parser = place, value_name = "NODE/ROLE")]
        node_role: Option<Place>,
        /// As of a past revision: up to the commit of the next one.
        #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(i32).range(1..))]
        revision: Option<i32>,
    },
    /// Print the log of the newest attempt of a node role.
    #[command(after_help = "Example:\n  plinth logs blue blue-members-1/etcd --follow")]
    Logs {
        /// The deployment.
        name: String,
        /// The node role.
        #[arg(value_parser = place, value_name = "NODE/ROLE")]
        node_role: Place,
        /// Print what comes, until Ctrl-C.
        #[arg(short, long)]
        follow: bool,
    },
    /// Run failed node roles again.
    #[command(after_help = "Examples:\n  plinth retry blue\n  plinth retry blue blue-members-1/etcd")]
    Retry(Move),
    /// Start no more jobs; running ones end.
    #[command(after_help = "Example:\n  plinth pause blue")]
    Pause(Move),
    /// Take a pause back.
    #[command(after_help = "Example:\n  plinth resume blue")]
    Resume(Move),
    /// Stop running jobs.
    #[command(after_help = "Example:\n  plinth cancel blue blue-members-1/etcd")]
    Cancel(Move),
    /// Allow what waits for an approval, as it is now.
    #[command(after_help = "Examples:\n  plinth approve blue\n  plinth approve blue blue-members-1/etcd")]
    Approve(Move),
    /// Take what failed as it last succeeded, until its next change: it holds nobody back.
    #[command(after_help = "Example:\n  plinth accept blue blue-members-1/etcd")]
    Accept(Move),
    /// Print what happened.
    #[command(after_help = "Examples:\n  plinth events --limit 20\n  plinth events --deployment blue --follow -o json")]
    Events {
        /// Print what comes, until Ctrl-C.
        #[arg(short, long)]
        follow: bool,
        /// Only those of this deployment.
        #[arg(long)]
        deployment: Option<String>,
        /// How many of the past.
        #[arg(long, default_value_t = 100)]
        limit: u32,
    },
    /// Run a command on nodes, side by side.
    #[command(after_help = "Example:\n  plinth exec blue-members-1 blue-members-2 -- systemctl is-active etcd")]
    Exec {
        /// The nodes.
        #[arg(required = true, value_name = "NODE")]
        nodes: Vec<String>,
        /// How long it may take.
        #[arg(long, default_value = "1m", value_parser = duration)]
        timeout: Duration,
        /// The command and its arguments.
        #[arg(last = true, required = true, value_name = "COMMAND")]
        command: Vec<String>,
    },
    /// List, show, add and remove nodes.
    Node {
        /// What.
        #[command(subcommand)]
        command: NodeCommand,
    },
    /// List the zones that engines answer for, and the names in them.
    Dns {
        /// What.
        #[command(subcommand)]
        command: DnsCommand,
    },
    /// Bundles: what the catalog of the engines is made of.
    Bundle {
        /// What.
        #[command(subcommand)]
        command: BundleCommand,
    },
    /// Web hooks: events that are sent to others.
    Hook {
        /// What.
        #[command(subcommand)]
        command: HookCommand,
    },
    /// Profiles: named sets of values that deployments can list, or that hold for all.
    Profile {
        /// What.
        #[command(subcommand)]
        command: SettingCommand,
    },
    /// Policies that hold for all deployments: what is never done to machines, and what waits for an approval.
    Policy {
        /// What.
        #[command(subcommand)]
        command: SettingCommand,
    },
    /// Budgets of all deployments: how many nodes may be out of service at once over all whose workload has a budget of that name.
    Budget {
        /// What.
        #[command(subcommand)]
        command: SettingCommand,
    },
    /// Rules: which labels nodes have by what is known of them.
    Rule {
        /// What.
        #[command(subcommand)]
        command: RuleCommand,
    },
    /// List and show roles of the catalog.
    Role {
        /// What.
        #[command(subcommand)]
        command: Look,
    },
    /// List and show workloads of the catalog.
    Workload {
        /// What.
        #[command(subcommand)]
        command: Look,
    },
    /// List and show deployments.
    Deployment {
        /// What.
        #[command(subcommand)]
        command: Look,
    },
    /// Wait until a deployment is active, or gone.
    #[command(
        after_help = "Example:\n  plinth wait blue --for active --timeout 5m   exits with 5 when the time is up, \
        with 1 when something failed"
    )]
    Wait {
        /// The deployment.
        name: String,
        /// Until what.
        #[arg(long = "for", value_enum, default_value_t = Until::Active)]
        until: Until,
        /// How long, such as `90s`, `5m` or `1h`.
        #[arg(long, default_value = "10m", value_parser = duration)]
        timeout: Duration,
    },
    /// Check that an engine is there and well.
    #[command(after_help = "Example:\n  plinth doctor")]
    Doctor,
    /// The lab of this machine: local nodes by systemd-nspawn. Needs root, and no engine.
    Lab {
        /// What to do with it.
        #[command(subcommand)]
        command: LabCommand,
    },
    /// The engine's database: backup, restore, move.
    Database {
        /// What to do with it.
        #[command(subcommand)]
        command: DatabaseCommand,
    },
    /// Print the JSON Schema of a kind of document, for editors and other tools.
    #[command(after_help = "Example:\n  plinth schema role > role.schema.json")]
    Schema {
        /// Which kind.
        #[arg(value_parser = kind)]
        kind: Kind,
    },
    /// Begin something new.
    New {
        /// What.
        #[command(subcommand)]
        kind: NewKind,
    },
    /// Print the version.
    Version,
    /// Print a completion script.
    #[command(after_help = "Example:\n  plinth completion bash > /etc/bash_completion.d/plinth")]
    Completion {
        /// For which shell.
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
}

/// What is to be applied.
#[derive(Clone, Debug)]
pub(crate) enum What {
    /// Deployment documents.
    File(PathBuf),
    /// A plan that was kept.
    Plan(PathBuf),
}

impl What {
    /// One of both is there: the arguments say so.
    pub(crate) fn of(file: Option<PathBuf>, plan: Option<PathBuf>) -> Self {
        plan.map_or_else(|| Self::File(file.unwrap_or_default()), Self::Plan)
    }
}

/// Something to be done to node roles.
#[derive(Clone, Debug, ClapArgs)]
pub(crate) struct Move {
    /// The deployment.
    pub(crate) name: String,
    /// One node role; all that it can be done to if missing.
    #[arg(value_parser = place, value_name = "NODE/ROLE")]
    pub(crate) node_role: Option<Place>,
}

/// What can be done with what is only looked at.
#[derive(Debug, Subcommand)]
pub(crate) enum Look {
    /// List them.
    List,
    /// Show one.
    Show {
        /// Its name.
        name: String,
    },
}

/// What to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Until {
    /// Nothing is to be done any more.
    Active,
    /// Everything has left.
    Gone,
}

/// New things.
#[derive(Debug, Subcommand)]
pub(crate) enum NewKind {
    /// A role that loads and runs as it stands, and a bundle around it where there is none.
    #[command(after_help = "Example:\n  plinth new role web-server --into ./my-bundle")]
    Role {
        /// Its name.
        name: String,
        /// The bundle folder.
        #[arg(long, default_value = ".")]
        into: PathBuf,
    },
}

/// `NODE/ROLE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The node.
    pub(crate) node: String,
    /// The deployment role.
    pub(crate) role: String,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.node, self.role)
    }
}

fn place(text: &str) -> Result<Place, String> {
    match text.split_once('/') {
        Some((node, role)) if !node.is_empty() && !role.is_empty() => {
            Ok(Place { node: node.to_owned(), role: role.to_owned() })
        }
        _ => Err("expected NODE/ROLE, such as blue-members-1/etcd or deployment/etcd-ready".to_owned()),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let expected = || "expected a number with s, m or h, such as 90s or 5m".to_owned();
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).ok_or_else(expected)?);
    let number: u64 = number.parse().map_err(|_| expected())?;
    let seconds = match unit {
        "s" => Some(1),
        "m" => Some(60),
        "h" => Some(3600),
        _ => None,
    };
    seconds.and_then(|unit| number.checked_mul(unit)).map(Duration::from_secs).ok_or_else(expected)
}

fn kind(text: &str) -> Result<Kind, String> {
    let known = || Kind::ALL.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(", ");
    Kind::ALL.into_iter().find(|kind| kind.name() == text).ok_or_else(|| format!("expected one of {}", known()))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::{Args, duration, place};

    #[test]
    fn the_command_line_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn durations_and_places_are_read_or_refused() {
        assert_eq!(duration("5m").map(|time| time.as_secs()), Ok(300));
        assert_eq!(duration("2h").map(|time| time.as_secs()), Ok(7200));
        for wrong in ["", "5", "m", "5d", "-1s", "1.5m", "99999999999999999999h"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
        assert_eq!(place("a/b c").map(|place| place.to_string()), Ok("a/b c".to_owned()));
        for wrong in ["", "a", "/b", "a/"] {
            assert!(place(wrong).is_err(), "{wrong}");
        }
    }
}
