//! Zones and names.

use axum::Json;
use axum::extract::State;
use engine_core::request::{Page, Problem};
use engine_core::view::{RecordView, ZoneView};
use engine_store::read;

use crate::extract::{Path, Query};
use crate::problem::{ApiError, Thing};
use crate::server::App;

/// Zones that engines answer for.
#[utoipa::path(get, path = "/dns/zones", responses((status = 200, body = Page<ZoneView>)))]
pub(crate) async fn zones(State(app): State<App>) -> Result<Json<Page<ZoneView>>, ApiError> {
    Ok(Json(Page { items: read::zones(&app.pool).await?, next: None }))
}

/// Where to go on.
#[derive(Debug, serde::Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct After {
    /// `next` of the part before.
    after: Option<String>,
}

/// Records of a zone, by name.
#[utoipa::path(get, path = "/dns/zones/{zone}/records", responses(
    (status = 200, body = Page<RecordView>),
    (status = 404, body = Problem, content_type = "application/problem+json"),
), params(("zone" = String, Path,), After))]
pub(crate) async fn records(
    State(app): State<App>,
    Path(zone): Path<String>,
    Query(from): Query<After>,
) -> Result<Json<Page<RecordView>>, ApiError> {
    let found = read::records(&app.pool, &zone, from.after.as_deref().unwrap_or_default()).await?;
    found.map(Json).ok_or_else(|| ApiError::unknown(Thing::Zone, zone))
}
