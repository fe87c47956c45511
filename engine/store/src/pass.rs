//! One turn of the pass, as transactions see it: lock a deployment, load a neighbourhood, write what the turn decided.
//!
//! Everything between [`lock`] and [`Locked::commit`] is one transaction. Nothing but Postgres is awaited in it.

mod budgets;
mod rows;
mod write;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use engine_core::document::Object;
use engine_core::graph::{Graph, NodeName, RoleName};
use engine_core::id::{DeploymentId, EngineId, JobId, NodeId, VertexId};
use engine_core::settle::turn::Wants;
use engine_core::settle::{Hood, Scope, Tally};
use serde_json::{Value, json};
use sqlx::types::Json;
use sqlx::{PgPool, Postgres, Transaction};
use uuid::Uuid;

use crate::StoreError;
use crate::error::doing;
pub use rows::{load_near, load_nodes, load_role, load_vertices};
pub use write::Finished;

/// Channel on which engines are told that there may be work.
pub const WORK: &str = "plinth_work";
/// Channel on which readers are told that there are events.
pub const EVENTS: &str = "plinth_events";

/// A committed revision, as the pass needs it. Does not change, so it can be kept.
#[derive(Clone, Debug)]
pub struct Revision {
    /// Its number.
    pub number: i32,
    /// The graph, leavers' roles included.
    pub graph: Graph,
    /// Deployment role to hash of its content row.
    pub contents: BTreeMap<RoleName, String>,
}

/// Revisions that were loaded before.
pub type Revisions = std::sync::Mutex<HashMap<(DeploymentId, i32), Arc<Revision>>>;

/// A deployment whose row this transaction holds.
#[derive(Debug)]
pub struct Locked {
    pub(crate) tx: Transaction<'static, Postgres>,
    /// Which.
    pub id: DeploymentId,
    /// Its name.
    pub name: String,
    /// Its workload.
    pub workload: String,
    /// `active`, `destroying` or `gone`.
    pub state: String,
    /// Held back by a person.
    pub paused: bool,
    /// What has drifted runs again.
    pub repairs: bool,
    /// Number of the newest change.
    pub change: i64,
    /// The committed revision's number.
    pub revision: i32,
    /// Its virtual node.
    pub virtual_node: NodeId,
}

/// What there is to do in a deployment.
#[derive(Clone, Debug, Default)]
pub struct Todo {
    /// To be judged.
    pub woken: Vec<VertexId>,
    /// To be claimed.
    pub ready: Vec<VertexId>,
}

/// Deployments in which something is to be judged or claimed.
pub async fn with_work(pool: &PgPool) -> Result<Vec<DeploymentId>, StoreError> {
    let rows = sqlx::query_scalar!(
        "select deployment_id as \"id!\" from vertex where wake
         union select deployment_id from vertex where state = 'ready'"
    )
    .fetch_all(pool)
    .await
    .map_err(doing("looking for work"))?;
    Ok(rows.into_iter().map(DeploymentId).collect())
}

/// Takes a deployment's row, or `None` if another engine has it (and `wait` is not said) or it is not there.
pub async fn lock(pool: &PgPool, id: DeploymentId, wait: bool) -> Result<Option<Locked>, StoreError> {
    let failed = doing("locking a deployment");
    let mut tx = pool.begin().await.map_err(&failed)?;
    if !wait {
        let free: Option<Uuid> = sqlx::query_scalar!(
            "select deployment_id from deployment where deployment_id = $1 for no key update skip locked",
            id.0
        )
        .fetch_optional(&mut *tx)
        .await
        .map_err(&failed)?;
        if free.is_none() {
            return Ok(None);
        }
    }
    let row = sqlx::query!(
        "select name, workload, state, paused, change, revision, virtual_node, on_drift
         from deployment where deployment_id = $1 for no key update",
        id.0
    )
    .fetch_optional(&mut *tx)
    .await
    .map_err(&failed)?;
    Ok(row.map(|row| Locked {
        tx,
        id,
        name: row.name,
        workload: row.workload,
        state: row.state,
        paused: row.paused,
        repairs: row.on_drift == "repair",
        change: row.change,
        revision: row.revision,
        virtual_node: NodeId(row.virtual_node),
    }))
}

