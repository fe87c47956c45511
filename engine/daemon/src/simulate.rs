//! The fleet simulator: the real engine and a real Postgres over nodes that exist only in memory.
//!
//! A deployment of layers is committed and held until all nodes are up; then it is let go and measured until it is
//! active. What failed is asked for again, as a person would.

mod fleet;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine_catalog::Folder;
use engine_core::document::Object;
use engine_core::request::Ask;
use engine_core::view::{Applied, Health, Refusal};
use engine_provider::simulated::Simulated;
use engine_remote::AgentBinary;
use engine_store::connect::{self, Target};
use engine_store::measure::Mark;
use engine_store::{PgPool, StoreError, measure, migrate, read};
use futures::StreamExt as _;
use tokio::time::sleep;

use crate::{Config, ConfigError, Control, Engine, MadeUp};

/// Connections of the engine.
const POOL: u32 = 16;
/// Commits at once.
const COMMITS: usize = 8;
/// How often it is looked whether the fleet is there.
const LOOK: Duration = Duration::from_millis(20);
/// The same where looking is among what is counted.
const SELDOM: Duration = Duration::from_millis(200);
/// Who asks.
const WHO: &str = "simulation";

/// What is simulated.
#[derive(Clone, Debug)]
pub struct Fleet {
    /// Name of the deployment.
    pub name: String,
    /// How many deployments, all at once; their names are numbered where it is not one.
    pub deployments: u32,
    /// Nodes of each.
    pub nodes: u32,
    /// Roles on each, every one needs the one before it.
    pub layers: u32,
    /// What differs from run to run follows from it.
    pub seed: u64,
    /// Of a hundred layers so many fail at their first attempt on every node.
    pub fail: u8,
    /// How long a job takes on its node; without it, and without failures, roles have no steps.
    pub latency: Duration,
    /// Jobs that the engine follows at once. They cost it little on nodes that exist only in memory.
    pub jobs: usize,
    /// So many nodes are added when the fleet is at rest.
    pub grow: u32,
    /// Every node has a name besides, and questions for it are answered here.
    pub dns: Option<SocketAddr>,
    /// A workload of the catalog in place of layers.
    pub workload: Option<Workload>,
}

/// A workload that is simulated.
#[derive(Clone, Debug, Default)]
pub struct Workload {
    /// Its name.
    pub name: String,
    /// Bundles beside the built-in one.
    pub bundles: Vec<Folder>,
    /// The group that has the nodes; the others have as many as they have by default. Its only one if missing.
    pub group: Option<String>,
    /// Its parameters.
    pub parameters: Object,
    /// What roles find out, by role and output, where examples by their schemas will not do.
    pub outputs: BTreeMap<String, Object>,
}

impl Fleet {
    /// Name of the deployment of this number, from 1.
    fn deployment(&self, number: u32) -> String {
        if self.deployments == 1 { self.name.clone() } else { format!("{}-{number}", self.name) }
    }
}

/// What was measured. Times are in seconds.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Report {
    /// Deployments.
    pub deployments: u32,
    /// Nodes of each.
    pub nodes: u32,
    /// Node roles.
    pub node_roles: u64,
    /// To plan and to commit, all of them.
    pub commit: f64,
    /// Until all nodes were up; nothing where the fleet was not held.
    pub nodes_up: f64,
    /// From letting go to active; of many deployments from the first commit to the last one active.
    pub converge: f64,
    /// Of many deployments: from the commit of each to active: fewest, median, 99 %, most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit_to_active: Option<[f64; 4]>,
    /// Moves of node roles meanwhile.
    pub transitions: i64,
    /// Of these in a second.
    pub transitions_per_second: f64,
    /// Node roles that became active in a second.
    pub node_roles_per_second: f64,
    /// Flushes of the write-ahead log for each transition.
    pub flushes_per_transition: f64,
    /// Bytes of the write-ahead log for each transition.
    pub bytes_per_transition: f64,
    /// Pages of tables and indexes that Postgres looked at for each transition.
    pub pages_per_transition: f64,
    /// Milliseconds from ready to claimed: median, 95 %, 99 %.
    pub claimed_after: [f64; 3],
    /// Attempts that failed.
    pub failed: i64,
    /// Committing the same again: seconds.
    pub again: f64,
    /// What it cost to add nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub growth: Option<Growth>,
}

