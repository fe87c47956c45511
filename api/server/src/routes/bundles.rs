//! Bundles: what the catalog is made of.

use axum::Json;
use axum::extract::State;
use engine_core::request::{Page, Problem};
use engine_core::view::{BundleDiff, BundleView, BundlesRequest, Pushed};

use crate::extract::{By, Json as Body, Path};
use crate::problem::ApiError;
use crate::server::App;

/// Bundles of the catalog, by name.
#[utoipa::path(get, path = "/bundles", responses((status = 200, body = Page<BundleView>)))]
pub(crate) async fn list(State(app): State<App>) -> Result<Json<Page<BundleView>>, ApiError> {
    Ok(Json(Page { items: app.control.bundles().await?, next: None }))
}

/// Takes bundles into the catalog of all engines, in place of those of their names: all of them or none. Deployments stay with
/// the contents that they are committed with until they are applied again.
#[utoipa::path(post, path = "/bundles", request_body = BundlesRequest, responses(
    (status = 200, body = Pushed),
    (status = 409, body = Problem, content_type = "application/problem+json"),
    (status = 422, body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn push(
    State(app): State<App>,
    By(by): By,
    Body(request): Body<BundlesRequest>,
) -> Result<Json<Pushed>, ApiError> {
    Ok(Json(app.control.push_bundles(&request, &by).await?))
}

/// Takes a bundle out of the catalog; `core` goes back to what is compiled into the engines.
#[utoipa::path(delete, path = "/bundles/{name}", responses(
    (status = 200, body = Pushed),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 422, body = Problem, content_type = "application/problem+json"),
), params(("name" = String, Path,)))]
pub(crate) async fn remove(
    State(app): State<App>,
    Path(name): Path<String>,
    By(by): By,
) -> Result<Json<Pushed>, ApiError> {
    Ok(Json(app.control.remove_bundle(&name, &by).await?))
}

/// What pushing these bundles would change, and which deployments are committed with other contents than the catalog would have
/// then. Without bundles: than it has now. Changes nothing.
#[utoipa::path(post, path = "/bundle-diffs", request_body = BundlesRequest, responses(
    (status = 200, body = BundleDiff),
    (status = 422, body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn diff(
    State(app): State<App>,
    Body(request): Body<BundlesRequest>,
) -> Result<Json<BundleDiff>, ApiError> {
    Ok(Json(app.control.diff_bundles(&request).await?))
}
