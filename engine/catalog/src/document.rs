//! The kinds of document, their schemas, and reading one from text.

use std::sync::LazyLock;

use engine_core::diagnostic::Diagnostic;
use engine_core::document::DeploymentDoc;
use engine_core::schema::Validators;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::bundle::core_bundle;
use crate::report::Report;
use crate::yaml::{self, Parsed, Spans};

/// The kinds of document that people write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `roles/NAME/role.yaml`.
    Role,
    /// `workloads/NAME/workload.yaml`.
    Workload,
    /// A workload bound to nodes.
    Deployment,
    /// An existing host.
    Node,
    /// `bundle.yaml`.
    Bundle,
    /// One item of an action; part of a role.
    Step,
    /// A named set of values.
    Profile,
    /// What may be done to machines in all deployments.
    Policy,
    /// Labels by facts.
    Rule,
    /// How many nodes of all deployments may be out of service.
    Budget,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Role,
        Self::Workload,
        Self::Deployment,
        Self::Node,
        Self::Bundle,
        Self::Step,
        Self::Profile,
        Self::Policy,
        Self::Rule,
        Self::Budget,
    ];

    /// Its name, which is also the key that tells a document's kind.
    pub fn name(self) -> &'static str {
        match self {
            Self::Role => "role",
            Self::Workload => "workload",
            Self::Deployment => "deployment",
            Self::Node => "node",
            Self::Bundle => "bundle",
            Self::Step => "step",
            Self::Profile => "profile",
            Self::Policy => "policy",
            Self::Rule => "rule",
            Self::Budget => "budget",
        }
    }

    /// The kind by its name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The kind that a document says it is. A deployment names a workload and has a policy, and is asked first.
    pub(crate) fn of(value: &Value) -> Option<Self> {
        let first = [Self::Deployment, Self::Workload, Self::Role, Self::Node, Self::Bundle];
        let settings = [Self::Profile, Self::Policy, Self::Rule, Self::Budget];
        first.into_iter().chain(settings).find(|kind| value.get(kind.name()).is_some())
    }

    /// Its JSON Schema, complete in itself.
    pub(crate) fn document_schema(self) -> &'static Value {
        let (_, value, _) = &SCHEMAS[self as usize];
        value
    }
}

static SCHEMAS: LazyLock<Vec<(Kind, Value, String)>> = LazyLock::new(|| {
    let bundle = core_bundle();
    let read = |name: &str| -> Value {
        let bytes = bundle.bytes(&format!("schemas/{name}.json")).expect("compiled in");
        serde_json::from_slice(bytes).expect("schemas of the tree are JSON; a test reads them")
    };
    Kind::ALL
        .into_iter()
        .map(|kind| {
            let mut schema = read(kind.name());
            if kind == Kind::Role {
                embed(&mut schema, read("step"));
            }
            let text = serde_json::to_string_pretty(&schema).expect("a value");
            (kind, schema, text)
        })
        .collect()
});

/// Makes the schema of roles complete: `$ref: step.json`, which editors follow, becomes a definition of its own.
fn embed(role: &mut Value, mut step: Value) {
    let definitions = match step.as_object_mut().and_then(|step| step.remove("$defs")) {
        Some(Value::Object(definitions)) => definitions,
        _ => Map::new(),
    };
    redirect(role, &|target: &str| (target == "step.json").then(|| "#/$defs/step".to_owned()));
    let inner = |target: &str| target.strip_prefix("#/$defs/").map(|name| format!("#/$defs/step-{name}"));
    redirect(&mut step, &inner);
    role["$defs"]["step"] = step;
    for (name, mut definition) in definitions {
        redirect(&mut definition, &inner);
        role["$defs"][format!("step-{name}")] = definition;
    }
}

/// Rewrites `$ref`s.
fn redirect(schema: &mut Value, to: &dyn Fn(&str) -> Option<String>) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(|item| redirect(item, to)),
        Value::Object(object) => {
            for (key, item) in object {
                match item.as_str().filter(|_| key == "$ref").and_then(to) {
                    Some(target) => *item = Value::String(target),
                    None => redirect(item, to),
                }
            }
        }
        _ => {}
    }
}

static VALIDATORS: LazyLock<Validators> = LazyLock::new(Validators::default);

/// The JSON Schema of a kind of document, as text.
pub fn schema(kind: Kind) -> &'static str {
    let (_, _, text) = &SCHEMAS[kind as usize];
    text
}

/// A document that passed its schema.
#[derive(Clone, Debug)]
pub(crate) struct Read<T> {
    pub(crate) doc: T,
    pub(crate) spans: Spans,
}

/// Reads the one document of a text.
pub(crate) fn read_one<T: DeserializeOwned>(text: &[u8], file: &str, kind: Kind) -> Result<Read<T>, Vec<Diagnostic>> {
    let mut documents = parse(text, file)?;
    if documents.len() > 1 {
        let place = documents[1].spans.value("");
        let mut diagnostic = Diagnostic::error(
            "several-documents",
            "",
            format!("a second document in a file that holds one {}", kind.name()),
        );
        (diagnostic.line, diagnostic.column) = (place.map(|place| place.line), place.map(|place| place.column));
        return Err(vec![diagnostic.in_file(file)]);
    }
    match documents.pop() {
        Some(parsed) => convert(parsed, file, kind),
        None => {
            Err(vec![Diagnostic::error("empty-file", "", "there is nothing in it").expected(kind.name()).in_file(file)])
        }
    }
}

