//! The provider `simulated`: nodes that exist only in memory, for tests.
//!
//! Options say how it behaves: `address`, `facts`, and for each of `create`, `power` and `destroy` a `delay_ms` and a
//! `fail` with a message and how many times. `script` says how jobs on the node end; see [`Script`]. With the engine's
//! process the nodes are gone; what a script answers depends on nothing but its arguments.

mod script;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use engine_core::document::Object;
use serde::{Deserialize, Serialize};

pub use self::script::{Line, Script, ScriptedFailure, ScriptedOutcome, ScriptedWait, SimulatedAnswer};
use crate::options::Options;
use crate::{Access, NodeRequest, NodeStatus, Power, Provider, ProviderError};

const NAME: &str = "simulated";

/// All options that there are.
const KNOWN: [&str; 6] = ["address", "facts", "create", "power", "destroy", "script"];

/// How one kind of action behaves.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Behaviour {
    /// It takes so long.
    #[serde(default)]
    pub delay_ms: u64,
    /// And then fails.
    #[serde(default)]
    pub fail: Option<Failure>,
}

/// A failure of the provider itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failure {
    /// The reason it gives.
    pub message: String,
    /// How many times in a row, before it succeeds; always if not said.
    #[serde(default)]
    pub times: Option<u32>,
}

/// The script in a node's options; an empty one if there is none.
///
/// # Errors
/// [`ProviderError::Option`] if it can not be understood.
pub fn script_of(with: &Object) -> Result<Script, ProviderError> {
    Ok(Options::new(NAME, with, &KNOWN)?.get("script")?.unwrap_or_default())
}

/// Nodes that exist only in memory.
#[derive(Default)]
pub struct Simulated {
    world: Mutex<World>,
}

#[derive(Default)]
struct World {
    nodes: BTreeMap<String, Node>,
    /// Failed attempts by node and action; a node that could not be created counts, too.
    failed: BTreeMap<(String, &'static str), u32>,
    made: u32,
}

struct Node {
    access: Access,
    on: bool,
    console: Vec<String>,
    power: Behaviour,
    destroy: Behaviour,
}

impl Simulated {
    /// An empty world.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty world, beside so many nodes whose addresses are taken.
    pub fn beside(nodes: u32) -> Self {
        Self { world: Mutex::new(World { made: nodes, ..World::default() }) }
    }

