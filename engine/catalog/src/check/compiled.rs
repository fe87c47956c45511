//! Compiles what is sound by itself, for what shows only in a graph: inputs without a source, outputs that do not fit,
//! cycles between roles. Nothing is known of nodes here, so nothing is said about them.
//!
//! A workload is compiled as the smallest deployment of it. What a deployment may still set is a warning then.

use std::collections::BTreeMap;

use engine_core::catalog::Catalog;
use engine_core::compile::{CompileInput, CompileNode, compile};
use engine_core::diagnostic::Diagnostic;
use engine_core::document::deployment::CreateNodes;
use engine_core::document::{BindNodes, DeploymentDoc, ImportDoc, Object, WorkloadDoc};
use engine_core::graph::NodeName;
use engine_core::schema::validate;
use engine_core::secret::DigestKey;
use serde_json::{Value, json};

use crate::load::{RoleSource, Sources, WorkloadSource};
use crate::report::Report;
use crate::yaml::Spans;

/// Everything that compile says about a deployment.
pub(crate) fn deployment(doc: &DeploymentDoc, sources: &Sources, catalog: &Catalog, report: &Report<'_>) {
    let Some(workload) = catalog.workloads.get(&doc.workload) else { return };
    for finding in run(doc, workload, catalog) {
        match &finding.file {
            None => report.put(finding, false),
            Some(_) => report.elsewhere(placed(finding, &format!("deployment `{}`", doc.deployment), sources)),
        }
    }
}

/// Everything that compile says about a workload.
pub(crate) fn workload(source: &WorkloadSource, sources: &Sources, catalog: &Catalog) -> Vec<Diagnostic> {
    let report = Report::new(&source.file, &source.spans);
    let Some(workload) = catalog.workloads.get(&source.doc.workload) else { return Vec::new() };
    let (doc, made_up) = match smallest(workload) {
        Ok(smallest) => smallest,
        Err(parameter) => {
            let message = format!("the workload is not compiled here: parameter `{parameter}` has no value to try");
            let finding =
                Diagnostic::error("workload-not-compiled", format!("/parameters/properties/{parameter}"), message);
            report.put(finding.expected("a `default`, or `examples` that are valid").warning(), true);
            return report.into_found();
        }
    };
    for finding in run(&doc, workload, catalog) {
        // A value that we made up says nothing about those that will be given.
        if made_up && finding.code == "bad-value" {
            continue;
        }
        let finding = if finding.code == "no-source" { finding.warning() } else { finding };
        match &finding.file {
            None => report.put(Diagnostic { pointer: String::new(), ..finding }, false),
            Some(_) => report.elsewhere(placed(finding, &format!("workload `{}`", doc.workload), sources)),
        }
    }
    report.into_found()
}

fn run(doc: &DeploymentDoc, workload: &WorkloadDoc, catalog: &Catalog) -> Vec<Diagnostic> {
    let compiled = compile(&CompileInput {
        catalog,
        document: doc,
        nodes: &nodes(doc, workload),
        global_profiles: &[],
        profiles: &doc.profiles.iter().map(|name| (name.clone(), Object::new())).collect(),
        imports: &schemas(workload),
        policies: &[],
        overrides: &BTreeMap::new(),
        key: &DigestKey::of_nobody(),
    });
    compiled.map_or_else(|findings| findings, |compiled| compiled.warnings)
}

/// What is imported, as if somebody exported just that.
fn schemas(workload: &WorkloadDoc) -> BTreeMap<String, BTreeMap<String, Value>> {
    let of = |exports: &BTreeMap<String, ImportDoc>| {
        exports.iter().map(|(export, wanted)| (export.clone(), wanted.schema.clone())).collect()
    };
    workload.imports.iter().map(|(name, exports)| (name.clone(), of(exports))).collect()
}

/// As many as the deployment says, by the names it says or any.
fn nodes(doc: &DeploymentDoc, workload: &WorkloadDoc) -> BTreeMap<NodeName, CompileNode> {
    let mut nodes = BTreeMap::new();
    for (group, bound) in &doc.nodes {
        let Some(known) = workload.groups.get(group) else { continue };
        let (names, provider) = match bound {
            BindNodes::Names(names) => (names.clone(), ""),
            BindNodes::Create(create) => (counted(doc, group, create.count.or(known.count.default)), &*create.provider),
            BindNodes::Select(select) => (counted(doc, group, select.count.or(known.count.default)), ""),
        };
        for name in names {
            let (group, provider) = (group.clone(), provider.to_owned());
            nodes.insert(name, CompileNode { group, provider, ..CompileNode::default() });
        }
    }
    nodes
}

