//! Bundles, as people see them and push them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::catalog::diff::{CatalogChange, Upgrade};
use crate::diagnostic::Diagnostic;

/// The files of a bundle on their way to the catalog.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BundleFiles {
    /// Where they came from, for messages.
    pub path: String,
    /// Base64 of their bytes, by path within the bundle, such as `roles/etcd/role.yaml`.
    pub files: BTreeMap<String, String>,
}

/// A bundle of the catalog.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct BundleView {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What it is for.
    pub about: String,
    /// Digest of all its files.
    pub hash: String,
    /// Roles in it.
    pub roles: usize,
    /// Workloads in it.
    pub workloads: usize,
    /// Compiled into the engine that was asked; any other was pushed.
    pub built_in: bool,
    /// Who pushed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pushed_by: Option<String>,
    /// When.
    #[serde(default, with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub pushed_at: Option<OffsetDateTime>,
}

/// Asks for bundles to be taken into the catalog, or to be compared with it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BundlesRequest {
    /// The bundles, in any order. Those of the same name in the catalog are replaced.
    pub bundles: Vec<BundleFiles>,
}

/// What came of pushing bundles, or of taking one out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Pushed {
    /// Names of bundles that are in the catalog otherwise than before.
    pub bundles: Vec<String>,
    /// What differs in the catalog.
    pub changes: Vec<CatalogChange>,
    /// What is worth a look in them.
    pub warnings: Vec<Diagnostic>,
}

/// How bundles differ from the catalog, and deployments from both.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct BundleDiff {
    /// What pushing the bundles would change; nothing if none were sent.
    pub changes: Vec<CatalogChange>,
    /// Deployments that are committed with other contents than the catalog has, or would have.
    pub behind: Vec<Behind>,
    /// How many deployments are not.
    pub up_to_date: usize,
}

/// A deployment that is committed with other contents than the catalog has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Behind {
    /// The deployment.
    pub deployment: String,
    /// Its workload.
    pub workload: String,
    /// Its roles that are otherwise in the catalog.
    pub roles: Vec<Upgrade>,
}
