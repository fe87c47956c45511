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
use crate::error::DnsError;
use crate::zones::Zones;

/// Connections to one address at once; further ones wait.
const CONNECTIONS: usize = 128;
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

/// How many questions were answered.
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

/// What a server answers from, and counts.
#[derive(Clone)]
struct Source {
    zones: Arc<RwLock<Zones>>,
    answered: Arc<Answered>,
}

impl Source {
    fn answer(&self, packet: &[u8], over: Over, out: &mut Vec<u8>) {
        answer(&self.zones.read().unwrap_or_else(PoisonError::into_inner), packet, over, out);
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
    pub async fn serve(self, zones: Arc<RwLock<Zones>>, stop: CancellationToken) {
        let mut tasks = JoinSet::new();
        let source = Source { zones, answered: self.answered };
        for (socket, listener) in self.sockets {
            tasks.spawn(datagrams(socket, source.clone()));
            tasks.spawn(connections(listener, source.clone()));
        }
        // They never end by themselves; what is dropped with the set is ended.
        stop.cancelled().await;
    }
}

async fn datagrams(socket: UdpSocket, source: Source) {
    let mut packet = vec![0; LONGEST];
    let mut out = Vec::with_capacity(LONGEST);
    loop {
        let (length, from) = match socket.recv_from(&mut packet).await {
            Ok(received) => received,
            Err(error) => {
                tracing::debug!(%error, "no DNS question was received");
                sleep(PAUSE).await;
                continue;
            }
        };
        source.answer(&packet[..length], Over::Udp, &mut out);
        if !out.is_empty()
            && let Err(error) = socket.send_to(&out, from).await
        {
            tracing::debug!(%error, %from, "a DNS answer was not sent");
        }
    }
}

async fn connections(listener: TcpListener, source: Source) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut tasks = JoinSet::new();
    loop {
        while tasks.try_join_next().is_some() {}
        // Never closed.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, from)) => {
                let source = source.clone();
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
async fn connection(mut stream: TcpStream, source: &Source) -> std::io::Result<()> {
    let mut packet = vec![0; LONGEST];
    let mut out = Vec::new();
    loop {
        let length = usize::from(timeout(IDLE, stream.read_u16()).await??);
        let Some(packet) = packet.get_mut(..length) else { return Ok(()) };
        timeout(IDLE, stream.read_exact(packet)).await??;
        source.answer(packet, Over::Tcp, &mut out);
        if out.is_empty() {
            return Ok(());
        }
        let length = u16::try_from(out.len()).unwrap_or(u16::MAX).to_be_bytes();
        out.splice(0..0, length);
        timeout(IDLE, stream.write_all(&out)).await??;
    }
}
