//! From documents to the graph: `compile(catalog, workload, nodes, parameters) -> Graph | every diagnostic at once`.
//!
//! Pure and deterministic. All work is per deployment role and group, never per node role: ten thousand nodes cost as
//! much as ten, but for the sets of bound nodes. [`bind::bind_nodes`] comes before it and says which nodes a
//! deployment has.

mod above;
pub mod bind;
mod check;
mod closure;
mod cycle;
pub mod duration;
mod edges;
pub(crate) mod facts;
mod feeds;
mod fitting;
mod interfaces;
mod layers;
mod names;
mod parameters;
mod secrets;
mod sources;
mod values;

use std::collections::BTreeMap;

use serde_json::Value;

use crate::catalog::Catalog;
use crate::diagnostic::Diagnostic;
use crate::document::{DeploymentDoc, Object, WorkloadDoc};
use crate::graph::{Graph, GraphNode, NodeName};
use crate::policy::GlobalPolicy;
use crate::secret::{Clear, DigestKey};

/// Everything that a graph follows from.
#[derive(Clone, Copy, Debug)]
pub struct CompileInput<'a> {
    /// Roles, workloads and interfaces.
    pub catalog: &'a Catalog,
    /// The deployment as written.
    pub document: &'a DeploymentDoc,
    /// The nodes bound to it.
    pub nodes: &'a BTreeMap<NodeName, CompileNode>,
    /// Profiles that hold for every deployment, weakest first.
    pub global_profiles: &'a [Profile],
    /// Profiles that a deployment can list, by name.
    pub profiles: &'a BTreeMap<String, Object>,
    /// What the deployments export that this one imports: import name to export name to schema.
    pub imports: &'a BTreeMap<String, BTreeMap<String, Value>>,
    /// Policies that hold for all deployments.
    pub policies: &'a [GlobalPolicy],
    /// Explicit overrides of node roles: node to `DEPLOYMENT-ROLE.input` to value.
    pub overrides: &'a BTreeMap<NodeName, Object>,
    /// What the tokens of secrets are made with.
    pub key: &'a DigestKey,
}

/// A named set of values, `DEPLOYMENT-ROLE.input` to value.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Profile {
    /// Its name.
    pub name: String,
    /// Its values.
    pub values: Object,
}

/// A node as compile needs to know it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CompileNode {
    /// Its group.
    pub group: String,
    /// Its operating system, such as `debian-12`; unknown until it was there once, and then nothing is checked.
    pub os: Option<String>,
    /// Its architecture, such as `amd64`; likewise.
    pub arch: Option<String>,
    /// Values that discovery found out, `DEPLOYMENT-ROLE.input` to value.
    pub discovered: Object,
    /// Name of its provider.
    pub provider: String,
    /// Values that its provider sets, likewise.
    pub provided: Object,
}

/// A compiled deployment and what is worth a look in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Compiled {
    /// The graph.
    pub graph: Graph,
    /// The document as it is kept: what is secret in it are tokens.
    pub document: DeploymentDoc,
    /// The values of all tokens in graph and document.
    pub secrets: Clear,
    /// Warnings, sorted.
    pub warnings: Vec<Diagnostic>,
}

/// Findings on the way.
#[derive(Debug, Default)]
struct Findings(Vec<Diagnostic>);

impl Findings {
    fn push(&mut self, diagnostic: Diagnostic) {
        self.0.push(diagnostic);
    }

    fn has_errors(&self) -> bool {
        self.0.iter().any(Diagnostic::is_error)
    }

    fn sorted(mut self) -> Vec<Diagnostic> {
        self.0.sort();
        self.0.dedup();
        self.0
    }
}

/// A place in a document.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Site {
    file: Option<String>,
    pointer: String,
}

impl Site {
    fn of_role(source: &str, path: &[&str]) -> Self {
        Self { file: Some(source.to_owned()), pointer: pointer(path) }
    }

