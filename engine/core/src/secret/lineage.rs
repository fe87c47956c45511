//! Where secrets go.

use std::collections::{BTreeMap, BTreeSet};

use super::digest_of;
use crate::graph::{Gathered, Graph, GraphInput, Kind, RoleName, Source};
use crate::value::Layered;

/// A deployment role and its input.
pub type Reader = (RoleName, String);

/// By secret who reads it: `parameters.NAME`, `ROLE.OUTPUT`, `import NAME.EXPORT`, or `ROLE.INPUT` for one that is set for just this input.
pub fn lineage(graph: &Graph) -> BTreeMap<String, BTreeSet<Reader>> {
    let mut all: BTreeMap<String, BTreeSet<Reader>> = BTreeMap::new();
    let parameters = graph.parameters.as_object().into_iter().flatten();
    for (name, _) in parameters.filter(|(_, value)| digest_of(value).is_some()) {
        all.entry(format!("parameters.{name}")).or_default();
    }
    for (name, role) in graph.roles.iter().filter(|(_, role)| role.kind == Kind::Work) {
        for (output, _) in role.outputs.iter().filter(|(_, output)| output.secret) {
            all.entry(format!("{name}.{output}")).or_default();
        }
        for (input_name, input) in role.inputs.iter().filter(|(_, input)| input.secret) {
            for secret in origins(graph, (name, input_name), input) {
                all.entry(secret).or_default().insert((name.clone(), input_name.clone()));
            }
        }
    }
    all
}

fn origins(graph: &Graph, (role, name): (&str, &str), input: &GraphInput) -> Vec<String> {
    let mut found = Vec::new();
    let mut set = |value: &Layered| match value.of.as_slice() {
        [] => found.push(format!("{role}.{name}")),
        parameters => found.extend(parameters.iter().map(|parameter| format!("parameters.{parameter}"))),
    };
    input.overrides.values().for_each(&mut set);
    let mut ends = vec![&input.source];
    let mut wired = Vec::new();
    while let Some(source) = ends.pop() {
        match source {
            Source::Layers { base, groups, nodes } => {
                base.iter().chain(groups.values()).chain(nodes.values()).for_each(&mut set);
            }
            Source::Output { role, output, .. } | Source::Chosen { role, output, .. } => {
                wired.extend(outputs(graph, role, output.as_deref()));
            }
            Source::At { role, output, .. } => wired.push(format!("{role}.{output}")),
            Source::Gather { helper } => {
                if let Some(Kind::Gather { of: Gathered::Output { role, output, .. }, .. }) =
                    graph.roles.get(helper).map(|helper| &helper.kind)
                {
                    wired.extend(outputs(graph, role, output.as_deref()));
                }
            }
            Source::Import { import, output, .. } => wired.push(format!("import {import}.{output}")),
            Source::ByGroup { groups } => ends.extend(groups.values()),
            Source::Node { .. } | Source::Deployment { .. } => {}
        }
    }
    found.extend(wired);
    found
}

/// The output, or all of a whole interface that are secret.
fn outputs(graph: &Graph, role: &str, output: Option<&str>) -> Vec<String> {
    let all = graph.roles.get(role).into_iter().flat_map(|of| &of.outputs);
    all.filter(|(name, found)| output.map_or(found.secret, |output| output == name.as_str()))
        .map(|(name, _)| format!("{role}.{name}"))
        .collect()
}
