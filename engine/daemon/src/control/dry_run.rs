//! What a document would change on the nodes: the dry run of the steps that would run again. Nothing of it is kept.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use engine_agent::protocol::{Mode, Status};
use engine_core::catalog::Catalog;
use engine_core::id::{DeploymentId, JobId, VertexId};
use engine_core::plan::dry_run::{DryRun, DryRunView, Foretold};
use engine_core::view::Refusal;
use engine_remote::Ended;
use engine_store::jobs::OpenJob;
use engine_store::nodes::{self, Node};
use engine_store::read;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::imports::Pending;
use super::{Control, planning, store};
use crate::run::{difference, spec};
use crate::shared::Shared;

/// At once. They share the connections of jobs and must not crowd them out.
const AT_ONCE: usize = 16;
/// Seconds that a dry run may take.
const LONGEST: u64 = 60;
/// Notes of a job that nobody reads.
const NOTES: usize = 64;

impl Control {
    /// What the steps that applying the deployment documents of a text would run again would change on their nodes.
    /// Changes nothing, there or in the database; what runs already is not waited for.
    ///
    /// # Errors
    /// Everything that is wrong with the documents, and a plan that may not be applied.
    pub async fn dry_run(&self, text: &str, file: &str) -> Result<Vec<DryRun>, Refusal> {
        let (mut all, mut pending) = (Vec::new(), Pending::new());
        for read in engine_catalog::read_deployments(text, file).map_err(Refusal::findings)? {
            let (planned, foretold) = planning::foretell(&self.shared, &read, &mut pending).await?;
            if !planned.applied.plan.is_allowed() {
                return Err(Refusal::findings(planned.applied.plan.problems));
            }
            let deployment = read.doc.deployment.clone();
            let catalog = self.catalog().await?;
            let node_roles = run(&self.shared, &catalog, &deployment, foretold).await?;
            all.push(DryRun { deployment, node_roles });
        }
        Ok(all)
    }
}

async fn run(
    shared: &Arc<Shared>,
    catalog: &Arc<Catalog>,
    deployment: &str,
    foretold: Vec<Foretold>,
) -> Result<Vec<DryRunView>, Refusal> {
    let status = read::status(&shared.pool, deployment).await.map_err(store)?;
    let rows = status.map(|status| status.node_roles).unwrap_or_default();
    let ids: HashMap<(String, String), VertexId> = rows.into_iter().map(|row| ((row.node, row.role), row.id)).collect();
    let mut names: Vec<String> = foretold.iter().map(|one| one.node.clone()).collect();
    names.dedup();
    let found = nodes::named(&shared.pool, &names).await.map_err(store)?;
    let found: BTreeMap<&str, &Node> = found.iter().map(|node| (node.name.as_str(), node)).collect();
    let room = Arc::new(Semaphore::new(AT_ONCE));
    let mut running = JoinSet::new();
    for (place, one) in foretold.into_iter().enumerate() {
        let node = found.get(one.node.as_str()).map(|node| Node::clone(node));
        let id = ids.get(&(one.node.clone(), one.role.clone())).copied();
        let (shared, catalog, room) = (Arc::clone(shared), Arc::clone(catalog), Arc::clone(&room));
        running.spawn(async move {
            let _room = room.acquire().await;
            let view = match self::one(&shared, &catalog, &one, id, node).await {
                Ok(view) => view,
                Err((code, message)) => untold(&one, Some(code), Some(message)),
            };
            (place, view)
        });
    }
    let mut views: Vec<(usize, DryRunView)> = running.join_all().await;
    views.sort_by_key(|(place, _)| *place);
    Ok(views.into_iter().map(|(_, view)| view).collect())
}

fn untold(one: &Foretold, code: Option<String>, message: Option<String>) -> DryRunView {
    DryRunView { node: one.node.clone(), role: one.role.clone(), diffs: Vec::new(), code, message }
}

/// Why it can not be told: code and sentence.
type Untold = (String, String);

async fn one(
    shared: &Shared,
    catalog: &Catalog,
    foretold: &Foretold,
    id: Option<VertexId>,
    node: Option<Node>,
) -> Result<DryRunView, Untold> {
    let untold = |code: &str, message: &str| (code.to_owned(), message.to_owned());
    let inputs = foretold.inputs.clone().map_err(|message| ("inputs-not-known".to_owned(), message))?;
    let Some(role) = catalog.roles.get(&foretold.is).filter(|role| !role.doc.is_noop()) else {
        return Ok(self::untold(foretold, None, None));
    };
    let Some(vertex) = id else { return Err(untold("inputs-not-known", "it is new under this name")) };
    let node = node.filter(|node| node.state == "up" && node.provider != "simulated");
    let Some((node, target)) =
        node.and_then(|node| Some((shared.target(&node)?, node))).map(|(target, node)| (node, target))
    else {
        return Err(untold("node-not-ready", "its node can not be asked"));
    };
    let job = OpenJob {
        job: JobId(Uuid::now_v7()),
        deployment: DeploymentId(Uuid::nil()),
        deployment_name: String::new(),
        vertex,
        role: foretold.role.clone(),
        node: node.id,
        place: node.name.clone(),
        action: "apply".to_owned(),
        beside: true,
        attempt: 0,
        fence: 1,
        revision: 0,
        content: String::new(),
        inputs: inputs.clone(),
        changed: foretold.changed.clone(),
        seen: 0,
        incarnation: None,
        cancelled: false,
    };
    let mut spec = spec(&job, role, inputs, Mode::Plan).map_err(|failure| (failure.code, failure.message))?;
    spec.limits.seconds = spec.limits.seconds.min(LONGEST);
    let (sink, mut notes) = mpsc::channel(NOTES);
    let running = async {
        let ended = shared.remote.run(&target, spec, &sink).await;
        drop(sink);
        ended
    };
    let ended = tokio::join!(running, async { while notes.recv().await.is_some() {} }).0;
    // Nobody attaches to it again; a journal that stays for want of an answer goes with the agent.
    let _ = shared.remote.forget(&target, job.job).await;
    match ended {
        Ended::Done(outcome) => {
            let failed = outcome.status != Status::Succeeded;
            Ok(DryRunView {
                diffs: difference(&outcome),
                ..self::untold(foretold, outcome.code.filter(|_| failed), outcome.message.filter(|_| failed))
            })
        }
        Ended::Lost(error) => Err((error.code().to_owned(), error.to_string())),
        Ended::Rebooting { .. } | Ended::UnknownJob { .. } => {
            Err(untold("agent-protocol", "the agent answered something else"))
        }
    }
}
