//! The life of nodes: who works on which, what came of it, and letting go of those that nobody uses any more.

mod adopt;
mod facts;
mod label;
pub(crate) mod look;
mod lost;
mod record;
mod silent;
mod stand;

use std::sync::Arc;
use std::time::Duration;

use engine_core::document::Object;
use engine_core::id::{DeploymentId, EngineId, NodeId, VertexId};
use engine_core::settle::Hood;
use engine_core::settle::commit::readers_of_node;
use serde_json::Value;
use sqlx::types::Json;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::StoreError;
use crate::error::doing;
use crate::pass::{EVENTS, Locked, Revision, Revisions};

pub use adopt::{Adopted, Taken, adopt};
pub use label::{ToRule, are_ruled, label, rule, ruled, to_rule};
pub use look::{Due, due, next_look_in};
pub use lost::{Lost, lose};
pub(crate) use record::wake_waiting;
pub use record::{Change, Recorded, Recording, Records, change};
pub use silent::{Settled, settle};
pub use stand::stand;

/// A node as whoever works on it, or reaches it, needs it.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its id.
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// Where it comes from.
    pub provider: String,
    /// Options for its provider.
    pub options: Object,
    /// Made for a deployment and destroyed with it.
    pub owned: bool,
    /// The deployment that uses it.
    pub deployment: Option<DeploymentId>,
    /// The deployment does not bind it any more, and nothing of it is left there.
    pub released: bool,
    /// To be emptied for a redeploy.
    pub rebuild: bool,
    /// `creating`, `joining`, `up`, `unreachable`, `failed`, `leaving`, `gone`.
    pub state: String,
    /// Its address, once known.
    pub address: Option<String>,
    /// Its SSH port.
    pub port: Option<i32>,
    /// Who logs in.
    pub user: Option<String>,
    /// Pinned host keys.
    pub host_keys: Vec<String>,
    /// The incarnation of its agent at the last contact.
    pub incarnation: Option<String>,
    /// What is known of it.
    pub facts: Object,
    /// Labels that people set.
    pub labels: Object,
    /// Attempts since it last got on.
    pub tries: i32,
}

/// Takes nodes that there is something to be done with, of each deployment the first first.
pub async fn take(pool: &PgPool, engine: EngineId, limit: i64) -> Result<Vec<NodeId>, StoreError> {
    let ids = sqlx::query_scalar!(
        "update node set engine_id = $1 where node_id in (
             select node_id from node n
             where engine_id is null
                   and (state in ('creating', 'joining', 'unreachable', 'leaving') or (rebuild and state = 'up')
                        or (deployment_id is not null and group_name is null and state not in ('virtual', 'gone')))
                   and (next_try_at is null or next_try_at <= clock_timestamp())
                   and (state in ('creating', 'joining', 'unreachable', 'leaving') or (rebuild and state = 'up')
                        or not exists (select from vertex v where v.node_id = n.node_id and not v.gone))
             order by position, name
             limit $2 for update skip locked)
         returning node_id",
        engine.0,
        limit
    )
    .fetch_all(pool)
    .await
    .map_err(doing("looking for nodes to work on"))?;
    Ok(ids.into_iter().map(NodeId).collect())
}

/// Until the next node has to be worked on, if any waits.
pub async fn next_in(pool: &PgPool) -> Result<Option<Duration>, StoreError> {
    let seconds = sqlx::query_scalar!(
        "select extract(epoch from min(next_try_at) - clock_timestamp())::float8 from node
         where engine_id is null and (state in ('creating', 'joining', 'unreachable', 'leaving') or rebuild)"
    )
    .fetch_one(pool)
    .await
    .map_err(doing("looking for the next node"))?;
    Ok(seconds.map(|seconds| Duration::from_secs_f64(seconds.clamp(0.0, 3600.0))))
}

struct NodeRow {
    node_id: Uuid,
    name: String,
    provider: String,
    options: Json<Object>,
    owned: bool,
    deployment_id: Option<Uuid>,
    state: String,
    rebuild: bool,
    address: Option<String>,
    port: Option<i32>,
    ssh_user: Option<String>,
    host_keys: Json<Vec<String>>,
    incarnation: Option<String>,
    facts: Json<Object>,
    labels: Json<Object>,
    tries: i32,
    released: bool,
}

macro_rules! nodes {
    ($which:literal, $value:expr) => {
        sqlx::query_as!(
            NodeRow,
            r#"select node_id, name, provider, options as "options: Json<Object>", owned_by is not null as "owned!",
                      deployment_id, state, rebuild, address, port, ssh_user, host_keys as "host_keys: Json<Vec<String>>",
                      incarnation, facts as "facts: Json<Object>", labels as "labels: Json<Object>", tries,
                      (deployment_id is not null and group_name is null
                       and not exists (select from vertex v where v.node_id = n.node_id and not v.gone)) as "released!"
               from node n where "# + $which,
            $value
        )
    };
}

/// Nodes by id.
pub async fn load(pool: &PgPool, nodes: &[NodeId]) -> Result<Vec<Node>, StoreError> {
    let ids: Vec<Uuid> = nodes.iter().map(|id| id.0).collect();
    let rows = nodes!("node_id = any($1)", &ids).fetch_all(pool).await.map_err(doing("loading nodes"))?;
    Ok(rows.into_iter().map(Node::from).collect())
}

