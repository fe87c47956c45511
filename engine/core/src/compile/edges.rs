//! Draws the graph: inputs with their sources, edges with why they exist, helpers.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::closure::{Closure, Instance};
use super::feeds::{FedBy, Feed};
use super::names::{self, Named};
use super::{CompileInput, Findings, Site, duration, fitting, layers, sources};
use crate::catalog::CatalogRole;
use crate::digest;
use crate::document::{At, RoleDoc, WorkloadDoc};
use crate::effect::Felt;
use crate::graph::{
    Above, Edge, Executor, GraphInput, GraphOutput, GraphRole, Kind, NodeName, Pairing, Retry, RoleName, VIRTUAL, Why,
};

/// Seconds that a job may take when its role does not say.
const DEFAULT_TIMEOUT: u64 = 600;

/// What is known while drawing.
pub(super) struct Drawer<'a, 'c> {
    pub input: CompileInput<'a>,
    pub workload: &'a WorkloadDoc,
    pub closure: &'c Closure<'a>,
    nodes: BTreeMap<&'a str, BTreeSet<NodeName>>,
    helpers: BTreeMap<RoleName, GraphRole>,
}

impl Drawer<'_, '_> {
    /// The helper of this name, made when it is not there. Equal names mean equal helpers.
    pub(super) fn helper(
        &mut self,
        name: String,
        kind: Kind,
        parents: Vec<Edge>,
        reader: (&Instance, &str),
        schema: &Value,
    ) -> RoleName {
        let output = if matches!(kind, Kind::Chooser { .. }) { "node" } else { "value" };
        self.helpers.entry(name.clone()).or_insert_with(|| GraphRole {
            name: name.clone(),
            content: digest::of(&serde_json::to_value(&kind).expect("plain data")),
            kind,
            role: String::new(),
            on_virtual: true,
            at: At::OwnNode,
            executor: Executor::Noop,
            milestone: false,
            because: format!("feeds {}.{}", reader.0.name, reader.1),
            inputs: BTreeMap::new(),
            outputs: BTreeMap::from([(
                output.to_owned(),
                GraphOutput { schema: schema.clone(), value: None, secret: false },
            )]),
            parents,
            above: Above::default(),
            bound: BTreeSet::from([VIRTUAL.to_owned()]),
            provides: BTreeSet::new(),
            conflicts: BTreeSet::new(),
            disrupts: BTreeSet::new(),
            takes: BTreeSet::new(),
            felt: Felt::default(),
            destructive: false,
            renew_at: None,
            timeout: DEFAULT_TIMEOUT,
            retry: None,
        });
        name
    }

    /// Number of instances of a role in a group.
    pub(super) fn count(&self, instance: &Instance, group: Option<&str>) -> usize {
        let places = instance.places.iter().filter(|place| group.is_none_or(|group| **place == group));
        places.map(|place| self.nodes.get(place).map_or(0, BTreeSet::len)).sum()
    }

    fn bound(&self, instance: &Instance) -> BTreeSet<NodeName> {
        if instance.on_virtual() {
            return BTreeSet::from([VIRTUAL.to_owned()]);
        }
        instance.places.iter().filter_map(|place| self.nodes.get(place)).flatten().cloned().collect()
    }
}

/// All deployment roles and helpers, with their edges.
pub(super) fn draw<'a>(
    input: &CompileInput<'a>,
    workload: &'a WorkloadDoc,
    closure: &Closure<'a>,
    findings: &mut Findings,
) -> BTreeMap<RoleName, GraphRole> {
    let mut nodes: BTreeMap<&str, BTreeSet<NodeName>> = BTreeMap::new();
    for (name, node) in input.nodes {
        nodes.entry(&node.group).or_default().insert(name.clone());
    }
    let mut drawer = Drawer { input: *input, workload, closure, nodes, helpers: BTreeMap::new() };
    let mut roles: BTreeMap<RoleName, GraphRole> = BTreeMap::new();
    for instance in closure.instances.values() {
        roles.insert(instance.name.clone(), role(&mut drawer, instance, findings));
    }
    roles.append(&mut drawer.helpers);
    precede(&drawer, &mut roles, findings);
    for role in roles.values_mut() {
        role.parents.sort();
        role.parents.dedup();
    }
    roles
}

