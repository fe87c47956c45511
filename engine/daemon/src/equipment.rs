//! What an engine of this machine is equipped with: providers, and the agent that it puts on nodes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine_provider::lab::{Lab, LabConfig};
use engine_provider::simulated::Simulated;
use engine_provider::ssh::Ssh;
use engine_provider::{Provider, Providers};
use engine_remote::AgentBinary;

/// Names the agent's binary.
const VARIABLE: &str = "PLINTH_AGENT";
/// Where packages put it.
const INSTALLED: &str = "/usr/lib/plinth/plinth-agent";

/// All providers, with what they remember below this folder.
pub fn providers(data: &Path) -> Providers {
    let all: [Arc<dyn Provider>; 3] = [
        Arc::new(Lab::new(LabConfig::new(data.join("lab")))),
        Arc::new(Ssh::new(data.join("ssh-hosts.json"))),
        Arc::new(Simulated::new()),
    ];
    all.into_iter().map(|provider| (provider.name().to_owned(), provider)).collect()
}

/// The lab of this machine, telling a person what takes long.
pub fn lab(data: &Path, progress: impl Fn(&str) + Send + Sync + 'static) -> Lab {
    Lab::with_progress(LabConfig::new(data.join("lab")), progress)
}

/// What this machine lacks to have a lab, in sentences for people.
pub fn lab_lacks(data: &Path) -> Vec<String> {
    Lab::doctor(&LabConfig::new(data.join("lab")))
}

/// Where the agent's static binary is looked for, first found first taken.
pub fn agent_places() -> Vec<PathBuf> {
    let mut places: Vec<PathBuf> = std::env::var_os(VARIABLE).map(PathBuf::from).into_iter().collect();
    if let Ok(program) = std::env::current_exe() {
        // In a build folder above the command (target/debug/plinth, target/plinth-agent): what cargo makes beside the
        // command is not static. Installed: ../lib/plinth.
        if let Some(folder) = program.parent() {
            places.extend(folder.parent().map(|above| above.join("plinth-agent")));
            places.push(folder.join("../lib/plinth/plinth-agent"));
        }
    }
    places.push(PathBuf::from(INSTALLED));
    places
}

/// The agent that is put on nodes.
///
/// # Errors
/// None is found; the sentence says where it was looked for.
pub fn agent() -> Result<AgentBinary, AgentMissing> {
    let places = agent_places();
    let found = places.iter().find_map(|place| std::fs::read(place).ok());
    match found {
        Some(bytes) => Ok(AgentBinary::new(std::env::consts::ARCH, bytes)),
        None => Err(AgentMissing { places }),
    }
}

/// No agent to put on nodes.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the agent's binary is in none of {}; `make build` makes it, {VARIABLE} names another place", list(.places))]
pub struct AgentMissing {
    /// Where it was looked for.
    pub places: Vec<PathBuf>,
}

impl AgentMissing {
    /// Stable code, listed in docs/ERRORS.md.
    pub fn code(&self) -> &'static str {
        "agent-missing"
    }
}

fn list(places: &[PathBuf]) -> String {
    places.iter().map(|place| place.display().to_string()).collect::<Vec<_>>().join(", ")
}
