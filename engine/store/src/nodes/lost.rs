//! A node that is lost never comes back: nothing runs there any more, nobody waits for it, and what it held is not removed.

use engine_core::id::{DeploymentId, NodeId};
use engine_core::settle::Turn;
use engine_core::state::Event;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::{Around, around, event, look, wake_waiting};
use crate::error::doing;
use crate::pass::{self, EVENTS, Locked, Revisions};
use crate::{StoreError, dns, joining};

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lost {
    /// It is lost, with everything on it.
    Done,
    /// There is no such node.
    Unknown,
    /// No deployment uses it.
    Unused,
}

/// Gives up a node that a deployment uses. Its vertices are gone without their removal, its jobs are abandoned; who
/// gathered from it is judged without it. A machine that was made for the deployment is destroyed, if that is possible.
pub async fn lose(pool: &PgPool, name: &str, known: &Revisions, by: &str) -> Result<Lost, StoreError> {
    let failed = doing("giving up a node");
    let found = sqlx::query!(
        "select node_id, deployment_id from node where name = $1 and state not in ('gone', 'virtual')",
        name
    )
    .fetch_optional(pool)
    .await
    .map_err(&failed)?;
    let Some(found) = found else { return Ok(Lost::Unknown) };
    let Some(deployment) = found.deployment_id else { return Ok(Lost::Unused) };
    let Some(mut locked) = pass::lock(pool, DeploymentId(deployment)).await? else { return Ok(Lost::Unused) };
    let node = NodeId(found.node_id);
    let around = around(&mut locked, known, node, name).await?;
    if !give_up(&mut locked, around, (node, name), (by, json!({}))).await? {
        return Ok(Lost::Unknown);
    }
    locked.commit().await?;
    Ok(Lost::Done)
}

/// Gives up a node of a deployment, with all that follows from it. `false`: it is gone already.
pub(super) async fn give_up(
    locked: &mut Locked,
    around: Around,
    (node, name): (NodeId, &str),
    (by, mut detail): (&str, Value),
) -> Result<bool, StoreError> {
    let failed = doing("giving up a node");
    let Around { revision, hood, on: gone, readers } = around;
    let deployment = locked.id.0;
    locked.next_change().await?;
    let mut turn = Turn::new(&revision.graph, hood);
    // Nobody speaks to it any more; a machine of our own is still to be taken away.
    let row = sqlx::query!(
        r#"update node set standing = 'lost', group_name = null, engine_id = null, next_try_at = null, tries = 0,
               code = null, reason = null, changed_at = now(),
               state = case when owned_by is null then 'gone' else 'leaving' end,
               deployment_id = case when owned_by is null then null else deployment_id end
           where node_id = $1 and deployment_id = $2 and state not in ('gone', 'virtual')
           returning state as "state!""#,
        node.0,
        deployment
    )
    .fetch_optional(&mut *locked.tx)
    .await
    .map_err(&failed)?;
    let Some(row) = row else { return Ok(false) };
    look::leave(&mut locked.tx, node).await?;
    joining::look_again_for(&mut locked.tx, deployment).await?;
    (detail["node"], detail["to"], detail["standing"]) = (json!(name), json!(row.state), json!("lost"));
    event(&mut locked.tx, "node.lost", Some(deployment), node, by, detail).await?;
    let why = json!({"lost": name, "by": by});
    for id in &gone {
        if let Err(illegal) = turn.event(*id, Event::Lost, locked.change, why.clone()) {
            tracing::debug!(%illegal, "it was gone already");
        }
    }
    for id in readers {
        turn.touch(id, locked.change, &why);
    }
    let written = turn.finish();
    locked.write(&written, &revision, None, by).await?;
    // Its names lead nobody to it any more.
    dns::withdraw(&mut locked.tx, &gone).await?;
    wake_waiting(&mut locked.tx, deployment, [node].into_iter()).await?;
    locked.notify(EVENTS).await?;
    locked.notify_work().await?;
    Ok(true)
}
