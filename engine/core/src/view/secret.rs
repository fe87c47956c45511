//! Secrets, as people see them: everything but the value.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// A secret of a deployment, and who has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SecretView {
    /// `parameters.NAME`, `ROLE.OUTPUT`, `import NAME.EXPORT`, or `ROLE.INPUT` for one that is set for just this input.
    pub name: String,
    /// The node roles that consumed it, or will.
    pub readers: Vec<SecretReader>,
}

/// A node role that a secret reaches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SecretReader {
    /// Its node; `deployment` for what runs once.
    pub node: String,
    /// Its deployment role.
    pub role: String,
    /// The input.
    pub input: String,
    /// When a job of it was last given a value; missing if none was yet.
    #[serde(with = "time::serde::rfc3339::option")]
    pub given_at: Option<OffsetDateTime>,
}

/// What sealing everything again came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Resealed {
    /// Values that an older key had sealed.
    pub values: u64,
    /// Ids of keys that seal nothing any more: their lines may go.
    pub unused: Vec<String>,
}
