//! Facts of a node that are others than before concern who has read them.

use std::collections::BTreeSet;

use engine_core::settle::Turn;
use engine_core::settle::commit::readers_of_facts;
use serde_json::json;

use crate::StoreError;
use crate::pass::{Locked, Revisions};

/// Touches those who read them: a numbered change like any other.
pub(super) async fn touch_readers(
    locked: &mut Locked,
    node: &str,
    facts: &BTreeSet<String>,
    known: &Revisions,
    by: &str,
) -> Result<(), StoreError> {
    if locked.revision == 0 || facts.is_empty() {
        return Ok(());
    }
    let revision = locked.revision(known).await?;
    let ids = locked.vertices_at(readers_of_facts(&revision.graph, node, facts)).await?;
    if ids.is_empty() {
        return Ok(());
    }
    let change = locked.next_change().await?;
    let why = json!({"facts": facts, "of": node});
    let touch = |turn: &mut Turn<'_>| {
        for id in &ids {
            turn.touch(*id, change, &why);
        }
        true
    };
    locked.turn_apart(&ids, known, by, touch).await.map(|_| ())
}
