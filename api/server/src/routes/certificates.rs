//! What authorities signed.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use engine_core::request::{Page, Problem, RevokeRequest, RotationRequest};
use engine_core::view::{AuthorityView, CertificateView};
use engine_store::read;

use crate::extract::{By, Json as Body, Path};
use crate::problem::{ApiError, Thing};
use crate::server::App;

/// The certificates of a deployment that have not ended, by node.
#[utoipa::path(get, path = "/deployments/{name}/certificates", responses(
    (status = 200, body = Page<CertificateView>),
    (status = 404, body = Problem, content_type = "application/problem+json"),
), params(("name" = String, Path,)))]
pub(crate) async fn list(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Json<Page<CertificateView>>, ApiError> {
    let found = read::certificates(&app.pool, &name).await?;
    let items = found.ok_or_else(|| ApiError::unknown(Thing::Deployment, name))?;
    Ok(Json(Page { items, next: None }))
}

/// Revokes a certificate. Its authority lists it as soon as it can, and whoever reads the list hears of it.
#[utoipa::path(post, path = "/certificates/{serial}/revocations", request_body = RevokeRequest, responses(
    (status = 204),
    (status = 404, body = Problem, content_type = "application/problem+json"),
), params(("serial" = String, Path,)))]
pub(crate) async fn revoke(
    State(app): State<App>,
    Path(serial): Path<String>,
    By(by): By,
    Body(request): Body<RevokeRequest>,
) -> Result<StatusCode, ApiError> {
    app.control.revoke(&serial, request.reason, &by).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The authorities of a deployment that are trusted; more than one generation while one goes over to another key.
#[utoipa::path(get, path = "/deployments/{name}/authorities", responses(
    (status = 200, body = Page<AuthorityView>),
    (status = 404, body = Problem, content_type = "application/problem+json"),
), params(("name" = String, Path,)))]
pub(crate) async fn authorities(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Json<Page<AuthorityView>>, ApiError> {
    let found = read::authorities(&app.pool, &name).await?;
    let items = found.ok_or_else(|| ApiError::unknown(Thing::Deployment, name))?;
    Ok(Json(Page { items, next: None }))
}

/// Begins to go over to another key of an authority: it is introduced, then it signs, then the old one is retired, each when
/// everybody below has absorbed the one before.
#[utoipa::path(post, path = "/deployments/{name}/authorities/{role}/rotations", responses(
    (status = 202),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 409, body = Problem, content_type = "application/problem+json"),
), params(("name" = String, Path,), ("role" = String, Path,)))]
pub(crate) async fn rotate(
    State(app): State<App>,
    Path((name, role)): Path<(String, String)>,
    By(by): By,
) -> Result<StatusCode, ApiError> {
    app.control.rotate(&name, &role, &by).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Asks something of an authority that goes over to another key: to stay in its stage, to go on, or to go back, until the key
/// before is retired.
#[utoipa::path(post, path = "/deployments/{name}/authorities/{role}/asks", request_body = RotationRequest, responses(
    (status = 202),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 409, body = Problem, content_type = "application/problem+json"),
), params(("name" = String, Path,), ("role" = String, Path,)))]
pub(crate) async fn ask(
    State(app): State<App>,
    Path((name, role)): Path<(String, String)>,
    By(by): By,
    Body(request): Body<RotationRequest>,
) -> Result<StatusCode, ApiError> {
    app.control.ask_rotation(&name, &role, request.ask, &by).await?;
    Ok(StatusCode::ACCEPTED)
}
