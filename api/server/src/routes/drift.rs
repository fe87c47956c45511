//! Is everything as it was made, and did everything go that was promised to?

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use engine_core::request::{CheckRequest, Page, Problem};
use engine_core::view::{DriftReport, Moved, ResidueView};
use engine_store::read;

use crate::extract::{By, Json as Body, Path};
use crate::problem::{ApiError, Thing};
use crate::server::App;

/// Asks for checks; `…/drift` says what they find.
#[utoipa::path(post, path = "/deployments/{name}/checks", request_body = CheckRequest, responses(
    (status = 202, body = Moved),
    (status = 404, body = Problem, content_type = "application/problem+json"),
), params(("name" = String, Path,)))]
pub(crate) async fn check(
    State(app): State<App>,
    Path(name): Path<String>,
    By(by): By,
    Body(request): Body<CheckRequest>,
) -> Result<(StatusCode, Json<Moved>), ApiError> {
    Ok((StatusCode::ACCEPTED, Json(app.control.check(&name, &request, &by).await?)))
}

/// What the last checks of a deployment found.
#[utoipa::path(get, path = "/deployments/{name}/drift", responses(
    (status = 200, body = DriftReport),
    (status = 404, body = Problem, content_type = "application/problem+json"),
), params(("name" = String, Path,)))]
pub(crate) async fn show(State(app): State<App>, Path(name): Path<String>) -> Result<Json<DriftReport>, ApiError> {
    let found = read::drift(&app.pool, &name).await?;
    found.map(Json).ok_or_else(|| ApiError::unknown(Thing::Deployment, name))
}

/// What was promised to go and is still there, or was never taken away; also of a deployment that is gone.
#[utoipa::path(get, path = "/deployments/{name}/residue", responses(
    (status = 200, body = Page<ResidueView>),
    (status = 404, body = Problem, content_type = "application/problem+json"),
), params(("name" = String, Path,)))]
pub(crate) async fn residue(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Json<Page<ResidueView>>, ApiError> {
    let found = read::residue_of(&app.pool, &name).await?;
    let items = found.ok_or_else(|| ApiError::unknown(Thing::Deployment, name))?;
    Ok(Json(Page { items, next: None }))
}