/// Nodes by name; those that are gone are not found.
pub async fn named(pool: &PgPool, names: &[String]) -> Result<Vec<Node>, StoreError> {
    let rows = nodes!("name = any($1) and state not in ('gone', 'virtual')", names).fetch_all(pool).await;
    Ok(rows.map_err(doing("loading nodes by name"))?.into_iter().map(Node::from).collect())
}

impl From<NodeRow> for Node {
    fn from(row: NodeRow) -> Self {
        Self {
            id: NodeId(row.node_id),
            name: row.name,
            provider: row.provider,
            options: row.options.0,
            owned: row.owned,
            deployment: row.deployment_id.map(DeploymentId),
            released: row.released,
            rebuild: row.rebuild,
            state: row.state,
            address: row.address,
            port: row.port,
            user: row.ssh_user,
            host_keys: row.host_keys.0,
            incarnation: row.incarnation,
            facts: row.facts.0,
            labels: row.labels.0,
            tries: row.tries,
        }
    }
}

/// A node with what its standing concerns, as it stood until now: so its vertices are counted.
struct Around {
    revision: Arc<Revision>,
    /// The vertices on it.
    on: Vec<VertexId>,
    /// Those that gather from it, choose or work among what stands there.
    readers: Vec<VertexId>,
    hood: Hood,
}

async fn around(locked: &mut Locked, known: &Revisions, node: NodeId, name: &str) -> Result<Around, StoreError> {
    let revision = locked.revision(known).await?;
    let on: Vec<Uuid> = sqlx::query_scalar!(
        "select vertex_id from vertex where deployment_id = $1 and node_id = $2 and not gone",
        locked.id.0,
        node.0
    )
    .fetch_all(&mut *locked.tx)
    .await
    .map_err(doing("looking for what is on a node"))?;
    let on: Vec<VertexId> = on.into_iter().map(VertexId).collect();
    let readers = locked.vertices_at(readers_of_node(&revision.graph, name)).await?;
    let all: Vec<VertexId> = on.iter().chain(&readers).copied().collect();
    let hood = locked.hood(&all, &revision.graph).await?;
    Ok(Around { revision, on, readers, hood })
}

/// Deployments that were destroyed and of which nothing is left: no vertex, no node. They are closed.
pub async fn close_destroyed(pool: &PgPool) -> Result<Vec<String>, StoreError> {
    let failed = doing("closing destroyed deployments");
    let mut tx = pool.begin().await.map_err(&failed)?;
    let rows = sqlx::query!(
        "update deployment d set state = 'gone', paused = false, changed_at = now()
         where state = 'destroying'
               and not exists (select from vertex v where v.deployment_id = d.deployment_id and not v.gone)
               and not exists (select from node n where n.deployment_id = d.deployment_id and n.state not in ('gone', 'virtual'))
         returning deployment_id, name"
    )
    .fetch_all(&mut *tx)
    .await
    .map_err(&failed)?;
    let gone: Vec<Uuid> = rows.iter().map(|row| row.deployment_id).collect();
    sqlx::query!("delete from import where deployment_id = any($1)", &gone).execute(&mut *tx).await.map_err(&failed)?;
    sqlx::query!("delete from secret where deployment_id = any($1)", &gone).execute(&mut *tx).await.map_err(&failed)?;
    for row in &rows {
        sqlx::query!(
            "insert into event (at, kind, deployment_id, principal, detail)
             values (clock_timestamp(), 'deployment.gone', $1, 'engine', '{}')",
            row.deployment_id
        )
        .execute(&mut *tx)
        .await
        .map_err(&failed)?;
    }
    if !rows.is_empty() {
        sqlx::query!("select pg_notify($1, '')", EVENTS).execute(&mut *tx).await.map_err(&failed)?;
    }
    tx.commit().await.map_err(&failed)?;
    Ok(rows.into_iter().map(|row| row.name).collect())
}

/// Another node that is the same machine.
#[derive(Clone, Debug)]
pub struct Twin {
    /// Its name.
    pub name: String,
    /// It is on its way out.
    pub leaving: bool,
    /// It was there first.
    pub older: bool,
}

/// Other nodes with the same machine id, by name: one machine under several names.
pub async fn twins(pool: &PgPool, node: NodeId, machine_id: &str) -> Result<Vec<Twin>, StoreError> {
    sqlx::query_as!(
        Twin,
        r#"select name, state = 'leaving' as "leaving!", node_id < $1 as "older!" from node
           where machine_id = $2 and node_id <> $1 and state not in ('gone', 'virtual') order by node_id"#,
        node.0,
        machine_id
    )
    .fetch_all(pool)
    .await
    .map_err(doing("looking for nodes on the same machine"))
}

/// Node roles of a deployment that still stand on a node.
pub async fn is_used(pool: &PgPool, node: NodeId) -> Result<Option<String>, StoreError> {
    sqlx::query_scalar!(
        "select d.name from node n join deployment d on d.deployment_id = n.deployment_id where n.node_id = $1",
        node.0
    )
    .fetch_optional(pool)
    .await
    .map_err(doing("looking for who uses a node"))
}

async fn event(
    connection: &mut PgConnection,
    kind: &str,
    deployment: Option<Uuid>,
    node: NodeId,
    by: &str,
    detail: Value,
) -> Result<(), StoreError> {
    sqlx::query!(
        "insert into event (at, kind, deployment_id, node_id, principal, detail)
         values (clock_timestamp(), $1, $2, $3, $4, $5)",
        kind,
        deployment,
        node.0,
        by,
        detail
    )
    .execute(connection)
    .await
    .map_err(doing("writing an event"))?;
    Ok(())
}