fn role<'a>(drawer: &mut Drawer<'a, '_>, instance: &Instance<'a>, findings: &mut Findings) -> GraphRole {
    let CatalogRole { doc, content, source, .. } = instance.role;
    let mut parents = requires(drawer, instance, findings);
    let mut inputs = BTreeMap::new();
    for name in doc.inputs.keys() {
        let (input, edges) = graph_input(drawer, instance, name, findings);
        parents.extend(edges);
        inputs.extend(input.map(|input| (name.clone(), input)));
    }
    let outputs = doc.outputs.iter().map(|(name, output)| {
        let output = GraphOutput { schema: output.schema.clone(), value: output.value.clone(), secret: output.secret };
        (name.clone(), output)
    });
    let timeout = doc.timeout.as_deref().map_or(Ok(DEFAULT_TIMEOUT), duration::seconds);
    let timeout = timeout.unwrap_or_else(|error| {
        findings.push(Site::of_role(source, &["timeout"]).error("bad-duration", error.to_string()));
        DEFAULT_TIMEOUT
    });
    GraphRole {
        name: instance.name.clone(),
        kind: Kind::Work,
        role: doc.role.clone(),
        content: content.clone(),
        on_virtual: instance.on_virtual(),
        at: at(drawer, instance, findings),
        executor: match (&doc.driver, doc.is_noop()) {
            (Some(driver), _) => Executor::Driver(driver.clone()),
            (None, true) => Executor::Noop,
            (None, false) => Executor::Agent,
        },
        milestone: doc.milestone,
        because: instance.because.clone(),
        inputs,
        outputs: outputs.collect(),
        parents,
        above: Above::default(),
        bound: drawer.bound(instance),
        provides: doc.provides.iter().cloned().collect(),
        conflicts: doc.conflicts.iter().cloned().collect(),
        disrupts: doc.disrupts.iter().cloned().collect(),
        takes: BTreeSet::new(),
        felt: crate::plan::felt(instance.role),
        destructive: doc.destructive,
        renew_at: doc.renew_at.clone(),
        timeout,
        retry: retry(doc, source, findings),
    }
}

fn retry(doc: &RoleDoc, source: &str, findings: &mut Findings) -> Option<Retry> {
    let retry = doc.retry.as_ref()?;
    let backoff = retry.backoff.as_deref().map_or(Ok(Retry::BACKOFF), duration::seconds).unwrap_or_else(|error| {
        findings.push(Site::of_role(source, &["retry", "backoff"]).error("bad-duration", error.to_string()));
        Retry::BACKOFF
    });
    Some(Retry { attempts: i32::try_from(retry.attempts).unwrap_or(i32::MAX), backoff })
}

/// `at: one ROLE`, with an interface resolved. It draws no edge.
fn at(drawer: &Drawer, instance: &Instance, findings: &mut Findings) -> At {
    let At::One { role, else_own_node } = &instance.role.doc.at else { return instance.role.doc.at.clone() };
    let site = Site::of_role(&instance.role.source, &["at"]);
    let closure = drawer.closure;
    let found: Vec<&str> = match names::global(drawer.input.catalog, role) {
        Named::Role(name) => closure.instances.get(name).map(|one| one.name.as_str()).into_iter().collect(),
        Named::Interface(name) => closure.providers(name).map(|one| one.name.as_str()).collect(),
        Named::Unknown => {
            findings.push(site.error("unknown-role", format!("no role or interface `{role}`")));
            return instance.role.doc.at.clone();
        }
    };
    match found.as_slice() {
        [one] => At::One { role: (*one).to_owned(), else_own_node: *else_own_node },
        [] => {
            let message = format!("`{}` is performed at one `{role}`, which nobody binds", instance.name);
            findings.push(site.error("no-supplier", message));
            instance.role.doc.at.clone()
        }
        several => {
            let message =
                format!("`{}` is performed at one `{role}`, which more than one role provides", instance.name);
            findings.push(site.error("ambiguous-provider", message).expected(super::one_of(several)));
            instance.role.doc.at.clone()
        }
    }
}

fn graph_input<'a>(
    drawer: &mut Drawer<'a, '_>,
    instance: &Instance<'a>,
    name: &str,
    findings: &mut Findings,
) -> (Option<GraphInput>, Vec<Edge>) {
    let declared = &instance.role.doc.inputs[name];
    let input = |source, undecided, overrides| GraphInput {
        schema: declared.schema.clone(),
        source,
        on_change: declared.on_change,
        secret: declared.secret,
        undecided,
        overrides,
    };
    let Some(by) = wire_behind(drawer.closure, instance, name) else {
        let layers = layers::of(&drawer.input, drawer.closure, instance, name, findings).unwrap_or_default();
        missing(drawer, instance, name, &layers, findings);
        return (Some(input(layers.into_source(), None, BTreeMap::new())), Vec::new());
    };
    match sources::find(drawer, instance, name, by) {
        Err(diagnostic) => {
            findings.push(*diagnostic);
            (None, Vec::new())
        }
        Ok(wired) => {
            let wire = by.wire.to_string();
            let undecided = wired
                .supplies
                .iter()
                .filter_map(|supply| fitting::check(supply, &wire, (instance, name), &by.site, findings))
                .collect::<BTreeSet<_>>();
            let undecided = (!undecided.is_empty()).then(|| undecided.into_iter().collect::<Vec<_>>().join("; "));
            let overrides = layers::overrides(&drawer.input, instance, name, findings);
            (Some(input(wired.source, undecided, overrides)), wired.edges)
        }
    }
}

