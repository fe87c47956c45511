//! Labels of nodes: set by people, and by rules.

use engine_core::document::{Object, differing};
use engine_core::id::{DeploymentId, NodeId};
use serde_json::{Value, json};
use sqlx::types::Json;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::{event, facts};
use crate::StoreError;
use crate::error::doing;
use crate::pass::{self, EVENTS, Locked, Revisions};

/// A node as rules see it.
#[derive(Clone, Debug)]
pub struct ToRule {
    /// The node.
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// Facts, and labels that people set.
    pub known: Object,
    /// Labels by rules, as they are.
    pub ruled: Object,
    /// Which rule set each.
    pub by: Object,
}

struct Row {
    id: Uuid,
    name: String,
    known: Json<Object>,
    ruled: Json<Object>,
    by: Json<Object>,
}

impl From<Row> for ToRule {
    fn from(row: Row) -> Self {
        Self { id: NodeId(row.id), name: row.name, known: row.known.0, ruled: row.ruled.0, by: row.by.0 }
    }
}

macro_rules! to_rule {
    ($which:literal, $($value:expr),*) => {
        sqlx::query_as!(
            Row,
            r#"select node_id as id, name, labels || facts || jsonb_build_object('generation', generation) as "known!: Json<Object>",
                      ruled as "ruled: Json<Object>", ruled_by as "by: Json<Object>"
               from node where state in ('up', 'unreachable') and "# + $which,
            $($value),*
        )
    };
}

/// Nodes that rules are to go through; of many, the first by name. Where there are no rules, only those that have labels by
/// rules all the same.
pub async fn to_rule(pool: &PgPool, any: bool, limit: i64) -> Result<Vec<ToRule>, StoreError> {
    let rows = if any {
        to_rule!("to_rule order by name limit $1", limit).fetch_all(pool).await
    } else {
        to_rule!("to_rule and ruled <> '{}' order by name limit $1", limit).fetch_all(pool).await
    };
    Ok(rows.map_err(doing("reading nodes for rules"))?.into_iter().map(Into::into).collect())
}

/// All nodes that rules go through.
pub async fn ruled(pool: &PgPool) -> Result<Vec<ToRule>, StoreError> {
    let rows = to_rule!("$1 order by name", true).fetch_all(pool).await;
    Ok(rows.map_err(doing("reading nodes for rules"))?.into_iter().map(Into::into).collect())
}

/// Rules went through these, and nothing is to be changed on them, as they were seen.
pub async fn are_ruled(pool: &PgPool, nodes: &[ToRule]) -> Result<(), StoreError> {
    let ids: Vec<Uuid> = nodes.iter().map(|node| node.id.0).collect();
    let known: Vec<Value> = nodes.iter().map(|node| json!(node.known)).collect();
    sqlx::query!(
        "update node n set to_rule = false from unnest($1::uuid[], $2::jsonb[]) as seen(id, known)
         where n.node_id = seen.id and n.labels || n.facts || jsonb_build_object('generation', n.generation) = seen.known",
        &ids,
        &known
    )
    .execute(pool)
    .await
    .map_err(doing("noting that rules went through nodes"))?;
    Ok(())
}

/// What labels become.
enum Change<'a> {
    /// A person sets some and takes others away.
    Person { set: &'a Object, remove: &'a [String] },
    /// Rules that went through what was `known` set these, and no others.
    Rules { labels: &'a Object, by: &'a Value, known: &'a Object },
}

/// Sets labels of a node and takes others away. `false`: there is no such node.
pub async fn label(
    pool: &PgPool,
    name: &str,
    (set, remove): (&Object, &[String]),
    known: &Revisions,
    by: &str,
) -> Result<bool, StoreError> {
    let found =
        sqlx::query_scalar!("select node_id from node where name = $1 and state not in ('gone', 'virtual')", name)
            .fetch_optional(pool)
            .await
            .map_err(doing("looking for a node"))?;
    let Some(id) = found else { return Ok(false) };
    relabel(pool, NodeId(id), &Change::Person { set, remove }, known, by).await
}

/// Sets the labels that rules give a node.
pub async fn rule(
    pool: &PgPool,
    node: &ToRule,
    (labels, by_rule): (&Object, &Value),
    known: &Revisions,
    by: &str,
) -> Result<bool, StoreError> {
    relabel(pool, node.id, &Change::Rules { labels, by: by_rule, known: &node.known }, known, by).await
}

