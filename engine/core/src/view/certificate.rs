//! Certificates, as people see them.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

/// A certificate that an authority of a deployment signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CertificateView {
    /// Its serial number, in hexadecimal digits.
    pub serial: String,
    /// The node that it is for, or whoever else.
    pub node: String,
    /// The deployment role that had it signed; none where somebody asked over the API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
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
    /// How many certificates it has signed.
    pub issued: i64,
    /// Where the parts of its list of what was revoked can be had, from part 0 on, to be followed by `/PART.crl`; certificates
    /// name it.
    pub lists: String,
    /// How many parts there are.
    pub parts: i32,
    /// Since when its key is not to be relied upon.
    #[serde(default, with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<OffsetDateTime>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What the next stage waits for, ten at most, while it is `introduced` or `retiring`: node roles (`NODE/ROLE`) that have
    /// not absorbed this one, or whose checks have not passed since; or a person who holds it up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waits_for: Vec<String>,
}

/// What somebody else is to sign for an authority.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AuthorityRequestView {
    /// A request in PEM (PKCS #10).
    pub request: String,
}

/// What nodes of a deployment hold: the newest certificate of each node role that has one signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CertificatesView {
    /// In force.
    pub in_force: i64,
    /// In force, and not renewed although the time for that has come.
    pub overdue: i64,
    /// Ended or revoked, and no other one stands in its place.
    pub ended: i64,
    /// The next end of one in force.
    #[serde(default, with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub next_end: Option<OffsetDateTime>,
}

/// How far an authority is in going over to another key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Both are trusted, the one before signs.
    Introduce,
    /// Both are trusted, the other one signs.
    Switch,
    /// The one before is retired; some have still to hear of it.
    Retire,
}

impl Stage {
    /// As shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Introduce => "introduce",
            Self::Switch => "switch",
            Self::Retire => "retire",
        }
    }
}

/// An authority that goes over to another key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RotationView {
    /// Its deployment role.
    pub authority: String,
    /// How far it is.
    pub stage: Stage,
    /// Generation of the key that it leaves.
    pub from: i32,
    /// Generation of the key that it goes over to; lower than the other one where it was taken back.
    pub to: i32,
    /// A person holds it up.
    #[serde(default)]
    pub paused: bool,
    /// Everybody below has absorbed the stage; what is awaited are checks.
    #[serde(default)]
    pub absorbed: bool,
    /// Node roles (`NODE/ROLE`) that have not absorbed the stage, or whose checks have not passed since, ten at most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waits_for: Vec<String>,
}
