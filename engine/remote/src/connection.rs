//! One SSH connection: made, let in, kept.
//!
//! Nothing here tries again. A connection that is lost stays lost, and says why.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use russh::client::{self, AuthResult, DisconnectReason, Handle, Msg};
use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::AgentClient;
use russh::keys::{
    Algorithm, EcdsaCurve, HashAlg, PrivateKey, PrivateKeyWithHashAlg, PublicKey, PublicKeyOrCertificate,
};
use russh::{ChannelOpenFailure, Disconnect, Preferred, cipher, compression, kex};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::channel::{Channel, Closing};
use crate::key::describe;
use crate::{RemoteError, Settings, Target};

/// A connection that is let in.
pub(crate) struct Connection {
    handle: Handle<Host>,
    /// The key that the host showed, in OpenSSH one-line form.
    pub(crate) host_key: String,
    /// `user@address:port`.
    pub(crate) at: String,
    slots: Arc<Semaphore>,
    channels: usize,
    patience: Duration,
    used: Mutex<Instant>,
    lost: Lost,
    closing: mpsc::UnboundedSender<Closing>,
    /// Sends the close of channels that were dropped; ends with the connection.
    _closer: JoinSet<()>,
}

impl Connection {
    /// Connects, takes its turn, checks the host key and logs in.
    pub(crate) async fn open(target: &Target, settings: &Settings, turns: &Semaphore) -> Result<Self, RemoteError> {
        let late = |_| RemoteError::Unreachable {
            at: target.at(),
            reason: format!("nothing within {} s", settings.connect_timeout.as_secs()),
        };
        let pinned = pinned(target)?;
        let private = target.keys.private()?;
        let stream = timeout(settings.connect_timeout, connect(target)).await.map_err(late)??;
        let _turn = turns.acquire().await.expect("the semaphore is never closed");
        timeout(settings.connect_timeout, Self::greet(stream, pinned, private, target, settings)).await.map_err(late)?
    }

    /// Key exchange and login.
    async fn greet(
        stream: TcpStream,
        pinned: Vec<PublicKey>,
        private: Vec<(String, Arc<PrivateKey>)>,
        target: &Target,
        settings: &Settings,
    ) -> Result<Self, RemoteError> {
        let at = target.at();
        let lost = Lost::default();
        let host = Host { pinned, seen: Arc::default(), lost: lost.clone() };
        let seen = Arc::clone(&host.seen);
        let config = config(&host.pinned, settings);
        let mut handle = client::connect_stream(config, stream, host).await.map_err(|error| error.explain(target))?;
        log_in(&mut handle, target, private).await?;
        let host_key = lock(&seen).clone().unwrap_or_default();
        let (closing, queue) = mpsc::unbounded_channel();
        let mut closer = JoinSet::new();
        closer.spawn(close_dropped(queue));
        let (channels, patience) = (settings.channels, settings.connect_timeout);
        let slots = Arc::new(Semaphore::new(channels));
        let used = Mutex::new(Instant::now());
        Ok(Self { handle, host_key, at, slots, channels, patience, used, lost, closing, _closer: closer })
    }

    /// A channel that runs `command`; waits while as many are open as may be.
    pub(crate) async fn exec(&self, command: &str) -> Result<Channel, RemoteError> {
        let slot = Arc::clone(&self.slots).acquire_owned().await.expect("the semaphore is never closed");
        *lock(&self.used) = Instant::now();
        let (read, write) = self.session().await?.split();
        let channel = Channel::new(read, write, slot, self.closing.clone());
        channel.start(command).await.map_err(|error| self.broken(&error))?;
        Ok(channel)
    }

    /// A session. A host counts those that have ended until it has collected them, and says no meanwhile: asked again,
    /// with growing pauses, for as long as a login may take.
    async fn session(&self) -> Result<russh::Channel<Msg>, RemoteError> {
        let end = Instant::now() + self.patience;
        let mut pause = Duration::from_millis(5);
        loop {
            match self.handle.channel_open_session().await {
                Err(russh::Error::ChannelOpenFailure(
                    ChannelOpenFailure::ConnectFailed | ChannelOpenFailure::ResourceShortage,
                )) if Instant::now() + pause < end => sleep(pause).await,
                opened => return opened.map_err(|error| self.broken(&error)),
            }
            pause = (pause * 2).min(Duration::from_millis(500));
        }
    }

