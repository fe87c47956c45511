//! What became of nodes is recorded together: whoever has its turn first writes for all who came meanwhile.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use engine_core::id::DeploymentId;
use engine_store::StoreError;
use engine_store::nodes::{Recorded, Recording, Records};
use tokio::sync::oneshot;

use crate::shared::Shared;

type Groups = HashMap<Option<DeploymentId>, Arc<Group>>;

/// What waits to be recorded, by the deployment whose nodes it is of.
#[derive(Default)]
pub(super) struct Queue(Mutex<Groups>);

#[derive(Default)]
struct Group {
    /// One writes at a time; the others could not, for they need the same row.
    writing: tokio::sync::Mutex<()>,
    waiting: Mutex<Vec<Waiting>>,
}

struct Waiting {
    recording: Recording,
    told: oneshot::Sender<Result<Told, StoreError>>,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// It is recorded, or the node is not ours any more.
    Over,
    /// Another deployment uses the node by now: what is to be done with it is to be found out anew.
    Moved,
    /// The database does not answer.
    Later,
}

impl Queue {
    /// Records what became of a node of this deployment.
    pub(super) async fn record(
        &self,
        shared: &Shared,
        deployment: Option<DeploymentId>,
        recording: Recording,
    ) -> Result<Told, StoreError> {
        let group = Arc::clone(lock(&self.0).entry(deployment).or_default());
        let told = loop {
            let (tell, mut told) = oneshot::channel();
            lock(&group.waiting).push(Waiting { recording: recording.clone(), told: tell });
            let _writing = group.writing.lock().await;
            if let Ok(told) = told.try_recv() {
                break told;
            }
            let all = std::mem::take(&mut *lock(&group.waiting));
            if !all.is_empty() {
                write(shared, deployment, all).await;
            }
            // Nothing was told only if whoever wrote for us was ended in the middle of it.
            if let Ok(told) = told.try_recv() {
                break told;
            }
        };
        let mut groups = lock(&self.0);
        // This one and that of the table: nobody waits.
        if Arc::strong_count(&group) == 2 {
            groups.remove(&deployment);
        }
        told
    }
}

async fn write(shared: &Shared, deployment: Option<DeploymentId>, all: Vec<Waiting>) {
    let (recordings, tellers): (Vec<Recording>, Vec<_>) = all.into_iter().map(|one| (one.recording, one.told)).unzip();
    let written = attempt(shared, deployment, &recordings).await;
    if recordings.len() > 1
        && let Err(error) = &written
        && !error.is_transient()
    {
        // One of them does not fit what is there; the others do.
        for (recording, tell) in recordings.into_iter().zip(tellers) {
            let alone = attempt(shared, deployment, std::slice::from_ref(&recording)).await;
            let _ = tell.send(alone.map(|recorded| outcome(&recorded, &recording)));
        }
        return;
    }
    let told: Vec<Result<Told, StoreError>> = match written {
        Ok(recorded) => recordings.iter().map(|recording| Ok(outcome(&recorded, recording))).collect(),
        Err(error) if error.is_transient() => recordings.iter().map(|_| Ok(Told::Later)).collect(),
        // It was alone.
        Err(error) => vec![Err(error)],
    };
    for (tell, told) in tellers.into_iter().zip(told) {
        let _ = tell.send(told);
    }
}

async fn attempt(shared: &Shared, deployment: Option<DeploymentId>, all: &[Recording]) -> Result<Recorded, StoreError> {
    Records::begin(&shared.pool, deployment).await?.write(all, &shared.revisions, "engine").await
}

fn outcome(recorded: &Recorded, recording: &Recording) -> Told {
    if recorded.moved.contains(&recording.node) { Told::Moved } else { Told::Over }
}

fn lock<T>(what: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}
