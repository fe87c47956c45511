//! The catalog as core sees it: roles, workloads, types and the bytes they name. Filled by `engine-catalog`.

pub mod diff;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::document::{RoleDoc, WorkloadDoc};

/// A role with everything it needs to be run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CatalogRole {
    /// The document. Presets are already merged: `is` is kept for people, everything else is the whole role.
    /// `$ref`s in input and output schemas are already replaced by what they name.
    pub doc: RoleDoc,
    /// The bundle it came from.
    pub bundle: String,
    /// Bytes of `templates/X`, `files/X`, `scripts/X`, by that relative path.
    #[serde(with = "base64_map")]
    pub files: BTreeMap<String, Vec<u8>>,
    /// Hash of `apply`, executor, input types and files: never of prose, version, limits, `check` or `remove`.
    pub content: String,
    /// Where it was read from, for messages.
    pub source: String,
}

/// All that an engine knows to deploy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Catalog {
    /// Roles by name.
    pub roles: BTreeMap<String, CatalogRole>,
    /// Workloads by name.
    pub workloads: BTreeMap<String, WorkloadDoc>,
    /// Interfaces by name: what a provider must at least output, output name to schema.
    pub interfaces: BTreeMap<String, BTreeMap<String, Value>>,
}

impl Catalog {
    /// Roles that provide an interface, by name.
    pub fn providers(&self, interface: &str) -> BTreeSet<&str> {
        self.roles
            .values()
            .filter(|role| role.doc.provides.iter().any(|name| name == interface))
            .map(|role| role.doc.role.as_str())
            .collect()
    }
}

mod base64_map {
    use std::collections::BTreeMap;

    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(files: &BTreeMap<String, Vec<u8>>, to: S) -> Result<S::Ok, S::Error> {
        let text: BTreeMap<&String, String> =
            files.iter().map(|(name, bytes)| (name, STANDARD.encode(bytes))).collect();
        text.serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, Vec<u8>>, D::Error> {
        let text = BTreeMap::<String, String>::deserialize(from)?;
        text.into_iter()
            .map(|(name, body)| STANDARD.decode(body).map(|bytes| (name, bytes)).map_err(D::Error::custom))
            .collect()
    }
}
