//! What a simulated fleet is made of: a workload of layers, every role needs the one before it; or a workload of the catalog.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use engine_catalog::{Folder, load_folders};
use engine_core::document::GroupDoc;
use engine_core::view::Refusal;
use serde_json::{Value, json};

use super::{Fleet, SimulateError};

/// What there is to deploy.
pub(super) struct Made {
    /// Where it stands, beside the built-in bundle.
    pub(super) bundles: Vec<Folder>,
    /// The group that has the fleet's nodes.
    group: String,
    /// Nodes in other groups of each deployment.
    pub(super) others: u32,
    counts: BTreeMap<String, u32>,
}

/// Makes the bundle of a fleet, or looks at the workload that it is of.
pub(super) fn made(folder: &Path, fleet: &Fleet) -> Result<Made, SimulateError> {
    let Some(of) = &fleet.workload else {
        let (bundles, group) = (vec![bundle(folder, fleet)?], "all".to_owned());
        return Ok(Made { bundles, group, others: 0, counts: BTreeMap::new() });
    };
    let loaded = load_folders(of.bundles.clone());
    if loaded.has_errors() {
        return Err(Refusal::findings(loaded.diagnostics).into());
    }
    let Some(workload) = loaded.catalog.workloads.get(&of.name) else {
        let known: Vec<&str> = loaded.catalog.workloads.keys().map(String::as_str).collect();
        return Err(SimulateError::Group(format!(
            "there is no workload `{}`; there are {}",
            of.name,
            known.join(", ")
        )));
    };
    let groups: Vec<&str> = workload.groups.keys().map(String::as_str).collect();
    let group = match (&of.group, groups.as_slice()) {
        (Some(named), _) if workload.groups.contains_key(named) => named.clone(),
        (None, [only]) => (*only).to_owned(),
        _ => {
            let message =
                format!("workload `{}` has the groups {}; say which one has the nodes", of.name, groups.join(", "));
            return Err(SimulateError::Group(message));
        }
    };
    let count = |(name, one): (&String, &GroupDoc)| {
        let count = one.count.default.unwrap_or(one.count.minimum);
        (*name != group && count > 0).then(|| (name.clone(), count))
    };
    let counts: BTreeMap<String, u32> = workload.groups.iter().filter_map(count).collect();
    Ok(Made { bundles: of.bundles.clone(), group, others: counts.values().sum(), counts })
}

impl Made {
    /// The document of a deployment.
    pub(super) fn document(&self, fleet: &Fleet, name_of: &str, nodes: u32) -> String {
        let Some(of) = &fleet.workload else { return layers(fleet, name_of, nodes) };
        let others = self.counts.iter().map(|(name, count)| (name.clone(), *count));
        let nodes: serde_json::Map<String, Value> = others
            .chain([(self.group.clone(), nodes)])
            .map(|(name, count)| (name, json!({"provider": "simulated", "count": count})))
            .collect();
        json!({"deployment": name_of, "workload": of.name, "nodes": nodes, "parameters": of.parameters}).to_string()
    }
}

/// The document of a deployment of layers.
fn layers(fleet: &Fleet, name_of: &str, nodes: u32) -> String {
    let mut script = serde_json::Map::new();
    for layer in 1..=fleet.layers {
        let delay = u64::try_from(fleet.latency.as_millis()).unwrap_or(u64::MAX);
        let mut line = json!({"delay_ms": delay});
        if fails(fleet, layer) {
            line["outcome"] = json!({"fail": {"code": "step-failed", "message": "simulated", "times": 1}});
        }
        script.insert(name(layer), line);
    }
    json!({"deployment": name_of, "workload": "layers",
           "nodes": {"all": {"provider": "simulated", "count": nodes, "with": {"script": script}}}})
    .to_string()
}

/// Spread by the seed: of a hundred layers, `fail`.
fn fails(fleet: &Fleet, layer: u32) -> bool {
    let mut mixed = fleet.seed.wrapping_add(u64::from(layer)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed ^= mixed >> 31;
    mixed % 100 < u64::from(fleet.fail)
}

/// A layer's role.
fn name(layer: u32) -> String {
    format!("layer-{layer:03}")
}

/// Its bundle, written and read.
fn bundle(folder: &Path, fleet: &Fleet) -> Result<Folder, SimulateError> {
    let bundle = folder.join("bundle");
    let write = |path: &str, document: &Value| {
        let path = bundle.join(path);
        fs::create_dir_all(path.parent().unwrap_or(&bundle))?;
        fs::write(path, document.to_string())
    };
    let steps = if fleet.fail > 0 || !fleet.latency.is_zero() {
        json!([{"run": {"text": "true", "unless": "false"}}])
    } else {
        json!([])
    };
    let mut files = vec![("bundle.yaml".to_owned(), json!({"bundle": "simulated", "version": "1.0.0"}))];
    let mut bound = Vec::new();
    for layer in 1..=fleet.layers {
        let before: Vec<String> = (layer > 1).then(|| name(layer - 1)).into_iter().collect();
        let role = json!({"role": name(layer), "version": "1.0.0", "about": "A layer.", "runs": "node",
                          "milestone": true, "requires": before, "apply": steps});
        files.push((format!("roles/{}/role.yaml", name(layer)), role));
        bound.push(json!(name(layer)));
    }
    if fleet.dns.is_some() {
        bound.push(json!("dns-name"));
    }
    let workload = json!({"workload": "layers", "version": "1.0.0", "about": "Layers.",
                          "groups": {"all": {"count": {"default": 1, "minimum": 1}}}, "roles": {"all": bound}});
    files.push(("workloads/layers/workload.yaml".to_owned(), workload));
    for (path, document) in &files {
        write(path, document).map_err(SimulateError::Bundle)?;
    }
    Ok(Folder::read(&bundle).map_err(|error| Refusal::findings(vec![*error]))?)
}
