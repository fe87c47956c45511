//! From a document to a plan and the commit that it stands for.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use engine_catalog::ReadDeployment;
use engine_core::budget;
use engine_core::catalog::{Catalog, CatalogRole};
use engine_core::compile::bind::{BindInput, Bindings, ExistingNode, Selecting, bind_nodes};
use engine_core::compile::{CompileInput, CompileNode, Compiled, compile, duration};
use engine_core::diagnostic::Diagnostic;
use engine_core::digest;
use engine_core::document::{BindNodes, DeploymentDoc, Object, WorkloadDoc};
use engine_core::graph::{Graph, Kind, NodeName, RoleName};
use engine_core::plan::dry_run::{self, Foretold};
use engine_core::plan::{Anew, CurrentView, PlanInput, PlanNode, Reach, diff};
use engine_core::secret::{self, Clear};
use engine_core::view::{Applied, Refusal};
use engine_store::commit::{Binding, Commit};
use engine_store::secrets;
use engine_store::snapshot::{Current, KnownNode, Snapshot, snapshot};
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::imports::{self, Imports, Pending};
use super::narrow::{self, Looked, Not};
use super::settings::{self, Settings};
use super::{bundles, kept, leaving, store, unknown_deployment};
use crate::secrets::Failed;
use crate::shared::Shared;

/// A plan, and what committing it writes; nothing if there is nothing to commit.
pub(super) struct Planned {
    pub(super) applied: Applied,
    pub(super) commit: Option<Commit>,
    /// The document as it is kept, and the secrets of it.
    pub(super) hidden: Option<(DeploymentDoc, Clear)>,
}

/// What everything is compiled with.
pub(super) struct Given {
    /// The catalog, one and the same for a whole plan.
    pub(super) catalog: Arc<Catalog>,
    /// What other deployments export.
    pub(super) imports: Imports,
    /// What holds for all deployments.
    pub(super) settings: Settings,
}

/// Plans one document. `pending`: what was planned before it and is committed before it.
pub(super) async fn plan(shared: &Shared, read: &ReadDeployment, pending: &mut Pending) -> Result<Planned, Refusal> {
    plan_with(shared, read, pending, Taking::Anew, None).await
}

/// How a plan comes to the nodes that groups select.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taking<'a> {
    /// Who matches now.
    Anew,
    /// Those that there are.
    AsCommitted,
    /// Those that there are, and who of these free ones may join.
    Joining(&'a BTreeSet<NodeName>),
}

/// Plans a document that is committed already: with the nodes that there are, or with some that join.
pub(super) async fn plan_again(shared: &Shared, read: &ReadDeployment, taking: Taking<'_>) -> Result<Planned, Refusal> {
    plan_with(shared, read, &mut Pending::new(), taking, None).await
}

/// The same, with what would run again on nodes.
pub(super) async fn foretell(
    shared: &Shared,
    read: &ReadDeployment,
    pending: &mut Pending,
) -> Result<(Planned, Vec<Foretold>), Refusal> {
    let mut foretold = Vec::new();
    let planned = plan_with(shared, read, pending, Taking::Anew, Some(&mut foretold)).await?;
    Ok((planned, foretold))
}

