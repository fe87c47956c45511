//! What can go wrong between a program and the engine.

use std::path::PathBuf;

use engine_core::diagnostic::Diagnostic;
use engine_core::request::Problem;

/// Why there is no answer, or not the one that was asked for.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody said where the engine is.
    #[error(
        "no engine is known: no --endpoint, no PLINTH_ENDPOINT, and {} is not there; is `plinth serve` running?",
        file.display()
    )]
    NoEngine {
        /// Where `plinth serve` would have written it.
        file: PathBuf,
    },
    /// Nobody answers there.
    #[error("no engine answers at {endpoint}; is `plinth serve` running?")]
    Unreachable {
        /// Where.
        endpoint: String,
        /// What the connection said.
        #[source]
        source: reqwest::Error,
    },
    /// The endpoint is known, the token is not.
    #[error("no token for {endpoint}: give --token or PLINTH_TOKEN")]
    NoToken {
        /// Where.
        endpoint: String,
    },
    /// The endpoint is not a URL that we can use.
    #[error("`{endpoint}` is not an endpoint: expected http://HOST:PORT")]
    BadEndpoint {
        /// As it was given.
        endpoint: String,
    },
    /// The file with endpoint and token can not be used.
    #[error("{}: {reason}", file.display())]
    File {
        /// Which.
        file: PathBuf,
        /// Why.
        reason: String,
    },
    /// The engine says no.
    #[error("{}", .0.detail)]
    Problem(Box<Problem>),
    /// The answer can not be read.
    #[error("{endpoint} answers with something else than Plinth's API: {reason}")]
    Answer {
        /// Where.
        endpoint: String,
        /// What was wrong with it.
        reason: String,
    },
}

impl ClientError {
    /// Stable across releases; listed in docs/ERRORS.md.
    pub fn code(&self) -> &str {
        match self {
            Self::NoEngine { .. } | Self::Unreachable { .. } => "no-engine",
            Self::NoToken { .. } => "no-token",
            Self::BadEndpoint { .. } => "bad-endpoint",
            Self::File { .. } => "endpoint-file",
            Self::Problem(problem) => &problem.code,
            Self::Answer { .. } => "bad-answer",
        }
    }

    /// The HTTP status, if there was an answer.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Problem(problem) => Some(problem.status),
            _ => None,
        }
    }

    /// Findings in a document, if it was one.
    pub fn diagnostics(&self) -> &[Diagnostic] {
        match self {
            Self::Problem(problem) => &problem.diagnostics,
            _ => &[],
        }
    }

    /// Worth another attempt by itself: the engine may come back.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Problem(problem) => problem.status == 503,
            _ => false,
        }
    }
}
