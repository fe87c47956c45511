//! One turn of the pass, as transactions see it: lock a deployment, load a neighbourhood, write what the turn decided.
//!
//! Everything between [`lock`] and [`Locked::commit`] is one transaction. Nothing but Postgres is awaited in it.

mod apart;
mod budgets;
mod claims;
mod form;
mod load;
mod rows;
mod write;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use engine_core::graph::{Graph, RoleName};
use engine_core::id::{DeploymentId, NodeId, VertexId};
use serde_json::Value;
use sqlx::types::Json;
use sqlx::{PgConnection, PgPool, Postgres, Transaction};
use uuid::Uuid;

use crate::StoreError;
use crate::error::doing;
pub use claims::Finished;
pub use rows::{load_near, load_nodes, load_role, load_vertices};

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

/// Deployments in which something is to be judged or claimed. Goes from one to the next in the indexes of what is woken
/// and ready: the cost is that of those with work, however many there are without.
pub async fn with_work(pool: &PgPool) -> Result<Vec<DeploymentId>, StoreError> {
    let rows = sqlx::query_scalar!(
        r#"with recursive woken as (
               (select deployment_id from vertex where wake order by deployment_id limit 1)
               union all
               select (select v.deployment_id from vertex v where v.wake and v.deployment_id > w.deployment_id
                       order by v.deployment_id limit 1)
               from woken w where w.deployment_id is not null
           ), waiting as (
               (select deployment_id from vertex where ready order by deployment_id limit 1)
               union all
               select (select v.deployment_id from vertex v where v.ready and v.deployment_id > w.deployment_id
                       order by v.deployment_id limit 1)
               from waiting w where w.deployment_id is not null
           )
           select deployment_id as "deployment_id!" from woken where deployment_id is not null
           union select deployment_id from waiting where deployment_id is not null"#
    )
    .fetch_all(pool)
    .await
    .map_err(doing("looking for work"))?;
    Ok(rows.into_iter().map(DeploymentId).collect())
}

/// Deployments in which somebody changed something, and no turn has looked since.
pub async fn stirred(pool: &PgPool) -> Result<Vec<DeploymentId>, StoreError> {
    let rows = sqlx::query_scalar!("select deployment_id from deployment where known_to is null and state <> 'gone'")
        .fetch_all(pool)
        .await
        .map_err(doing("looking for what was changed"))?;
    Ok(rows.into_iter().map(DeploymentId).collect())
}

/// Takes a deployment's row for a change from outside of turns, and waits for it. `None`: there is no such deployment.
pub async fn lock(pool: &PgPool, id: DeploymentId) -> Result<Option<Locked>, StoreError> {
    match waited(pool, id).await? {
        Some((row, tx)) => row.changed(tx, id).await.map(Some),
        None => Ok(None),
    }
}

/// The same for what turns have not seen, or see anew each time.
pub(crate) async fn lock_beside(pool: &PgPool, id: DeploymentId) -> Result<Option<Locked>, StoreError> {
    Ok(waited(pool, id).await?.map(|(row, tx)| row.locked(tx, id)))
}

async fn waited(
    pool: &PgPool,
    id: DeploymentId,
) -> Result<Option<(LockRow, Transaction<'static, Postgres>)>, StoreError> {
    let failed = doing("locking a deployment");
    let mut tx = pool.begin().await.map_err(&failed)?;
    let row = sqlx::query_as!(
        LockRow,
        "select name, workload, state, paused, change, revision, virtual_node, on_drift, known_to
         from deployment where deployment_id = $1 for no key update",
        id.0
    )
    .fetch_optional(&mut *tx)
    .await
    .map_err(&failed)?;
    Ok(row.map(|row| (row, tx)))
}

/// The same for the deployment that uses a node. `None`: none does.
pub async fn lock_of_node(pool: &PgPool, node: NodeId) -> Result<Option<Locked>, StoreError> {
    let user = sqlx::query_scalar!("select deployment_id from node where node_id = $1", node.0)
        .fetch_optional(pool)
        .await
        .map_err(doing("looking for who uses a node"))?
        .flatten();
    match user {
        Some(deployment) => lock(pool, DeploymentId(deployment)).await,
        None => Ok(None),
    }
}

