//! The fleet simulator: the real engine and a real Postgres over nodes that exist only in memory.
//!
//! A deployment of layers is committed and held until all nodes are up; then it is let go and measured until it is
//! active. What failed is asked for again, as a person would.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine_catalog::{Folder, load_folders};
use engine_core::catalog::Catalog;
use engine_core::request::Ask;
use engine_core::view::{Health, Refusal};
use engine_provider::simulated::Simulated;
use engine_remote::AgentBinary;
use engine_store::connect::{self, Target};
use engine_store::{StoreError, measure, migrate, read};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{Config, ConfigError, Control, Engine};

/// Connections of the engine.
const POOL: u32 = 16;
/// Jobs that the engine follows at once. They cost it nothing on nodes that exist only in memory.
const JOBS: usize = 1000;
/// How often it is looked whether the fleet is there.
const LOOK: Duration = Duration::from_millis(20);
/// Who asks.
const WHO: &str = "simulation";

/// What is simulated.
#[derive(Clone, Debug)]
pub struct Fleet {
    /// Name of the deployment.
    pub name: String,
    /// Nodes.
    pub nodes: u32,
    /// Roles on each, every one needs the one before it.
    pub layers: u32,
    /// What differs from run to run follows from it.
    pub seed: u64,
    /// Of a hundred layers so many fail at their first attempt on every node.
    pub fail: u8,
    /// How long a job takes on its node; without it, and without failures, roles have no steps.
    pub latency: Duration,
}

/// What was measured. Times are in seconds.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Report {
    /// Nodes.
    pub nodes: u32,
    /// Node roles.
    pub node_roles: u64,
    /// To plan and to commit.
    pub commit: f64,
    /// Until all nodes were up.
    pub nodes_up: f64,
    /// From letting go to active.
    pub converge: f64,
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
    /// Milliseconds from ready to claimed: median, 95 %, 99 %.
    pub claimed_after: [f64; 3],
    /// Attempts that failed.
    pub failed: i64,
    /// Committing the same again: seconds.
    pub again: f64,
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
    let catalog = catalog(folder, fleet)?;
    migrate::run(target).await?;
    let pool = connect::connect(target, POOL).await?;
    let agent = AgentBinary::new(std::env::consts::ARCH, &b"none"[..]);
    let mut config = Config::new(pool.clone(), target.clone(), Arc::new(catalog), agent, folder.join("engine"));
    config.providers.insert("simulated".to_owned(), Arc::new(Simulated::new()));
    config.jobs = JOBS;
    let engine = Engine::start(config).await?;
    let control = engine.control();

    let text = document(fleet);
    let began = Instant::now();
    control.apply(&text, WHO, &[], WHO).await?;
    let commit = began.elapsed().as_secs_f64();
    control.ask(Ask::Pause, &fleet.name, None, WHO).await?;
    tell(&format!("committed in {commit:.2} s"));
    while measure::nodes_up(&pool, &fleet.name).await? < i64::from(fleet.nodes) {
        sleep(LOOK).await;
    }
    let nodes_up = began.elapsed().as_secs_f64() - commit;
    tell(&format!("{} nodes up after {nodes_up:.2} s", fleet.nodes));

    let mark = measure::mark(&pool).await?;
    let began = Instant::now();
    control.ask(Ask::Resume, &fleet.name, None, WHO).await?;
    until_active(&pool, &control, &fleet.name, &mut tell).await?;
    let converge = began.elapsed().as_secs_f64();
    let began = Instant::now();
    control.apply(&text, WHO, &[], WHO).await?;
    let again = began.elapsed().as_secs_f64();
    drop(control);
    engine.stop().await;
    // Connections report their flushes when they end.
    pool.close().await;

    let pool = connect::connect(target, 1).await?;
    let since = measure::since(&pool, mark).await?;
    pool.close().await;
    #[allow(clippy::cast_precision_loss, reason = "counts of a simulation are small")]
    let (transitions, flushes, bytes) = (since.transitions as f64, since.flushes as f64, since.bytes as f64);
    Ok(Report {
        nodes: fleet.nodes,
        node_roles: u64::from(fleet.nodes) * u64::from(fleet.layers),
        commit,
        nodes_up,
        converge,
        transitions: since.transitions,
        transitions_per_second: transitions / converge,
        node_roles_per_second: f64::from(fleet.nodes) * f64::from(fleet.layers) / converge,
        flushes_per_transition: flushes / transitions,
        bytes_per_transition: bytes / transitions,
        claimed_after: since.claimed_after,
        failed: since.failed,
        again,
    })
}

async fn until_active(
    pool: &engine_store::PgPool,
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
                    control.ask(Ask::Retry, name, None, WHO).await?;
                }
                _ => {}
            }
        }
        sleep(LOOK).await;
    }
}

fn document(fleet: &Fleet) -> String {
    let mut script = serde_json::Map::new();
    for layer in 1..=fleet.layers {
        let delay = u64::try_from(fleet.latency.as_millis()).unwrap_or(u64::MAX);
        let mut line = json!({"delay_ms": delay});
        if fails(fleet, layer) {
            line["outcome"] = json!({"fail": {"code": "step-failed", "message": "simulated", "times": 1}});
        }
        script.insert(name(layer), line);
    }
    json!({"deployment": fleet.name, "workload": "layers",
           "nodes": {"all": {"provider": "simulated", "count": fleet.nodes, "with": {"script": script}}}})
    .to_string()
}

/// Spread by the seed: of a hundred layers, `fail`.
fn fails(fleet: &Fleet, layer: u32) -> bool {
    let mut mixed = fleet.seed.wrapping_add(u64::from(layer)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed ^= mixed >> 31;
    mixed % 100 < u64::from(fleet.fail)
}

fn name(layer: u32) -> String {
    format!("layer-{layer:03}")
}

fn catalog(folder: &Path, fleet: &Fleet) -> Result<Catalog, SimulateError> {
    let bundle = folder.join("bundle");
    let write = |path: &str, document: &Value| {
        let path = bundle.join(path);
        fs::create_dir_all(path.parent().unwrap_or(&bundle))?;
        fs::write(path, document.to_string())
    };
    let steps = if fleet.fail > 0 || !fleet.latency.is_zero() {
        json!([{"run": {"text": "true", "unless": "false"}}])
    } else {
        json!([])
    };
    let mut files = vec![("bundle.yaml".to_owned(), json!({"bundle": "simulated", "version": "1.0.0"}))];
    let mut bound = Vec::new();
    for layer in 1..=fleet.layers {
        let before: Vec<String> = (layer > 1).then(|| name(layer - 1)).into_iter().collect();
        let role = json!({"role": name(layer), "version": "1.0.0", "about": "A layer.", "runs": "node",
                          "milestone": true, "requires": before, "apply": steps});
        files.push((format!("roles/{}/role.yaml", name(layer)), role));
        bound.push(json!(name(layer)));
    }
    let workload = json!({"workload": "layers", "version": "1.0.0", "about": "Layers.",
                          "groups": {"all": {"count": {"default": 1, "minimum": 1}}}, "roles": {"all": bound}});
    files.push(("workloads/layers/workload.yaml".to_owned(), workload));
    for (path, document) in &files {
        write(path, document).map_err(SimulateError::Bundle)?;
    }
    let read = Folder::read(&bundle).map_err(|error| Refusal::findings(vec![*error]))?;
    let loaded = load_folders(vec![read]);
    if loaded.has_errors() { Err(Refusal::findings(loaded.diagnostics).into()) } else { Ok(loaded.catalog) }
}
