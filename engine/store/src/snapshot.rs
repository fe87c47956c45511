//! Everything that a plan follows from, read in one snapshot.

mod outline;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use engine_core::catalog::CatalogRole;
use engine_core::document::Object;
use engine_core::graph::{Graph, NodeName, RoleName, VIRTUAL};
use engine_core::id::{DeploymentId, NodeId};
use engine_core::plan::Seen;
use serde_json::Value;
use sqlx::types::Json;
use sqlx::{PgConnection, PgPool, Postgres, Transaction};
use uuid::Uuid;

use crate::StoreError;
use crate::error::doing;
use crate::pass;
pub use outline::{Outline, nodes, outline, within};

/// What is committed at the moment.
#[derive(Clone, Debug)]
pub struct Current {
    /// The deployment.
    pub id: DeploymentId,
    /// `active`, `destroying` or `gone`.
    pub state: String,
    /// The committed revision's number.
    pub revision: i32,
    /// Its document.
    pub document: Value,
    /// Its graph.
    pub graph: Arc<Graph>,
    /// Deployment role to hash of its content row.
    pub contents: BTreeMap<RoleName, String>,
}

/// A node, as binding and planning see it.
#[derive(Clone, Debug)]
pub struct KnownNode {
    /// Its id.
    pub id: NodeId,
    /// What is known of it.
    pub facts: Object,
    /// The deployment that uses it, and its group there.
    pub used_by: Option<(String, String)>,
    /// Was it made for that deployment?
    pub created: bool,
    /// `in`, `aside` or `lost`.
    pub standing: String,
    /// Where it comes from.
    pub provider: String,
}

/// Everything that a plan follows from, read in one snapshot.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The deployment as committed, if it ever was.
    pub current: Option<Current>,
    /// What is in force, by role and node.
    pub seen: BTreeMap<RoleName, BTreeMap<NodeName, Seen>>,
    /// All nodes.
    pub nodes: BTreeMap<NodeName, KnownNode>,
    /// The highest index of created nodes, by group.
    pub highest: BTreeMap<String, u32>,
    /// Nodes of the deployment that stand aside, where not all nodes are known.
    pub aside: BTreeSet<NodeName>,
    /// Roles of the attempts in force, by content digest.
    pub roles: BTreeMap<String, CatalogRole>,
}

async fn begin(pool: &PgPool) -> Result<Transaction<'static, Postgres>, StoreError> {
    let failed = doing("reading what is committed");
    let mut tx = pool.begin().await.map_err(&failed)?;
    sqlx::query("set transaction isolation level repeatable read, read only")
        .execute(&mut *tx)
        .await
        .map_err(&failed)?;
    Ok(tx)
}

/// What is committed under a name, with its virtual node.
async fn current(connection: &mut PgConnection, name: &str) -> Result<Option<(Current, NodeId)>, StoreError> {
    let row = sqlx::query!(
        r#"select d.deployment_id, d.state, d.virtual_node, r.number, r.document, r.graph as "graph: Json<Graph>",
                  r.contents as "contents: Json<BTreeMap<RoleName, String>>"
           from deployment d join revision r on r.deployment_id = d.deployment_id and r.number = d.revision
           where d.name = $1"#,
        name
    )
    .fetch_optional(connection)
    .await
    .map_err(doing("reading what is committed"))?;
    Ok(row.map(|row| {
        let current = Current {
            id: DeploymentId(row.deployment_id),
            state: row.state,
            revision: row.number,
            document: row.document,
            graph: Arc::new(row.graph.0),
            contents: row.contents.0,
        };
        (current, NodeId(row.virtual_node))
    }))
}

async fn highest(connection: &mut PgConnection, id: DeploymentId) -> Result<BTreeMap<String, u32>, StoreError> {
    let rows = sqlx::query!("select group_name, highest from node_index where deployment_id = $1", id.0)
        .fetch_all(connection)
        .await
        .map_err(doing("reading how many nodes there were"))?;
    Ok(rows.into_iter().map(|row| (row.group_name, u32::try_from(row.highest).unwrap_or(0))).collect())
}

