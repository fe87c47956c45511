//! Everything that a plan follows from, read in one snapshot.

use std::collections::BTreeMap;

use engine_core::catalog::CatalogRole;
use engine_core::document::Object;
use engine_core::graph::{Graph, NodeName, RoleName, VIRTUAL};
use engine_core::id::{DeploymentId, NodeId};
use engine_core::plan::Seen;
use serde_json::Value;
use sqlx::types::Json;
use sqlx::{PgConnection, PgPool};

use crate::StoreError;
use crate::error::doing;
use crate::pass;

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
    pub graph: Graph,
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
    /// Roles of the attempts in force, by content digest.
    pub roles: BTreeMap<String, CatalogRole>,
}

/// Reads the snapshot for a deployment of this name.
pub async fn snapshot(pool: &PgPool, name: &str) -> Result<Snapshot, StoreError> {
    let failed = doing("reading what is committed");
    let mut tx = pool.begin().await.map_err(&failed)?;
    sqlx::query("set transaction isolation level repeatable read, read only")
        .execute(&mut *tx)
        .await
        .map_err(&failed)?;
    let mut snapshot = Snapshot { nodes: known_nodes(&mut tx).await?, ..Snapshot::default() };
    let row = sqlx::query!(
        r#"select d.deployment_id, d.state, d.virtual_node, r.number, r.document, r.graph as "graph: Json<Graph>",
                  r.contents as "contents: Json<BTreeMap<RoleName, String>>"
           from deployment d join revision r on r.deployment_id = d.deployment_id and r.number = d.revision
           where d.name = $1"#,
        name
    )
    .fetch_optional(&mut *tx)
    .await
    .map_err(&failed)?;
    if let Some(row) = row {
        let id = DeploymentId(row.deployment_id);
        snapshot.current = Some(Current {
            id,
            state: row.state,
            revision: row.number,
            document: row.document,
            graph: row.graph.0,
            contents: row.contents.0,
        });
        let indices = sqlx::query!("select group_name, highest from node_index where deployment_id = $1", id.0)
            .fetch_all(&mut *tx)
            .await
            .map_err(&failed)?;
        snapshot.highest =
            indices.into_iter().map(|row| (row.group_name, u32::try_from(row.highest).unwrap_or(0))).collect();
        seen(&mut tx, id, NodeId(row.virtual_node), &mut snapshot).await?;
    }
    tx.commit().await.map_err(&failed)?;
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

async fn known_nodes(connection: &mut PgConnection) -> Result<BTreeMap<NodeName, KnownNode>, StoreError> {
    let rows = sqlx::query!(
        r#"select n.node_id as "node_id!", n.name as "name!", n.provider as "provider!", n.standing as "standing!",
                  n.group_name,
                  n.facts || jsonb_build_object('generation', n.generation) as "facts!: Json<Object>",
                  n.owned_by is not null as "created!", d.name as "deployment?"
           from node n left join deployment d on d.deployment_id = n.deployment_id
           where n.state not in ('gone', 'virtual', 'leaving')"#
    )
    .fetch_all(connection)
    .await
    .map_err(doing("reading nodes"))?;
    Ok(rows
        .into_iter()
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
        .collect())
}

async fn seen(
    connection: &mut PgConnection,
    id: DeploymentId,
    virtual_node: NodeId,
    snapshot: &mut Snapshot,
) -> Result<(), StoreError> {
    let failed = doing("reading what is in force");
    let rows = sqlx::query!(
        r#"select v.role, v.node_id, n.name, v.serving, v.state, v.outputs as "outputs: Json<Object>",
                  j.inputs as "inputs?: Json<Object>", c.body ->> 'content' as "content?", c.hash as "hash?"
           from vertex v
           join node n on n.node_id = v.node_id
           left join lateral (
               select inputs, content from job where vertex_id = v.vertex_id and action = 'apply'
               order by claimed_at desc limit 1
           ) j on true
           left join content c on c.hash = j.content
           where v.deployment_id = $1 and not v.gone"#,
        id.0
    )
    .fetch_all(&mut *connection)
    .await
    .map_err(&failed)?;
    let mut hashes = std::collections::BTreeSet::new();
    for row in rows {
        hashes.extend(row.hash);
        let node = if row.node_id == virtual_node.0 { VIRTUAL.to_owned() } else { row.name };
        let seen = Seen {
            served: row.serving,
            failed: row.state == "failed",
            content: row.content.unwrap_or_default(),
            inputs: row.inputs.map(|inputs| inputs.0).unwrap_or_default(),
            outputs: row.outputs.0,
        };
        snapshot.seen.entry(row.role).or_default().insert(node, seen);
    }
    let hashes: Vec<String> = hashes.into_iter().collect();
    let rows =
        sqlx::query_scalar!(r#"select body as "body: Json<CatalogRole>" from content where hash = any($1)"#, &hashes)
            .fetch_all(&mut *connection)
            .await
            .map_err(&failed)?;
    snapshot.roles = rows.into_iter().map(|role| (role.0.content.clone(), role.0)).collect();
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
