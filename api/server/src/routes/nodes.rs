//! Nodes.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use engine_core::request::{AddNodesRequest, Page, Problem, StandRequest};
use engine_core::view::{NodeRoleView, NodeView, Stood};
use engine_store::read;

use super::deployments::Part;
use crate::extract::{By, Json as Body, Path, Query};
use crate::problem::{ApiError, Thing};
use crate::server::App;

/// Nodes, by name.
#[utoipa::path(get, path = "/nodes", params(Part), responses((status = 200, body = Page<NodeView>)))]
pub(crate) async fn list(State(app): State<App>, Query(part): Query<Part>) -> Result<Json<Page<NodeView>>, ApiError> {
    let items = read::nodes(&app.pool, part.after.as_deref(), part.limit).await?;
    Ok(Json(part.page(items, |node| &node.name)))
}

/// A node.
#[utoipa::path(get, path = "/nodes/{name}", responses(
    (status = 200, body = NodeView),
    (status = 404, body = Problem, content_type = "application/problem+json"),
), params(("name" = String, Path,)))]
pub(crate) async fn show(State(app): State<App>, Path(name): Path<String>) -> Result<Json<NodeView>, ApiError> {
    read::node(&app.pool, &name).await?.map(Json).ok_or_else(|| ApiError::unknown(Thing::Node, name))
}

/// The node roles on a node.
#[utoipa::path(get, path = "/nodes/{name}/node-roles", responses(
    (status = 200, body = Page<NodeRoleView>),
    (status = 404, body = Problem, content_type = "application/problem+json"),
), params(("name" = String, Path,)))]
pub(crate) async fn node_roles(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Json<Page<NodeRoleView>>, ApiError> {
    let items = read::node_roles(&app.pool, &name).await?;
    if items.is_empty() && read::node(&app.pool, &name).await?.is_none() {
        return Err(ApiError::unknown(Thing::Node, name));
    }
    Ok(Json(Page { items, next: None }))
}

/// Adopts the hosts that node documents describe; answers with their names.
#[utoipa::path(post, path = "/nodes", request_body = AddNodesRequest, responses(
    (status = 201, body = Vec<String>),
    (status = 409, body = Problem, content_type = "application/problem+json"),
    (status = 422, body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn add(
    State(app): State<App>,
    By(by): By,
    Body(request): Body<AddNodesRequest>,
) -> Result<(StatusCode, Json<Vec<String>>), ApiError> {
    let keys: Vec<(String, String)> = request.keys.into_iter().map(|key| (key.node, key.key)).collect();
    let names = app.control.add_nodes(&request.document, &keys, &by).await?;
    Ok((StatusCode::CREATED, Json(names)))
}

/// How a node is let go of.
#[derive(Debug, Default, serde::Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Removal {
    /// Without a word to its host: it is dead, or belongs to others by now.
    #[serde(default)]
    force: bool,
}

/// Lets go of a node that no deployment uses.
#[utoipa::path(delete, path = "/nodes/{name}", responses(
    (status = 204),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 409, body = Problem, content_type = "application/problem+json"),
), params(("name" = String, Path,), Removal))]
pub(crate) async fn remove(
    State(app): State<App>,
    Path(name): Path<String>,
    Query(removal): Query<Removal>,
    By(by): By,
) -> Result<StatusCode, ApiError> {
    app.control.remove_node(&name, removal.force, &by).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Puts a node aside, or takes it back in. Nothing begins on a node aside, it is out of gathers, and nobody waits for it.
/// Budgets that have no room for it to be out of service are told; it is all the same.
#[utoipa::path(post, path = "/nodes/{name}/standings", request_body = StandRequest, responses(
    (status = 200, body = Stood),
    (status = 404, body = Problem, content_type = "application/problem+json"),
), params(("name" = String, Path,)))]
pub(crate) async fn stand(
    State(app): State<App>,
    Path(name): Path<String>,
    By(by): By,
    Body(request): Body<StandRequest>,
) -> Result<Json<Stood>, ApiError> {
    Ok(Json(app.control.stand_node(&name, request.aside, &by).await?))
}

/// Gives up a node that a deployment uses: it never comes back. Nothing is removed from it, and nobody waits for it.
#[utoipa::path(post, path = "/nodes/{name}/losses", responses(
    (status = 204),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 409, body = Problem, content_type = "application/problem+json"),
), params(("name" = String, Path,)))]
pub(crate) async fn lose(State(app): State<App>, Path(name): Path<String>, By(by): By) -> Result<StatusCode, ApiError> {
    app.control.lose_node(&name, &by).await?;
    Ok(StatusCode::NO_CONTENT)
}
