//! The lock of a turn, which goes to and fro between who decides and who writes.

use std::sync::Arc;

use engine_core::id::{EngineId, VertexId};
use engine_core::settle::turn::Wants;
use engine_core::settle::{Turn, Written};
use engine_store::StoreError;
use engine_store::pass::{Locked, Revision};
use tokio::task::JoinHandle;

/// A deployment's lock, in the hand of a turn or with a part of it that is being written. While that goes on, the turn decides
/// the next part from what it has in memory; as soon as it needs the database, it waits.
pub(super) struct Hand {
    locked: Option<Locked>,
    writing: Option<JoinHandle<Result<(Locked, Vec<VertexId>), StoreError>>>,
    woken: Vec<VertexId>,
}

impl Hand {
    pub(super) fn new(locked: Locked) -> Self {
        Self { locked: Some(locked), writing: None, woken: Vec::new() }
    }

    /// The lock, once nothing is being written any more.
    pub(super) async fn locked(&mut self) -> Result<&mut Locked, StoreError> {
        if let Some(writing) = self.writing.take() {
            let (locked, woken) = writing.await.expect("a part of a turn is written without a panic")?;
            self.locked = Some(locked);
            self.woken.extend(woken);
        }
        Ok(self.locked.as_mut().expect("the lock is at hand when nothing is being written"))
    }

    /// Loads what a turn wants to see.
    pub(super) async fn load(&mut self, turn: &mut Turn<'_>, wants: Wants) -> Result<(), StoreError> {
        self.locked().await?.load_wanted(&mut turn.hood, &wants).await?;
        turn.loaded(wants.roles, true);
        Ok(())
    }

    /// Begins to write a part, when the one before is written.
    pub(super) async fn write(
        &mut self,
        written: Arc<Written>,
        revision: Arc<Revision>,
        engine: EngineId,
    ) -> Result<(), StoreError> {
        self.locked().await?;
        let mut locked = self.locked.take().expect("the lock is at hand");
        self.writing = Some(tokio::spawn(async move {
            let woken = locked.write(&written, &revision, Some(engine), "engine").await?;
            Ok((locked, woken))
        }));
        Ok(())
    }

    /// The lock when everything is written, and who was woken by it.
    pub(super) async fn done(mut self) -> Result<(Locked, Vec<VertexId>), StoreError> {
        self.locked().await?;
        Ok((self.locked.expect("the lock is at hand"), self.woken))
    }
}
