//! Waiting for an SSH server: the condition is its banner, not an open port.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

/// One attempt to connect and read the banner takes this long at most.
const ATTEMPT: Duration = Duration::from_millis(500);

/// Attempts start this far apart.
const PACE: Duration = Duration::from_millis(40);

/// Bytes of a banner line at most; RFC 4253 says 255.
const LINE: u64 = 512;

/// The server's version line, such as `SSH-2.0-OpenSSH_9.2`.
pub(crate) async fn read(address: SocketAddr, limit: Duration) -> io::Result<String> {
    let talk = async {
        let stream = TcpStream::connect(address).await?;
        let mut line = String::new();
        // A server may say other lines before its version (RFC 4253 section 4.2); ours never does, so one is read.
        BufReader::new(stream.take(LINE)).read_line(&mut line).await?;
        let line = line.trim_end();
        if line.starts_with("SSH-") {
            Ok(line.to_owned())
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidData, format!("what answers is no SSH server: `{line}`")))
        }
    };
    timeout(limit, talk).await.unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "no answer")))
}

/// Asks until the banner comes, `gone` says that waiting is in vain, or `limit` is over. The error is the last one.
pub(crate) async fn wait(
    address: SocketAddr,
    limit: Duration,
    mut gone: impl FnMut() -> Option<String>,
) -> io::Result<String> {
    let deadline = Instant::now() + limit;
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        pace.tick().await;
        let error = match read(address, ATTEMPT.min(limit)).await {
            Ok(banner) => return Ok(banner),
            Err(error) => error,
        };
        if let Some(reason) = gone() {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, reason));
        }
        if Instant::now() >= deadline {
            return Err(error);
        }
    }
}