fn counted(doc: &DeploymentDoc, group: &str, count: Option<u32>) -> Vec<NodeName> {
    (1..=count.unwrap_or(1)).map(|index| format!("{}-{group}-{index}", doc.deployment)).collect()
}

/// The smallest deployment in which every role of a workload stands, and whether its schema did not name the value of
/// some parameter; else the parameter that has no value to try.
fn smallest(workload: &WorkloadDoc) -> Result<(DeploymentDoc, bool), String> {
    let create = |count| BindNodes::Create(CreateNodes { provider: String::new(), count, with: Object::new() });
    let nodes = workload.groups.iter().map(|(group, known)| (group.clone(), create(Some(known.count.minimum.max(1)))));
    let (mut parameters, mut made_up) = (Object::new(), false);
    let required = workload.parameters["required"].as_array().cloned().unwrap_or_default();
    for name in required.iter().filter_map(Value::as_str) {
        let schema = &workload.parameters["properties"][name];
        let named = named(schema);
        made_up |= named.is_none();
        let value = named.or_else(|| plain(schema)).filter(|value| validate(schema, value).is_empty()).ok_or(name)?;
        parameters.insert(name.to_owned(), value);
    }
    let doc = DeploymentDoc {
        deployment: workload.workload.clone(),
        workload: workload.workload.clone(),
        about: String::new(),
        nodes: nodes.collect(),
        parameters,
        set: engine_core::document::deployment::SetDoc::default(),
        profiles: Vec::new(),
        policy: engine_core::document::deployment::Policy::default(),
        imports: workload.imports.keys().map(|name| (name.clone(), name.clone())).collect(),
        moved: BTreeMap::new(),
        check: None,
        weight: None,
        expires_in: None,
    };
    Ok((doc, made_up))
}

/// A value that a schema names.
fn named(schema: &Value) -> Option<Value> {
    let first = |key: &str| schema.get(key).and_then(|values| values.get(0));
    let one = |key: &str| schema.get(key);
    one("default").or_else(|| one("const")).or_else(|| first("examples")).or_else(|| first("enum")).cloned()
}

/// A simple value of a schema's type.
fn plain(schema: &Value) -> Option<Value> {
    let part = |schema: &Value| named(schema).or_else(|| plain(schema));
    match schema.get("type")?.as_str()? {
        "string" => Some(json!("sample")),
        "integer" | "number" => Some(schema.get("minimum").cloned().unwrap_or(json!(1))),
        "boolean" => Some(json!(false)),
        "null" => Some(Value::Null),
        "array" => {
            let count = schema.get("minItems").and_then(Value::as_u64).unwrap_or(0);
            (0..count).map(|_| part(&schema["items"])).collect::<Option<Vec<_>>>().map(Value::Array)
        }
        "object" => {
            let required = schema.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
            let members = required.iter().filter_map(Value::as_str);
            let members = members.map(|name| Some((name.to_owned(), part(&schema["properties"][name])?)));
            members.collect::<Option<Object>>().map(Value::Object)
        }
        _ => None,
    }
}

/// With the line and column of a finding in a role or a workload; of roles, also where it shows.
fn placed(mut finding: Diagnostic, shows_in: &str, sources: &Sources) -> Diagnostic {
    let of_role = |role: &'_ RoleSource| finding.file.as_ref() == Some(&role.file);
    let of_workload = |name: &str| finding.file.as_deref() == Some(&format!("workloads/{name}/workload.yaml"));
    let role = sources.roles.values().find(|role| of_role(role)).map(|role| (&role.file, &role.spans));
    let workload = || {
        let mut all = sources.workloads.iter();
        all.find(|(name, _)| of_workload(name)).map(|(_, workload)| (&workload.file, &workload.spans))
    };
    if role.is_some() {
        finding.message += &format!(", in {shows_in}");
    }
    let found: Option<(&String, &Spans)> = role.or_else(workload);
    let Some((file, spans)) = found else { return finding };
    let report = Report::new(file, spans);
    report.put(finding, false);
    report.into_found().remove(0)
}
