//! Profiles, policies, rules and budgets: what holds for all deployments; and labels of nodes.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use engine_core::document::setting::SettingKind;
use engine_core::request::{Document, Page, Problem};
use engine_core::view::{LabelRequest, RuleTest, RuleTestRequest, SettingView, Settled};

use crate::extract::{By, Json as Body, Path};
use crate::problem::ApiError;
use crate::server::App;

/// Profiles, policies, rules or budgets, by name.
#[utoipa::path(get, path = "/settings/{kind}", responses((status = 200, body = Page<SettingView>)),
    params(("kind" = SettingKind, Path,)))]
pub(crate) async fn list(
    State(app): State<App>,
    Path(kind): Path<SettingKind>,
) -> Result<Json<Page<SettingView>>, ApiError> {
    Ok(Json(Page { items: app.control.settings(kind).await?, next: None }))
}

/// Sets the profiles, policies, rules and budgets of a file, in place of those of their names: all of them or none. Profiles and
/// policies have effect where a deployment is applied, rules go through all nodes at once, budgets hold from now on.
#[utoipa::path(post, path = "/settings", request_body = Document, responses(
    (status = 200, body = Settled),
    (status = 422, body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn set(
    State(app): State<App>,
    By(by): By,
    Body(document): Body<Document>,
) -> Result<Json<Settled>, ApiError> {
    Ok(Json(app.control.set(&document, &by).await?))
}

/// Removes a profile, a policy, a rule or a budget.
#[utoipa::path(delete, path = "/settings/{kind}/{name}", responses(
    (status = 200, body = Settled),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 409, body = Problem, content_type = "application/problem+json"),
), params(("kind" = SettingKind, Path,), ("name" = String, Path,)))]
pub(crate) async fn remove(
    State(app): State<App>,
    Path((kind, name)): Path<(SettingKind, String)>,
    By(by): By,
) -> Result<Json<Settled>, ApiError> {
    Ok(Json(app.control.remove_setting(kind, &name, &by).await?))
}

/// Which labels every node would have by rules: those that are set, and those of a document in their place. Changes nothing.
#[utoipa::path(post, path = "/rule-tests", request_body = RuleTestRequest, responses(
    (status = 200, body = Page<RuleTest>),
    (status = 422, body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn test(
    State(app): State<App>,
    Body(request): Body<RuleTestRequest>,
) -> Result<Json<Page<RuleTest>>, ApiError> {
    Ok(Json(Page { items: app.control.test_rules(&request).await?, next: None }))
}

/// Sets labels of a node and takes others away. Whoever reads one runs again.
#[utoipa::path(post, path = "/nodes/{name}/labels", request_body = LabelRequest, responses(
    (status = 204),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 422, body = Problem, content_type = "application/problem+json"),
), params(("name" = String, Path,)))]
pub(crate) async fn label(
    State(app): State<App>,
    Path(name): Path<String>,
    By(by): By,
    Body(request): Body<LabelRequest>,
) -> Result<StatusCode, ApiError> {
    app.control.label_node(&name, &request, &by).await?;
    Ok(StatusCode::NO_CONTENT)
}
