//! Documents that people send: what they would do, and doing it.

use axum::Json;
use axum::extract::State;
use engine_core::plan::dry_run::DryRun;
use engine_core::request::{ApplyRequest, Document};
use engine_core::view::Applied;

use crate::extract::{By, Json as Body};
use crate::problem::ApiError;
use crate::server::App;

/// What applying the deployments of a file would do; changes nothing.
#[utoipa::path(post, path = "/plans", request_body = Document, responses(
    (status = 200, body = Vec<Applied>),
    (status = 422, body = engine_core::request::Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn plan(
    State(app): State<App>,
    Body(document): Body<Document>,
) -> Result<Json<Vec<Applied>>, ApiError> {
    Ok(Json(app.control.plan(&document).await?))
}

/// What the steps that applying a file would run again would change on their nodes. Changes nothing; answers when all
/// of them have said it.
#[utoipa::path(post, path = "/dry-runs", request_body = Document, responses(
    (status = 200, body = Vec<DryRun>),
    (status = 422, body = engine_core::request::Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn dry_run(
    State(app): State<App>,
    Body(document): Body<Document>,
) -> Result<Json<Vec<DryRun>>, ApiError> {
    Ok(Json(app.control.dry_run(&document).await?))
}

/// Commits the deployments of a file. They converge from then on.
#[utoipa::path(post, path = "/applies", request_body = ApplyRequest, responses(
    (status = 200, body = Vec<Applied>),
    (status = 409, body = engine_core::request::Problem, content_type = "application/problem+json"),
    (status = 422, body = engine_core::request::Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn apply(
    State(app): State<App>,
    By(by): By,
    Body(request): Body<ApplyRequest>,
) -> Result<Json<Vec<Applied>>, ApiError> {
    Ok(Json(app.control.apply(&request.document, &request.seen, &by).await?))
}
