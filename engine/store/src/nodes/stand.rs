//! A node steps aside and comes back: nothing begins on it meanwhile, it is out of gathers, and nobody waits for it.

use engine_core::id::{DeploymentId, NodeId};
use engine_core::settle::Turn;
use engine_core::settle::allowance::beyond;
use engine_core::settle::hood::Standing;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::{Around, around, event, look, wake_waiting};
use crate::StoreError;
use crate::error::doing;
use crate::pass::{self, EVENTS, Locked, Revisions};

/// Puts a node aside, or takes it back in, because a person says so. Returns the budgets that have no room for it to be out of
/// service: it is all the same, for a person says so. `None`: there is no such node.
///
/// A job that runs there ends as it ends. A node that no deployment uses keeps its standing until one does.
pub async fn stand(
    pool: &PgPool,
    name: &str,
    aside: bool,
    known: &Revisions,
    by: &str,
) -> Result<Option<Vec<String>>, StoreError> {
    let failed = doing("changing the standing of a node");
    let found = sqlx::query!(
        "select node_id, deployment_id from node where name = $1 and state not in ('gone', 'virtual')
                and standing <> 'lost'",
        name
    )
    .fetch_optional(pool)
    .await
    .map_err(&failed)?;
    let Some(found) = found else { return Ok(None) };
    let node = NodeId(found.node_id);
    let standing = if aside { Standing::Aside } else { Standing::In };
    let locked = match found.deployment_id {
        Some(deployment) => pass::lock(pool, DeploymentId(deployment)).await?,
        None => None,
    };
    let Some(mut locked) = locked else {
        let mut tx = pool.begin().await.map_err(&failed)?;
        if written(&mut tx, node, None, standing).await? {
            event(&mut tx, kind(standing), None, node, by, detail(name, standing, json!({}))).await?;
        }
        tx.commit().await.map_err(&failed)?;
        return Ok(Some(Vec::new()));
    };
    let was_of_policy = look::by_hand(&mut locked.tx, node).await?;
    let around = around(&mut locked, known, node, name).await?;
    let exceeded = if aside { beyond(&around.revision.graph, &around.hood, node) } else { Vec::new() };
    if put(&mut locked, around, (node, name), standing, (by, json!({}))).await? {
        locked.commit().await?;
        return Ok(Some(exceeded));
    }
    if was_of_policy {
        // It stands as before, and stays so also when it answers again.
        let detail = detail(name, standing, json!({}));
        event(&mut locked.tx, kind(standing), found.deployment_id, node, by, detail).await?;
        locked.notify(EVENTS).await?;
    }
    locked.commit().await?;
    Ok(Some(Vec::new()))
}

/// Puts a node of a deployment aside, or takes it back in, with all that follows from it. `false`: it stands so already, or
/// never comes back.
pub(super) async fn put(
    locked: &mut Locked,
    around: Around,
    (node, name): (NodeId, &str),
    standing: Standing,
    (by, more): (&str, Value),
) -> Result<bool, StoreError> {
    let Around { revision, hood, readers, .. } = around;
    let deployment = locked.id.0;
    if !written(&mut locked.tx, node, Some(deployment), standing).await? {
        return Ok(false);
    }
    locked.next_change().await?;
    let mut turn = Turn::new(&revision.graph, hood);
    turn.stand(node, standing);
    let detail = detail(name, standing, more);
    let why = json!({"standing": detail["standing"], "node": name, "by": by});
    for id in readers {
        turn.touch(id, locked.change, &why);
    }
    let written = turn.finish();
    locked.write(&written, &revision, None, by).await?;
    event(&mut locked.tx, kind(standing), Some(deployment), node, by, detail).await?;
    wake_waiting(&mut locked.tx, deployment, [node].into_iter()).await?;
    locked.notify(EVENTS).await?;
    locked.notify_work().await?;
    Ok(true)
}

fn word(standing: Standing) -> &'static str {
    if standing == Standing::Aside { "aside" } else { "in" }
}

fn kind(standing: Standing) -> &'static str {
    if standing == Standing::Aside { "node.aside" } else { "node.in" }
}

fn detail(name: &str, standing: Standing, mut more: Value) -> Value {
    more["node"] = json!(name);
    more["standing"] = json!(word(standing));
    more
}

async fn written(
    connection: &mut sqlx::PgConnection,
    node: NodeId,
    deployment: Option<uuid::Uuid>,
    standing: Standing,
) -> Result<bool, StoreError> {
    let update = sqlx::query!(
        "update node set standing = $2, changed_at = now()
         where node_id = $1 and deployment_id is not distinct from $3 and standing not in ('lost', $2)",
        node.0,
        word(standing),
        deployment
    );
    let done = update.execute(connection).await.map_err(doing("changing the standing of a node"))?;
    Ok(done.rows_affected() > 0)
}
