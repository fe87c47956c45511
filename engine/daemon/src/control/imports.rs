//! What a deployment reads of others, and others of it, when it is planned.

use std::collections::BTreeMap;

use engine_core::diagnostic::Diagnostic;
use engine_core::document::DeploymentDoc;
use engine_core::graph::Graph;
use engine_core::schema::{self, Fit};
use engine_core::view::{Refusal, RefusalKind};
use engine_store::imports::{self, Importer};
use serde_json::Value;

use super::store;
use crate::shared::Shared;

/// By deployment the schemas of its exports, where it is planned together with others and not committed yet.
pub(super) type Pending = BTreeMap<String, BTreeMap<String, Value>>;

/// What a document imports.
#[derive(Default)]
pub(super) struct Imports {
    /// By import and export the schema.
    pub(super) schemas: BTreeMap<String, BTreeMap<String, Value>>,
    /// By `IMPORT.EXPORT` the value, as far as it is told.
    pub(super) values: BTreeMap<String, Value>,
}

/// Looks for what a document imports. What is not there is left out, and the compiler says so.
pub(super) async fn of(shared: &Shared, doc: &DeploymentDoc, pending: &Pending) -> Result<Imports, Refusal> {
    let mut found = Imports::default();
    for (import, from) in &doc.imports {
        let exported = imports::exported(&shared.pool, from).await.map_err(store)?;
        let (known, values) = exported.map(|exported| (exported.schemas, exported.values)).unzip();
        if let Some(schemas) = pending.get(from).cloned().or(known) {
            found.schemas.insert(import.clone(), schemas);
        }
        found.values.extend(named(import, values.unwrap_or_default()));
    }
    Ok(found)
}

/// Values of what a committed graph imports, as far as they are told.
pub(super) async fn told(shared: &Shared, graph: &Graph) -> Result<BTreeMap<String, Value>, Refusal> {
    let mut values = BTreeMap::new();
    for (import, imported) in &graph.imports {
        let exported = imports::exported(&shared.pool, &imported.deployment).await.map_err(store)?;
        values.extend(named(import, exported.unwrap_or_default().values));
    }
    Ok(values)
}

fn named(import: &str, values: BTreeMap<String, Value>) -> impl Iterator<Item = (String, Value)> {
    values.into_iter().map(move |(export, value)| (format!("{import}.{export}"), value))
}

/// Does a new graph still export what others import?
pub(super) fn kept(graph: &Graph, importers: &[Importer]) -> Vec<Diagnostic> {
    let schemas = imports::schemas(graph);
    let mut findings = Vec::new();
    for importer in importers {
        let Importer { deployment, import, export, wanted } = importer;
        match schemas.get(export) {
            None => {
                let message = format!("deployment `{deployment}` imports `{export}`, which is exported no more");
                let error = Diagnostic::error("export-in-use", "/workload", message);
                findings.push(error.expected(format!("an export `{export}`, or no import `{import}` there")));
            }
            Some(schema) => {
                if let Fit::DoesNotFit { place, reason } = schema::fit(schema, wanted) {
                    let message = format!(
                        "export `{export}` would not fit import `{import}` of deployment `{deployment}`{place} any more: {reason}"
                    );
                    findings.push(Diagnostic::error("does-not-fit", "/workload", message));
                }
            }
        }
    }
    findings
}

/// Others import from what is to go.
pub(super) fn in_use(name: &str, importers: &[Importer]) -> Refusal {
    let mut by: Vec<&str> = importers.iter().map(|importer| importer.deployment.as_str()).collect();
    by.dedup();
    let message = format!("deployment `{name}` exports what others import: {}; destroy these first", by.join(", "));
    Refusal::new(RefusalKind::Conflict, "export-in-use", message)
}
