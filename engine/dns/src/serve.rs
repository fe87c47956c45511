//! The sockets: datagrams one after the other, connections bounded in number and in time.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::answer::{Over, answer};
use crate::change::{self, Changes, is_change};
use crate::error::DnsError;
use crate::zones::Zones;

/// Connections to one address at once; further ones wait.
const CONNECTIONS: usize = 128;
/// Changes over UDP that are worked on at once, for each address.
const CHANGES: usize = 1024;
/// A connection on which nothing is asked for so long, or an answer not taken, is closed.
const IDLE: Duration = Duration::from_secs(10);
/// Longer questions do not exist.
const LONGEST: usize = 4096;
/// After the network said that something is wrong with a socket.
const PAUSE: Duration = Duration::from_millis(50);

/// A server on its addresses, that does not answer yet.
#[derive(Debug)]
pub struct Server {
    sockets: Vec<(UdpSocket, TcpListener)>,
    answered: Arc<Answered>,
}

/// How many questions were answered, those for changes among them.
#[derive(Debug, Default)]
pub struct Answered {
    udp: AtomicU64,
    tcp: AtomicU64,
}

impl Answered {
    /// Over UDP and over TCP, since the server was made.
    pub fn counts(&self) -> [u64; 2] {
        [&self.udp, &self.tcp].map(|count| count.load(Ordering::Relaxed))
    }
}

/// What a server answers from, who writes changes, and what it counts.
struct Source<C> {
    zones: Arc<RwLock<Zones>>,
    changes: Arc<C>,
    answered: Arc<Answered>,
}

impl<C: Changes> Source<C> {
    fn answer(&self, packet: &[u8], over: Over, out: &mut Vec<u8>) {
        answer(&self.zones.read().unwrap_or_else(PoisonError::into_inner), packet, over, out);
        self.count(over, out);
    }

    async fn change(&self, packet: &[u8], over: Over) -> Vec<u8> {
        let out = change::answer(&self.zones, packet, &*self.changes).await;
        self.count(over, &out);
        out
    }

    fn count(&self, over: Over, out: &[u8]) {
        let count = match over {
            Over::Udp => &self.answered.udp,
            Over::Tcp => &self.answered.tcp,
        };
        if !out.is_empty() {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Server {
    /// Takes UDP and TCP of each address. Port 0 is any that is free for both.
    ///
    /// # Errors
    /// An address that is taken or not of this machine, or none to which questions can be sent.
    pub async fn bind(addresses: &[SocketAddr]) -> Result<Self, DnsError> {
        let mut sockets = Vec::new();
        for address in addresses {
            if address.ip().is_unspecified() {
                return Err(DnsError::Unspecified(*address));
            }
            let wrong = |source| DnsError::Bind { address: *address, source };
            let listener = TcpListener::bind(address).await.map_err(wrong)?;
            let same = listener.local_addr().map_err(wrong)?;
            sockets.push((UdpSocket::bind(same).await.map_err(wrong)?, listener));
        }
        Ok(Self { sockets, answered: Arc::default() })
    }

    /// Where it answers.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.sockets.iter().filter_map(|(_, listener)| listener.local_addr().ok()).collect()
    }

    /// How many questions it has answered.
    pub fn answered(&self) -> Arc<Answered> {
        Arc::clone(&self.answered)
    }

    /// Answers until it is stopped.
    pub async fn serve<C: Changes>(self, zones: Arc<RwLock<Zones>>, changes: Arc<C>, stop: CancellationToken) {
        let mut tasks = JoinSet::new();
        let source = Arc::new(Source { zones, changes, answered: self.answered });
        for (socket, listener) in self.sockets {
            tasks.spawn(datagrams(Arc::new(socket), Arc::clone(&source)));
            tasks.spawn(connections(listener, Arc::clone(&source)));
        }
        // They never end by themselves; what is dropped with the set is ended.
        stop.cancelled().await;
    }
}

async fn datagrams<C: Changes>(socket: Arc<UdpSocket>, source: Arc<Source<C>>) {
    let mut packet = vec![0; LONGEST];
    let mut out = Vec::with_capacity(LONGEST);
    let places = Arc::new(Semaphore::new(CHANGES));
    let mut tasks = JoinSet::new();
    loop {
        while tasks.try_join_next().is_some() {}
        let (length, from) = match socket.recv_from(&mut packet).await {
            Ok(received) => received,
            Err(error) => {
                tracing::debug!(%error, "no DNS question was received");
                sleep(PAUSE).await;
                continue;
            }
        };
        let packet = &packet[..length];
        if is_change(packet) {
            // Who gets no answer asks again.
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
            let (packet, socket, source) = (packet.to_vec(), Arc::clone(&socket), Arc::clone(&source));
            tasks.spawn(async move {
                let out = source.change(&packet, Over::Udp).await;
                if let Err(error) = socket.send_to(&out, from).await {
                    tracing::debug!(%error, %from, "the answer to a change was not sent");
                }
                drop(place);
            });
            continue;
        }
        source.answer(packet, Over::Udp, &mut out);
        if !out.is_empty()
            && let Err(error) = socket.send_to(&out, from).await
        {
            tracing::debug!(%error, %from, "a DNS answer was not sent");
        }
    }
}

async fn connections<C: Changes>(listener: TcpListener, source: Arc<Source<C>>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut tasks = JoinSet::new();
    loop {
        while tasks.try_join_next().is_some() {}
        // Never closed.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, from)) => {
                let source = Arc::clone(&source);
                tasks.spawn(async move {
                    if let Err(error) = connection(stream, &source).await {
                        tracing::debug!(%error, %from, "a DNS connection ended");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "no DNS connection was accepted");
                sleep(PAUSE).await;
            }
        }
    }
}

/// One question after the other, each behind its length.
async fn connection<C: Changes>(mut stream: TcpStream, source: &Source<C>) -> std::io::Result<()> {
    let mut packet = vec![0; LONGEST];
    let mut out = Vec::new();
    loop {
        let length = usize::from(timeout(IDLE, stream.read_u16()).await??);
        let Some(packet) = packet.get_mut(..length) else { return Ok(()) };
        timeout(IDLE, stream.read_exact(packet)).await??;
        if is_change(packet) {
            out = source.change(packet, Over::Tcp).await;
        } else {
            source.answer(packet, Over::Tcp, &mut out);
        }
        if out.is_empty() {
            return Ok(());
        }
        let length = u16::try_from(out.len()).unwrap_or(u16::MAX).to_be_bytes();
        out.splice(0..0, length);
        timeout(IDLE, stream.write_all(&out)).await??;
    }
}
