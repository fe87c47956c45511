//! `plinth serve`: the engine and its API in one process.

mod bridge;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use api_client::Endpoint;
use api_server::Server;
use engine_catalog::Folder;
use engine_core::diagnostic::Diagnostic;
use engine_daemon::equipment::AgentMissing;
use engine_daemon::{AgentBinary, Config, Engine, equipment};
use engine_store::connect::{self, Target};
use engine_store::embedded::{Embedded, EmbeddedConfig};
use engine_store::seal::KeyFile;
use engine_store::{StoreError, migrate};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use crate::args::Serve;
use crate::output::CliError;
use bridge::Bridge;

/// Connections to the database.
const POOL: u32 = 16;
/// How long a database elsewhere may take to answer at the start.
const DATABASE_WITHIN: Duration = Duration::from_secs(30);
/// How often the private Postgres is looked after.
const LOOK: Duration = Duration::from_secs(2);
/// How often its log is trimmed.
const HOUSEKEEPING: Duration = Duration::from_mins(10);

/// Why the engine does not run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    /// The data directory.
    #[error("cannot use the data directory {path}: {source}", path = path.display())]
    Data {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A bundle that can not be read.
    #[error("a bundle can not be read")]
    Bundle(Box<Diagnostic>),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The engine.
    #[error(transparent)]
    Engine(#[from] engine_daemon::ConfigError),
    /// The port.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The API.
    #[error(transparent)]
    Server(#[from] api_server::ServerError),
    /// The lab.
    #[error(transparent)]
    Provider(#[from] engine_daemon::ProviderError),
    /// A simulation.
    #[error(transparent)]
    Simulate(#[from] engine_daemon::simulate::SimulateError),
    /// No agent to put on nodes.
    #[error(transparent)]
    Agent(#[from] AgentMissing),
    /// A loop of the engine ended.
    #[error("{0}; jobs on nodes go on, start the engine again")]
    Broken(String),
}

impl ServeError {
    /// What is wrong with the bundles, if that is why.
    pub(crate) fn findings(&self) -> &[Diagnostic] {
        match self {
            Self::Bundle(one) => std::slice::from_ref(one),
            Self::Engine(engine_daemon::ConfigError::Bundles(refusal)) => &refusal.diagnostics,
            Self::Simulate(engine_daemon::simulate::SimulateError::Refused(refusal)) => &refusal.diagnostics,
            _ => &[],
        }
    }

    /// Stable code, listed in docs/ERRORS.md.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Data { .. } => "data-folder",
            Self::Bundle(_) => "bundles-invalid",
            Self::Store(error) => error.code(),
            Self::Engine(error) => error.code(),
            Self::Listen { source, .. } if source.kind() == std::io::ErrorKind::AddrInUse => "port-taken",
            Self::Listen { .. } => "listen-failed",
            Self::Server(error) => error.code(),
            Self::Provider(error) => error.code(),
            Self::Simulate(error) => error.code(),
            Self::Agent(error) => error.code(),
            Self::Broken(_) => "engine-broken",
        }
    }
}

/// Runs the engine until it is told to stop.
pub(crate) fn run(args: Serve) -> Result<ExitCode, CliError> {
    log();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let served = runtime.block_on(serve(args));
    // Threads that still wait for a provider's command must not hold up the end.
    runtime.shutdown_timeout(Duration::from_secs(2));
    served?;
    Ok(ExitCode::SUCCESS)
}

fn log() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let plain = std::env::var_os("NO_COLOR").is_some() || !std::io::IsTerminal::is_terminal(&std::io::stderr());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(!plain).init();
}

async fn serve(args: Serve) -> Result<(), ServeError> {
    let data = args.data.unwrap_or_else(api_client::endpoint::data_dir);
    let folder = |source| ServeError::Data { path: data.clone(), source };
    std::fs::create_dir_all(&data).map_err(folder)?;
    // Before anything that takes time: a port that is taken is told at once.
    let (listener, address) = listen(args.listen).await?;
    let mut lists = Vec::new();
    for address in args.lists {
        lists.push(listen(address).await?);
    }
    let read = args.bundle.iter().map(|path| Folder::read(path).map_err(ServeError::Bundle));
    let bundles = read.collect::<Result<Vec<_>, _>>()?;
    // Read and hashed while Postgres starts.
    let agent = tokio::task::spawn_blocking(equipment::agent);
    let embedded = match &args.database {
        Some(_) => None,
        None => Some(Embedded::start(EmbeddedConfig::new(data.join("postgres"))).await?),
    };
    let seal_key = seal_key(args.seal_key, &data);
    let parts = Parts { data: &data, seal_key, listener, address, dns: args.dns, lists, bundles, agent };
    let served = with_database(args.database.as_deref(), embedded.as_ref(), parts).await;
    if let Some(embedded) = embedded {
        let how = embedded.stop().await?;
        tracing::info!(?how, "the private Postgres");
    }
    served
}

/// What needs no database.
struct Parts<'a> {
    data: &'a Path,
    seal_key: KeyFile,
    listener: TcpListener,
    address: SocketAddr,
    dns: Vec<SocketAddr>,
    lists: Vec<(TcpListener, SocketAddr)>,
    bundles: Vec<Folder>,
    agent: JoinHandle<Result<AgentBinary, AgentMissing>>,
}

async fn with_database(url: Option<&str>, embedded: Option<&Embedded>, parts: Parts<'_>) -> Result<(), ServeError> {
    let Parts { data, seal_key, listener, address, dns, lists, bundles, agent } = parts;
    let target = match (url, embedded) {
        (Some(url), _) => Target::url(url)?,
        (None, Some(embedded)) => embedded.target(),
        (None, None) => Target::url("")?,
    };
    connect::wait_until_up(&target, DATABASE_WITHIN).await?;
    let migrated = migrate::run(&target).await?;
    if migrated.from != migrated.to {
        tracing::info!(from = migrated.from, to = migrated.to, "the schema of the database is up to date");
    }
    let pool = connect::connect(&target, POOL).await?;
    let agent = agent.await.map_err(|error| ServeError::Broken(error.to_string()))??;
    let mut config = Config::new(pool.clone(), target.clone(), bundles, agent, data.to_owned());
    config.providers = equipment::providers(data);
    config.seal_key = seal_key;
    config.dns = dns;
    config.lists = lists.iter().map(|(_, address)| *address).collect();
    let mut engine = Engine::start(config).await?;
    let endpoint = endpoint(data, address).map_err(|source| ServeError::Data { path: data.to_owned(), source })?;
    let server = Server {
        pool,
        database: target,
        control: Arc::new(Bridge(engine.control())),
        token: endpoint.token.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let stop = CancellationToken::new();
    for (listener, address) in lists {
        tokio::spawn(api_server::lists(Arc::clone(&server.control), listener, stop.clone()));
        tracing::info!(%address, "serves lists of what was revoked");
    }
    let serving = tokio::spawn(server.serve(listener, stop.clone()));
    tracing::info!(endpoint = endpoint.endpoint, data = %data.display(), dns = ?engine.dns(), "plinth serves");
    let broken = tokio::select! {
        () = told_to_stop() => None,
        why = engine.failed() => Some(why),
        () = look_after(embedded) => None,
    };
    stop.cancel();
    engine.stop().await;
    match (broken, serving.await) {
        (Some(why), _) => Err(ServeError::Broken(why)),
        (None, Ok(served)) => Ok(served?),
        (None, Err(error)) => Err(ServeError::Broken(error.to_string())),
    }
}

async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), ServeError> {
    let failed = |source| ServeError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

/// Where the seal key is. Only our own is made; one that was named has to be there.
fn seal_key(named: Option<PathBuf>, data: &Path) -> KeyFile {
    let credential = std::env::var_os("CREDENTIALS_DIRECTORY").map(|folder| Path::new(&folder).join("plinth-seal-key"));
    match named.or_else(|| credential.filter(|file| file.exists())) {
        Some(path) => KeyFile { path, make: false },
        None => KeyFile { path: data.join("seal.key"), make: true },
    }
}

/// The file by which commands find us; the token is made once and stays.
fn endpoint(data: &Path, address: SocketAddr) -> std::io::Result<Endpoint> {
    let token = match Endpoint::find(None, None, data) {
        Ok(known) => known.token,
        Err(_) => {
            let mut bytes = [0; 32];
            std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom")?, &mut bytes)?;
            bytes.iter().map(|byte| format!("{byte:02x}")).collect()
        }
    };
    let endpoint = Endpoint { endpoint: format!("http://{address}"), token };
    endpoint.write(data)?;
    Ok(endpoint)
}

/// Until somebody asks this process to end.
pub(crate) async fn told_to_stop() {
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    tracing::info!("stopping");
}

/// Starts the private Postgres again when it is gone. Never returns.
async fn look_after(embedded: Option<&Embedded>) {
    let Some(embedded) = embedded else { return std::future::pending().await };
    let mut kept = tokio::time::Instant::now();
    loop {
        tokio::time::sleep(LOOK).await;
        if let Err(error) = embedded.ensure().await {
            tracing::warn!(%error, code = error.code(), "the private Postgres is down");
        }
        if kept.elapsed() > HOUSEKEEPING {
            kept = tokio::time::Instant::now();
            if let Err(error) = embedded.housekeep() {
                tracing::warn!(%error, "cannot trim the log of Postgres");
            }
        }
    }
}