async fn plan_with(
    shared: &Shared,
    read: &ReadDeployment,
    pending: &mut Pending,
    taking: Taking<'_>,
    foretold: Option<&mut Vec<Foretold>>,
) -> Result<Planned, Refusal> {
    let read = &secrets_read(shared, read).await?;
    let doc = &read.doc;
    let catalog = shared.catalog().await.map_err(store)?;
    let Some(workload) = catalog.workloads.get(&doc.workload) else {
        let known: Vec<&str> = catalog.workloads.keys().map(String::as_str).collect();
        let error =
            Diagnostic::error("unknown-workload", "/workload", format!("there is no workload `{}`", doc.workload));
        return Err(Refusal::findings(read.place(vec![error.expected(format!("one of {}", known.join(", ")))])));
    };
    let given = Given {
        catalog: Arc::clone(&catalog),
        imports: imports::of(shared, doc, pending).await?,
        settings: settings::read(shared).await?,
    };
    let narrow = match taking {
        Taking::Anew => narrow::look(shared, read, workload, &given).await,
        Taking::AsCommitted | Taking::Joining(_) => Err(Not::Narrow),
    };
    let looked = match narrow {
        Ok(looked) => looked,
        Err(Not::Refused(refusal)) => return Err(refusal),
        Err(Not::Narrow) => look_everywhere(shared, read, workload, &given, taking).await?,
    };
    let Looked { snapshot, bound, mut compiled, reach, serving } = looked;
    let serves = |role: &str, node: &str| {
        serving.contains(role) || snapshot.seen.get(role).and_then(|on| on.get(node)).is_some_and(|seen| seen.served)
    };
    budget::found(snapshot.current.as_ref().map(|current| &*current.graph), &mut compiled.graph, serves);
    let contents: BTreeMap<RoleName, CatalogRole> = compiled
        .graph
        .roles
        .values()
        .filter(|role| role.kind == Kind::Work)
        .filter_map(|role| Some((role.name.clone(), catalog.roles.get(&role.role)?.clone())))
        .collect();
    if let Some(current) = &snapshot.current {
        let importers = engine_store::imports::importers(&shared.pool, current.id).await.map_err(store)?;
        let findings = imports::kept(&compiled.graph, &importers);
        if !findings.is_empty() {
            return Err(Refusal::findings(read.place(findings)));
        }
    }
    pending.insert(doc.deployment.clone(), engine_store::imports::schemas(&compiled.graph));
    let more = (&doc.moved, &given.imports.values);
    let mut plan = difference(&snapshot, &compiled.graph, &contents, more, &Anew::default(), reach.as_ref());
    if let Some(foretold) = foretold {
        let look = dry_run::foretell;
        *foretold = with_input(&snapshot, &compiled.graph, &contents, more, (&Anew::default(), reach.as_ref()), look);
        open_foretold(shared, &compiled.secrets, foretold).await?;
    }
    if let Some(current) = &snapshot.current {
        plan.upgrades = bundles::upgrades(shared, &current.contents, &contents).await?;
    }
    plan.problems = read.place(plan.problems);
    let document = json!(compiled.document);
    let current = snapshot.current.as_ref();
    let same = current.is_some_and(|current| is_same(current, &document, &compiled.graph, &contents));
    let revision = current.map_or(0, |current| current.revision);
    let commit = (!same).then(|| Commit {
        name: doc.deployment.clone(),
        seen: current.map(|current| current.revision),
        document,
        secrets: secrets::sealed(&shared.sealer, &compiled.secrets),
        plan: kept("applied", &plan),
        bindings: bindings(&bound),
        highest: bound.groups.iter().map(|(group, bound)| (group.clone(), bound.highest)).collect(),
        graph: compiled.graph,
        contents,
        destroying: false,
        check: doc.check.clone().unwrap_or_default(),
        joins: doc.nodes.values().any(BindNodes::is_joined),
        expires_at: expires_at(doc.expires_in.as_deref()),
        by: String::new(),
    });
    let warnings = read.place(compiled.warnings);
    let applied = Applied { deployment: doc.deployment.clone(), revision, changed: commit.is_some(), plan, warnings };
    Ok(Planned { applied, commit, hidden: Some((compiled.document, compiled.secrets)) })
}

/// Looks at all nodes, and at everything that is in force in the deployment.
async fn look_everywhere(
    shared: &Shared,
    read: &ReadDeployment,
    workload: &WorkloadDoc,
    given: &Given,
    taking: Taking<'_>,
) -> Result<Looked, Refusal> {
    let doc = &read.doc;
    let refused = |findings: Vec<Diagnostic>| Refusal::findings(read.place(findings));
    let snapshot = snapshot(&shared.pool, &doc.deployment).await.map_err(store)?;
    let existing = snapshot.nodes.iter().map(|(name, known)| (name.clone(), existing_node(known))).collect();
    let nodes = snapshot.current.as_ref().map(|current| &current.graph.nodes);
    let selecting = match (taking, nodes) {
        (Taking::Anew, _) | (_, None) => Selecting::Anew,
        (Taking::AsCommitted, Some(nodes)) => Selecting::AsCommitted(nodes),
        (Taking::Joining(free), Some(nodes)) => Selecting::Joining(nodes, free),
    };
    let highest = &snapshot.highest;
    let bound = bind_nodes(&BindInput { document: doc, workload, existing: &existing, highest, selecting })
        .map_err(&refused)?;
    let compiled = compiled(shared, doc, &compile_nodes(&snapshot.nodes, &bound), given).map_err(&refused)?;
    Ok(Looked { snapshot, bound, compiled, reach: None, serving: BTreeSet::new() })
}