/// Reads the snapshot for a deployment of this name: all nodes, and everything that is in force.
pub async fn snapshot(pool: &PgPool, name: &str) -> Result<Snapshot, StoreError> {
    let mut tx = begin(pool).await?;
    let mut snapshot = Snapshot { nodes: known_nodes(&mut tx).await?, ..Snapshot::default() };
    if let Some((current, virtual_node)) = current(&mut tx, name).await? {
        let id = current.id;
        snapshot.current = Some(current);
        snapshot.highest = highest(&mut tx, id).await?;
        seen(&mut tx, id, virtual_node, None, &mut snapshot).await?;
    }
    tx.commit().await.map_err(doing("reading what is committed"))?;
    Ok(snapshot)
}

/// The roles of the committed revision by the hash of their content row; nothing if the deployment is not there.
pub async fn contents(pool: &PgPool, name: &str) -> Result<Option<BTreeMap<RoleName, String>>, StoreError> {
    let row = sqlx::query_scalar!(
        r#"select r.contents as "contents: Json<BTreeMap<RoleName, String>>"
           from deployment d join revision r on r.deployment_id = d.deployment_id and r.number = d.revision
           where d.name = $1 and d.state <> 'gone'"#,
        name
    )
    .fetch_optional(pool)
    .await
    .map_err(doing("reading the contents of a deployment"))?;
    Ok(row.map(|row| row.0))
}

struct NodeRow {
    node_id: Uuid,
    name: String,
    provider: String,
    standing: String,
    group_name: Option<String>,
    facts: Json<Object>,
    created: bool,
    deployment: Option<String>,
}

macro_rules! nodes {
    ($which:literal, $($value:expr),* $(,)?) => {
        sqlx::query_as!(
            NodeRow,
            r#"select n.node_id as "node_id!", n.name as "name!", n.provider as "provider!", n.standing as "standing!",
                      n.group_name,
                      n.ruled || n.labels || n.facts || jsonb_build_object('generation', n.generation) as "facts!: Json<Object>",
                      n.owned_by is not null as "created!", d.name as "deployment?"
               from node n left join deployment d on d.deployment_id = n.deployment_id
               where n.state not in ('gone', 'virtual', 'leaving')"# + $which,
            $($value),*
        )
    };
}

async fn known_nodes(connection: &mut PgConnection) -> Result<BTreeMap<NodeName, KnownNode>, StoreError> {
    Ok(known(nodes!("",).fetch_all(connection).await.map_err(doing("reading nodes"))?))
}

async fn named(connection: &mut PgConnection, names: &[NodeName]) -> Result<BTreeMap<NodeName, KnownNode>, StoreError> {
    if names.is_empty() {
        return Ok(BTreeMap::new());
    }
    let rows = nodes!(" and n.name = any($1)", names).fetch_all(connection).await;
    Ok(known(rows.map_err(doing("reading nodes by name"))?))
}

async fn nodes_of(
    connection: &mut PgConnection,
    id: DeploymentId,
) -> Result<BTreeMap<NodeName, KnownNode>, StoreError> {
    let rows = nodes!(" and n.deployment_id = $1", id.0).fetch_all(connection).await;
    Ok(known(rows.map_err(doing("reading the nodes of a deployment"))?))
}

fn known(rows: Vec<NodeRow>) -> BTreeMap<NodeName, KnownNode> {
    rows.into_iter()
        .map(|row| {
            let known = KnownNode {
                id: NodeId(row.node_id),
                facts: row.facts.0,
                used_by: row.deployment.map(|by| (by, row.group_name.unwrap_or_default())),
                created: row.created,
                standing: row.standing,
                provider: row.provider,
            };
            (row.name, known)
        })
        .collect()
}

