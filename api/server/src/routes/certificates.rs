//! What authorities signed.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, HeaderName};
use engine_core::request::{ImportRequest, Page, Problem, RevokeRequest, RotationRequest, SignRequest};
use engine_core::serial::SerialNumber;
use engine_core::view::{AuthorityRequestView, AuthorityView, CertificateView};
use engine_store::read;
use uuid::Uuid;

use crate::control::Control;
use crate::extract::{By, Json as Body, Path};
use crate::problem::{ApiError, Thing};
use crate::server::App;

/// The certificates of a deployment that have not ended, by node.
#[utoipa::path(get, path = "/deployments/{name}/certificates", responses(
    (status = 200, body = Page<CertificateView>),
    (status = 404, body = Problem, content_type = "application/problem+json"),
), params(("name" = String, Path,)))]
pub(crate) async fn list(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Json<Page<CertificateView>>, ApiError> {
    let found = read::certificates(&app.pool, &name).await?;
    let items = found.ok_or_else(|| ApiError::unknown(Thing::Deployment, name))?;
    Ok(Json(Page { items, next: None }))
}

/// Revokes a certificate. Its authority lists it as soon as it can, and whoever reads the list hears of it.
#[utoipa::path(post, path = "/certificates/{serial}/revocations", request_body = RevokeRequest, responses(
    (status = 204),
    (status = 404, body = Problem, content_type = "application/problem+json"),
), params(("serial" = String, Path,)))]
pub(crate) async fn revoke(
    State(app): State<App>,
    Path(serial): Path<SerialNumber>,
    By(by): By,
    Body(request): Body<RevokeRequest>,
) -> Result<StatusCode, ApiError> {
    app.control.revoke(serial.as_str(), request.reason, &by).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The authorities of a deployment that are trusted; more than one generation while one goes over to another key.
#[utoipa::path(get, path = "/deployments/{name}/authorities", responses(
    (status = 200, body = Page<AuthorityView>),
    (status = 404, body = Problem, content_type = "application/problem+json"),
), params(("name" = String, Path,)))]
pub(crate) async fn authorities(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Json<Page<AuthorityView>>, ApiError> {
    let found = read::authorities(&app.pool, &name).await?;
    let items = found.ok_or_else(|| ApiError::unknown(Thing::Deployment, name))?;
    Ok(Json(Page { items, next: None }))
}

/// Begins to go over to another key of an authority: it is introduced, then it signs, then the old one is retired, each when
/// everybody below has absorbed the one before.
#[utoipa::path(post, path = "/deployments/{name}/authorities/{role}/rotations", responses(
    (status = 202),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 409, body = Problem, content_type = "application/problem+json"),
), params(("name" = String, Path,), ("role" = String, Path,)))]
pub(crate) async fn rotate(
    State(app): State<App>,
    Path((name, role)): Path<(String, String)>,
    By(by): By,
) -> Result<StatusCode, ApiError> {
    app.control.rotate(&name, &role, &by).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Asks something of an authority that goes over to another key: to stay in its stage, to go on, or to go back, until the key
/// before is retired.
#[utoipa::path(post, path = "/deployments/{name}/authorities/{role}/asks", request_body = RotationRequest, responses(
    (status = 202),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 409, body = Problem, content_type = "application/problem+json"),
), params(("name" = String, Path,), ("role" = String, Path,)))]
pub(crate) async fn ask(
    State(app): State<App>,
    Path((name, role)): Path<(String, String)>,
    By(by): By,
    Body(request): Body<RotationRequest>,
) -> Result<StatusCode, ApiError> {
    app.control.ask_rotation(&name, &role, request.ask, &by).await?;
    Ok(StatusCode::ACCEPTED)
}

/// The key of an authority is not to be relied upon: it goes over to another one, stage by stage as in a rotation, with no way
/// back; what it signed counts as revoked, and is refused when it is retired.
#[utoipa::path(post, path = "/deployments/{name}/authorities/{role}/revocations", request_body = RevokeRequest, responses(
    (status = 202),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 409, body = Problem, content_type = "application/problem+json"),
), params(("name" = String, Path,), ("role" = String, Path,)))]
pub(crate) async fn revoke_authority(
    State(app): State<App>,
    Path((name, role)): Path<(String, String)>,
    By(by): By,
    Body(request): Body<RevokeRequest>,
) -> Result<StatusCode, ApiError> {
    app.control.revoke_authority(&name, &role, request.reason, &by).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Signs a request with the authority of a role. The key and the names come from the request, which must be for the subject and
/// exactly the names that are said with it, and those must be such as the authority may sign for. What is told is durable.
#[utoipa::path(post, path = "/deployments/{name}/authorities/{role}/certificates", request_body = SignRequest, responses(
    (status = 201, body = CertificateView),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 409, body = Problem, content_type = "application/problem+json"),
    (status = 422, body = Problem, content_type = "application/problem+json"),
), params(("name" = String, Path,), ("role" = String, Path,)))]
pub(crate) async fn sign(
    State(app): State<App>,
    Path((name, role)): Path<(String, String)>,
    By(by): By,
    Body(request): Body<SignRequest>,
) -> Result<(StatusCode, Json<CertificateView>), ApiError> {
    let signed = app.control.sign(&name, &role, &request, &by).await?;
    Ok((StatusCode::CREATED, Json(signed)))
}

