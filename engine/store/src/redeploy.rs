//! Redeploying: everything of a deployment, or of some of its nodes, is made anew under the same names.
//!
//! One transaction arms the vertices, abandons their jobs and marks the nodes; whoever looks after nodes empties them.
//! Until then nothing is started there, so that a crash anywhere leaves nothing to be undone.

use std::collections::BTreeSet;

use engine_core::graph::Kind;
use engine_core::id::{DeploymentId, NodeId, VertexId};
use engine_core::settle::Turn;
use engine_core::settle::allowance::too_many;
use engine_core::settle::commit::readers_of_facts;
use serde_json::{Value, json};
use sqlx::PgPool;
use uuid::Uuid;

use crate::StoreError;
use crate::commit::event;
use crate::error::doing;
use crate::outages;
use crate::pass::{self, EVENTS, Locked, Revision, Revisions};

/// What is to be redeployed.
#[derive(Clone, Debug)]
pub struct Redeploy {
    /// Name of the deployment.
    pub name: String,
    /// The revision that the plan was made from.
    pub seen: i32,
    /// Its nodes that are made anew.
    pub nodes: Vec<String>,
    /// Everything else of it, too: generations begin again, and what runs once for the deployment runs again.
    pub whole: bool,
    /// The plan, kept for history.
    pub plan: Value,
    /// Who wants it.
    pub by: String,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Redeployed {
    /// It is in force under this number.
    Revision(i32),
    /// Another commit came first; nothing was changed.
    Moved,
    /// This budget has no room for so many nodes at once; nothing was changed.
    NoRoom(String),
}

/// Commits a redeploy: a revision with the same graph, under a new number.
pub async fn redeploy(pool: &PgPool, wanted: &Redeploy) -> Result<Redeployed, StoreError> {
    let failed = doing("redeploying");
    let id = sqlx::query_scalar!("select deployment_id from deployment where name = $1", wanted.name)
        .fetch_optional(pool)
        .await
        .map_err(&failed)?;
    let Some(id) = id else { return Ok(Redeployed::Moved) };
    let Some(mut locked) = pass::lock(pool, DeploymentId(id)).await? else { return Ok(Redeployed::Moved) };
    if locked.revision != wanted.seen || locked.state != "active" {
        locked.roll_back().await?;
        return Ok(Redeployed::Moved);
    }
    let revision = locked.revision(&Revisions::default()).await?;
    write_revision(&mut locked, wanted).await?;
    let nodes = mark(&mut locked, wanted).await?;
    if let Some(budget) = arm(&mut locked, &revision, wanted, &nodes).await? {
        locked.roll_back().await?;
        return Ok(Redeployed::NoRoom(budget));
    }
    let names: Vec<&String> = nodes.iter().map(|node| &node.name).collect();
    let detail = json!({"revision": locked.revision, "nodes": names, "whole": wanted.whole});
    event(&mut locked, "deployment.redeployed", &wanted.by, detail).await?;
    locked.notify(EVENTS).await?;
    locked.notify_work().await?;
    let number = locked.revision;
    locked.commit().await?;
    Ok(Redeployed::Revision(number))
}

async fn write_revision(locked: &mut Locked, wanted: &Redeploy) -> Result<(), StoreError> {
    let failed = doing("writing the revision of a redeploy");
    sqlx::query!(
        "insert into revision (deployment_id, number, document, graph, contents, plan, committed_by, committed_at)
         select deployment_id, number + 1, document, graph, contents, $3, $4, now()
         from revision where deployment_id = $1 and number = $2",
        locked.id.0,
        locked.revision,
        wanted.plan,
        wanted.by
    )
    .execute(&mut *locked.tx)
    .await
    .map_err(&failed)?;
    let row = sqlx::query!(
        "update deployment set revision = revision + 1, change = change + 1, changed_at = now()
         where deployment_id = $1 returning revision, change",
        locked.id.0
    )
    .fetch_one(&mut *locked.tx)
    .await
    .map_err(&failed)?;
    (locked.revision, locked.change) = (row.revision, row.change);
    Ok(())
}

struct Marked {
    id: Uuid,
    name: String,
    owned: bool,
}

/// Says of the nodes that they are to be emptied; those that failed get another chance.
async fn mark(locked: &mut Locked, wanted: &Redeploy) -> Result<Vec<Marked>, StoreError> {
    let rows = sqlx::query!(
        r#"update node set rebuild = true, generation = case when $3 then 0 else generation + 1 end,
                state = case when state = 'failed' then 'joining' else state end,
                code = case when state = 'unreachable' then code end,
                reason = case when state = 'unreachable' then reason end, next_try_at = null, tries = 0, changed_at = now()
         where deployment_id = $1 and name = any($2) and group_name is not null and standing <> 'lost'
               and state not in ('virtual', 'leaving', 'gone')
         returning node_id, name, owned_by is not null as "owned!""#,
        locked.id.0,
        &wanted.nodes,
        wanted.whole
    )
    .fetch_all(&mut *locked.tx)
    .await
    .map_err(doing("marking nodes for a redeploy"))?;
    Ok(rows.into_iter().map(|row| Marked { id: row.node_id, name: row.name, owned: row.owned }).collect())
}

/// Arms what is concerned, unless a budget has no room for it.
async fn arm(
    locked: &mut Locked,
    revision: &Revision,
    wanted: &Redeploy,
    nodes: &[Marked],
) -> Result<Option<String>, StoreError> {
    let on: Vec<Uuid> = nodes.iter().map(|node| node.id).collect();
    let rows = sqlx::query!(
        "select vertex_id, role, node_id from vertex
         where deployment_id = $1 and state <> 'gone' and (node_id = any($2) or ($3 and node_id = $4))",
        locked.id.0,
        &on,
        wanted.whole,
        locked.virtual_node.0
    )
    .fetch_all(&mut *locked.tx)
    .await
    .map_err(doing("looking for what is redeployed"))?;
    let is_work = |role: &str| revision.graph.roles.get(role).is_none_or(|role| role.kind == Kind::Work);
    // What the provider makes again has nothing left on it; hosts that are adopted are emptied job by job.
    let is_gone = |node: Uuid| nodes.iter().any(|marked| marked.id == node && marked.owned);
    let anew: Vec<(VertexId, bool)> = rows
        .into_iter()
        .filter(|row| is_work(&row.role))
        .map(|row| (VertexId(row.vertex_id), is_gone(row.node_id)))
        .collect();
    let ids: Vec<VertexId> = anew.iter().map(|(id, _)| *id).collect();
    let generation = BTreeSet::from(["generation".to_owned()]);
    let readers: BTreeSet<(String, String)> =
        nodes.iter().flat_map(|node| readers_of_facts(&revision.graph, &node.name, &generation)).collect();
    let hood = locked.hood(&ids, &revision.graph).await?;
    // A whole redeploy is wide, as the first creation is; nodes by name leave the others serving.
    let at_once: BTreeSet<NodeId> = nodes.iter().map(|node| NodeId(node.id)).collect();
    if let Some(budget) = too_many(&revision.graph, &hood, &at_once).filter(|_| !wanted.whole) {
        return Ok(Some(budget));
    }
    let mut turn = Turn::new(&revision.graph, hood);
    let why = json!({"redeployed": locked.revision, "by": wanted.by});
    for (id, machine_gone) in anew {
        turn.redeploy(id, locked.change, machine_gone, wanted.whole, &why);
    }
    for (role, node) in readers {
        let place = turn.hood.nodes.values().find(|view| view.name == node).map(|view| view.id);
        if let Some(reader) = place.and_then(|node| turn.hood.at(&role, node)).map(|reader| reader.id) {
            turn.touch(reader, locked.change, &why);
        }
    }
    let written = turn.finish();
    locked.write(&written, revision, None, &wanted.by).await?;
    locked.abandon_beside(&ids).await?;
    outages::count_again(&mut locked.tx, locked.id.0).await?;
    Ok(None)
}
