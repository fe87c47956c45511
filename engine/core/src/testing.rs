//! Catalogs and deployments for tests, from JSON. In no shipped binary.

mod generate;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::catalog::{Catalog, CatalogRole};
use crate::compile::{CompileInput, CompileNode, Compiled, Profile, compile};
use crate::diagnostic::Diagnostic;
use crate::document::{DeploymentDoc, Object};
use crate::graph::NodeName;
use crate::secret::DigestKey;

pub use generate::{Dice, generate};

/// A role of the catalog, from its document.
///
/// # Panics
/// When it is none.
pub fn role(document: Value) -> CatalogRole {
    let doc: crate::document::RoleDoc = serde_json::from_value(document).expect("a role document");
    let source = format!("roles/{}/role.yaml", doc.role);
    let files = BTreeMap::new();
    let content = crate::digest::content(&doc, &files);
    CatalogRole { doc, bundle: "test".to_owned(), files, content, source }
}

/// A catalog of roles and workloads; `runs: node` and `version` are added where they are missing.
///
/// # Panics
/// When a document is none.
pub fn catalog(roles: impl IntoIterator<Item = Value>, workloads: impl IntoIterator<Item = Value>) -> Catalog {
    let complete = |mut document: Value| {
        let object = document.as_object_mut().expect("a document is an object");
        object.entry("version").or_insert(json!("1.0.0"));
        if object.contains_key("role") {
            object.entry("runs").or_insert(json!("node"));
        }
        document
    };
    let roles = roles.into_iter().map(|document| role(complete(document)));
    let workloads = workloads.into_iter().map(|document| {
        serde_json::from_value::<crate::document::WorkloadDoc>(complete(document)).expect("a workload document")
    });
    Catalog {
        roles: roles.map(|role| (role.doc.role.clone(), role)).collect(),
        workloads: workloads.map(|workload| (workload.workload.clone(), workload)).collect(),
        interfaces: BTreeMap::new(),
    }
}

/// Everything that compile takes, owned.
#[derive(Clone, Debug)]
pub struct Fixture {
    /// The catalog.
    pub catalog: Catalog,
    /// The deployment.
    pub document: DeploymentDoc,
    /// Its nodes.
    pub nodes: BTreeMap<NodeName, CompileNode>,
    /// Global profiles.
    pub global_profiles: Vec<Profile>,
    /// Profiles by name.
    pub profiles: BTreeMap<String, Object>,
    /// Exports of others.
    pub imports: BTreeMap<String, BTreeMap<String, Value>>,
    /// Node role overrides.
    pub overrides: BTreeMap<NodeName, Object>,
}

impl Fixture {
    /// A deployment of the first workload, with nodes `GROUP-1`, `GROUP-2`, … .
    ///
    /// # Panics
    /// When the catalog has no workload.
    pub fn new(catalog: Catalog, groups: &[(&str, usize)]) -> Self {
        let workload = catalog.workloads.keys().next().expect("a workload").clone();
        let document = json!({"deployment": "blue", "workload": workload});
        let nodes = groups.iter().flat_map(|(group, count)| {
            (1..=*count).map(move |index| {
                (format!("{group}-{index}"), CompileNode { group: (*group).to_owned(), ..CompileNode::default() })
            })
        });
        Self {
            catalog,
            document: serde_json::from_value(document).expect("a deployment document"),
            nodes: nodes.collect(),
            global_profiles: Vec::new(),
            profiles: BTreeMap::new(),
            imports: BTreeMap::new(),
            overrides: BTreeMap::new(),
        }
    }

    /// The same with keys of the deployment document replaced.
    ///
    /// # Panics
    /// When the result is no deployment document.
    #[must_use]
    pub fn with(mut self, keys: Value) -> Self {
        let mut document = serde_json::to_value(&self.document).expect("plain data");
        for (key, value) in keys.as_object().expect("an object") {
            document[key] = value.clone();
        }
        self.document = serde_json::from_value(document).expect("a deployment document");
        self
    }

    /// Compiles it.
    ///
    /// # Errors
    /// As [`compile`].
    pub fn compile(&self) -> Result<Compiled, Vec<Diagnostic>> {
        compile(&CompileInput {
            catalog: &self.catalog,
            document: &self.document,
            nodes: &self.nodes,
            global_profiles: &self.global_profiles,
            profiles: &self.profiles,
            imports: &self.imports,
            policies: &[],
            overrides: &self.overrides,
            key: &DigestKey::of_nobody(),
        })
    }
}
