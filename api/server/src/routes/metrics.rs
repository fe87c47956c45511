//! Figures for whoever draws curves of them.

use axum::extract::State;
use axum::http::header::{CONTENT_TYPE, HeaderName};

use crate::metrics;
use crate::problem::ApiError;
use crate::server::App;

/// The format that the text is in.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Figures in the text format of OpenMetrics, which Prometheus reads. They name deployments, so they need the token as all else.
#[utoipa::path(get, path = "/metrics", responses(
    (status = 200, body = String, content_type = "application/openmetrics-text"),
))]
pub(crate) async fn show(State(app): State<App>) -> Result<([(HeaderName, &'static str); 1], String), ApiError> {
    let text = metrics::text(&app.pool, &app.held, app.control.counted(), &app.version).await?;
    Ok(([(CONTENT_TYPE, OPEN_METRICS)], text))
}
