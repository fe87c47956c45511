//! Web hooks: events that are sent to others.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use engine_core::request::{Page, Problem};
use engine_core::view::{HookAdded, HookRequest, HookTest, HookView};

use crate::extract::{By, Json as Body, Path};
use crate::problem::ApiError;
use crate::server::App;

/// Hooks, by name, and how far each is.
#[utoipa::path(get, path = "/hooks", responses((status = 200, body = Page<HookView>)))]
pub(crate) async fn list(State(app): State<App>) -> Result<Json<Page<HookView>>, ApiError> {
    Ok(Json(Page { items: app.control.hooks().await?, next: None }))
}

/// Lets events be sent somewhere from now on: each at least once, in their order, signed as Standard Webhooks has it. The secret is
/// told in this answer and never again.
#[utoipa::path(post, path = "/hooks", request_body = HookRequest, responses(
    (status = 201, body = HookAdded),
    (status = 409, body = Problem, content_type = "application/problem+json"),
    (status = 422, body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn add(
    State(app): State<App>,
    By(by): By,
    Body(request): Body<HookRequest>,
) -> Result<(StatusCode, Json<HookAdded>), ApiError> {
    Ok((StatusCode::CREATED, Json(app.control.add_hook(&request, &by).await?)))
}

/// Sends no more to a hook.
#[utoipa::path(delete, path = "/hooks/{name}", responses(
    (status = 204),
    (status = 404, body = Problem, content_type = "application/problem+json"),
), params(("name" = String, Path,)))]
pub(crate) async fn remove(
    State(app): State<App>,
    Path(name): Path<String>,
    By(by): By,
) -> Result<StatusCode, ApiError> {
    app.control.remove_hook(&name, &by).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Sends an event of kind `hook.test` to a hook, and says what became of it.
#[utoipa::path(post, path = "/hooks/{name}/tests", responses(
    (status = 200, body = HookTest),
    (status = 404, body = Problem, content_type = "application/problem+json"),
), params(("name" = String, Path,)))]
pub(crate) async fn test(
    State(app): State<App>,
    Path(name): Path<String>,
    By(by): By,
) -> Result<Json<HookTest>, ApiError> {
    Ok(Json(app.control.test_hook(&name, &by).await?))
}

/// Goes past the event that a hook fails to take; answers with its number. It is not sent to this hook any more.
#[utoipa::path(post, path = "/hooks/{name}/skips", responses(
    (status = 200, body = i64),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 409, body = Problem, content_type = "application/problem+json"),
), params(("name" = String, Path,)))]
pub(crate) async fn skip(State(app): State<App>, Path(name): Path<String>) -> Result<Json<i64>, ApiError> {
    Ok(Json(app.control.skip_hook(&name).await?))
}