/// What it cost to add nodes to a fleet at rest. Times are in seconds.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Growth {
    /// Nodes that were added.
    pub nodes: u32,
    /// Node roles that the plan creates.
    pub created: usize,
    /// To plan alone.
    pub plan: f64,
    /// To plan and to commit.
    pub commit: f64,
    /// From the commit to active.
    pub converge: f64,
    /// Rows that Postgres read from the commit on, by tables and by entries of indexes.
    pub rows_read: i64,
    /// Rows that it wrote.
    pub rows_written: i64,
    /// Both by table.
    pub tables: BTreeMap<String, [i64; 2]>,
}

/// Why a simulation did not end.
#[derive(Debug, thiserror::Error)]
pub enum SimulateError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The engine.
    #[error(transparent)]
    Engine(#[from] ConfigError),
    /// The engine refuses what was asked for.
    #[error("the engine refuses: {}", .0.message)]
    Refused(Box<Refusal>),
    /// Files of the bundle.
    #[error("writing the bundle of the simulation")]
    Bundle(#[source] std::io::Error),
    /// A workload has several groups, or not this one.
    #[error("{0}")]
    Group(String),
    /// What is made up does not do.
    #[error("{node_role} failed: {code}: {message}")]
    Failed {
        /// Which.
        node_role: String,
        /// Its code.
        code: String,
        /// Why.
        message: String,
    },
    /// Nothing moves, and it is not active.
    #[error("the fleet came to rest and is {0}")]
    Stuck(&'static str),
}

impl From<Refusal> for SimulateError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(Box::new(refusal))
    }
}

impl SimulateError {
    /// Stable code, listed in docs/ERRORS.md.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Store(error) => error.code(),
            Self::Engine(error) => error.code(),
            Self::Refused(_) => "simulation-refused",
            Self::Bundle(_) => "cannot-write",
            Self::Group(_) => "simulation-group",
            Self::Failed { .. } => "simulation-failed",
            Self::Stuck(_) => "simulation-stuck",
        }
    }
}

/// Runs a fleet in a database that no deployment of its name is in, with a folder for what an engine keeps. `tell` hears how far it is.
///
/// # Errors
/// The database or the folder can not be used, or the fleet does not converge.
pub async fn run(
    target: &Target,
    folder: &Path,
    fleet: &Fleet,
    mut tell: impl FnMut(&str),
) -> Result<Report, SimulateError> {
    migrate::run(target).await?;
    let look = connect::connect(target, 1).await?;
    let taken = u32::try_from(measure::nodes_ever(&look).await?).unwrap_or(0);
    look.close().await;
    let made = fleet::made(folder, fleet)?;
    // Fleets of earlier simulations may be there.
    let world = World { target, folder, fleet, made, machines: Arc::new(Simulated::beside(taken)) };
    let (pool, engine) = world.engine().await?;
    let control = engine.control();
    let times = match fleet.deployments {
        1 => held(&pool, &control, &world, &mut tell).await?,
        _ => at_once(&pool, &control, &world, &mut tell).await?,
    };
    let began = Instant::now();
    control.apply(&world.document(1, fleet.nodes), WHO, &[], WHO).await?;
    let again = began.elapsed().as_secs_f64();
    drop(control);
    engine.stop().await;
    // Connections report what they cost when they end.
    pool.close().await;

    let pool = connect::connect(target, 1).await?;
    let since = measure::since(&pool, times.mark).await?;
    pool.close().await;
    let growth = match fleet.grow {
        0 => None,
        more => Some(grow(&world, more, &mut tell).await?),
    };
    let node_roles = times.node_roles;
    #[allow(clippy::cast_precision_loss, reason = "counts of a simulation are small")]
    let [transitions, flushes, bytes, pages, ran] =
        [since.transitions as f64, since.flushes as f64, since.bytes as f64, since.pages as f64, node_roles as f64];
    Ok(Report {
        deployments: fleet.deployments,
        nodes: fleet.nodes,
        node_roles,
        commit: times.commit,
        nodes_up: times.nodes_up,
        converge: times.converge,
        commit_to_active: times.commit_to_active,
        transitions: since.transitions,
        transitions_per_second: transitions / times.converge,
        node_roles_per_second: ran / times.converge,
        flushes_per_transition: flushes / transitions,
        bytes_per_transition: bytes / transitions,
        pages_per_transition: pages / transitions,
        claimed_after: since.claimed_after,
        failed: since.failed,
        again,
        growth,
    })
}

