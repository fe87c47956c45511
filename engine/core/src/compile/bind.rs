//! Which nodes a deployment has: names, nodes to be created, nodes to be selected.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Findings, Site, one_of};
use crate::diagnostic::Diagnostic;
use crate::document::deployment::{BindNodes, CreateNodes, SelectNodes};
use crate::document::{DeploymentDoc, Object, WorkloadDoc};
use crate::graph::{GraphNode, NodeName};

/// A node that exists.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExistingNode {
    /// Its facts and labels, for `select`.
    pub facts: Object,
    /// The deployment and the group that use it.
    pub used_by: Option<(String, String)>,
    /// Was it created for that deployment?
    pub created: bool,
    /// Lost for ever: never bound again.
    pub lost: bool,
}

/// The nodes of a deployment, by group.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bindings {
    /// By group.
    pub groups: BTreeMap<String, GroupBinding>,
}

/// The nodes of one group.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GroupBinding {
    /// Nodes that exist, by name.
    pub existing: Vec<NodeName>,
    /// Names of nodes to be created: `DEPLOYMENT-GROUP-INDEX`.
    pub create: Vec<NodeName>,
    /// Who creates them.
    pub provider: Option<String>,
    /// Options for the provider.
    pub with: Object,
    /// The highest index ever used in this group, with those to be created.
    pub highest: u32,
}

/// How groups come to nodes that they select.
#[derive(Clone, Copy, Debug, Default)]
pub enum Selecting<'a> {
    /// Who matches now, those first that are in the group.
    #[default]
    Anew,
    /// Those of the committed revision, matching or not, lost or not.
    AsCommitted(&'a BTreeMap<NodeName, GraphNode>),
    /// The same without the lost; and of these free nodes those that match come to groups that nodes join by themselves.
    Joining(&'a BTreeMap<NodeName, GraphNode>, &'a BTreeSet<NodeName>),
}

/// What there is to bind.
#[derive(Clone, Copy, Debug)]
pub struct BindInput<'a> {
    /// The deployment as written.
    pub document: &'a DeploymentDoc,
    /// Its workload.
    pub workload: &'a WorkloadDoc,
    /// All nodes that the engine knows.
    pub existing: &'a BTreeMap<NodeName, ExistingNode>,
    /// The highest index ever used, by group of this deployment.
    pub highest: &'a BTreeMap<String, u32>,
    /// How groups come to nodes that they select.
    pub selecting: Selecting<'a>,
}

/// Binds nodes to groups. Nodes that a former revision bound or created are kept.
///
/// # Errors
/// All findings, sorted.
pub fn bind_nodes(input: &BindInput) -> Result<Bindings, Vec<Diagnostic>> {
    let mut findings = Findings::default();
    let mut bindings = Bindings::default();
    let workload = input.workload;
    let known: Vec<&str> = workload.groups.keys().map(String::as_str).collect();
    for group in input.document.nodes.keys().filter(|group| !workload.groups.contains_key(*group)) {
        let message = format!("workload `{}` has no group `{group}`", workload.workload);
        let site = Site::of_deployment(&["nodes", group]);
        findings.push(site.error("unknown-group", message).expected(one_of(&known)));
    }
    let mut taken: BTreeMap<NodeName, &str> = BTreeMap::new();
    // Names first, so that a selection does not take a node that is named elsewhere.
    for named_only in [true, false] {
        for group in workload.groups.keys() {
            let Some(nodes) = input.document.nodes.get(group) else { continue };
            if matches!(nodes, BindNodes::Names(_)) != named_only {
                continue;
            }
            let bound = match nodes {
                BindNodes::Names(names) => named(input, group, names, &mut taken, &mut findings),
                BindNodes::Create(create) => created(input, group, create),
                BindNodes::Select(select) => selected(input, group, select, &mut taken, &mut findings),
            };
            bindings.groups.insert(group.clone(), bound);
        }
    }
    for group in workload.groups.keys() {
        let bound = bindings.groups.entry(group.clone()).or_default();
        check_count(input, group, bound.existing.len() + bound.create.len(), &mut findings);
        bound.highest = bound.highest.max(input.highest.get(group).copied().unwrap_or(0));
    }
    if findings.has_errors() { Err(findings.sorted()) } else { Ok(bindings) }
}