/// The document, compiled.
pub(super) fn compiled(
    shared: &Shared,
    document: &DeploymentDoc,
    nodes: &BTreeMap<NodeName, CompileNode>,
    given: &Given,
) -> Result<Compiled, Vec<Diagnostic>> {
    compile(&CompileInput {
        catalog: &given.catalog,
        document,
        nodes,
        global_profiles: &given.settings.global,
        profiles: &given.settings.profiles,
        policies: &given.settings.policies,
        imports: &given.imports.schemas,
        overrides: &BTreeMap::new(),
        key: &shared.digest_key,
    })
}

/// Plans that everything leaves.
pub(super) async fn plan_destroy(shared: &Shared, name: &str) -> Result<Planned, Refusal> {
    let snapshot = snapshot(&shared.pool, name).await.map_err(store)?;
    let Some(current) = snapshot.current.as_ref().filter(|current| current.state != "gone") else {
        return Err(unknown_deployment(name));
    };
    let importers = engine_store::imports::importers(&shared.pool, current.id).await.map_err(store)?;
    if !importers.is_empty() {
        return Err(imports::in_use(name, &importers));
    }
    let empty = super::emptied(&current.graph);
    let nothing = (&BTreeMap::new(), &BTreeMap::new());
    let plan = difference(&snapshot, &empty, &BTreeMap::new(), nothing, &Anew::default(), None);
    let commit = (current.state != "destroying")
        .then(|| leaving(name, current.revision, current.document.clone(), &current.graph, &plan));
    let applied = Applied {
        deployment: name.to_owned(),
        revision: current.revision,
        changed: commit.is_some(),
        plan,
        warnings: Vec::new(),
    };
    Ok(Planned { applied, commit, hidden: None })
}

/// The document with its secrets in clear.
async fn secrets_read(shared: &Shared, read: &ReadDeployment) -> Result<ReadDeployment, Refusal> {
    let doc = crate::secrets::read(shared, &read.doc).await.map_err(|failed| match failed {
        Failed::Store(error) => store(error),
        Failed::Findings(findings) => Refusal::findings(read.place(findings)),
    })?;
    let mut read = read.clone();
    read.doc = doc;
    Ok(read)
}

/// Whoever asks nodes needs the values of secrets; some of them nobody keeps yet.
async fn open_foretold(shared: &Shared, fresh: &Clear, foretold: &mut [Foretold]) -> Result<(), Refusal> {
    let mut digests = BTreeSet::new();
    for inputs in foretold.iter().filter_map(|one| one.inputs.as_ref().ok()) {
        inputs.values().for_each(|value| secret::digests(value, &mut digests));
    }
    let mut clear = secrets::open(&shared.pool, &shared.sealer, &digests, None).await.map_err(store)?;
    clear.extend(fresh.clone());
    for one in foretold {
        let opened = one.inputs.as_mut().map(|inputs| inputs.values_mut().try_for_each(|value| clear.open(value)));
        if let Ok(Err(error)) = opened {
            one.inputs = Err(error.to_string());
        }
    }
    Ok(())
}

/// A node, as binding sees it.
pub(super) fn existing_node(known: &KnownNode) -> ExistingNode {
    ExistingNode {
        facts: known.facts.clone(),
        used_by: known.used_by.clone(),
        created: known.created,
        lost: known.standing == "lost",
    }
}

/// Nodes, as the compiler sees them. Machines that are not `known` stay where they are, and were looked at when they came.
pub(super) fn compile_nodes(
    known: &BTreeMap<NodeName, KnownNode>,
    bound: &Bindings,
) -> BTreeMap<NodeName, CompileNode> {
    let mut nodes = BTreeMap::new();
    for (group, binding) in &bound.groups {
        for name in binding.existing.iter().chain(&binding.create) {
            let known = known.get(name);
            let fact = |fact: &str| known?.facts.get(fact)?.as_str().map(str::to_owned);
            let provider = known.map(|known| known.provider.clone()).or_else(|| binding.provider.clone());
            let node = CompileNode {
                group: group.clone(),
                os: fact("os"),
                arch: fact("arch"),
                discovered: Object::new(),
                provider: provider.unwrap_or_default(),
                provided: Object::new(),
            };
            nodes.insert(name.clone(), node);
        }
    }
    nodes
}