    fn of_workload(workload: &str, path: &[&str]) -> Self {
        Self { file: Some(format!("workloads/{workload}/workload.yaml")), pointer: pointer(path) }
    }

    fn of_deployment(path: &[&str]) -> Self {
        Self { file: None, pointer: pointer(path) }
    }

    fn error(&self, code: &str, message: impl Into<String>) -> Diagnostic {
        let diagnostic = Diagnostic::error(code, self.pointer.clone(), message);
        match &self.file {
            Some(file) => diagnostic.in_file(file.clone()),
            None => diagnostic,
        }
    }
}

/// JSON pointer of some keys.
fn pointer(path: &[&str]) -> String {
    path.iter().map(|key| format!("/{}", key.replace('~', "~0").replace('/', "~1"))).collect()
}

/// The graph of a deployment, or everything that is wrong with it.
///
/// # Errors
/// Every finding, sorted by place; at least one of them is an error.
pub fn compile(input: &CompileInput) -> Result<Compiled, Vec<Diagnostic>> {
    let mut findings = Findings::default();
    let document = input.document;
    let Some(workload) = input.catalog.workloads.get(&document.workload) else {
        let known: Vec<&str> = input.catalog.workloads.keys().map(String::as_str).collect();
        let error = Diagnostic::error("unknown-workload", "/workload", format!("no workload `{}`", document.workload));
        return Err(vec![error.expected(one_of(&known))]);
    };
    let parameters = parameters::resolve(workload, document, &mut findings);
    let closed = closure::close(input, workload, &parameters, &mut findings);
    layers::check(input, workload, &closed, &mut findings);
    check::imports(input, workload, &mut findings);
    check::supports(input, &closed, &mut findings);
    check::neighbours(&closed, &mut findings);
    let mut roles = edges::draw(input, workload, &closed, &mut findings);
    check::unused_parameters(workload, &mut findings);
    let exports = check::exports(workload, &roles, &mut findings);
    let order = cycle::order(&roles, &mut findings);
    let mut secrets = secrets::hide(input, workload, &closed, &mut roles, &mut findings);
    if findings.has_errors() {
        return Err(findings.sorted());
    }
    let nodes: BTreeMap<NodeName, GraphNode> =
        input.nodes.iter().map(|(name, node)| (name.clone(), GraphNode { group: node.group.clone() })).collect();
    let document = secrets::document(input, &parameters, &roles, &mut secrets);
    above::derive(&mut roles, &order, &nodes);
    let members = crate::budget::derive(&mut roles, &workload.budgets);
    let (policy, policy_by) = crate::policy::merged(&input.document.policy, input.policies);
    let graph = Graph {
        deployment: input.document.deployment.clone(),
        workload: workload.workload.clone(),
        nodes,
        roles,
        order,
        budgets: workload.budgets.clone(),
        members,
        founders: BTreeMap::new(),
        policy,
        policy_by,
        weight: input.document.weight.unwrap_or(1),
        exports,
        imports: check::imported(input, workload),
        parameters: parameters.kept(input.key, &mut secrets),
        dropped: BTreeMap::new(),
    };
    Ok(Compiled { graph, document, secrets, warnings: findings.sorted() })
}

/// `one of a, b, c`, for `expected`.
fn one_of(names: &[&str]) -> String {
    match names {
        [] => "nothing: there is none".to_owned(),
        [one] => format!("`{one}`"),
        many => format!("one of {}", many.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")),
    }
}

/// Renders the strings of a value over some variables; exactly one expression keeps its type.
///
/// # Errors
/// Why it can not be rendered, such as a variable that is not there.
pub(crate) fn render_with(value: &Value, variables: &Object) -> Result<Value, String> {
    values::render(value, variables)
}

/// The workload's groups, and the virtual node.
fn is_place(workload: &WorkloadDoc, place: &str) -> bool {
    place == crate::graph::VIRTUAL || workload.groups.contains_key(place)
}

#[cfg(test)]
mod tests;
