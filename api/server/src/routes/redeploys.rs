//! Redeploys, and the history that they are part of.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use engine_core::request::{Page, Problem, RedeployRequest};
use engine_core::view::{Applied, RevisionView};
use engine_store::read;
use serde::Deserialize;

use crate::extract::{By, Json as Body, Path, Query};
use crate::problem::{ApiError, Thing};
use crate::server::App;

/// What a redeploy would do; changes nothing.
#[utoipa::path(post, path = "/deployments/{name}/redeploy-plans", request_body = RedeployRequest, responses(
    (status = 200, body = Applied),
    (status = 404, body = Problem, content_type = "application/problem+json"),
), params(("name" = String, Path,)))]
pub(crate) async fn plan(
    State(app): State<App>,
    Path(name): Path<String>,
    Body(request): Body<RedeployRequest>,
) -> Result<Json<Applied>, ApiError> {
    Ok(Json(app.control.plan_redeploy(&name, &request).await?))
}

/// Makes nodes of a deployment anew, or all of it.
#[utoipa::path(post, path = "/deployments/{name}/redeploys", request_body = RedeployRequest, responses(
    (status = 202, body = Applied),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 409, body = Problem, content_type = "application/problem+json"),
), params(("name" = String, Path,)))]
pub(crate) async fn redeploy(
    State(app): State<App>,
    Path(name): Path<String>,
    By(by): By,
    Body(request): Body<RedeployRequest>,
) -> Result<(StatusCode, Json<Applied>), ApiError> {
    Ok((StatusCode::ACCEPTED, Json(app.control.redeploy(&name, &request, &by).await?)))
}

/// Which part of a history.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Part {
    /// `next` of the part before: only older revisions than this one.
    after: Option<i32>,
    /// How many at most; 1000 are the most.
    #[serde(default = "hundred")]
    limit: i64,
}

fn hundred() -> i64 {
    100
}

/// The revisions of a deployment, newest first; also of one that is gone.
#[utoipa::path(get, path = "/deployments/{name}/revisions", responses(
    (status = 200, body = Page<RevisionView>),
    (status = 404, body = Problem, content_type = "application/problem+json"),
), params(("name" = String, Path,), Part))]
pub(crate) async fn revisions(
    State(app): State<App>,
    Path(name): Path<String>,
    Query(part): Query<Part>,
) -> Result<Json<Page<RevisionView>>, ApiError> {
    let found = read::revisions(&app.pool, &name, part.after, part.limit).await?;
    let items = found.ok_or_else(|| ApiError::unknown(Thing::Deployment, name))?;
    let next = items.last().filter(|last| last.number > 1).map(|last| last.number.to_string());
    let full = i64::try_from(items.len()).unwrap_or(i64::MAX) >= part.limit.clamp(1, read::MOST);
    Ok(Json(Page { next: next.filter(|_| full), items }))
}
