//! Is it there, is it able, what is it?

use axum::Json;
use axum::extract::State;
use engine_core::request::{Page, Version};
use engine_core::view::EngineView;
use engine_store::{StoreError, connect, migrate, read};
use utoipa::openapi::OpenApi;

use crate::problem::ApiError;
use crate::server::App;

/// The process answers.
#[utoipa::path(get, path = "/healthz", responses((status = 200, body = String)))]
pub(crate) async fn healthz() -> &'static str {
    "ok\n"
}

/// The database answers, and its tables are those of this version.
#[utoipa::path(get, path = "/readyz", responses((status = 200, body = String), (status = 503)))]
pub(crate) async fn readyz(State(app): State<App>) -> Result<&'static str, ApiError> {
    connect::ping(&app.pool).await?;
    let doing = "asking for its version";
    let mut connection = app.pool.acquire().await.map_err(|source| StoreError::Database { doing, source })?;
    migrate::check(&mut connection).await?;
    Ok("ok\n")
}

/// The version of this engine.
#[utoipa::path(get, path = "/version", responses((status = 200, body = Version)))]
pub(crate) async fn version(State(app): State<App>) -> Json<Version> {
    Json(Version { version: app.version.to_string() })
}

/// This description.
#[utoipa::path(get, path = "/openapi.json", responses((status = 200, body = serde_json::Value)))]
pub(crate) async fn description() -> Json<OpenApi> {
    Json(super::openapi())
}

/// Engines that run, or ran and left no word, on this database.
#[utoipa::path(get, path = "/engines", responses((status = 200, body = Page<EngineView>)))]
pub(crate) async fn engines(State(app): State<App>) -> Result<Json<Page<EngineView>>, ApiError> {
    Ok(Json(Page { items: read::engines(&app.pool).await?, next: None }))
}