impl Locked {
    /// The committed revision, from `known` if it was loaded before.
    pub async fn revision(&mut self, known: &Revisions) -> Result<Arc<Revision>, StoreError> {
        let key = (self.id, self.revision);
        if let Some(revision) = kept(known).get(&key) {
            return Ok(Arc::clone(revision));
        }
        let row = sqlx::query!(
            r#"select graph as "graph: Json<Graph>", contents as "contents: Json<BTreeMap<RoleName, String>>"
               from revision where deployment_id = $1 and number = $2"#,
            self.id.0,
            self.revision
        )
        .fetch_one(&mut *self.tx)
        .await
        .map_err(doing("loading a revision"))?;
        let revision = Revision { number: self.revision, graph: row.graph.0, contents: row.contents.0 };
        let revision = Arc::new(revision);
        let mut known = kept(known);
        known.retain(|(id, _), _| *id != self.id);
        known.insert(key, Arc::clone(&revision));
        Ok(revision)
    }

    /// What is to be judged and claimed, at most `limit` of each. A paused deployment claims nothing.
    pub async fn todo(&mut self, limit: i64) -> Result<Todo, StoreError> {
        let failed = doing("looking for what is to be done");
        let woken = sqlx::query_scalar!(
            "select vertex_id from vertex where deployment_id = $1 and wake limit $2",
            self.id.0,
            limit
        )
        .fetch_all(&mut *self.tx)
        .await
        .map_err(&failed)?;
        let ready = sqlx::query_scalar!(
            "select vertex_id from vertex where deployment_id = $1 and state = 'ready' limit $2",
            self.id.0,
            limit
        )
        .fetch_all(&mut *self.tx)
        .await
        .map_err(&failed)?;
        Ok(Todo { woken: woken.into_iter().map(VertexId).collect(), ready: ready.into_iter().map(VertexId).collect() })
    }

    /// Which of these jobs run under this engine and fence, with their vertices. Others' reports are too late.
    pub async fn mine(
        &mut self,
        engine: EngineId,
        jobs: &[(JobId, i64)],
    ) -> Result<HashMap<JobId, VertexId>, StoreError> {
        let (ids, fences): (Vec<Uuid>, Vec<i64>) = jobs.iter().map(|(job, fence)| (job.0, *fence)).unzip();
        let rows = sqlx::query!(
            r#"select j.job_id, j.vertex_id from job j
               join unnest($1::uuid[], $2::bigint[]) as r(job_id, fence) on r.job_id = j.job_id and r.fence = j.fence
               where j.engine_id = $3 and j.finished_at is null and j.deployment_id = $4 for update of j"#,
            &ids,
            &fences,
            engine.0,
            self.id.0
        )
        .fetch_all(&mut *self.tx)
        .await
        .map_err(doing("looking for the jobs of reports"))?;
        Ok(rows.into_iter().map(|row| (JobId(row.job_id), VertexId(row.vertex_id))).collect())
    }

    /// The neighbourhood of some vertices: the virtual node whole, all tallies, and of their nodes as much as a turn
    /// needs in which they report, are judged or claimed; all of it unless `near`.
    pub async fn hood(&mut self, vertices: &[VertexId], graph: &Graph, near: bool) -> Result<Hood, StoreError> {
        let ids: Vec<Uuid> = vertices.iter().map(|id| id.0).collect();
        let rows = sqlx::query!("select distinct node_id, role from vertex where vertex_id = any($1)", &ids)
            .fetch_all(&mut *self.tx)
            .await
            .map_err(doing("loading a neighbourhood"))?;
        let roles: BTreeSet<RoleName> = rows.iter().map(|row| row.role.clone()).collect();
        let nodes: BTreeSet<NodeId> = rows.into_iter().map(|row| NodeId(row.node_id)).collect();
        let mut hood = Hood {
            paused: self.paused,
            deployment: self.fields(),
            virtual_node: Some(self.virtual_node),
            tallies: self.tallies().await?,
            budgets: self.budgets(graph).await?,
            ..Hood::default()
        };
        let Some(scope) = near.then(|| Scope::of(graph, &roles)).flatten() else {
            self.load_whole(&mut hood, nodes.into_iter().chain([self.virtual_node]).collect()).await?;
            return Ok(hood);
        };
        self.load_whole(&mut hood, BTreeSet::from([self.virtual_node])).await?;
        let ids: Vec<Uuid> = nodes.iter().filter(|id| **id != self.virtual_node).map(|id| id.0).collect();
        for view in load_nodes(&mut self.tx, self.id, self.virtual_node, Some(&ids)).await? {
            hood.nodes.insert(view.id, view);
        }
        for vertex in load_near(&mut self.tx, self.id, &ids, &scope).await? {
            hood.add(vertex);
        }
        (hood.near, hood.scope) = (nodes, scope);
        Ok(hood)
    }

