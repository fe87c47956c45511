//! Turns apart from those of the pass: what a person, the clock or another deployment moves, in a transaction of its own.

use engine_core::id::VertexId;
use engine_core::settle::Turn;

use super::{EVENTS, Locked, Revisions};
use crate::StoreError;

impl Locked {
    /// Sees these vertices with what is near to them, lets `moves` move what it wants, writes it in the name of `by` and tells of
    /// it. `known`: revisions at hand. `false`: nothing was moved, as `moves` says, and nothing is written.
    pub(crate) async fn turn_apart(
        &mut self,
        vertices: &[VertexId],
        known: &Revisions,
        by: &str,
        moves: impl FnOnce(&mut Turn<'_>) -> bool,
    ) -> Result<bool, StoreError> {
        let revision = self.revision(known).await?;
        let hood = self.hood(vertices, &revision.graph).await?;
        let mut turn = Turn::new(&revision.graph, hood);
        if !moves(&mut turn) {
            return Ok(false);
        }
        self.write(&turn.finish(), &revision, None, by).await?;
        self.notify(EVENTS).await?;
        self.notify_work().await?;
        Ok(true)
    }
}