/// What engines of a simulation share.
struct World<'a> {
    target: &'a Target,
    folder: &'a Path,
    fleet: &'a Fleet,
    made: fleet::Made,
    /// The machines are one world, however many engines there are.
    machines: Arc<Simulated>,
}

impl World<'_> {
    async fn engine(&self) -> Result<(PgPool, Engine), SimulateError> {
        let pool = connect::connect(self.target, POOL).await?;
        let agent = AgentBinary::new(std::env::consts::ARCH, &b"none"[..]);
        let folder = self.folder.join("engine");
        let mut config = Config::new(pool.clone(), self.target.clone(), self.made.bundles.clone(), agent, folder);
        config.providers.insert("simulated".to_owned(), Arc::clone(&self.machines) as _);
        config.jobs = self.fleet.jobs;
        config.seals_nothing = true;
        config.made_up = self.fleet.workload.as_ref().map(|workload| MadeUp {
            latency: self.fleet.latency,
            fail: self.fleet.fail,
            seed: self.fleet.seed,
            outputs: workload.outputs.clone(),
        });
        config.dns.extend(self.fleet.dns);
        Ok((pool, Engine::start(config).await?))
    }

    fn document(&self, number: u32, nodes: u32) -> String {
        self.made.document(self.fleet, &self.fleet.deployment(number), nodes)
    }
}

/// How long a fleet took.
struct Times {
    mark: Mark,
    commit: f64,
    nodes_up: f64,
    converge: f64,
    commit_to_active: Option<[f64; 4]>,
    node_roles: u64,
}

/// Node roles that commits create.
fn created(applied: &[Applied]) -> u64 {
    applied.iter().map(|one| u64::try_from(one.plan.totals.create).unwrap_or(u64::MAX)).sum()
}

/// One deployment, held until all its nodes are up and then let go.
async fn held(
    pool: &PgPool,
    control: &Control,
    world: &World<'_>,
    tell: &mut impl FnMut(&str),
) -> Result<Times, SimulateError> {
    let (fleet, began) = (world.fleet, Instant::now());
    let applied = control.apply(&world.document(1, fleet.nodes), WHO, &[], WHO).await?;
    let commit = began.elapsed().as_secs_f64();
    control.ask(Ask::Pause, &fleet.name, None, WHO).await?;
    tell(&format!("committed in {commit:.2} s"));
    loop {
        let (up, failed) = measure::nodes_up(pool, &fleet.name).await?;
        if failed > 0 {
            return Err(SimulateError::Stuck("short of nodes, for some have failed"));
        }
        if up >= i64::from(fleet.nodes + world.made.others) {
            break;
        }
        sleep(LOOK).await;
    }
    let nodes_up = began.elapsed().as_secs_f64() - commit;
    tell(&format!("{} nodes up after {nodes_up:.2} s", fleet.nodes));
    let mark = measure::mark(pool).await?;
    let began = Instant::now();
    control.ask(Ask::Resume, &fleet.name, None, WHO).await?;
    until_active(pool, control, &fleet.name, tell).await?;
    Ok(Times {
        mark,
        commit,
        nodes_up,
        converge: began.elapsed().as_secs_f64(),
        commit_to_active: None,
        node_roles: created(&applied),
    })
}