/// The YAML documents of a text.
pub(crate) fn parse(text: &[u8], file: &str) -> Result<Vec<Parsed>, Vec<Diagnostic>> {
    let text = std::str::from_utf8(text)
        .map_err(|_| vec![Diagnostic::error("invalid-yaml", "", "it is not text in UTF-8").in_file(file)])?;
    yaml::parse(text).map_err(|diagnostic| vec![diagnostic.in_file(file)])
}

/// Validates a document by the schema of its kind and makes it a type of core.
pub(crate) fn convert<T: DeserializeOwned>(parsed: Parsed, file: &str, kind: Kind) -> Result<Read<T>, Vec<Diagnostic>> {
    let report = Report::new(file, &parsed.spans);
    let problems = VALIDATORS
        .validate(kind.document_schema(), &parsed.value, false)
        .expect("schemas of the tree are valid; a test compiles them");
    report.problems("", problems);
    if report.has_errors() {
        return Err(report.into_found());
    }
    match serde_path_to_error::deserialize(&parsed.value) {
        Ok(doc) => Ok(Read { doc, spans: parsed.spans }),
        Err(error) => {
            report.error("wrong-value", &pointer_of(error.path()), error.inner().to_string());
            Err(report.into_found())
        }
    }
}

fn pointer_of(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    path.iter()
        .filter_map(|segment| match segment {
            Segment::Seq { index } => Some(format!("/{index}")),
            Segment::Map { key } => Some(format!("/{}", yaml::escape(key))),
            Segment::Enum { .. } | Segment::Unknown => None,
        })
        .collect()
}

/// A deployment document, with where everything in it stands.
#[derive(Clone, Debug)]
pub struct ReadDeployment {
    /// The document.
    pub doc: DeploymentDoc,
    file: String,
    spans: Spans,
}

impl ReadDeployment {
    /// Gives findings about this document their file, line and column. Those that name another file are left alone.
    pub fn place(&self, findings: Vec<Diagnostic>) -> Vec<Diagnostic> {
        let (here, elsewhere): (Vec<_>, Vec<_>) = findings.into_iter().partition(|finding| finding.file.is_none());
        let report = Report::new(&self.file, &self.spans);
        for finding in here {
            report.put(finding, false);
        }
        let mut placed = report.into_found();
        placed.extend(elsewhere);
        placed
    }
}

/// Reads the deployments of a text; several may stand in one.
///
/// # Errors
/// Everything that is wrong with any of them.
pub fn read_deployments(text: &str, file: &str) -> Result<Vec<ReadDeployment>, Vec<Diagnostic>> {
    let read = read_all::<DeploymentDoc>(text.as_bytes(), file, Kind::Deployment)?;
    let mut found = Vec::new();
    for read in &read {
        let report = Report::new(file, &read.spans);
        crate::check::deployment::alone(&read.doc, &report);
        found.extend(report.into_found());
    }
    let names: Vec<&str> = read.iter().map(|read| read.doc.deployment.as_str()).collect();
    for (index, read) in
        read.iter().enumerate().filter(|(index, read)| names[..*index].contains(&read.doc.deployment.as_str()))
    {
        let report = Report::new(file, &read.spans);
        report.error("duplicate-deployment", "/deployment", format!("`{}` stands in this file twice", names[index]));
        found.extend(report.into_found());
    }
    if found.iter().any(Diagnostic::is_error) {
        return Err(found);
    }
    Ok(read
        .into_iter()
        .map(|read| ReadDeployment { doc: read.doc, file: file.to_owned(), spans: read.spans })
        .collect())
}

/// Reads the node documents of a text, as values of `schemas/node.json`.
///
/// # Errors
/// Everything that is wrong with any of them.
pub fn read_nodes(text: &str, file: &str) -> Result<Vec<Value>, Vec<Diagnostic>> {
    Ok(read_all::<Value>(text.as_bytes(), file, Kind::Node)?.into_iter().map(|read| read.doc).collect())
}

pub(crate) fn read_all<T: DeserializeOwned>(
    text: &[u8],
    file: &str,
    kind: Kind,
) -> Result<Vec<Read<T>>, Vec<Diagnostic>> {
    let documents = parse(text, file)?;
    if documents.is_empty() {
        return Err(vec![
            Diagnostic::error("empty-file", "", "there is nothing in it").expected(kind.name()).in_file(file),
        ]);
    }
    let (mut read, mut found) = (Vec::new(), Vec::new());
    for parsed in documents {
        match convert(parsed, file, kind) {
            Ok(one) => read.push(one),
            Err(diagnostics) => found.extend(diagnostics),
        }
    }
    if found.is_empty() { Ok(read) } else { Err(found) }
}