/// Under the lock of the deployment that uses it, as all that turns see.
async fn relabel(
    pool: &PgPool,
    node: NodeId,
    change: &Change<'_>,
    known: &Revisions,
    by: &str,
) -> Result<bool, StoreError> {
    let failed = doing("labelling a node");
    loop {
        let user = sqlx::query_scalar!("select deployment_id from node where node_id = $1 and state <> 'gone'", node.0)
            .fetch_optional(pool)
            .await
            .map_err(&failed)?;
        let Some(user) = user else { return Ok(false) };
        let locked = match user {
            Some(deployment) => pass::lock(pool, DeploymentId(deployment)).await?,
            None => None,
        };
        let done = match locked {
            Some(mut locked) => {
                let written = write(&mut locked.tx, node, user, change, by).await?;
                if let Written::Done { name, before, after } = &written {
                    let differing = differing(before, after);
                    facts::touch_readers(&mut locked, name, &differing, known, by).await?;
                }
                commit(locked, &written).await?;
                written
            }
            None => {
                let mut tx = pool.begin().await.map_err(&failed)?;
                let written = write(&mut tx, node, None, change, by).await?;
                tx.commit().await.map_err(&failed)?;
                written
            }
        };
        match done {
            Written::Done { .. } | Written::Same => return Ok(true),
            // Another deployment has it by now, or none.
            Written::Moved => {}
        }
    }
}

async fn commit(mut locked: Locked, written: &Written) -> Result<(), StoreError> {
    if matches!(written, Written::Done { .. }) {
        locked.notify(EVENTS).await?;
        locked.notify_work().await?;
    }
    locked.commit().await
}

enum Written {
    /// All that is known of the node, before and after.
    Done {
        name: String,
        before: Object,
        after: Object,
    },
    Same,
    Moved,
}

async fn write(
    connection: &mut PgConnection,
    node: NodeId,
    user: Option<Uuid>,
    change: &Change<'_>,
    by: &str,
) -> Result<Written, StoreError> {
    let failed = doing("labelling a node");
    let row = sqlx::query!(
        r#"select name, facts as "facts: Json<Object>", labels as "labels: Json<Object>", ruled as "ruled: Json<Object>",
                  ruled_by, generation, ruled || labels || facts as "all!: Json<Object>"
           from node where node_id = $1 and deployment_id is not distinct from $2 for update"#,
        node.0,
        user
    )
    .fetch_optional(&mut *connection)
    .await
    .map_err(&failed)?;
    let Some(row) = row else { return Ok(Written::Moved) };
    let (mut labels, mut ruled, mut ruled_by) = (row.labels.0.clone(), row.ruled.0.clone(), row.ruled_by.clone());
    let mut to_rule = true;
    match change {
        Change::Person { set, remove } => {
            labels.retain(|name, _| !remove.contains(name));
            labels.extend((*set).clone());
        }
        Change::Rules { labels, by, known } => {
            let mut now = row.labels.0.clone();
            now.extend(row.facts.0.clone());
            now.insert("generation".to_owned(), json!(row.generation));
            // What is known by now they have not gone through.
            to_rule = now != **known;
            (*labels).clone_into(&mut ruled);
            (*by).clone_into(&mut ruled_by);
        }
    }
    let same = (&labels, &ruled, &ruled_by) == (&row.labels.0, &row.ruled.0, &row.ruled_by);
    if same && matches!(change, Change::Person { .. }) {
        return Ok(Written::Same);
    }
    sqlx::query!(
        "update node set labels = $2, ruled = $3, ruled_by = $4, to_rule = $5, join_due = join_due + 1 where node_id = $1",
        node.0,
        json!(labels),
        json!(ruled),
        ruled_by,
        to_rule
    )
    .execute(&mut *connection)
    .await
    .map_err(&failed)?;
    if same {
        return Ok(Written::Same);
    }
    let mut after = ruled;
    after.extend(labels);
    let detail = json!({"node": row.name, "labels": after, "rules": ruled_by});
    event(connection, "node.labelled", user, node, by, detail).await?;
    after.extend(row.facts.0);
    Ok(Written::Done { name: row.name, before: row.all.0, after })
}