    fn with<T>(&self, work: impl FnOnce(&mut World) -> T) -> T {
        // Nothing in here panics half way through a change.
        work(&mut self.world.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits and fails as it is told to.
    async fn behave(
        &self,
        node: &str,
        action: &'static str,
        doing: &'static str,
        behaviour: &Behaviour,
    ) -> Result<(), ProviderError> {
        tokio::time::sleep(Duration::from_millis(behaviour.delay_ms)).await;
        let Some(failure) = &behaviour.fail else { return Ok(()) };
        let attempt = self.with(|world| {
            let count = world.failed.entry((node.to_owned(), action)).or_default();
            *count += 1;
            *count
        });
        if failure.times.is_some_and(|times| attempt > times) {
            return Ok(());
        }
        Err(ProviderError::Failed { provider: NAME, doing, node: node.to_owned(), reason: failure.message.clone() })
    }

    fn present<T>(&self, node: &str, work: impl FnOnce(&mut Node) -> T) -> Result<T, ProviderError> {
        self.with(|world| world.nodes.get_mut(node).map(work))
            .ok_or_else(|| ProviderError::Absent { provider: NAME, node: node.to_owned() })
    }
}

#[async_trait]
impl Provider for Simulated {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn create(&self, request: &NodeRequest) -> Result<Access, ProviderError> {
        let options = Options::new(NAME, &request.with, &KNOWN)?;
        let address: Option<String> = options.get("address")?;
        let facts: Object = options.get("facts")?.unwrap_or_default();
        let create: Behaviour = options.get("create")?.unwrap_or_default();
        let power: Behaviour = options.get("power")?.unwrap_or_default();
        let destroy: Behaviour = options.get("destroy")?.unwrap_or_default();
        options.get::<Script>("script")?;
        self.behave(&request.name, "create", "creating", &create).await?;
        Ok(self.with(|world| {
            let made = world.made;
            let node = world.nodes.entry(request.name.clone()).or_insert_with(|| {
                world.made += 1;
                let address = address.unwrap_or_else(|| unreal(made).to_string());
                let access = Access { address, port: 22, user: "root".to_owned(), host_keys: Vec::new(), facts };
                Node { access, on: false, console: Vec::new(), power, destroy }
            });
            node.set(true);
            node.access.clone()
        }))
    }

    async fn status(&self, node: &str) -> Result<NodeStatus, ProviderError> {
        Ok(self.with(|world| match world.nodes.get(node) {
            None => NodeStatus::Absent,
            Some(node) if node.on => NodeStatus::Running { access: node.access.clone() },
            Some(_) => NodeStatus::Stopped,
        }))
    }

    async fn power(&self, node: &str, power: Power) -> Result<(), ProviderError> {
        let (behaviour, on) = self.present(node, |node| (node.power.clone(), node.on))?;
        let doing = match power {
            Power::On => "switching on",
            Power::Off => "switching off",
            Power::Reboot => "rebooting",
        };
        if power == Power::Reboot && !on {
            let reason = "it is switched off".to_owned();
            return Err(ProviderError::Failed { provider: NAME, doing, node: node.to_owned(), reason });
        }
        self.behave(node, "power", doing, &behaviour).await?;
        self.present(node, |node| {
            if power == Power::Reboot {
                node.set(false);
            }
            node.set(power != Power::Off);
        })
    }

    async fn console(&self, node: &str, lines: usize) -> Result<String, ProviderError> {
        self.present(node, |node| node.console[node.console.len().saturating_sub(lines)..].join("\n"))
    }

    async fn destroy(&self, node: &str) -> Result<(), ProviderError> {
        let Ok(behaviour) = self.present(node, |node| node.destroy.clone()) else { return Ok(()) };
        self.behave(node, "destroy", "destroying", &behaviour).await?;
        self.with(|world| {
            world.nodes.remove(node);
            world.failed.retain(|(name, _), _| name != node);
        });
        Ok(())
    }

    async fn list(&self) -> Result<Vec<String>, ProviderError> {
        Ok(self.with(|world| world.nodes.keys().cloned().collect()))
    }
}

impl Node {
    fn set(&mut self, on: bool) {
        if self.on != on {
            self.on = on;
            self.console.push(if on { "switched on" } else { "switched off" }.to_owned());
        }
    }
}

/// An address of the range for benchmarks (RFC 2544), which nobody routes.
fn unreal(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(198, 18, 0, 1)) + number % 131_000)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn request(with: serde_json::Value) -> NodeRequest {
        NodeRequest {
            name: "a".to_owned(),
            authorized_keys: Vec::new(),
            with: with.as_object().expect("an object").clone(),
        }
    }

    #[tokio::test]
    async fn takes_its_time_and_fails_as_often_as_told() {
        let world = Simulated::new();
        let request = request(json!({"create": {"delay_ms": 20, "fail": {"message": "no capacity", "times": 2}}}));
        let start = std::time::Instant::now();
        for _ in 0..2 {
            let error = world.create(&request).await.expect_err("told to fail");
            assert_eq!(error.to_string(), "provider `simulated` failed creating `a`: no capacity");
            assert_eq!(world.status("a").await.expect("a status"), NodeStatus::Absent);
        }
        let access = world.create(&request).await.expect("the third time");
        assert_eq!(access.address, "198.18.0.1");
        assert!(start.elapsed() >= Duration::from_millis(60), "three times the delay");
    }

    #[tokio::test]
    async fn facts_come_from_the_options() {
        let world = Simulated::new();
        let with = json!({"address": "192.0.2.9", "facts": {"cpus": 8}, "destroy": {"fail": {"message": "stuck"}}});
        let access = world.create(&request(with)).await.expect("created");
        assert_eq!((access.address.as_str(), &access.facts["cpus"]), ("192.0.2.9", &json!(8)));
        for _ in 0..3 {
            assert_eq!(world.destroy("a").await.expect_err("always").code(), "provider-failed");
        }
    }

    #[tokio::test]
    async fn a_world_beside_others_gives_other_addresses() {
        let access = Simulated::beside(7).create(&request(json!({}))).await.expect("created");
        assert_eq!(access.address, "198.18.0.8");
    }

    #[tokio::test]
    async fn a_wrong_script_is_an_error_at_create() {
        let with = json!({"script": {"etcd": {"outcome": "sometimes"}}});
        let error = Simulated::new().create(&request(with)).await.expect_err("refused");
        assert!(error.to_string().starts_with("option `script` of provider `simulated`: unknown variant"), "{error}");
    }
}