    /// Is it of no more use?
    pub(crate) fn is_closed(&self) -> bool {
        self.handle.is_closed()
    }

    /// How long nothing has used it; `None` while something does.
    pub(crate) fn idle(&self) -> Option<Duration> {
        (self.slots.available_permits() == self.channels).then(|| lock(&self.used).elapsed())
    }

    /// The error for whoever was using it when it broke.
    pub(crate) fn lost(&self) -> RemoteError {
        let reason = lock(&self.lost.0).clone().unwrap_or_else(|| "the other side closed it".to_owned());
        RemoteError::ConnectionLost { at: self.at.clone(), reason }
    }

    /// Ends it, with everything that is open on it.
    pub(crate) async fn hang_up(&self) {
        // An error means that it is over already.
        let _ = self.handle.disconnect(Disconnect::ByApplication, "", "").await;
    }

    fn broken(&self, error: &russh::Error) -> RemoteError {
        match error {
            russh::Error::ChannelOpenFailure(reason) => RemoteError::Refused {
                at: self.at.clone(),
                reason: format!("no further session on this connection ({reason:?})"),
            },
            _ => self.lost(),
        }
    }
}

/// Why a connection is over, once it is.
#[derive(Clone, Debug, Default)]
struct Lost(Arc<Mutex<Option<String>>>);

/// Our side of the host key check.
struct Host {
    pinned: Vec<PublicKey>,
    seen: Arc<Mutex<Option<String>>>,
    lost: Lost,
}

/// What ends a handshake.
#[derive(Debug)]
enum HostError {
    Ssh(russh::Error),
    OtherKey(String),
}

impl From<russh::Error> for HostError {
    fn from(error: russh::Error) -> Self {
        Self::Ssh(error)
    }
}

impl HostError {
    fn explain(self, target: &Target) -> RemoteError {
        let at = target.at();
        match self {
            Self::OtherKey(offered) => RemoteError::HostKeyChanged { at, offered, pinned: target.host_keys.clone() },
            Self::Ssh(error @ russh::Error::NoCommonAlgo { .. }) => {
                RemoteError::Incompatible { at, reason: error.to_string() }
            }
            Self::Ssh(error) => RemoteError::Refused { at, reason: error.to_string() },
        }
    }
}

impl client::Handler for Host {
    type Error = HostError;

    async fn check_server_key(&mut self, offered: &PublicKeyOrCertificate) -> Result<bool, HostError> {
        let PublicKeyOrCertificate::PublicKey { key, .. } = offered else {
            return Err(HostError::OtherKey("a certificate".to_owned()));
        };
        let line = key.to_openssh().map_err(russh::Error::from)?;
        if !self.pinned.is_empty() && !self.pinned.iter().any(|pinned| pinned.key_data() == key.key_data()) {
            return Err(HostError::OtherKey(line));
        }
        *lock(&self.seen) = Some(line);
        Ok(true)
    }

    async fn disconnected(&mut self, reason: DisconnectReason<HostError>) -> Result<(), HostError> {
        let text = match &reason {
            DisconnectReason::ReceivedDisconnect(info) => format!("the other side hung up: {}", info.message),
            DisconnectReason::Error(HostError::Ssh(error)) => error.to_string(),
            DisconnectReason::Error(HostError::OtherKey(_)) => "the host key changed".to_owned(),
        };
        *lock(&self.lost.0) = Some(text);
        match reason {
            DisconnectReason::ReceivedDisconnect(_) => Ok(()),
            DisconnectReason::Error(error) => Err(error),
        }
    }
}

fn pinned(target: &Target) -> Result<Vec<PublicKey>, RemoteError> {
    let parse = |line: &String| {
        PublicKey::from_openssh(line).map_err(|error| RemoteError::HostKeyChanged {
            at: target.at(),
            offered: format!("not compared: the pinned key can not be read ({error})"),
            pinned: target.host_keys.clone(),
        })
    };
    target.host_keys.iter().map(parse).collect()
}

/// Key exchanges in order: one that outlasts quantum computers, then what costs a host least (OpenSSH computes P-256 by
/// the fast code of OpenSSL and Curve25519 by portable code of its own, which is a tenth of a login), then the rest.
fn key_exchanges() -> Vec<kex::Name> {
    let mut names = Preferred::DEFAULT.kex.to_vec();
    let cheapest = names.iter().position(|name| *name == kex::CURVE25519).unwrap_or(0);
    names.insert(cheapest, kex::ECDH_SHA2_NISTP256);
    names
}

