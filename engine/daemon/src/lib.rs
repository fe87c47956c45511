//! Wires: the pass, job runners, node life cycles, leases and what people ask for, over one database.
//!
//! An [`Engine`] is a handful of loops that share a pool. Each looks at the database when it is hinted at, and now and
//! then anyway. None of them remembers anything that it could not read again: a crash at any point loses nothing.

mod again;
mod bundles;
mod config;
mod control;
mod dns;
mod drift;
pub mod equipment;
mod expiry;
mod gather;
mod hints;
mod hooks;
mod imports;
mod joining;
mod lease;
mod nodes;
mod outages;
mod pass;
mod put_away;
mod rules;
mod run;
mod secrets;
mod shared;
mod signing;
pub mod simulate;

pub use config::{Config, ConfigError, MadeUp};
pub use control::Control;
pub use engine_provider::ProviderError;
pub use engine_remote::AgentBinary;
pub use engine_store::StoreError;

use std::net::SocketAddr;
use std::sync::Arc;

use engine_dns::Server;
use engine_store::connect::Own;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::shared::{Shared, Ways};

/// A running engine.
pub struct Engine {
    shared: Arc<Shared>,
    stop: CancellationToken,
    loops: JoinSet<()>,
}

impl Engine {
    /// Registers with the database and starts all loops.
    pub async fn start(config: Config) -> Result<Self, ConfigError> {
        let (server, bundles) = (Server::bind(&config.dns).await?, config.bundles.clone());
        let answers = server.addresses();
        let (names, records) = gather::gather();
        let (network, changes) = gather::gather();
        let (signing, asked) = signing::Signing::new();
        let shared = Arc::new(Shared::new(config, (&server, &answers), Ways { names, network, signing }).await?);
        let loaded = Control::new(Arc::clone(&shared)).push_folders(&bundles, &[], "serve").await;
        for warning in loaded.map_err(Box::new)?.warnings {
            tracing::warn!("{warning}");
        }
        lease::enter(&shared).await?;
        let own = || Own::new(shared.pool.clone());
        let stop = CancellationToken::new();
        let mut loops = JoinSet::new();
        let (runners, reports) = run::Runners::new(Arc::clone(&shared));
        loops.spawn(hints::listen(Arc::clone(&shared), stop.clone()));
        loops.spawn(pass::turns(Arc::clone(&shared), runners.clone(), reports, stop.clone()));
        loops.spawn(lease::keep(Arc::clone(&shared), runners.clone(), stop.clone()));
        loops.spawn(run::cancellations(Arc::clone(&shared), runners.clone(), stop.clone()));
        loops.spawn(nodes::work(Arc::clone(&shared), runners.clone(), stop.clone()));
        loops.spawn(nodes::watch(Arc::clone(&shared), stop.clone()));
        loops.spawn(put_away::watch(Arc::clone(&shared), runners.clone(), stop.clone()));
        loops.spawn(drift::watch(Control::new(Arc::clone(&shared)), runners, stop.clone()));
        loops.spawn(hooks::watch(Arc::clone(&shared), stop.clone()));
        loops.spawn(rules::watch(Arc::clone(&shared), stop.clone()));
        loops.spawn(joining::watch(Control::new(Arc::clone(&shared)), stop.clone()));
        loops.spawn(imports::watch(Arc::clone(&shared), stop.clone()));
        loops.spawn(outages::watch(Arc::clone(&shared), stop.clone()));
        loops.spawn(again::watch(Arc::clone(&shared), stop.clone()));
        loops.spawn(records.write(dns::Records { shared: Arc::clone(&shared), own: own() }, stop.clone()));
        loops.spawn(changes.write(dns::Drafts { shared: Arc::clone(&shared), own: own() }, stop.clone()));
        loops.spawn(asked.write(signing::Signed(own()), stop.clone()));
        if !answers.is_empty() {
            loops.spawn(dns::serve(Arc::clone(&shared), server, stop.clone()));
        }
        loops.spawn(expiry::watch(Control::new(Arc::clone(&shared)), stop.clone()));
        tracing::info!(engine = %shared.engine(), "the engine is up");
        Ok(Self { shared, stop, loops })
    }

    /// Where it answers DNS questions.
    pub fn dns(&self) -> Vec<SocketAddr> {
        self.shared.dns.iter().filter_map(|address| address.parse().ok()).collect()
    }

    /// What people can ask of it.
    pub fn control(&self) -> Control {
        Control::new(Arc::clone(&self.shared))
    }

    /// Waits until a loop ends by itself, which is a bug: it panicked.
    pub async fn failed(&mut self) -> String {
        match self.loops.join_next().await {
            Some(Err(error)) => format!("a part of the engine failed: {error}"),
            _ => "a part of the engine ended".to_owned(),
        }
    }

    /// Ends in order: nothing new is started, jobs on nodes go on and are let go of for the next engine.
    pub async fn stop(mut self) {
        self.stop.cancel();
        while self.loops.join_next().await.is_some() {}
        if let Err(error) = engine_store::engines::strike(&self.shared.pool, &[self.shared.engine()], false).await {
            tracing::warn!(%error, "the engine could not sign off; its lease runs out by itself");
        }
        tracing::info!("the engine has stopped; jobs on nodes go on");
    }
}
