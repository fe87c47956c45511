//! What people ask of an engine. Everything goes through the database, so any engine may be asked.

mod bundles;
mod certificates;
mod drift;
mod dry_run;
mod exec;
mod hooks;
mod imports;
pub(crate) mod joining;
mod narrow;
mod outside;
mod planning;
mod redeploy;
mod secrets;
mod settings;
mod signing;

use std::sync::Arc;

use engine_core::document::CheckPolicy;
use engine_core::graph::Graph;
use engine_core::plan::Plan;
use engine_core::request::{Ask, Seen};
use engine_core::view::{Applied, Counted, Moved, Refusal, RefusalKind, Stood};
use engine_store::StoreError;
use engine_store::ask::{Asked, ask};
use engine_store::commit::{self, Commit, Committed};
use engine_store::nodes::{self, Adopted, Change, Lost, Recording, Taken};
use serde_json::{Value, json};

use crate::shared::Shared;
use imports::Pending;
use planning::Planned;

/// Plans and commits are made again so often when others commit in between.
const ATTEMPTS: usize = 5;

/// See the module.
#[derive(Clone)]
pub struct Control {
    shared: Arc<Shared>,
}

impl Control {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    pub(crate) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// What this engine counts itself.
    pub fn counted(&self) -> Counted {
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        Counted {
            dns_answers: self.shared.answered.counts().map(|count| i64::try_from(count).unwrap_or(i64::MAX)),
            records_waiting: count(self.shared.names.waiting() + self.shared.network.waiting()),
            certificates_waiting: count(self.shared.signing.waiting()),
        }
    }

