//! Workloads as wholes: each is compiled with as many simulated nodes as its groups take by default.
//!
//! This finds what shows only when roles stand together: inputs without a source, circles through wires, two providers of
//! one interface. Values and the number of nodes are made up, so what depends on them is left to the real compile.

use std::collections::{BTreeMap, BTreeSet};

use engine_core::catalog::Catalog;
use engine_core::compile::{CompileInput, CompileNode, compile};
use engine_core::diagnostic::Diagnostic;
use engine_core::document::{DeploymentDoc, WorkloadDoc};
use engine_core::schema::example;
use serde_json::{Value, json};

use crate::load::Sources;
use crate::report::Report;

/// Compiles every workload of the catalog; findings that were told already are left out.
pub(crate) fn check(catalog: &Catalog, sources: &Sources) -> Vec<Diagnostic> {
    let told: BTreeSet<(&str, &str)> =
        sources.found.iter().map(|one| (one.file.as_deref().unwrap_or_default(), one.pointer.as_str())).collect();
    let found = catalog.workloads.values().filter_map(|workload| one(catalog, workload)).flatten();
    let placed = found.filter(Diagnostic::is_error).map(|diagnostic| place(diagnostic, sources));
    placed.filter(|one| !told.contains(&(one.file.as_deref().unwrap_or_default(), one.pointer.as_str()))).collect()
}

fn one(catalog: &Catalog, workload: &WorkloadDoc) -> Option<Vec<Diagnostic>> {
    let document = example_of(workload)?;
    let imports: BTreeMap<String, BTreeMap<String, Value>> = workload
        .imports
        .iter()
        .map(|(name, exports)| {
            let schemas = exports.iter().map(|(export, declared)| (export.clone(), declared["schema"].clone()));
            (name.clone(), schemas.collect())
        })
        .collect();
    let nodes = nodes_of(workload);
    let (profiles, overrides) = (BTreeMap::new(), BTreeMap::new());
    let input = CompileInput {
        catalog,
        document: &document,
        nodes: &nodes,
        global_profiles: &[],
        profiles: &profiles,
        imports: &imports,
        overrides: &overrides,
    };
    // What is said of the deployment itself is about values that were made up.
    Some(compile(&input).err()?.into_iter().filter(|one| one.file.is_some()).collect())
}

/// A deployment with made-up values for parameters that have no default; none where no value could be made up.
fn example_of(workload: &WorkloadDoc) -> Option<DeploymentDoc> {
    let required = workload.parameters.get("required").and_then(Value::as_array).into_iter().flatten();
    let mut parameters = serde_json::Map::new();
    for name in required.filter_map(Value::as_str) {
        let schema = workload.parameters.get("properties").and_then(|all| all.get(name)).unwrap_or(&Value::Bool(true));
        parameters.insert(name.to_owned(), example(schema)?);
    }
    let imports: BTreeMap<&String, &str> = workload.imports.keys().map(|name| (name, "other")).collect();
    let document = json!({"deployment": "example", "workload": workload.workload, "parameters": parameters, "imports": imports});
    serde_json::from_value(document).ok()
}

fn nodes_of(workload: &WorkloadDoc) -> BTreeMap<String, CompileNode> {
    const MOST: u32 = 5;
    let mut nodes = BTreeMap::new();
    for (name, group) in &workload.groups {
        let count = group.count.default.unwrap_or(group.count.minimum).max(group.count.minimum).clamp(1, MOST);
        for index in 1..=count {
            let node = CompileNode { group: name.clone(), provider: "simulated".to_owned(), ..CompileNode::default() };
            nodes.insert(format!("example-{name}-{index}"), node);
        }
    }
    nodes
}

/// Line and column of a finding in a role or workload.
fn place(diagnostic: Diagnostic, sources: &Sources) -> Diagnostic {
    let file = diagnostic.file.clone().unwrap_or_default();
    let role = sources.roles.values().find(|role| role.file == file).map(|role| (&role.file, &role.spans));
    let own = |name: &String| file == format!("workloads/{name}/workload.yaml");
    let workload = sources.workloads.iter().find(|(name, _)| own(name)).map(|(_, found)| (&found.file, &found.spans));
    let Some((file, spans)) = role.or(workload) else { return diagnostic };
    let report = Report::new(file, spans);
    report.put(diagnostic, false);
    report.into_found().pop().expect("just put")
}