/// The same as [`lock`], but does not wait. `None`: somebody else has it, or it is not there.
pub async fn lock_if_free(pool: &PgPool, id: DeploymentId) -> Result<Option<Locked>, StoreError> {
    let failed = doing("locking a deployment");
    let mut tx = pool.begin().await.map_err(&failed)?;
    let Some(row) = free(&mut tx, id).await.map_err(&failed)? else { return Ok(None) };
    row.changed(tx, id).await.map(Some)
}

async fn free(tx: &mut PgConnection, id: DeploymentId) -> Result<Option<LockRow>, sqlx::Error> {
    sqlx::query_as!(
        LockRow,
        "select name, workload, state, paused, change, revision, virtual_node, on_drift, known_to
         from deployment where deployment_id = $1 for no key update skip locked",
        id.0
    )
    .fetch_optional(tx)
    .await
}

/// Takes a deployment's row for a turn, or `None` if somebody else has it or it is not there. `turns`: whose; not the
/// same after a restart. `true`: nobody changed anything since their last turn.
pub async fn lock_for_turn(pool: &PgPool, id: DeploymentId, turns: Uuid) -> Result<Option<(Locked, bool)>, StoreError> {
    let failed = doing("locking a deployment for a turn");
    let mut tx = pool.begin().await.map_err(&failed)?;
    let Some(row) = free(&mut tx, id).await.map_err(&failed)? else { return Ok(None) };
    let known = row.known_to == Some(turns);
    let mut locked = row.locked(tx, id);
    if !known {
        locked.known_to(Some(turns)).await?;
    }
    Ok(Some((locked, known)))
}

struct LockRow {
    name: String,
    workload: String,
    state: String,
    paused: bool,
    change: i64,
    revision: i32,
    virtual_node: Uuid,
    on_drift: String,
    known_to: Option<Uuid>,
}

impl LockRow {
    /// Locked for a change from outside of turns: what they saw, they load again.
    async fn changed(self, tx: Transaction<'static, Postgres>, id: DeploymentId) -> Result<Locked, StoreError> {
        let known = self.known_to.is_some();
        let mut locked = self.locked(tx, id);
        if known {
            locked.known_to(None).await?;
        }
        Ok(locked)
    }

    fn locked(self, tx: Transaction<'static, Postgres>, id: DeploymentId) -> Locked {
        Locked {
            tx,
            id,
            name: self.name,
            workload: self.workload,
            state: self.state,
            paused: self.paused,
            repairs: self.on_drift == "repair",
            change: self.change,
            revision: self.revision,
            virtual_node: NodeId(self.virtual_node),
        }
    }
}

impl Locked {
    /// Whoever turns this deployment next and is not this one has to load anew what it saw before.
    async fn known_to(&mut self, turns: Option<Uuid>) -> Result<(), StoreError> {
        sqlx::query!("update deployment set known_to = $2 where deployment_id = $1", self.id.0, turns)
            .execute(&mut *self.tx)
            .await
            .map_err(doing("noting who changes a deployment"))?;
        Ok(())
    }

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

    /// What is to be judged, and claimed: at most so many of each; what none is wanted of is not looked for.
    pub async fn todo(&mut self, most_woken: i64, most_ready: i64) -> Result<Todo, StoreError> {
        let failed = doing("looking for what is to be done");
        let mut todo = Todo::default();
        if most_woken > 0 {
            let woken = sqlx::query_scalar!(
                "select vertex_id from vertex where deployment_id = $1 and wake limit $2",
                self.id.0,
                most_woken
            );
            let woken = woken.fetch_all(&mut *self.tx).await.map_err(&failed)?;
            todo.woken = woken.into_iter().map(VertexId).collect();
        }
        if most_ready > 0 {
            let ready = sqlx::query_scalar!(
                "select vertex_id from vertex where deployment_id = $1 and ready limit $2",
                self.id.0,
                most_ready
            );
            let ready = ready.fetch_all(&mut *self.tx).await.map_err(&failed)?;
            todo.ready = ready.into_iter().map(VertexId).collect();
        }
        Ok(todo)
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