    /// What applying the deployment documents of a text would do.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub async fn plan(&self, text: &str, file: &str) -> Result<Vec<Applied>, Refusal> {
        let (mut plans, mut pending) = (Vec::new(), Pending::new());
        for read in engine_catalog::read_deployments(text, file).map_err(Refusal::findings)? {
            plans.push(planning::plan(&self.shared, &read, &mut pending).await?.applied);
        }
        Ok(plans)
    }

    /// Commits the deployment documents of a text. `seen`: what the person saw; anything else by now is refused.
    ///
    /// # Errors
    /// Everything that is wrong with them; or that somebody else has committed since.
    pub async fn apply(&self, text: &str, file: &str, seen: &[Seen], by: &str) -> Result<Vec<Applied>, Refusal> {
        let all = engine_catalog::read_deployments(text, file).map_err(Refusal::findings)?;
        // Nothing is committed while one of them can not be.
        let (mut plans, mut pending) = (Vec::new(), Pending::new());
        for read in &all {
            let planned = planning::plan(&self.shared, read, &mut pending).await?;
            allowed(&planned, &read.doc.deployment, seen)?;
            plans.push(planned);
        }
        let mut applied = Vec::new();
        for (read, planned) in all.iter().zip(plans) {
            applied.push(self.commit_planned(read, planned, seen, by).await?);
        }
        Ok(applied)
    }

    async fn commit_planned(
        &self,
        read: &engine_catalog::ReadDeployment,
        mut planned: Planned,
        seen: &[Seen],
        by: &str,
    ) -> Result<Applied, Refusal> {
        let name = &read.doc.deployment;
        let mut refusal = None;
        for _ in 0..ATTEMPTS {
            if refusal.is_some() {
                planned = planning::plan(&self.shared, read, &mut Pending::new()).await?;
                allowed(&planned, name, seen)?;
            }
            let Some(mut wanted) = planned.commit.take() else { return Ok(planned.applied) };
            by.clone_into(&mut wanted.by);
            refusal = Some(match commit::commit(&self.shared.pool, &wanted).await.map_err(store)? {
                Committed::Revision(revision) => {
                    self.shared.hint();
                    return Ok(Applied { revision, ..planned.applied });
                }
                Committed::NodeTaken(node) => {
                    let message = format!("node `{node}` was taken by another deployment meanwhile, or is gone");
                    Refusal::new(RefusalKind::Conflict, "node-in-use", message)
                }
                Committed::Imported(importers) => imports::in_use(name, &importers),
                Committed::ImportCycle => {
                    let message = format!("deployment `{name}` would import from itself, over others");
                    return Err(Refusal::new(RefusalKind::Invalid, "import-cycle", message));
                }
                Committed::Moved => {
                    let message = format!("others keep committing `{name}`; nothing was changed");
                    Refusal::new(RefusalKind::Conflict, "revision-moved", message)
                }
            });
        }
        Err(refusal.unwrap_or_else(|| Refusal::new(RefusalKind::Conflict, "revision-moved", "nothing was changed")))
    }

    /// What a destroy would do.
    ///
    /// # Errors
    /// There is no such deployment.
    pub async fn plan_destroy(&self, name: &str) -> Result<Applied, Refusal> {
        Ok(planning::plan_destroy(&self.shared, name).await?.applied)
    }

    /// Lets everything of a deployment leave.
    ///
    /// # Errors
    /// There is no such deployment.
    pub async fn destroy(&self, name: &str, by: &str) -> Result<Applied, Refusal> {
        for _ in 0..ATTEMPTS {
            let mut planned = planning::plan_destroy(&self.shared, name).await?;
            let Some(mut wanted) = planned.commit.take() else { return Ok(planned.applied) };
            by.clone_into(&mut wanted.by);
            match commit::commit(&self.shared.pool, &wanted).await.map_err(store)? {
                Committed::Revision(revision) => {
                    self.shared.hint();
                    return Ok(Applied { revision, ..planned.applied });
                }
                Committed::Imported(importers) => return Err(imports::in_use(name, &importers)),
                Committed::NodeTaken(_) | Committed::ImportCycle | Committed::Moved => {}
            }
        }
        let message = format!("others keep committing `{name}`; nothing was changed");
        Err(Refusal::new(RefusalKind::Conflict, "revision-moved", message))
    }

    /// Retry, pause, resume, cancel or approve: a deployment, or one node role (`NODE/ROLE`) of it.
    ///
    /// # Errors
    /// There is no such deployment or node role.
    pub async fn ask(&self, what: Ask, name: &str, node_role: Option<&str>, by: &str) -> Result<Moved, Refusal> {
        let place = match node_role {
            None => None,
            Some(text) => Some(text.split_once('/').ok_or_else(|| {
                let message = format!("`{text}` names no node role; expected NODE/ROLE");
                Refusal::new(RefusalKind::Invalid, "node-role-name", message)
            })?),
        };
        match ask(&self.shared.pool, what, name, place, &self.shared.revisions, by).await.map_err(store)? {
            Asked::Done(node_roles) => {
                self.shared.hint();
                if what == Ask::Cancel {
                    self.shared.put_away.notify_one();
                }
                Ok(Moved { node_roles })
            }
            Asked::NoDeployment => Err(unknown_deployment(name)),
            Asked::NoNodeRole => {
                let message = format!("deployment `{name}` has no node role `{}`", node_role.unwrap_or_default());
                Err(Refusal::new(RefusalKind::NotFound, "unknown-node-role", message))
            }
        }
    }

    /// Adopts the hosts of node documents. `keys`: private keys for the first login, by node.
    ///
    /// # Errors
    /// Everything that is wrong with the documents; or a name or address that is taken.
    pub async fn add_nodes(
        &self,
        text: &str,
        file: &str,
        keys: &[(String, String)],
        by: &str,
    ) -> Result<Vec<String>, Refusal> {
        let documents = engine_catalog::read_nodes(text, file).map_err(Refusal::findings)?;
        for label in documents.iter().filter_map(|one| one["labels"].as_object()).flat_map(serde_json::Map::keys) {
            settings::may_be_called(label)?;
        }
        let mut hosts = Vec::new();
        for document in &documents {
            hosts.push(host(document)?);
        }
        for (name, key) in keys {
            planning::keep_key(&self.shared.first_key(name), key).map_err(|error| {
                let message = format!("cannot keep the key for the first login to `{name}`: {error}");
                Refusal::new(RefusalKind::Internal, "data-folder", message)
            })?;
        }
        match nodes::adopt(&self.shared.pool, "ssh", &hosts, by).await.map_err(store)? {
            Ok(()) => {
                self.shared.hint();
                Ok(hosts.into_iter().map(|host| host.name).collect())
            }
            Err(Taken::Name(name)) => {
                let message = format!("there is a node `{name}` already");
                Err(Refusal::new(RefusalKind::Conflict, "duplicate-node", message))
            }
            Err(Taken::Address(name, other)) => {
                let message = format!("node `{name}` has the address and port of node `{other}`");
                Err(Refusal::new(RefusalKind::Conflict, "duplicate-node", message))
            }
        }
    }

    /// Puts a node aside, or takes it back in.
    ///
    /// # Errors
    /// There is no such node.
    pub async fn stand_node(&self, name: &str, aside: bool, by: &str) -> Result<Stood, Refusal> {
        let stood = nodes::stand(&self.shared.pool, name, aside, &self.shared.revisions, by).await.map_err(store)?;
        let beyond = stood.ok_or_else(|| unknown_node(name))?;
        self.shared.hint();
        Ok(Stood { beyond })
    }

    /// Gives up a node that a deployment uses: it never comes back, and nobody waits for it.
    ///
    /// # Errors
    /// There is no such node, or no deployment uses it.
    pub async fn lose_node(&self, name: &str, by: &str) -> Result<(), Refusal> {
        match nodes::lose(&self.shared.pool, name, &self.shared.revisions, by).await.map_err(store)? {
            Lost::Done => {
                self.shared.hint();
                Ok(())
            }
            Lost::Unknown => Err(unknown_node(name)),
            Lost::Unused => {
                let message = format!("no deployment uses node `{name}`: remove it, with force if it is dead");
                Err(Refusal::new(RefusalKind::Conflict, "node-unused", message))
            }
        }
    }

    /// Lets go of a node that no deployment uses. `force`: without a word to its host.
    ///
    /// # Errors
    /// There is no such node, or a deployment uses it.
    pub async fn remove_node(&self, name: &str, force: bool, by: &str) -> Result<(), Refusal> {
        let found = nodes::named(&self.shared.pool, &[name.to_owned()]).await.map_err(store)?.pop();
        let Some(node) = found else { return Err(unknown_node(name)) };
        if let Some(user) = nodes::is_used(&self.shared.pool, node.id).await.map_err(store)? {
            let message = format!("node `{name}` is used by deployment `{user}`");
            return Err(Refusal::new(RefusalKind::Conflict, "node-in-use", message));
        }
        // A machine that we made is taken away in any case.
        let forget = force && !node.owned;
        let state = if forget { "gone" } else { "leaving" };
        let change = Change { state, unbind: forget, ..Change::default() };
        let recording = Recording { node: node.id, engine: None, change };
        nodes::change(&self.shared.pool, recording, &self.shared.revisions, by).await.map_err(store)?;
        self.shared.hint();
        Ok(())
    }
}

