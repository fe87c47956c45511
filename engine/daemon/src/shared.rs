//! What all loops of an engine share.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use engine_core::catalog::{Catalog, CatalogRole};
use engine_core::document::setting::RuleDoc;
use engine_core::id::EngineId;
use engine_core::schema::Validators;
use engine_core::secret::DigestKey;
use engine_dns::{Answered, Server};
use engine_provider::Providers;
use engine_remote::{DeployKey, Keys, Pool, Settings, Target};
use engine_store::connect::Target as Database;
use engine_store::nodes::Node;
use engine_store::pass::Revisions;
use engine_store::seal::Sealer;
use engine_store::{PgPool, StoreError, jobs, secrets};
use tokio::sync::{Notify, watch};
use uuid::Uuid;

use crate::bundles::Bundles;
use crate::dns::{Memory, Names, NetworkChange};
use crate::signing::Signing;
use crate::{Config, ConfigError, MadeUp};

/// Roles that are kept at hand.
const ROLES_KEPT: usize = 256;

pub(crate) struct Shared {
    pub(crate) pool: PgPool,
    pub(crate) database: Database,
    pub(crate) bundles: Bundles,
    pub(crate) providers: Providers,
    pub(crate) remote: Pool,
    pub(crate) key: DeployKey,
    pub(crate) sealer: Sealer,
    /// What tokens of secrets are made with.
    pub(crate) digest_key: DigestKey,
    pub(crate) data: PathBuf,
    /// Nothing is really done: jobs come to this.
    pub(crate) made_up: Option<MadeUp>,
    pub(crate) jobs: usize,
    pub(crate) lease: Duration,
    pub(crate) poll: Duration,
    pub(crate) validators: Validators,
    pub(crate) revisions: Revisions,
    /// Checks are asked for, or jobs beside their vertices have ended.
    pub(crate) beside: Notify,
    /// Something is to be tried again, and it is written down when.
    pub(crate) again: Notify,
    /// Some authority goes over to another key: what comes to rest may be what its next stage waits for.
    pub(crate) rotating: AtomicBool,
    /// A job was put away, or is to be looked at earlier than its row said.
    pub(crate) put_away: Notify,
    /// Where this engine answers DNS questions.
    pub(crate) dns: Vec<String>,
    /// How often it did.
    pub(crate) answered: Arc<Answered>,
    /// Records of node roles on their way to the database.
    pub(crate) names: Names,
    /// Changes that others ask for, on their way there.
    pub(crate) network: NetworkChange,
    /// The zones that this engine answers for.
    pub(crate) memory: Memory,
    /// Counts how often this engine has taken in what was written; it answers that from then on.
    pub(crate) taken_in: watch::Sender<u64>,
    /// Certificates that people ask for.
    pub(crate) signing: Signing,
    /// Counts hints; every loop that looks for work watches it.
    pub(crate) hints: watch::Sender<u64>,
    /// Rules as they were read last, in order.
    pub(crate) rules: RwLock<Arc<Vec<RuleDoc>>>,
    engine: RwLock<EngineId>,
    roles: Mutex<HashMap<String, Arc<CatalogRole>>>,
}

/// The ways to those who gather writes.
pub(crate) struct Ways {
    pub(crate) names: Names,
    pub(crate) network: NetworkChange,
    pub(crate) signing: Signing,
}

impl Shared {
    /// `server`: who answers questions, and where; `ways`: to whoever writes.
    pub(crate) async fn new(
        config: Config,
        (server, addresses): (&Server, &[SocketAddr]),
        ways: Ways,
    ) -> Result<Self, ConfigError> {
        let folder = |source| ConfigError::Folder { path: config.data.clone(), source };
        std::fs::create_dir_all(config.data.join("keys")).map_err(folder)?;
        let (sealer, digest_key) = if config.seals_nothing {
            (Sealer::of_nobody(), DigestKey::of_nobody())
        } else {
            let sealer = Sealer::start(&config.pool, &config.seal_key).await?;
            let digest_key = secrets::digest_key(&config.pool, &sealer).await?;
            (sealer, digest_key)
        };
        let key = DeployKey::load_or_create(&config.data.join("deploy.key"))?;
        Ok(Self {
            pool: config.pool,
            database: config.target,
            bundles: Bundles::default(),
            providers: config.providers,
            remote: Pool::new(Settings::default(), config.agent),
            key,
            sealer,
            digest_key,
            data: config.data,
            made_up: config.made_up,
            jobs: config.jobs,
            lease: config.lease,
            poll: config.poll,
            validators: Validators::default(),
            revisions: Revisions::default(),
            beside: Notify::new(),
            again: Notify::new(),
            rotating: AtomicBool::new(false),
            put_away: Notify::new(),
            dns: addresses.iter().map(ToString::to_string).collect(),
            answered: server.answered(),
            names: ways.names,
            network: ways.network,
            memory: Memory::new(
                addresses.iter().map(SocketAddr::ip).collect(),
                config.lists.iter().map(SocketAddr::ip).collect(),
            ),
            taken_in: watch::Sender::new(0),
            signing: ways.signing,
            hints: watch::Sender::new(0),
            rules: RwLock::default(),
            engine: RwLock::new(EngineId(Uuid::now_v7())),
            roles: Mutex::default(),
        })
    }

    /// The id under which this engine is registered now.
    pub(crate) fn engine(&self) -> EngineId {
        *self.engine.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new id: what was held under the old one is lost.
    pub(crate) fn rename(&self) -> EngineId {
        let id = EngineId(Uuid::now_v7());
        *self.engine.write().unwrap_or_else(PoisonError::into_inner) = id;
        id
    }

    pub(crate) fn hint(&self) {
        self.hints.send_modify(|count| *count += 1);
    }

    /// The catalog as it is now.
    pub(crate) async fn catalog(&self) -> Result<Arc<Catalog>, StoreError> {
        self.bundles.catalog(&self.pool).await
    }

    /// The role behind a content hash. It never changes, so it is kept.
    pub(crate) async fn role(&self, hash: &str) -> Result<Arc<CatalogRole>, StoreError> {
        if let Some(role) = self.role_at_hand(hash) {
            return Ok(role);
        }
        let role = Arc::new(jobs::content(&self.pool, hash).await?);
        let mut kept = self.kept();
        if kept.len() >= ROLES_KEPT {
            kept.clear();
        }
        kept.insert(hash.to_owned(), Arc::clone(&role));
        Ok(role)
    }

    /// The same, if it was loaded before.
    pub(crate) fn role_at_hand(&self, hash: &str) -> Option<Arc<CatalogRole>> {
        self.kept().get(hash).cloned()
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<String, Arc<CatalogRole>>> {
        self.roles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The private key that a person gave for the first login to a node, as long as it is needed.
    pub(crate) fn first_key(&self, name: &str) -> PathBuf {
        self.data.join("keys").join(name)
    }

    /// How to reach a node, if it has an address yet.
    pub(crate) fn target(&self, node: &Node) -> Option<Target> {
        let first = self.first_key(&node.name);
        let keys = Keys {
            deploy: Some(self.key.clone()),
            files: first.exists().then_some(first).into_iter().collect(),
            agent: std::env::var_os("SSH_AUTH_SOCK").map(PathBuf::from).filter(|_| !node.owned),
        };
        Some(Target {
            node: node.id,
            name: node.name.clone(),
            address: node.address.clone()?,
            port: u16::try_from(node.port?).ok()?,
            user: node.user.clone()?,
            host_keys: node.host_keys.clone(),
            keys: Arc::new(keys),
        })
    }
}
