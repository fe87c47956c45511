//! What can be deployed.

use axum::Json;
use axum::extract::State;
use engine_core::catalog::CatalogRole;
use engine_core::document::WorkloadDoc;
use engine_core::request::{Page, Problem, RoleDetail, RoleView, WorkloadDetail, WorkloadView};
use serde_json::Value;

use crate::extract::Path;
use crate::problem::{ApiError, Thing};
use crate::server::App;

fn role_view(role: &CatalogRole) -> RoleView {
    RoleView {
        name: role.doc.role.clone(),
        version: role.doc.version.clone(),
        about: role.doc.about.clone(),
        bundle: role.bundle.clone(),
        milestone: role.doc.milestone,
        runs: role.doc.runs,
        provides: role.doc.provides.clone(),
    }
}

fn workload_view(workload: &WorkloadDoc) -> WorkloadView {
    WorkloadView {
        name: workload.workload.clone(),
        version: workload.version.clone(),
        about: workload.about.clone(),
        groups: workload.groups.keys().cloned().collect(),
    }
}

/// A document as JSON; documents are plain data.
fn document(document: &impl serde::Serialize) -> Value {
    serde_json::to_value(document).unwrap_or_default()
}

/// Roles, by name.
#[utoipa::path(get, path = "/roles", responses((status = 200, body = Page<RoleView>)))]
pub(crate) async fn roles(State(app): State<App>) -> Result<Json<Page<RoleView>>, ApiError> {
    let catalog = app.control.catalog().await?;
    Ok(Json(Page { items: catalog.roles.values().map(role_view).collect(), next: None }))
}

/// A role with its document.
#[utoipa::path(get, path = "/roles/{name}", responses(
    (status = 200, body = RoleDetail),
    (status = 404, body = Problem, content_type = "application/problem+json"),
), params(("name" = String, Path,)))]
pub(crate) async fn role(State(app): State<App>, Path(name): Path<String>) -> Result<Json<RoleDetail>, ApiError> {
    let catalog = app.control.catalog().await?;
    let found = catalog.roles.get(&name).ok_or_else(|| ApiError::unknown(Thing::Role, name))?;
    Ok(Json(RoleDetail {
        role: role_view(found),
        source: found.source.clone(),
        content: found.content.clone(),
        document: document(&found.doc),
        files: found.files.keys().cloned().collect(),
    }))
}

/// Workloads, by name.
#[utoipa::path(get, path = "/workloads", responses((status = 200, body = Page<WorkloadView>)))]
pub(crate) async fn workloads(State(app): State<App>) -> Result<Json<Page<WorkloadView>>, ApiError> {
    let catalog = app.control.catalog().await?;
    Ok(Json(Page { items: catalog.workloads.values().map(workload_view).collect(), next: None }))
}

/// A workload with its document.
#[utoipa::path(get, path = "/workloads/{name}", responses(
    (status = 200, body = WorkloadDetail),
    (status = 404, body = Problem, content_type = "application/problem+json"),
), params(("name" = String, Path,)))]
pub(crate) async fn workload(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Json<WorkloadDetail>, ApiError> {
    let catalog = app.control.catalog().await?;
    let found = catalog.workloads.get(&name).ok_or_else(|| ApiError::unknown(Thing::Workload, name))?;
    Ok(Json(WorkloadDetail { workload: workload_view(found), document: document(found) }))
}
