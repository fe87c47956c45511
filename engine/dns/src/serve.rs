//! The sockets: datagrams one after the other, connections bounded in number and in time.

use std::net::SocketAddr;
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
        Ok(Self { sockets })
    }

    /// Where it answers.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.sockets.iter().filter_map(|(_, listener)| listener.local_addr().ok()).collect()
    }

    /// Answers until it is stopped.
    pub async fn serve<C: Changes>(self, zones: Arc<RwLock<Zones>>, changes: Arc<C>, stop: CancellationToken) {
        let mut tasks = JoinSet::new();
        for (socket, listener) in self.sockets {
            tasks.spawn(datagrams(Arc::new(socket), Arc::clone(&zones), Arc::clone(&changes)));
            tasks.spawn(connections(listener, Arc::clone(&zones), Arc::clone(&changes)));
        }
        // They never end by themselves; what is dropped with the set is ended.
        stop.cancelled().await;
    }
}

fn answered(zones: &RwLock<Zones>, packet: &[u8], over: Over, out: &mut Vec<u8>) {
    answer(&zones.read().unwrap_or_else(PoisonError::into_inner), packet, over, out);
}

async fn datagrams<C: Changes>(socket: Arc<UdpSocket>, zones: Arc<RwLock<Zones>>, changes: Arc<C>) {
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
            let (packet, socket) = (packet.to_vec(), Arc::clone(&socket));
            let (zones, changes) = (Arc::clone(&zones), Arc::clone(&changes));
            tasks.spawn(async move {
                let out = change::answer(&zones, &packet, &*changes).await;
                if let Err(error) = socket.send_to(&out, from).await {
                    tracing::debug!(%error, %from, "the answer to a change was not sent");
                }
                drop(place);
            });
            continue;
        }
        answered(&zones, packet, Over::Udp, &mut out);
        if !out.is_empty()
            && let Err(error) = socket.send_to(&out, from).await
        {
            tracing::debug!(%error, %from, "a DNS answer was not sent");
        }
    }
}

async fn connections<C: Changes>(listener: TcpListener, zones: Arc<RwLock<Zones>>, changes: Arc<C>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut tasks = JoinSet::new();
    loop {
        while tasks.try_join_next().is_some() {}
        // Never closed.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, from)) => {
                let (zones, changes) = (Arc::clone(&zones), Arc::clone(&changes));
                tasks.spawn(async move {
                    if let Err(error) = connection(stream, &zones, &*changes).await {
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
async fn connection<C: Changes>(mut stream: TcpStream, zones: &RwLock<Zones>, changes: &C) -> std::io::Result<()> {
    let mut packet = vec![0; LONGEST];
    let mut out = Vec::new();
    loop {
        let length = usize::from(timeout(IDLE, stream.read_u16()).await??);
        let Some(packet) = packet.get_mut(..length) else { return Ok(()) };
        timeout(IDLE, stream.read_exact(packet)).await??;
        if is_change(packet) {
            out = change::answer(zones, packet, changes).await;
        } else {
            answered(zones, packet, Over::Tcp, &mut out);
        }
        if out.is_empty() {
            return Ok(());
        }
        let length = u16::try_from(out.len()).unwrap_or(u16::MAX).to_be_bytes();
        out.splice(0..0, length);
        timeout(IDLE, stream.write_all(&out)).await??;
    }
}