/// What somebody else is to sign for an authority of `signed_by: others`: the request that waits, or one for another key.
#[utoipa::path(post, path = "/deployments/{name}/authorities/{role}/requests", responses(
    (status = 200, body = AuthorityRequestView),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 409, body = Problem, content_type = "application/problem+json"),
), params(("name" = String, Path,), ("role" = String, Path,)))]
pub(crate) async fn request(
    State(app): State<App>,
    Path((name, role)): Path<(String, String)>,
) -> Result<Json<AuthorityRequestView>, ApiError> {
    Ok(Json(app.control.request_authority(&name, &role).await?))
}

/// Brings an authority what somebody else signed for it. One that signs already goes over to it, stage by stage.
#[utoipa::path(post, path = "/deployments/{name}/authorities/{role}/imports", request_body = ImportRequest, responses(
    (status = 202),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 409, body = Problem, content_type = "application/problem+json"),
    (status = 422, body = Problem, content_type = "application/problem+json"),
), params(("name" = String, Path,), ("role" = String, Path,)))]
pub(crate) async fn import(
    State(app): State<App>,
    Path((name, role)): Path<(String, String)>,
    By(by): By,
    Body(what): Body<ImportRequest>,
) -> Result<StatusCode, ApiError> {
    app.control.import_authority(&name, &role, &what, &by).await?;
    Ok(StatusCode::ACCEPTED)
}

/// A certificate, also one that has ended.
#[utoipa::path(get, path = "/certificates/{serial}", responses(
    (status = 200, body = CertificateView),
    (status = 404, body = Problem, content_type = "application/problem+json"),
), params(("serial" = String, Path,)))]
pub(crate) async fn show(
    State(app): State<App>,
    Path(serial): Path<SerialNumber>,
) -> Result<Json<CertificateView>, ApiError> {
    let found = read::certificate(&app.pool, serial.as_str()).await?;
    Ok(Json(found.ok_or_else(|| ApiError::unknown(Thing::Certificate, serial.to_string()))?))
}

/// Lets the node role that had a certificate signed have another one signed.
#[utoipa::path(post, path = "/certificates/{serial}/renewals", responses(
    (status = 202),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 409, body = Problem, content_type = "application/problem+json"),
), params(("serial" = String, Path,)))]
pub(crate) async fn renew(
    State(app): State<App>,
    Path(serial): Path<SerialNumber>,
    By(by): By,
) -> Result<StatusCode, ApiError> {
    app.control.renew(serial.as_str(), &by).await?;
    Ok(StatusCode::ACCEPTED)
}

/// A part of an authority's list of what was revoked (RFC 5280): `PART.crl` in DER, `PART.pem` in PEM. It is for those certificates
/// that name it, and needs no token.
#[utoipa::path(get, path = "/crl/{authority}/{part}", responses(
    (status = 200, body = Vec<u8>, content_type = "application/pkix-crl"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
), params(("authority" = Uuid, Path,), ("part" = String, Path,)))]
pub(crate) async fn part(
    State(app): State<App>,
    Path((authority, file)): Path<(Uuid, String)>,
) -> Result<([(HeaderName, &'static str); 1], Vec<u8>), ApiError> {
    listed(app.control.as_ref(), authority, &file).await
}

/// A list by the name of its file.
pub(crate) async fn listed(
    control: &dyn Control,
    authority: Uuid,
    file: &str,
) -> Result<([(HeaderName, &'static str); 1], Vec<u8>), ApiError> {
    let known = file.split_once('.').and_then(|(part, ending)| Some((part.parse::<i32>().ok()?, ending)));
    let (part, as_pem) = match known {
        Some((part, "crl")) => (part, false),
        Some((part, "pem")) => (part, true),
        _ => return Err(ApiError::NoRoute),
    };
    let body = control.list(authority, part, as_pem).await?;
    let kind = if as_pem { "application/x-pem-file" } else { "application/pkix-crl" };
    Ok(([(CONTENT_TYPE, kind)], body))
}
