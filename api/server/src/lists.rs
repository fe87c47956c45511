//! Lists of what authorities revoked, for those whom certificates send here (RFC 5280, section 4.2.1.13): nothing else is answered,
//! so others may reach it. Lists are signed, and nobody has to know anything to have one.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::control::Control;
use crate::problem::ApiError;
use crate::routes::certificates::listed;

/// Serves `/AUTHORITY/PART.crl` and `/AUTHORITY/PART.pem` until `stop`.
pub async fn lists(control: Arc<dyn Control>, listener: TcpListener, stop: CancellationToken) {
    let router = Router::new()
        .route("/{authority}/{part}", get(part))
        .fallback(async || ApiError::NoRoute)
        .method_not_allowed_fallback(async || ApiError::Method)
        .with_state(control);
    if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await {
        tracing::warn!(%error, "lists of what was revoked are not served any more");
    }
}

async fn part(
    State(control): State<Arc<dyn Control>>,
    Path((authority, file)): Path<(Uuid, String)>,
) -> Result<impl IntoResponse, ApiError> {
    listed(control.as_ref(), authority, &file).await
}