    /// Begins another numbered change.
    pub async fn next_change(&mut self) -> Result<i64, StoreError> {
        self.change = sqlx::query_scalar!(
            "update deployment set change = change + 1 where deployment_id = $1 returning change",
            self.id.0
        )
        .fetch_one(&mut *self.tx)
        .await
        .map_err(doing("counting a change"))?;
        Ok(self.change)
    }

    /// Fields that wires may read as `deployment.FIELD`.
    pub fn fields(&self) -> Object {
        let Value::Object(fields) = json!({"name": self.name, "workload": self.workload}) else { return Object::new() };
        fields
    }

    /// Adds nodes with all their vertices.
    pub async fn load_whole(&mut self, hood: &mut Hood, nodes: BTreeSet<NodeId>) -> Result<(), StoreError> {
        let ids: Vec<Uuid> = nodes.iter().map(|id| id.0).collect();
        for view in load_nodes(&mut self.tx, self.id, self.virtual_node, Some(&ids)).await? {
            hood.nodes.insert(view.id, view);
        }
        for vertex in load_vertices(&mut self.tx, self.id, &ids).await? {
            hood.add(vertex);
        }
        hood.whole.extend(nodes);
        Ok(())
    }

    /// Adds what a turn wants to see. Call [`engine_core::settle::Turn::loaded`] afterwards.
    pub async fn load_wanted(&mut self, hood: &mut Hood, wants: &Wants) -> Result<(), StoreError> {
        for role in &wants.roles {
            for vertex in load_role(&mut self.tx, self.id, role).await? {
                hood.add(vertex);
            }
        }
        let named: BTreeSet<NodeName> = wants.whole.clone();
        if !named.is_empty() || wants.nodes || !wants.roles.is_empty() {
            for view in load_nodes(&mut self.tx, self.id, self.virtual_node, None).await? {
                hood.nodes.entry(view.id).or_insert(view);
            }
            hood.all_nodes = true;
        }
        let whole: BTreeSet<NodeId> = hood.nodes.values().filter(|n| named.contains(&n.name)).map(|n| n.id).collect();
        if !whole.is_empty() {
            self.load_whole(hood, whole).await?;
        }
        Ok(())
    }

    async fn tallies(&mut self) -> Result<HashMap<RoleName, Tally>, StoreError> {
        let rows =
            sqlx::query!("select role, stale, failed, leaving, active from tally where deployment_id = $1", self.id.0)
                .fetch_all(&mut *self.tx)
                .await
                .map_err(doing("loading tallies"))?;
        let tally = |stale, failed, leaving, active| Tally { stale, failed, leaving, active };
        Ok(rows.into_iter().map(|r| (r.role, tally(r.stale, r.failed, r.leaving, r.active))).collect())
    }

    /// Ends the transaction; everything written is in force then.
    pub async fn commit(self) -> Result<(), StoreError> {
        self.tx.commit().await.map_err(doing("committing a turn"))
    }

    /// Ends the transaction without a trace.
    pub async fn roll_back(self) -> Result<(), StoreError> {
        self.tx.rollback().await.map_err(doing("ending a turn"))
    }
}

/// The digest, where a value only refers to a gathered one.
pub(crate) fn reference(value: &Value) -> Option<String> {
    value.get("$digest").and_then(Value::as_str).map(str::to_owned)
}

/// Values by digest.
pub(crate) async fn values<'e>(
    executor: impl sqlx::PgExecutor<'e>,
    digests: &[String],
) -> Result<BTreeMap<String, Value>, StoreError> {
    let rows = sqlx::query!("select digest, body from value where digest = any($1)", digests)
        .fetch_all(executor)
        .await
        .map_err(doing("loading gathered values"))?;
    Ok(rows.into_iter().map(|row| (row.digest, row.body)).collect())
}

fn kept(known: &Revisions) -> std::sync::MutexGuard<'_, HashMap<(DeploymentId, i32), Arc<Revision>>> {
    known.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
