//! Commands on nodes.

use std::convert::Infallible;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use engine_core::request::{ExecRequest, Problem};
use engine_core::view::ExecEvent;
use futures::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;

use crate::extract::Json as Ask;
use crate::problem::ApiError;
use crate::server::App;

/// Runs a command on nodes, side by side. Answers line by line (NDJSON) as it runs; each node ends with `ended`.
#[utoipa::path(post, path = "/exec", request_body = ExecRequest, responses(
    (status = 200, body = ExecEvent, content_type = "application/x-ndjson"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn exec(State(app): State<App>, Ask(request): Ask<ExecRequest>) -> Result<Response, ApiError> {
    let events = app.control.exec(&request.nodes, request.command, request.seconds).await?;
    let lines = ReceiverStream::new(events).take_until(app.stop.clone().cancelled_owned()).map(|event| {
        // Plain data always has a JSON form.
        let mut line = serde_json::to_vec(&event).unwrap_or_default();
        line.push(b'\n');
        Ok::<_, Infallible>(Bytes::from(line))
    });
    let kind = [(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"))];
    Ok((kind, Body::from_stream(lines)).into_response())
}
