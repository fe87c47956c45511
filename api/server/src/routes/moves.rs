//! What people ask of a deployment that is there.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use engine_core::request::{MoveRequest, Problem};
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

/// Runs failed node roles again.
#[utoipa::path(post, path = "/deployments/{name}/retries", request_body = MoveRequest, responses(
    (status = 202, body = Moved),
    (status = 404, body = Problem, content_type = "application/problem+json"),
), params(("name" = String, Path,)))]
pub(crate) async fn retry(
    State(app): State<App>,
    Path(name): Path<String>,
    By(by): By,
    Body(request): Body<MoveRequest>,
) -> Result<(StatusCode, Json<Moved>), ApiError> {
    Ok((StatusCode::ACCEPTED, Json(app.control.retry(&name, request.node_role.as_deref(), &by).await?)))
}

/// Starts no more jobs; running ones end.
#[utoipa::path(post, path = "/deployments/{name}/pauses", request_body = MoveRequest, responses(
    (status = 202, body = Moved),
    (status = 404, body = Problem, content_type = "application/problem+json"),
), params(("name" = String, Path,)))]
pub(crate) async fn pause(
    State(app): State<App>,
    Path(name): Path<String>,
    By(by): By,
    Body(request): Body<MoveRequest>,
) -> Result<(StatusCode, Json<Moved>), ApiError> {
    Ok((StatusCode::ACCEPTED, Json(app.control.pause(&name, request.node_role.as_deref(), &by).await?)))
}

/// Takes a pause back.
#[utoipa::path(post, path = "/deployments/{name}/resumes", request_body = MoveRequest, responses(
    (status = 202, body = Moved),
    (status = 404, body = Problem, content_type = "application/problem+json"),
), params(("name" = String, Path,)))]
pub(crate) async fn resume(
    State(app): State<App>,
    Path(name): Path<String>,
    By(by): By,
    Body(request): Body<MoveRequest>,
) -> Result<(StatusCode, Json<Moved>), ApiError> {
    Ok((StatusCode::ACCEPTED, Json(app.control.resume(&name, request.node_role.as_deref(), &by).await?)))
}

/// Stops running jobs; they fail with code `cancelled`.
#[utoipa::path(post, path = "/deployments/{name}/cancellations", request_body = MoveRequest, responses(
    (status = 202, body = Moved),
    (status = 404, body = Problem, content_type = "application/problem+json"),
), params(("name" = String, Path,)))]
pub(crate) async fn cancel(
    State(app): State<App>,
    Path(name): Path<String>,
    By(by): By,
    Body(request): Body<MoveRequest>,
) -> Result<(StatusCode, Json<Moved>), ApiError> {
    Ok((StatusCode::ACCEPTED, Json(app.control.cancel(&name, request.node_role.as_deref(), &by).await?)))
}

/// Allows what waits for an approval, as it is now; if it changes, it asks again.
#[utoipa::path(post, path = "/deployments/{name}/approvals", request_body = MoveRequest, responses(
    (status = 202, body = Moved),
    (status = 404, body = Problem, content_type = "application/problem+json"),
), params(("name" = String, Path,)))]
pub(crate) async fn approve(
    State(app): State<App>,
    Path(name): Path<String>,
    By(by): By,
    Body(request): Body<MoveRequest>,
) -> Result<(StatusCode, Json<Moved>), ApiError> {
    Ok((StatusCode::ACCEPTED, Json(app.control.approve(&name, request.node_role.as_deref(), &by).await?)))
}