/// The wire that feeds an input in the end.
fn wire_behind<'c>(closure: &'c Closure, instance: &'c Instance, name: &str) -> Option<&'c FedBy> {
    match instance.feeds.get(name)? {
        Feed::Wire(by) => Some(by),
        Feed::Forward { user, input } => wire_behind(closure, closure.instances.get(user)?, input),
        Feed::Layers(_) => None,
    }
}

/// Says where an input has no value.
fn missing(drawer: &Drawer, instance: &Instance, name: &str, layers: &layers::Layers, findings: &mut Findings) {
    if layers.base.is_some() {
        return;
    }
    let mut without = BTreeSet::new();
    for place in &instance.places {
        if layers.groups.contains_key(*place) || layers.nodes.contains_key(*place) {
            continue;
        }
        let nodes = drawer.nodes.get(place).into_iter().flatten();
        if *place == VIRTUAL || nodes.into_iter().any(|node| !layers.nodes.contains_key(node)) {
            without.insert(*place);
        }
    }
    if without.is_empty() {
        return;
    }
    let places = without.into_iter().collect::<Vec<_>>().join(", ");
    let site = Site::of_role(&instance.role.source, &["inputs", name]);
    let message = format!("input `{name}` of `{}` ({}) has no source on {places}", instance.name, instance.because);
    let expected = format!("`with` or `from` where it is bound or used, `set: {}.{name}`, or a default", instance.name);
    findings.push(site.error("no-source", message).expected(expected));
}

fn requires(drawer: &Drawer, instance: &Instance, findings: &mut Findings) -> Vec<Edge> {
    let closure = drawer.closure;
    let mut edges = Vec::new();
    for (name, scope, site) in instance.requires(closure) {
        let mut parents: BTreeSet<RoleName> = BTreeSet::new();
        if let Some(local) = closure.local(scope.as_ref(), &name) {
            parents.insert(local.clone());
        } else {
            match names::global(drawer.input.catalog, &name) {
                Named::Role(role) => {
                    parents.insert(role.to_owned());
                }
                Named::Interface(interface) => {
                    let here = instance.places.iter().filter_map(|place| closure.resolved.get(&(interface, *place)));
                    parents.extend(here.cloned());
                    if parents.is_empty() && instance.on_virtual() {
                        parents.extend(closure.providers(interface).map(|provider| provider.name.clone()));
                    }
                }
                Named::Unknown => {}
            }
        }
        for parent in parents {
            let Some(found) = closure.instances.get(&parent) else {
                let message = format!(
                    "`{}` runs once for the deployment and requires `{parent}`, which nobody binds on a node",
                    instance.name
                );
                findings.push(site.error("no-supplier", message));
                continue;
            };
            edges.push(Edge { pairing: pairing(found, instance), parent, why: Why::Requires });
        }
    }
    edges
}

fn pairing(parent: &Instance, child: &Instance) -> Pairing {
    match (parent.on_virtual(), child.on_virtual()) {
        (true, true) | (false, false) => Pairing::Same,
        (true, false) => Pairing::FromVirtual,
        (false, true) => Pairing::All,
    }
}

/// Soft edges, where both ends exist.
fn precede(drawer: &Drawer, roles: &mut BTreeMap<RoleName, GraphRole>, findings: &mut Findings) {
    let closure = drawer.closure;
    for first in closure.instances.values() {
        for (index, name) in first.role.doc.precedes.iter().enumerate() {
            let later: Vec<&Instance> = match names::global(drawer.input.catalog, name) {
                Named::Role(role) => closure.instances.get(role).into_iter().collect(),
                Named::Interface(interface) => closure.providers(interface).collect(),
                Named::Unknown => {
                    let site = Site::of_role(&first.role.source, &["precedes", &index.to_string()]);
                    findings.push(site.error("unknown-role", format!("no role or interface `{name}`")).warning());
                    continue;
                }
            };
            for later in later {
                let pairing = pairing(first, later);
                if pairing == Pairing::Same && first.places.is_disjoint(&later.places) {
                    continue;
                }
                let edge = Edge { parent: first.name.clone(), pairing, why: Why::Precedes };
                roles.get_mut(&later.name).expect("every instance is a role").parents.push(edge);
            }
        }
    }
}
