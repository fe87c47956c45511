//! The only place that turns an error into a status, and the only one that logs it.

use axum::Json;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use engine_core::diagnostic::Diagnostic;
use engine_core::request::Problem;
use engine_core::view::{Refusal, RefusalKind};
use engine_store::StoreError;

/// Why a request was not answered as asked.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The engine refuses.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The store can not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No token, or a wrong one.
    #[error("the token is missing or wrong")]
    Unauthorized,
    /// No such path.
    #[error("there is nothing at this path")]
    NoRoute,
    /// The path is there, but not with this method.
    #[error("this path does not take this method")]
    Method,
    /// The request can not be read.
    #[error("{detail}")]
    Request {
        /// The status to answer with.
        status: StatusCode,
        /// What is wrong with it.
        detail: String,
    },
    /// There is no such thing.
    #[error("there is no {what} `{name}`")]
    Unknown {
        /// What sort of thing.
        what: Thing,
        /// Its name.
        name: String,
    },
    /// A fault of ours.
    #[error("the engine failed to answer; its log says why")]
    Panic,
}

/// What can be asked for by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thing {
    /// A deployment.
    Deployment,
    /// A node role.
    NodeRole,
    /// A node.
    Node,
    /// A job.
    Job,
    /// A revision of a deployment.
    Revision,
    /// A role of the catalog.
    Role,
    /// A workload of the catalog.
    Workload,
    /// A zone.
    Zone,
    /// A certificate.
    Certificate,
}

impl std::fmt::Display for Thing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Deployment => "deployment",
            Self::NodeRole => "node role",
            Self::Node => "node",
            Self::Job => "job",
            Self::Revision => "revision",
            Self::Role => "role",
            Self::Workload => "workload",
            Self::Zone => "zone",
            Self::Certificate => "certificate",
        })
    }
}

impl ApiError {
    /// There is no such thing.
    pub(crate) fn unknown(what: Thing, name: impl Into<String>) -> Self {
        Self::Unknown { what, name: name.into() }
    }

    /// Stable across releases; listed in docs/ERRORS.md.
    pub fn code(&self) -> &str {
        match self {
            Self::Refused(refusal) => &refusal.code,
            Self::Store(error) => error.code(),
            Self::Unauthorized => "unauthorized",
            Self::NoRoute => "no-route",
            Self::Method => "method-not-allowed",
            Self::Request { status, .. } if *status == StatusCode::PAYLOAD_TOO_LARGE => "request-too-large",
            Self::Request { .. } => "bad-request",
            Self::Unknown { what: Thing::Deployment, .. } => "unknown-deployment",
            Self::Unknown { what: Thing::NodeRole, .. } => "unknown-node-role",
            Self::Unknown { what: Thing::Node, .. } => "unknown-node",
            Self::Unknown { what: Thing::Job, .. } => "unknown-job",
            Self::Unknown { what: Thing::Revision, .. } => "unknown-revision",
            Self::Unknown { what: Thing::Role, .. } => "unknown-role",
            Self::Unknown { what: Thing::Workload, .. } => "unknown-workload",
            Self::Unknown { what: Thing::Zone, .. } => "unknown-zone",
            Self::Unknown { what: Thing::Certificate, .. } => "unknown-certificate",
            Self::Panic => "internal-error",
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::Refused(refusal) => match refusal.kind {
                RefusalKind::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
                RefusalKind::NotFound => StatusCode::NOT_FOUND,
                RefusalKind::Conflict => StatusCode::CONFLICT,
                RefusalKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
                RefusalKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            },
            Self::Store(error) if error.is_transient() => StatusCode::SERVICE_UNAVAILABLE,
            Self::Store(_) | Self::Panic => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::NoRoute | Self::Unknown { .. } => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Request { status, .. } => *status,
        }
    }

    fn diagnostics(&self) -> Vec<Diagnostic> {
        match self {
            Self::Refused(refusal) => refusal.diagnostics.clone(),
            _ => Vec::new(),
        }
    }
}

impl IntoResponse for ApiError {
    /// Without a body, which [`told`] makes: only it knows the request.
    fn into_response(self) -> Response {
        let status = self.status();
        let problem = Problem {
            kind: format!("urn:plinth:error:{}", self.code()),
            title: status.canonical_reason().unwrap_or("Error").to_owned(),
            status: status.as_u16(),
            detail: self.to_string(),
            code: self.code().to_owned(),
            diagnostics: self.diagnostics(),
            instance: String::new(),
            request_id: String::new(),
        };
        if status.is_server_error() {
            let cause = std::error::Error::source(&self).map(ToString::to_string).unwrap_or_default();
            tracing::warn!(code = problem.code, error = %self, cause, "a request failed");
        }
        let mut response = status.into_response();
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response.extensions_mut().insert(Told(Box::new(problem)));
        response
    }
}

/// A problem on its way to [`told`].
#[derive(Clone)]
struct Told(Box<Problem>);

/// Middleware, the outermost but the one that makes request ids: writes problems down with what it knows of the request.
pub(crate) async fn told(request: Request, next: Next) -> Response {
    let instance = request.uri().path().to_owned();
    let id = request.headers().get("x-request-id").and_then(|id| id.to_str().ok()).unwrap_or_default().to_owned();
    let mut response = next.run(request).await;
    let Some(Told(problem)) = response.extensions_mut().remove() else { return response };
    let (mut parts, _) = response.into_parts();
    let body = Json(Problem { instance, request_id: id, ..*problem }).into_response().into_body();
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    Response::from_parts(parts, Body::new(body))
}

/// A handler panicked.
pub(crate) fn panicked(cause: Box<dyn std::any::Any + Send>) -> Response {
    let said = cause
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| cause.downcast_ref::<&str>().copied())
        .unwrap_or("no text");
    tracing::error!(panic = said, "a handler panicked");
    ApiError::Panic.into_response()
}
