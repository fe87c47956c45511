//! What people ask of a deployment that is there.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use engine_core::request::{AskRequest, Problem};
use engine_core::view::{Applied, Moved};

use crate::extract::{By, Json as Body, Path};
use crate::problem::ApiError;
use crate::server::App;

/// Lets everything of a deployment leave, its own nodes too.
#[utoipa::path(delete, path = "/deployments/{name}", responses(
    (status = 202, body = Applied),
    (status = 404, body = Problem, content_type = "application/problem+json"),
), params(("name" = String, Path,)))]
pub(crate) async fn destroy(
    State(app): State<App>,
    Path(name): Path<String>,
    By(by): By,
) -> Result<(StatusCode, Json<Applied>), ApiError> {
    Ok((StatusCode::ACCEPTED, Json(app.control.destroy(&name, &by).await?)))
}

/// What a destroy would do; changes nothing.
#[utoipa::path(post, path = "/deployments/{name}/destroy-plans", responses(
    (status = 200, body = Applied),
    (status = 404, body = Problem, content_type = "application/problem+json"),
), params(("name" = String, Path,)))]
pub(crate) async fn plan_destroy(State(app): State<App>, Path(name): Path<String>) -> Result<Json<Applied>, ApiError> {
    Ok(Json(app.control.plan_destroy(&name).await?))
}

/// Asks something of one node role, or of all of the deployment that it can be asked of: to run again what failed, to
/// pause, to go on, to stop what runs, to allow what waits for an approval.
#[utoipa::path(post, path = "/deployments/{name}/asks", request_body = AskRequest, responses(
    (status = 202, body = Moved),
    (status = 404, body = Problem, content_type = "application/problem+json"),
), params(("name" = String, Path,)))]
pub(crate) async fn ask(
    State(app): State<App>,
    Path(name): Path<String>,
    By(by): By,
    Body(request): Body<AskRequest>,
) -> Result<(StatusCode, Json<Moved>), ApiError> {
    Ok((StatusCode::ACCEPTED, Json(app.control.ask(&name, &request, &by).await?)))
}
