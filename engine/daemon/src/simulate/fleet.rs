//! What a simulated fleet is made of: a workload of layers, every role needs the one before it.

use std::fs;
use std::path::Path;

use engine_catalog::Folder;
use engine_core::view::Refusal;
use serde_json::{Value, json};

use super::{Fleet, SimulateError};

/// The document of a deployment of the fleet.
pub(super) fn document(fleet: &Fleet, name_of: &str, nodes: u32) -> String {
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
pub(super) fn name(layer: u32) -> String {
    format!("layer-{layer:03}")
}

/// Its bundle, written and read.
pub(super) fn bundle(folder: &Path, fleet: &Fleet) -> Result<Folder, SimulateError> {
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