fn check_count(input: &BindInput, group: &str, count: usize, findings: &mut Findings) {
    let wanted = &input.workload.groups[group].count;
    let site = Site::of_deployment(&["nodes", group]);
    let said = input.document.nodes.contains_key(group);
    if !said && (wanted.minimum > 0 || wanted.default.is_some_and(|default| default > 0)) {
        let message = format!("nothing says which nodes group `{group}` takes");
        let expected = format!("`nodes: {{{group}: …}}` with names, a provider or a selection");
        findings.push(Site::of_deployment(&["nodes"]).error("too-few-nodes", message).expected(expected));
        return;
    }
    if count < wanted.minimum as usize {
        let message = format!("group `{group}` has {count} nodes");
        findings.push(site.error("too-few-nodes", message).expected(format!("at least {}", wanted.minimum)));
    }
    if let Some(maximum) = wanted.maximum.filter(|maximum| count > *maximum as usize) {
        let message = format!("group `{group}` has {count} nodes");
        findings.push(site.error("too-many-nodes", message).expected(format!("at most {maximum}")));
    }
    if wanted.odd && count > 0 && count.is_multiple_of(2) {
        findings.push(site.error("even-count", format!("group `{group}` has {count} nodes")).expected("an odd number"));
    }
}

fn take<'a>(
    name: &str,
    group: &'a str,
    taken: &mut BTreeMap<NodeName, &'a str>,
    site: &Site,
    findings: &mut Findings,
) -> bool {
    match taken.get(name) {
        Some(other) if *other == group => {
            findings.push(site.error("duplicate-node", format!("node `{name}` is listed twice")));
            false
        }
        Some(other) => {
            let message = format!("node `{name}` is in group `{other}` and in group `{group}`");
            findings.push(site.error("node-in-two-groups", message).expected("a node in one group"));
            false
        }
        None => {
            taken.insert(name.to_owned(), group);
            true
        }
    }
}

fn named<'a>(
    input: &BindInput<'a>,
    group: &'a str,
    names: &[String],
    taken: &mut BTreeMap<NodeName, &'a str>,
    findings: &mut Findings,
) -> GroupBinding {
    let mut bound = GroupBinding::default();
    for (index, name) in names.iter().enumerate() {
        let site = Site::of_deployment(&["nodes", group, &index.to_string()]);
        let Some(node) = input.existing.get(name) else {
            findings.push(site.error("unknown-node", format!("no node `{name}`")).expected("a node that was added"));
            continue;
        };
        if let Some(by) = other_user(input, node) {
            let message = format!("node `{name}` is used by deployment `{by}`");
            findings.push(site.error("node-in-use", message).expected("a node that no other deployment uses"));
        } else if node.lost {
            findings.push(site.error("node-lost", format!("node `{name}` is lost")).expected("a node that is in"));
        } else if take(name, group, taken, &site, findings) {
            bound.existing.push(name.clone());
        }
    }
    bound.existing.sort();
    bound
}

fn other_user<'a>(input: &BindInput, node: &'a ExistingNode) -> Option<&'a str> {
    node.used_by.as_ref().map(|(by, _)| by.as_str()).filter(|by| *by != input.document.deployment)
}

fn is_ours(input: &BindInput, group: &str, node: &ExistingNode) -> bool {
    node.used_by.as_ref().is_some_and(|(by, own)| *by == input.document.deployment && own == group)
}

fn created(input: &BindInput, group: &str, create: &CreateNodes) -> GroupBinding {
    let wanted = count(input, group, create.count).unwrap_or(0) as usize;
    let prefix = format!("{}-{group}-", input.document.deployment);
    let index_of = |name: &str| name.strip_prefix(&prefix).and_then(|index| index.parse::<u32>().ok());
    let mut kept: Vec<(u32, &NodeName)> = input
        .existing
        .iter()
        .filter(|(_, node)| node.created && !node.lost && is_ours(input, group, node))
        .filter_map(|(name, _)| Some((index_of(name)?, name)))
        .collect();
    kept.sort_unstable();
    let seen = input.existing.keys().filter_map(|name| index_of(name)).max().unwrap_or(0);
    let mut highest = input.highest.get(group).copied().unwrap_or(0).max(seen);
    let mut bound = GroupBinding {
        existing: kept.into_iter().take(wanted).map(|(_, name)| name.clone()).collect(),
        provider: Some(create.provider.clone()),
        with: create.with.clone(),
        ..GroupBinding::default()
    };
    for _ in bound.existing.len()..wanted {
        highest += 1;
        bound.create.push(format!("{prefix}{highest}"));
    }
    bound.highest = highest;
    bound.existing.sort();
    bound
}

