//! What goes wrong with servers and questions.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// Why a server does not start, or a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    /// Neither UDP nor TCP can do without it.
    #[error("cannot answer DNS questions at {address}: {source}")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Answers from such a socket come from whatever address the way back has, and clients refuse them.
    #[error("{0} is no address that DNS questions can be sent to; name one of this machine")]
    Unspecified(SocketAddr),
    /// The server said nothing.
    #[error("{server} does not answer within {} ms", within.as_millis())]
    Silent {
        /// Which.
        server: SocketAddr,
        /// Waited for so long.
        within: Duration,
    },
    /// The network said something.
    #[error("cannot ask {server}: {source}")]
    Io {
        /// Which.
        server: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It does not do what it is asked.
    #[error("{server} refuses to change the zone {zone}: {code}")]
    Refused {
        /// Which.
        server: SocketAddr,
        /// The zone.
        zone: String,
        /// What it says.
        code: &'static str,
    },
    /// It can not do what it is asked now, as one that has not loaded the zone yet.
    #[error("{server} cannot change the zone {zone} now: SERVFAIL")]
    Unable {
        /// Which.
        server: SocketAddr,
        /// The zone.
        zone: String,
    },
    /// Its answer is not signed with the key that it was asked with.
    #[error("the answer of {server} is not signed as it should be: {what}")]
    Forged {
        /// Which.
        server: SocketAddr,
        /// What is wrong with it.
        what: String,
    },
    /// It would get its key for everybody to read.
    #[error(
        "the API at {0} does not speak TLS, so its key would travel open; name an address of the engine's machine (127.0.0.1)"
    )]
    Open(SocketAddr),
    /// It answered something that is no answer.
    #[error("{server} answers what cannot be read: {what}")]
    Garbled {
        /// Which.
        server: SocketAddr,
        /// Why not.
        what: String,
    },
}

impl DnsError {
    /// Stable code, listed in docs/ERRORS.md.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Bind { .. } | Self::Unspecified(_) => "dns-address",
            Self::Silent { .. } => "dns-silent",
            Self::Io { .. } => "dns-unreachable",
            Self::Refused { .. } => "dns-refused",
            Self::Unable { .. } => "dns-unable",
            Self::Forged { .. } => "dns-forged",
            Self::Open(_) => "dns-api-open",
            Self::Garbled { .. } => "dns-garbled",
        }
    }
}