fn bindings(bound: &Bindings) -> Vec<Binding> {
    let mut all = Vec::new();
    for (group, binding) in &bound.groups {
        let kept = binding.existing.iter().map(|name| (name, None));
        let made = binding
            .create
            .iter()
            .map(|name| (name, binding.provider.clone().map(|provider| (provider, binding.with.clone()))));
        all.extend(kept.chain(made).map(|(name, create)| Binding { name: name.clone(), group: group.clone(), create }));
    }
    all
}

pub(super) fn difference(
    snapshot: &Snapshot,
    desired: &Graph,
    contents: &BTreeMap<RoleName, CatalogRole>,
    more: (&BTreeMap<RoleName, RoleName>, &BTreeMap<String, Value>),
    anew: &Anew,
    reach: Option<&Reach>,
) -> engine_core::plan::Plan {
    with_input(snapshot, desired, contents, more, (anew, reach), diff)
}

/// `moved` and the values of imports are in `more`.
fn with_input<T>(
    snapshot: &Snapshot,
    desired: &Graph,
    contents: &BTreeMap<RoleName, CatalogRole>,
    (moved, imports): (&BTreeMap<RoleName, RoleName>, &BTreeMap<String, Value>),
    (anew, reach): (&Anew, Option<&Reach>),
    what: impl Fn(&PlanInput) -> T,
) -> T {
    let mut roles = snapshot.roles.clone();
    roles.extend(contents.values().map(|role| (role.content.clone(), role.clone())));
    let node = |(name, known): (&NodeName, &KnownNode)| {
        let mut facts = known.facts.clone();
        // Of a machine that is made again nobody knows more than its name.
        facts.retain(|fact, _| fact == "name" || !anew.machines.contains(name));
        (name.clone(), PlanNode { facts, aside: known.standing == "aside" || snapshot.aside.contains(name) })
    };
    let mut nodes: BTreeMap<NodeName, PlanNode> = snapshot.nodes.iter().map(node).collect();
    // Of a node that is still to be made, or was not looked at, the name is known, and nothing else.
    for name in desired.nodes.keys() {
        nodes.entry(name.clone()).or_insert_with(|| {
            let facts = Object::from_iter([("name".to_owned(), json!(name))]);
            PlanNode { facts, aside: snapshot.aside.contains(name) }
        });
    }
    let current =
        snapshot.current.as_ref().map(|current| CurrentView { graph: &current.graph, vertices: &snapshot.seen });
    what(&PlanInput { current, desired, contents: &roles, nodes: &nodes, imports, moved, anew, reach })
}

/// Is this what is committed already?
fn is_same(current: &Current, document: &Value, graph: &Graph, contents: &BTreeMap<RoleName, CatalogRole>) -> bool {
    let hash = |role: &CatalogRole| digest::of(&json!(role));
    current.state == "active"
        && current.document == *document
        && is_same_graph(&current.graph, graph)
        && contents.iter().all(|(name, role)| current.contents.get(name) == Some(&hash(role)))
}

/// But for what is kept of roles that leave.
fn is_same_graph(committed: &Graph, graph: &Graph) -> bool {
    let Graph { deployment, workload, nodes, roles, order, budgets, members, founders, .. } = graph;
    let Graph { policy, policy_by, weight, exports, parameters, imports, dropped, .. } = graph;
    let wanted = |name: &&RoleName| roles.contains_key(*name);
    committed.deployment == *deployment
        && committed.workload == *workload
        && committed.nodes == *nodes
        && committed.roles.iter().filter(|(name, _)| wanted(name)).eq(roles)
        && committed.order.iter().filter(wanted).eq(order)
        && committed.budgets == *budgets
        && committed.members == *members
        && committed.founders == *founders
        && committed.policy == *policy
        && committed.policy_by == *policy_by
        && committed.weight == *weight
        && committed.exports == *exports
        && committed.parameters == *parameters
        && committed.imports == *imports
        && dropped.is_empty()
}

fn expires_at(expires_in: Option<&str>) -> Option<OffsetDateTime> {
    let seconds = duration::seconds(expires_in?).ok()?;
    Some(OffsetDateTime::now_utc() + std::time::Duration::from_secs(seconds))
}

/// Keeps a private key where only we read it.
pub(super) fn keep_key(path: &Path, key: &str) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(key.as_bytes())?;
    file.sync_all()
}
