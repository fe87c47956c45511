//! Secrets of deployments: everything but their values.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use engine_core::request::{Document, Page, Problem};
use engine_core::view::{Resealed, SecretView};
use engine_store::read;

use crate::extract::{Json as Body, Path};
use crate::problem::{ApiError, Thing};
use crate::server::App;

/// The secrets of a deployment, and the node roles that they reach.
#[utoipa::path(get, path = "/deployments/{name}/secrets", responses(
    (status = 200, body = Page<SecretView>),
    (status = 404, body = Problem, content_type = "application/problem+json"),
), params(("name" = String, Path,)))]
pub(crate) async fn list(State(app): State<App>, Path(name): Path<String>) -> Result<Json<Page<SecretView>>, ApiError> {
    let found = read::secrets(&app.pool, &name).await?;
    let items = found.ok_or_else(|| ApiError::unknown(Thing::Deployment, name))?;
    Ok(Json(Page { items, next: None }))
}

/// Lets a role that makes a secret make another one. Whoever reads it runs again.
#[utoipa::path(post, path = "/deployments/{name}/secrets/{role}/rotations", responses(
    (status = 202),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 409, body = Problem, content_type = "application/problem+json"),
), params(("name" = String, Path,), ("role" = String, Path,)))]
pub(crate) async fn rotate(
    State(app): State<App>,
    Path((name, role)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    app.control.renew_secret(&name, &role).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Deployment documents with what is secret in them sealed, so that files may have them. Only engines with the same seal key
/// open it again, and only for the deployment of that name.
#[utoipa::path(post, path = "/sealed-documents", request_body = Document, responses(
    (status = 200, body = Document),
    (status = 422, body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn seal(State(app): State<App>, Body(document): Body<Document>) -> Result<Json<Document>, ApiError> {
    let text = app.control.seal_document(&document).await?;
    Ok(Json(Document { text, file: document.file }))
}

/// Seals everything that is sealed by the newest seal key. All engines of the database have to know it.
#[utoipa::path(post, path = "/reseals", responses((status = 200, body = Resealed)))]
pub(crate) async fn reseal(State(app): State<App>) -> Result<Json<Resealed>, ApiError> {
    Ok(Json(app.control.reseal().await?))
}