fn allowed(planned: &Planned, name: &str, seen: &[Seen]) -> Result<(), Refusal> {
    let (plan, revision) = (&planned.applied.plan, planned.applied.revision);
    if let Some(seen) = seen.iter().find(|seen| seen.deployment == name) {
        if seen.revision != revision {
            let message = format!(
                "deployment `{name}` is at revision {revision} by now, the plan was made from revision {}",
                seen.revision
            );
            return Err(Refusal::new(RefusalKind::Conflict, "revision-moved", message));
        }
        if seen.plan.as_ref().is_some_and(|digest| *digest != plan.digest()) {
            let message = format!("what is to be done to `{name}` is not what the plan says, or not any more");
            return Err(Refusal::new(RefusalKind::Conflict, "plan-moved", message));
        }
    }
    if !plan.is_allowed() {
        return Err(Refusal::findings(plan.problems.clone()));
    }
    Ok(())
}

fn host(document: &Value) -> Result<Adopted, Refusal> {
    let text = |key: &str| document.get(key).and_then(Value::as_str).map(str::to_owned);
    let name = text("node").unwrap_or_default();
    let provider = text("provider").unwrap_or_else(|| "ssh".to_owned());
    if provider != "ssh" {
        let message = format!("node `{name}`: hosts that exist are of provider `ssh`, not `{provider}`");
        return Err(Refusal::new(RefusalKind::Invalid, "provider-option", message));
    }
    let port = document.get("port").and_then(Value::as_u64).and_then(|port| u16::try_from(port).ok()).unwrap_or(22);
    let labels = document.get("labels").and_then(Value::as_object).cloned().unwrap_or_default();
    let mut options = serde_json::Map::new();
    for key in ["address", "port", "user", "host_key"] {
        if let Some(value) = document.get(key) {
            options.insert(key.to_owned(), value.clone());
        }
    }
    Ok(Adopted {
        access: (text("address").unwrap_or_default(), port, text("user").unwrap_or_else(|| "root".to_owned())),
        host_keys: text("host_key").into_iter().collect(),
        labels,
        name,
        options,
    })
}

pub(crate) fn store(error: StoreError) -> Refusal {
    let kind = if error.is_transient() { RefusalKind::Unavailable } else { RefusalKind::Internal };
    if kind == RefusalKind::Internal {
        tracing::error!(%error, source = ?std::error::Error::source(&error), "a request failed");
    }
    Refusal::new(kind, error.code(), error.to_string())
}

pub(crate) fn unknown_deployment(name: &str) -> Refusal {
    Refusal::new(RefusalKind::NotFound, "unknown-deployment", format!("there is no deployment `{name}`"))
}

pub(crate) fn unknown_node(name: &str) -> Refusal {
    Refusal::new(RefusalKind::NotFound, "unknown-node", format!("there is no node `{name}`"))
}

/// The graph of a deployment of which everything leaves.
pub(crate) fn emptied(graph: &Graph) -> Graph {
    let mut empty = graph.clone();
    empty.nodes.clear();
    for role in empty.roles.values_mut() {
        role.bound.clear();
    }
    empty
}

/// The plan as it is kept.
pub(crate) fn kept(what: &str, plan: &Plan) -> Value {
    json!({"what": what, "totals": plan.totals})
}

/// A commit of nothing but leaving.
pub(crate) fn leaving(name: &str, revision: i32, document: Value, graph: &Graph, plan: &Plan) -> Commit {
    Commit {
        name: name.to_owned(),
        seen: Some(revision),
        document,
        graph: emptied(graph),
        contents: std::collections::BTreeMap::new(),
        plan: kept("destroyed", plan),
        bindings: Vec::new(),
        highest: std::collections::BTreeMap::new(),
        secrets: Vec::new(),
        destroying: true,
        check: CheckPolicy::default(),
        joins: false,
        expires_at: None,
        by: String::new(),
    }
}
