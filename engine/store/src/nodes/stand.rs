//! A node steps aside and comes back: nothing begins on it meanwhile, it is out of gathers, and nobody waits for it.

use engine_core::id::{DeploymentId, NodeId, VertexId};
use engine_core::settle::Turn;
use engine_core::settle::allowance::beyond;
use engine_core::settle::hood::Standing;
use serde_json::json;
use sqlx::PgPool;

use super::{concerned, event, wake_waiting};
use crate::StoreError;
use crate::error::doing;
use crate::pass::{self, EVENTS, Revisions};

/// Puts a node aside, or takes it back in. Returns the budgets that have no room for it to be out of service: it is all
/// the same, for a person says so. `None`: there is no such node.
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
    let (word, standing) = if aside { ("aside", Standing::Aside) } else { ("in", Standing::In) };
    let update = sqlx::query!(
        "update node set standing = $2, changed_at = now()
         where node_id = $1 and deployment_id is not distinct from $3 and standing not in ('lost', $2)",
        node.0,
        word,
        found.deployment_id
    );
    let detail = json!({"node": name, "standing": word});
    let kind = if aside { "node.aside" } else { "node.in" };
    let locked = match found.deployment_id {
        Some(deployment) => pass::lock(pool, DeploymentId(deployment)).await?,
        None => None,
    };
    let Some(mut locked) = locked else {
        let mut tx = pool.begin().await.map_err(&failed)?;
        if update.execute(&mut *tx).await.map_err(&failed)?.rows_affected() > 0 {
            event(&mut tx, kind, None, node, by, detail).await?;
        }
        tx.commit().await.map_err(&failed)?;
        return Ok(Some(Vec::new()));
    };
    let revision = locked.revision(known).await?;
    let (on, readers) = concerned(&mut locked, &revision, node, name).await?;
    let all: Vec<VertexId> = on.iter().chain(&readers).copied().collect();
    // Seen as the node stood until now: so its vertices are counted.
    let hood = locked.hood(&all, &revision.graph).await?;
    if update.execute(&mut *locked.tx).await.map_err(&failed)?.rows_affected() == 0 {
        locked.roll_back().await?;
        return Ok(Some(Vec::new()));
    }
    locked.next_change().await?;
    let exceeded = if aside { beyond(&revision.graph, &hood, node) } else { Vec::new() };
    let mut turn = Turn::new(&revision.graph, hood);
    turn.stand(node, standing);
    let why = json!({"standing": word, "node": name, "by": by});
    for id in readers {
        turn.touch(id, locked.change, &why);
    }
    let written = turn.finish();
    locked.write(&written, &revision, None, by).await?;
    event(&mut locked.tx, kind, found.deployment_id, node, by, detail).await?;
    wake_waiting(&mut locked.tx, locked.id.0, [node].into_iter()).await?;
    locked.notify(EVENTS).await?;
    locked.notify_work().await?;
    locked.commit().await?;
    Ok(Some(exceeded))
}