/// Many deployments, committed one after the other as fast as that goes, each with nodes of its own.
async fn at_once(
    pool: &PgPool,
    control: &Control,
    world: &World<'_>,
    tell: &mut impl FnMut(&str),
) -> Result<Times, SimulateError> {
    let mark = measure::mark(pool).await?;
    let (fleet, began) = (world.fleet, Instant::now());
    let all = (1..=fleet.deployments).map(|number| async move {
        let text = world.document(number, fleet.nodes);
        control.apply(&text, WHO, &[], WHO).await
    });
    let done: Vec<_> = futures::stream::iter(all).buffer_unordered(COMMITS).collect().await;
    let done = done.into_iter().collect::<Result<Vec<_>, _>>()?;
    let node_roles = done.iter().map(|applied| created(applied)).sum();
    let commit = began.elapsed().as_secs_f64();
    tell(&format!("{} deployments committed in {commit:.2} s", fleet.deployments));
    for number in 1..=fleet.deployments {
        until_active(pool, control, &fleet.deployment(number), tell).await?;
    }
    let converge = began.elapsed().as_secs_f64();
    let spread = measure::commit_to_active(pool).await?;
    Ok(Times { mark, commit, nodes_up: 0.0, converge, commit_to_active: Some(spread), node_roles })
}

/// Nodes are added to a fleet that is at rest, by an engine that knows nothing of it yet.
async fn grow(world: &World<'_>, more: u32, tell: &mut impl FnMut(&str)) -> Result<Growth, SimulateError> {
    let (name, text) = (world.fleet.deployment(1), world.document(1, world.fleet.nodes + more));
    let (pool, engine) = world.engine().await?;
    let control = engine.control();
    let began = Instant::now();
    let planned = control.plan(&text, WHO).await?;
    let plan = began.elapsed().as_secs_f64();
    let created = planned.iter().map(|plan| plan.plan.totals.create).sum();
    drop(control);
    engine.stop().await;
    pool.close().await;

    let look = connect::connect(world.target, 1).await?;
    // The fleet is minutes old by now where it is not simulated.
    measure::vacuum(&look).await?;
    let mark = measure::rows(&look).await?;
    look.close().await;
    let (pool, engine) = world.engine().await?;
    let control = engine.control();
    let began = Instant::now();
    control.apply(&text, WHO, &[], WHO).await?;
    let commit = began.elapsed().as_secs_f64();
    tell(&format!("{more} nodes more: planned in {plan:.2} s, committed in {commit:.2} s"));
    while !measure::rests(&pool, &name).await? {
        sleep(SELDOM).await;
    }
    drop(control);
    engine.stop().await;
    pool.close().await;
    let look = connect::connect(world.target, 1).await?;
    let tables = measure::rows(&look).await?.since(&mark);
    let [rows_read, rows_written] = [0, 1].map(|which| tables.values().map(|rows| rows[which]).sum());
    let converge = measure::last_converged(&look, &name).await?;
    look.close().await;
    Ok(Growth { nodes: more, created, plan, commit, converge, rows_read, rows_written, tables })
}

/// What failed otherwise than it was to is not asked for again.
async fn hopeless(pool: &PgPool, name: &str) -> Result<(), SimulateError> {
    let Some(status) = read::status(pool, name).await? else { return Ok(()) };
    let failed =
        status.node_roles.into_iter().find(|role| role.code.as_deref().is_some_and(|code| code != "step-failed"));
    let Some(role) = failed else { return Ok(()) };
    Err(SimulateError::Failed {
        node_role: format!("{}/{}", role.node, role.role),
        code: role.code.unwrap_or_default(),
        message: role.message.unwrap_or_default(),
    })
}

async fn until_active(
    pool: &PgPool,
    control: &Control,
    name: &str,
    tell: &mut impl FnMut(&str),
) -> Result<(), SimulateError> {
    let mut told = Instant::now();
    loop {
        let (stale, failed, active) = measure::counts(pool, name).await?;
        if told.elapsed() > Duration::from_secs(2) {
            told = Instant::now();
            tell(&format!("{active} active, {failed} failed"));
        }
        // Looking closer costs the database more than it takes to converge a few hundred node roles.
        if stale == 0 || failed > 0 {
            let Some(seen) = read::deployment(pool, name).await? else { return Err(SimulateError::Stuck("gone")) };
            let counts = seen.deployment.counts;
            match seen.deployment.health {
                Health::Active => return Ok(()),
                Health::Failed if counts.ready + counts.running == 0 => {
                    hopeless(pool, name).await?;
                    control.ask(Ask::Retry, name, None, WHO).await?;
                }
                _ => {}
            }
        }
        sleep(LOOK).await;
    }
}
