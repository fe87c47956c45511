//! Names as they are shown.

use serde::{Deserialize, Serialize};

/// A zone that engines answer for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ZoneView {
    /// Its name, without a last dot.
    pub name: String,
    /// The deployment it belongs to.
    pub deployment: String,
    /// As in its SOA; grows with each change, and goes round after 2^32 of them.
    pub serial: u32,
    /// How long its records may be kept, in seconds.
    pub ttl: i32,
    /// Names with records.
    pub names: i64,
}

/// All that a name has of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RecordView {
    /// The whole name, without a last dot.
    pub name: String,
    /// `A`, `AAAA` or `PTR`.
    pub kind: String,
    /// Addresses, or names.
    pub values: Vec<String>,
    /// How long it may be kept, in seconds.
    pub ttl: i32,
    /// `NODE/ROLE` that it belongs to.
    pub node_role: String,
}