struct SeenRow {
    role: String,
    node_id: Uuid,
    name: String,
    serving: bool,
    state: String,
    outputs: Json<Object>,
    inputs: Option<Json<Object>>,
    hash: Option<String>,
}

macro_rules! seen {
    ($which:literal, $($value:expr),* $(,)?) => {
        sqlx::query_as!(
            SeenRow,
            r#"select v.role, v.node_id, n.name, v.serving, v.state, v.outputs as "outputs: Json<Object>",
                      j.inputs as "inputs?: Json<Object>", j.content as "hash?"
               from vertex v
               join node n on n.node_id = v.node_id
               left join lateral (
                   select inputs, content from job where vertex_id = v.vertex_id and action = 'apply'
                   order by claimed_at desc limit 1
               ) j on true
               where v.deployment_id = $1 and not v.gone"# + $which,
            $($value),*
        )
    };
}

/// All that is in force, or that of some roles and on some nodes.
async fn seen(
    connection: &mut PgConnection,
    id: DeploymentId,
    virtual_node: NodeId,
    only: Option<(&[RoleName], &[Uuid])>,
    snapshot: &mut Snapshot,
) -> Result<(), StoreError> {
    let failed = doing("reading what is in force");
    let rows = match only {
        None => seen!("", id.0).fetch_all(&mut *connection).await,
        Some((roles, nodes)) => {
            seen!(" and (v.role = any($2) or v.node_id = any($3))", id.0, roles, nodes)
                .fetch_all(&mut *connection)
                .await
        }
    };
    let rows = rows.map_err(&failed)?;
    let mut hashes = BTreeSet::new();
    for row in rows {
        hashes.extend(row.hash.clone());
        let node = if row.node_id == virtual_node.0 { VIRTUAL.to_owned() } else { row.name };
        let seen = Seen {
            served: row.serving,
            failed: row.state == "failed",
            // The hash of the whole role, in place of which comes its content below.
            content: row.hash.unwrap_or_default(),
            inputs: row.inputs.map(|inputs| inputs.0).unwrap_or_default(),
            outputs: row.outputs.0,
        };
        snapshot.seen.entry(row.role).or_default().insert(node, seen);
    }
    let hashes: Vec<String> = hashes.into_iter().collect();
    let rows =
        sqlx::query!(r#"select hash, body as "body: Json<CatalogRole>" from content where hash = any($1)"#, &hashes)
            .fetch_all(&mut *connection)
            .await
            .map_err(&failed)?;
    let contents: BTreeMap<String, String> =
        rows.iter().map(|row| (row.hash.clone(), row.body.0.content.clone())).collect();
    for seen in snapshot.seen.values_mut().flat_map(BTreeMap::values_mut) {
        seen.content = contents.get(&seen.content).cloned().unwrap_or_default();
    }
    snapshot.roles = rows.into_iter().map(|row| (row.body.0.content.clone(), row.body.0)).collect();
    resolve(connection, &mut snapshot.seen).await
}

/// Gathered values in place of references to them.
async fn resolve(
    connection: &mut PgConnection,
    seen: &mut BTreeMap<RoleName, BTreeMap<NodeName, Seen>>,
) -> Result<(), StoreError> {
    let objects =
        |seen: &Seen| seen.inputs.values().chain(seen.outputs.values()).filter_map(pass::reference).collect::<Vec<_>>();
    let mut digests: Vec<String> = seen.values().flat_map(BTreeMap::values).flat_map(objects).collect();
    digests.sort_unstable();
    digests.dedup();
    let values = pass::values(&mut *connection, &digests).await?;
    for seen in seen.values_mut().flat_map(BTreeMap::values_mut) {
        for value in seen.inputs.values_mut().chain(seen.outputs.values_mut()) {
            if let Some(body) = pass::reference(value).and_then(|digest| values.get(&digest)) {
                *value = body.clone();
            }
        }
    }
    Ok(())
}
