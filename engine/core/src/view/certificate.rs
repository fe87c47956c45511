//! Certificates, as people see them.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

/// A certificate that an authority of a deployment signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CertificateView {
    /// Its serial number, in hexadecimal digits.
    pub serial: String,
    /// The node that it is for.
    pub node: String,
    /// The deployment role that had it signed.
    pub role: String,
    /// The deployment role of the authority.
    pub authority: String,
    /// DNS names and addresses.
    pub names: Vec<String>,
    /// `server`, `client`.
    pub usages: Vec<String>,
    /// In PEM.
    pub certificate: String,
    /// Its beginning.
    #[serde(with = "time::serde::rfc3339")]
    pub not_before: OffsetDateTime,
    /// Its end.
    #[serde(with = "time::serde::rfc3339")]
    pub not_after: OffsetDateTime,
    /// When another one is asked for.
    #[serde(with = "time::serde::rfc3339")]
    pub renew_at: OffsetDateTime,
    /// Since when it is revoked.
    #[serde(default, with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<OffsetDateTime>,
    /// Why it is revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A generation of an authority that is trusted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AuthorityView {
    /// Its id.
    pub id: Uuid,
    /// Its deployment role.
    pub role: String,
    /// From 1, and one more with each rotation.
    pub generation: i32,
    /// `introduced`: trusted, does not sign yet; `active`: signs; `retiring`: trusted, signs no more.
    pub state: String,
    /// Its end.
    #[serde(with = "time::serde::rfc3339")]
    pub not_after: OffsetDateTime,
    /// In PEM.
    pub certificate: String,
    /// Node roles that have not absorbed its last stage, ten at most: the next one waits for them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waits_for: Vec<String>,
}
