//! The server as a whole: what it needs, where it listens, how it stops.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use engine_store::PgPool;
use engine_store::connect::Target;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower::ServiceBuilder;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer};

use crate::control::Control;
use crate::metrics::Held;
use crate::problem::{self, ApiError};
use crate::wake::{self, Bell};
use crate::{gate, routes};

/// Larger bodies are refused.
const LARGEST_BODY: usize = 8 * 1024 * 1024;

/// What the API is made of.
pub struct Server {
    /// Where views are read.
    pub pool: PgPool,
    /// The same database, to listen for hints on a connection of its own.
    pub database: Target,
    /// What changes something.
    pub control: Arc<dyn Control>,
    /// What callers have to know.
    pub token: String,
    /// Version of the engine.
    pub version: String,
}

/// What handlers share.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) pool: PgPool,
    pub(crate) control: Arc<dyn Control>,
    pub(crate) token: Arc<str>,
    pub(crate) version: Arc<str>,
    pub(crate) bell: Bell,
    pub(crate) stop: CancellationToken,
    pub(crate) held: Held,
}

/// Why the server does not run.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The API is for this machine: it speaks without TLS.
    #[error("the API would listen on {address}, which others can reach; it listens on 127.0.0.1 or ::1 only")]
    NotLoopback {
        /// Where it was to listen.
        address: SocketAddr,
    },
    /// The socket failed.
    #[error("the API stopped listening")]
    Listen(#[source] std::io::Error),
}

impl ServerError {
    /// Stable across releases; listed in docs/ERRORS.md.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotLoopback { .. } => "listen-not-loopback",
            Self::Listen(_) => "listen-failed",
        }
    }
}

impl Server {
    /// Serves until `stop`, then ends streams, lets requests end and returns.
    pub async fn serve(self, listener: TcpListener, stop: CancellationToken) -> Result<(), ServerError> {
        let address = listener.local_addr().map_err(ServerError::Listen)?;
        if !address.ip().is_loopback() {
            return Err(ServerError::NotLoopback { address });
        }
        let bell = Bell::default();
        let (pool, database) = (self.pool.clone(), self.database.clone());
        let done = stop.child_token();
        let router = self.router(bell.clone(), done.clone());
        let serving = async {
            let served = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await;
            // Also when the socket failed: the listener for hints has nobody to wake any more.
            done.cancel();
            served
        };
        let (served, ()) = tokio::join!(serving, wake::run(database, pool, bell, done.clone()));
        served.map_err(ServerError::Listen)
    }

    fn router(self, bell: Bell, stop: CancellationToken) -> Router {
        let app = App {
            pool: self.pool,
            control: self.control,
            token: self.token.into(),
            version: self.version.into(),
            bell,
            stop,
            held: Held::default(),
        };
        let (open, closed, _) = routes::parts();
        let closed = closed.route_layer(middleware::from_fn_with_state(app.clone(), gate::token));
        let layers = ServiceBuilder::new()
            .layer(SetRequestIdLayer::x_request_id(MakeRequestUuid))
            .layer(PropagateRequestIdLayer::x_request_id())
            .layer(middleware::from_fn(problem::told))
            .layer(CatchPanicLayer::custom(problem::panicked))
            .layer(DefaultBodyLimit::max(LARGEST_BODY));
        Router::new()
            .merge(open)
            .merge(closed)
            .fallback(async || ApiError::NoRoute)
            .method_not_allowed_fallback(async || ApiError::Method)
            .layer(layers)
            .with_state(app)
    }
}
