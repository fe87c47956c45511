//! Deployments as they stand.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use engine_core::draw;
use engine_core::request::Page;
use engine_core::view::{DeploymentDetail, DeploymentView, DeploymentWhyView, StatusView};
use engine_store::read::{self, NoRevision};
use serde::Deserialize;

use crate::extract::{Path, Query};
use crate::problem::{ApiError, Thing};
use crate::routes::node_roles::AsOf;
use crate::server::App;

/// Which part of a list.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Part {
    /// `next` of the part before.
    pub(crate) after: Option<String>,
    /// How many at most; 1000 are the most.
    #[serde(default = "hundred")]
    pub(crate) limit: i64,
}

fn hundred() -> i64 {
    100
}

impl Part {
    /// The items as a part of a list; a full one has a next.
    pub(crate) fn page<T>(&self, items: Vec<T>, name: impl Fn(&T) -> &String) -> Page<T> {
        let full = i64::try_from(items.len()).unwrap_or(i64::MAX) >= self.limit.clamp(1, read::MOST);
        let next = items.last().filter(|_| full).map(|last| name(last).clone());
        Page { items, next }
    }
}

/// Deployments, by name; those that are gone are left out.
#[utoipa::path(get, path = "/deployments", params(Part), responses((status = 200, body = Page<DeploymentView>)))]
pub(crate) async fn list(
    State(app): State<App>,
    Query(part): Query<Part>,
) -> Result<Json<Page<DeploymentView>>, ApiError> {
    let items = read::deployments(&app.pool, part.after.as_deref(), part.limit).await?;
    Ok(Json(part.page(items, |deployment| &deployment.name)))
}

/// A deployment with its committed document.
#[utoipa::path(get, path = "/deployments/{name}", responses(
    (status = 200, body = DeploymentDetail),
    (status = 404, body = engine_core::request::Problem, content_type = "application/problem+json"),
), params(("name" = String, Path,)))]
pub(crate) async fn show(State(app): State<App>, Path(name): Path<String>) -> Result<Json<DeploymentDetail>, ApiError> {
    let found = read::deployment(&app.pool, &name).await?;
    found.map(Json).ok_or_else(|| ApiError::unknown(Thing::Deployment, name))
}

/// A deployment with its nodes and node roles, at one moment.
#[utoipa::path(get, path = "/deployments/{name}/status", responses(
    (status = 200, body = StatusView),
    (status = 404, body = engine_core::request::Problem, content_type = "application/problem+json"),
), params(("name" = String, Path,)))]
pub(crate) async fn status(State(app): State<App>, Path(name): Path<String>) -> Result<Json<StatusView>, ApiError> {
    let found = read::status(&app.pool, &name).await?;
    found.map(Json).ok_or_else(|| ApiError::unknown(Thing::Deployment, name))
}

/// Why a deployment is where it is: what holds its node roles, the chain of jobs that decided how long its revision took,
/// its slowest jobs, and how long what is left may take.
#[utoipa::path(get, path = "/deployments/{name}/why", responses(
    (status = 200, body = DeploymentWhyView),
    (status = 404, body = engine_core::request::Problem, content_type = "application/problem+json"),
), params(("name" = String, Path,), AsOf))]
pub(crate) async fn why(
    State(app): State<App>,
    Path(name): Path<String>,
    Query(as_of): Query<AsOf>,
) -> Result<Json<DeploymentWhyView>, ApiError> {
    match (read::why_deployment(&app.pool, &name, as_of.revision).await?, as_of.revision) {
        (Ok(why), _) => Ok(Json(why)),
        (Err(NoRevision::Revision), Some(revision)) => {
            Err(ApiError::unknown(Thing::Revision, format!("{name} {revision}")))
        }
        (Err(_), _) => Err(ApiError::unknown(Thing::Deployment, name)),
    }
}

/// Forms of a picture.
#[derive(Clone, Copy, Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    /// Roles, edges, states and places.
    #[default]
    Json,
    /// Graphviz.
    Dot,
    /// Mermaid.
    Mermaid,
    /// A picture.
    Svg,
}

/// How to draw.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Drawing {
    /// In which form.
    #[serde(default)]
    #[param(inline)]
    format: Format,
}

/// The graph of the committed revision with the states of its node roles.
#[utoipa::path(get, path = "/deployments/{name}/graph", responses(
    (status = 200, body = serde_json::Value, description = "json, or text in the form asked for"),
    (status = 404, body = engine_core::request::Problem, content_type = "application/problem+json"),
), params(("name" = String, Path,), Drawing))]
pub(crate) async fn graph(
    State(app): State<App>,
    Path(name): Path<String>,
    Query(drawing): Query<Drawing>,
) -> Result<Response, ApiError> {
    let found = read::graph(&app.pool, &name).await?;
    let (graph, states) = found.ok_or_else(|| ApiError::unknown(Thing::Deployment, name))?;
    let (kind, text) = match drawing.format {
        Format::Json => return Ok(Json(draw::data(&graph, &states)).into_response()),
        Format::Dot => ("text/vnd.graphviz; charset=utf-8", draw::dot(&graph, &states)),
        Format::Mermaid => ("text/plain; charset=utf-8", draw::mermaid(&graph, &states)),
        Format::Svg => ("image/svg+xml", draw::svg(&graph, &states)),
    };
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static(kind))], text).into_response())
}