/// Cheap and safe algorithms first; types of pinned host keys before others, so that the host shows one we can compare.
fn config(pinned: &[PublicKey], settings: &Settings) -> Arc<client::Config> {
    let mut key: Vec<Algorithm> = pinned.iter().map(PublicKey::algorithm).collect();
    let curves = [EcdsaCurve::NistP256, EcdsaCurve::NistP384, EcdsaCurve::NistP521];
    let others = std::iter::once(Algorithm::Ed25519).chain(curves.map(|curve| Algorithm::Ecdsa { curve }));
    key.extend(others);
    let mut unique = Vec::new();
    for algorithm in key {
        if !unique.contains(&algorithm) {
            unique.push(algorithm);
        }
    }
    let preferred = Preferred {
        kex: key_exchanges().into(),
        key: unique.into(),
        cipher: vec![cipher::AES_256_GCM, cipher::CHACHA20_POLY1305, cipher::AES_256_CTR].into(),
        compression: vec![compression::NONE].into(),
        ..Preferred::DEFAULT
    };
    Arc::new(client::Config {
        preferred,
        nodelay: true,
        keepalive_interval: Some(settings.keepalive),
        keepalive_max: 3,
        ..client::Config::default()
    })
}

async fn connect(target: &Target) -> Result<TcpStream, RemoteError> {
    let unreachable = |error: std::io::Error| RemoteError::Unreachable { at: target.at(), reason: error.to_string() };
    let stream = match target.address.parse() {
        Ok(ip) => TcpStream::connect(SocketAddr::new(ip, target.port)).await,
        Err(_) => TcpStream::connect((target.address.as_str(), target.port)).await,
    };
    let stream = stream.map_err(unreachable)?;
    stream.set_nodelay(true).map_err(unreachable)?;
    Ok(stream)
}

/// Tries the keys in order until one is let in.
async fn log_in(
    handle: &mut Handle<Host>,
    target: &Target,
    private: Vec<(String, Arc<PrivateKey>)>,
) -> Result<(), RemoteError> {
    let mut tried = Vec::new();
    for (origin, key) in private {
        tried.push(describe(&origin, key.public_key()));
        let hash = key.algorithm().is_rsa().then_some(HashAlg::Sha256);
        let result = handle.authenticate_publickey(&target.user, PrivateKeyWithHashAlg::new(key, hash)).await;
        if accepted(result, handle, target, &tried)? {
            return Ok(());
        }
    }
    if let Some(socket) = &target.keys.agent {
        let unusable = |reason: String| RemoteError::KeyUnusable { path: socket.clone(), reason };
        let mut agent = AgentClient::connect_uds(socket).await.map_err(|error| unusable(error.to_string()))?;
        let identities = agent.request_identities().await.map_err(|error| unusable(error.to_string()))?;
        for identity in identities {
            let AgentIdentity::PublicKey { key, comment } = identity else { continue };
            tried.push(describe(&format!("agent {comment}"), &key));
            let hash = key.algorithm().is_rsa().then_some(HashAlg::Sha256);
            let result = handle.authenticate_publickey_with(&target.user, key, hash, &mut agent).await;
            if accepted(result.map_err(|_| russh::Error::SendError), handle, target, &tried)? {
                return Ok(());
            }
        }
    }
    Err(RemoteError::AuthFailed { at: target.at(), tried })
}

fn accepted(
    result: Result<AuthResult, russh::Error>,
    handle: &Handle<Host>,
    target: &Target,
    tried: &[String],
) -> Result<bool, RemoteError> {
    match result {
        Ok(AuthResult::Success) => Ok(true),
        // The server hangs up after too many keys, or when no method is left.
        Ok(AuthResult::Failure { .. }) | Err(_) if handle.is_closed() => {
            Err(RemoteError::AuthFailed { at: target.at(), tried: tried.to_vec() })
        }
        Ok(AuthResult::Failure { .. }) | Err(_) => Ok(false),
    }
}

async fn close_dropped(mut queue: mpsc::UnboundedReceiver<Closing>) {
    while let Some(closing) = queue.recv().await {
        // An error means that the connection is over, and the channel with it.
        let _ = closing.writer.close().await;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