fn count(input: &BindInput, group: &str, said: Option<u32>) -> Option<u32> {
    let wanted = &input.workload.groups[group].count;
    said.or(wanted.default).or((wanted.minimum > 0).then_some(wanted.minimum))
}

fn selected<'a>(
    input: &BindInput<'a>,
    group: &'a str,
    select: &SelectNodes,
    taken: &mut BTreeMap<NodeName, &'a str>,
    findings: &mut Findings,
) -> GroupBinding {
    let site = Site::of_deployment(&["nodes", group, "select"]);
    let committed = |of: &'a BTreeMap<NodeName, GraphNode>| {
        of.iter().filter(|(_, node)| node.group == group).map(|(name, _)| name.clone())
    };
    let (kept, free): (Vec<NodeName>, Option<&BTreeSet<NodeName>>) = match input.selecting {
        Selecting::Anew => (Vec::new(), None),
        Selecting::AsCommitted(of) => (committed(of).collect(), Some(const { &BTreeSet::new() })),
        Selecting::Joining(of, free) => {
            let is_there = |name: &NodeName| {
                input.existing.get(name).is_some_and(|node| is_ours(input, group, node) && !node.lost)
            };
            (committed(of).filter(is_there).collect(), Some(free))
        }
    };
    let may_come = |name: &NodeName| free.is_none_or(|free| select.join && free.contains(name));
    let mut matching: Vec<(bool, &NodeName)> = Vec::new();
    for (name, node) in input.existing.iter().filter(|(name, _)| may_come(name)) {
        if node.lost || other_user(input, node).is_some() || taken.contains_key(name) || kept.contains(name) {
            continue;
        }
        match selects(&select.select, name, &node.facts) {
            Ok(true) => matching.push((!is_ours(input, group, node), name)),
            Ok(false) => {}
            Err(reason) => {
                let message = format!("`{}` is no expression over facts: {reason}", select.select);
                findings.push(site.error("bad-select", message).expected("such as `rack = 7 and cpus >= 8`"));
                return GroupBinding::default();
            }
        }
    }
    // Those that a former revision chose come first.
    matching.sort();
    let most = input.workload.groups[group].count.maximum;
    let wanted = if select.join { select.count.or(most) } else { count(input, group, select.count) };
    let wanted = wanted.map_or(usize::MAX, |count| count as usize);
    if wanted != usize::MAX && !select.join && free.is_none() && matching.len() < wanted {
        let message = format!("only {} free nodes match `{}`", matching.len(), select.select);
        findings.push(site.error("too-few-nodes", message).expected(format!("{wanted} nodes")));
    }
    let room = wanted.saturating_sub(kept.len());
    let mut bound = GroupBinding { existing: kept, ..GroupBinding::default() };
    bound.existing.extend(matching.into_iter().take(room).map(|(_, name)| name.clone()));
    taken.extend(bound.existing.iter().map(|name| (name.clone(), group)));
    bound.existing.sort();
    bound
}

/// A single `=` outside of text means `==`.
fn equality(text: &str) -> String {
    let mut result = String::with_capacity(text.len() + 4);
    let mut quote: Option<char> = None;
    let mut before = ' ';
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        result.push(c);
        match quote {
            Some(open) => quote = (c != open).then_some(open),
            None if c == '"' || c == '\'' => quote = Some(c),
            None if c == '=' && !matches!(before, '=' | '!' | '<' | '>') && rest.peek() != Some(&'=') => {
                result.push('=');
            }
            None => {}
        }
        before = c;
    }
    result
}

/// Does an expression over facts and labels select a node? One of which a fact is not known does not match, unless the
/// expression asks `is defined`.
///
/// # Errors
/// Why it is no expression, or can not be evaluated.
pub fn selects(expression: &str, name: &str, facts: &Object) -> Result<bool, String> {
    let environment = minijinja::Environment::new();
    let expression = equality(expression);
    let compiled = environment.compile_expression(&expression).map_err(|error| error.to_string())?;
    let mut facts = facts.clone();
    facts.entry("name").or_insert_with(|| Value::String(name.to_owned()));
    let missing: BTreeSet<String> =
        compiled.undeclared_variables(false).into_iter().filter(|fact| !facts.contains_key(fact)).collect();
    if !missing.is_empty() && !expression.contains("defined") {
        return Ok(false);
    }
    let context = minijinja::Value::from(minijinja::value::Serde(&facts));
    match compiled.eval(context) {
        Ok(value) => Ok(value.is_true()),
        Err(error) if error.kind() == minijinja::ErrorKind::UndefinedError => Ok(false),
        Err(error) => Err(error.to_string()),
    }
}
