//! Facts of a node that are others than before concern who has read them.

use std::collections::BTreeSet;

use engine_core::id::VertexId;
use engine_core::settle::Turn;
use engine_core::settle::commit::readers_of_facts;
use serde_json::json;
use uuid::Uuid;

use crate::StoreError;
use crate::error::doing;
use crate::pass::{Locked, Revisions};

/// Touches those who read them: a numbered change like any other.
pub(super) async fn touch_readers(
    locked: &mut Locked,
    node: &str,
    facts: &BTreeSet<String>,
    known: &Revisions,
    by: &str,
) -> Result<(), StoreError> {
    let failed = doing("touching who reads the facts of a node");
    if locked.revision == 0 || facts.is_empty() {
        return Ok(());
    }
    let revision = locked.revision(known).await?;
    let (roles, nodes): (Vec<String>, Vec<String>) = readers_of_facts(&revision.graph, node, facts).into_iter().unzip();
    if roles.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = sqlx::query_scalar!(
        "select v.vertex_id from vertex v join node n using (node_id)
         join unnest($2::text[], $3::text[]) as r(role, node) on r.role = v.role and r.node = n.name
         where v.deployment_id = $1 and not v.gone",
        locked.id.0,
        &roles,
        &nodes
    )
    .fetch_all(&mut *locked.tx)
    .await
    .map_err(&failed)?;
    if ids.is_empty() {
        return Ok(());
    }
    locked.next_change().await?;
    let ids: Vec<VertexId> = ids.into_iter().map(VertexId).collect();
    let mut turn = Turn::new(&revision.graph, locked.hood(&ids, &revision.graph).await?);
    let why = json!({"facts": facts, "of": node});
    for id in ids {
        turn.touch(id, locked.change, &why);
    }
    let written = turn.finish();
    locked.write(&written, &revision, None, by).await?;
    Ok(())
}
