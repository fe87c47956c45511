//! The documents that people write, as they are after parsing and schema validation.
//!
//! The JSON Schemas in `schemas/` and the rules of docs/reference say what is allowed; these types only hold it.
//! Wires, durations and templates are still text here: [`crate::compile`] gives them meaning.

pub mod deployment;
pub mod role;
pub mod setting;
pub mod wire;
pub mod workload;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use deployment::{BindNodes, CheckPolicy, DeploymentDoc, OnDrift, Policy, Silent};
pub use role::{At, InputDoc, OnChange, OutputDoc, RetryDoc, RoleDoc, Runs, Step, Supports, UseDoc};
pub use wire::{Scope, Wire, WireError};
pub use workload::{BoundRole, Budget, GroupDoc, ImportDoc, WorkloadDoc};

/// A JSON object with its keys in order.
pub type Object = Map<String, Value>;

/// The keys whose values differ.
pub fn differing(before: &Object, after: &Object) -> BTreeSet<String> {
    before.keys().chain(after.keys()).filter(|name| before.get(*name) != after.get(*name)).cloned().collect()
}

/// `bundle.yaml`: what a folder of roles, workloads and schemas is called and what it needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BundleDoc {
    /// Its name.
    pub bundle: String,
    /// Its version (semver).
    pub version: String,
    /// What it is for.
    #[serde(default)]
    pub about: String,
    /// The engine versions it works with, a semver range.
    #[serde(default)]
    pub plinth: Option<String>,
    /// Other bundles it needs, name to semver range.
    #[serde(default)]
    pub needs: std::collections::BTreeMap<String, String>,
}
