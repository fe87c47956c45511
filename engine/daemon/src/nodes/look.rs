//! Looks at nodes that nobody works on, where a policy makes something of those that do not answer.
//!
//! When a node is looked at is in its row, so any engine does it, and no two at once; how many at once is bounded, and so is the
//! rate, for a node is looked at again only when its time has come. Nodes that do not answer are tried by whoever joins them.

use std::sync::Arc;
use std::time::Duration;

use engine_core::silence::Move;
use engine_provider::NodeStatus;
use engine_store::StoreError;
use engine_store::nodes::{self, Change, Due, Node, Recording, Settled};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::shared::Shared;

/// Looks of one engine at once.
const AT_ONCE: usize = 8;
/// A node that says nothing for so long does not answer.
const ANSWER: Duration = Duration::from_secs(30);
/// Not more often than this.
const PAUSE: Duration = Duration::from_millis(100);

pub(crate) async fn watch(shared: Arc<Shared>, stop: CancellationToken) {
    let mut looks: JoinSet<()> = JoinSet::new();
    let mut pause = Duration::ZERO;
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(done) = looks.join_next() => {
                if let Err(error) = done {
                    tracing::error!(%error, "a look at a node panicked; the next one comes in its time");
                }
                if looks.len() + 1 < AT_ONCE {
                    continue;
                }
            }
            () = sleep(pause) => {}
        }
        pause = round(&shared, &mut looks).await.unwrap_or_else(|error| {
            tracing::debug!(%error, code = error.code(), "cannot look for nodes to look at");
            shared.poll
        });
    }
    // What was not found out is found out by the next look.
    looks.shutdown().await;
}

/// Begins the looks whose time has come, as far as there is room; how long until there are more.
async fn round(shared: &Arc<Shared>, looks: &mut JoinSet<()>) -> Result<Duration, StoreError> {
    let free = AT_ONCE.saturating_sub(looks.len());
    if free == 0 {
        return Ok(shared.poll);
    }
    for due in nodes::due(&shared.pool, i64::try_from(free).unwrap_or(1)).await? {
        let shared = Arc::clone(shared);
        looks.spawn(async move {
            if let Err(error) = look(&shared, &due).await {
                tracing::debug!(%error, code = error.code(), node = %due.node, "cannot note what came of a look");
            }
        });
    }
    let next = nodes::next_look_in(&shared.pool).await?;
    Ok(next.map_or(shared.poll, |next| next.clamp(PAUSE, shared.poll)))
}

async fn look(shared: &Shared, due: &Due) -> Result<(), StoreError> {
    if due.answers {
        let Some(node) = nodes::load(&shared.pool, &[due.node]).await?.pop() else { return Ok(()) };
        let Err((code, reason)) = answers(shared, &node).await else { return Ok(()) };
        tracing::info!(node = node.name, code, "{reason}");
        return unreachable(shared, &node, code, reason).await;
    }
    if !due.unsettled {
        return Ok(());
    }
    match nodes::settle(&shared.pool, due.node, shared.engine(), &shared.revisions).await? {
        Settled::Nothing => return Ok(()),
        Settled::Done(Move::In, node) => tracing::info!(node, "answers again, and is in by its policy"),
        Settled::Done(Move::Aside, node) => tracing::warn!(node, "does not answer, and is put aside by a policy"),
        Settled::Done(Move::Lost, node) => tracing::warn!(node, "does not answer, and is given up by a policy"),
        Settled::Held(node, why) => {
            tracing::warn!(node, "does not answer, and would be taken out by a policy, but {why}")
        }
    }
    shared.hint();
    Ok(())
}

/// Does it answer? Else the code and the reason. Whatever lets nobody in, answers.
pub(super) async fn answers(shared: &Shared, node: &Node) -> Result<(), (&'static str, String)> {
    if node.provider == "simulated" {
        return simulated_answers(shared, node).await;
    }
    let Some(target) = shared.target(node) else { return Ok(()) };
    match timeout(ANSWER, shared.remote.facts(&target)).await {
        Ok(Err(error)) if error.is_transient() => Err((error.code(), error.to_string())),
        Ok(_) => Ok(()),
        Err(_) => Err(silent(&node.name)),
    }
}

/// One that is switched off does not; of one of another process nobody knows.
pub(super) async fn simulated_answers(shared: &Shared, node: &Node) -> Result<(), (&'static str, String)> {
    let Some(provider) = shared.providers.get(&node.provider) else { return Ok(()) };
    match provider.status(&node.name).await {
        Ok(NodeStatus::Stopped) => Err(("node-unreachable", format!("node {} is switched off", node.name))),
        _ => Ok(()),
    }
}

pub(super) fn silent(name: &str) -> (&'static str, String) {
    ("node-unreachable", format!("node {name} said nothing for {} s", ANSWER.as_secs()))
}

/// Everybody sees that the node does not answer; whoever works on nodes looks when it does again.
pub(crate) async fn unreachable(shared: &Shared, node: &Node, code: &str, reason: String) -> Result<(), StoreError> {
    let change = Change {
        state: "unreachable",
        code: Some(code.to_owned()),
        reason: Some(reason),
        only_from: Some("up"),
        ..Change::default()
    };
    let recording = Recording { node: node.id, engine: None, change };
    nodes::change(&shared.pool, recording, &shared.revisions, "engine").await.map(|_| ())
}
