//! The life of nodes: made, joined, looked after while they do not answer, let go of, destroyed.

mod join;
mod leave;
mod rebuild;
mod residue;

use std::sync::Arc;
use std::time::Duration;

use engine_core::id::NodeId;
use engine_provider::Provider;
use engine_store::StoreError;
use engine_store::nodes::{self, Change, Node};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::hints::{self, Woken};
use crate::run::Runners;
use crate::shared::Shared;

/// Nodes worked on at once.
const AT_ONCE: usize = 32;
/// Between attempts, doubled from the first to the last.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

pub(crate) async fn work(shared: Arc<Shared>, runners: Runners, stop: CancellationToken) {
    let mut hints = shared.hints.subscribe();
    let mut at_work: JoinSet<()> = JoinSet::new();
    let mut pause = Duration::ZERO;
    loop {
        tokio::select! {
            woken = hints::wait(&mut hints, pause, &stop) => if woken == Woken::Stop { break },
            Some(done) = at_work.join_next() => {
                if let Err(error) = done {
                    tracing::error!(%error, "work on a node panicked; its lease of the node is given back when the engine ends");
                }
            }
        }
        hints.mark_unchanged();
        while at_work.try_join_next().is_some() {}
        pause = match round(&shared, &runners, &mut at_work).await {
            Ok(pause) => pause,
            Err(error) => {
                tracing::debug!(%error, "cannot look after nodes");
                Duration::from_millis(500)
            }
        };
    }
    // Whatever is half done is found again by the next engine: every action may be repeated.
    at_work.shutdown().await;
}

async fn round(shared: &Arc<Shared>, runners: &Runners, at_work: &mut JoinSet<()>) -> Result<Duration, StoreError> {
    let free = AT_ONCE.saturating_sub(at_work.len());
    if free > 0 {
        let taken = nodes::take(&shared.pool, shared.engine(), i64::try_from(free).unwrap_or(1)).await?;
        for node in taken {
            at_work.spawn(one(Arc::clone(shared), runners.clone(), node));
        }
    }
    for name in nodes::close_destroyed(&shared.pool).await? {
        tracing::info!(deployment = name, "destroyed");
    }
    let next = nodes::next_in(&shared.pool).await?;
    Ok(next.map_or(shared.poll, |next| next.max(Duration::from_millis(50)).min(shared.poll)))
}

/// Does what there is to be done with a node, and records it.
async fn one(shared: Arc<Shared>, runners: Runners, id: NodeId) {
    let engine = shared.engine();
    loop {
        let node = match nodes::load(&shared.pool, &[id]).await {
            Ok(mut found) => found.pop(),
            Err(_) => {
                tokio::time::sleep(Duration::from_millis(500)).await;
                continue;
            }
        };
        let Some(node) = node else { return };
        let (mut change, mut go_on) = step(&shared, &runners, &node).await;
        loop {
            // Between two steps it stays ours: nobody else needs to take it up.
            let release = if go_on { None } else { Some(engine) };
            match nodes::change(&shared.pool, release, id, &change, &shared.revisions, "engine").await {
                Ok(_) => break,
                Err(error) if error.is_transient() => tokio::time::sleep(Duration::from_millis(500)).await,
                Err(error) if change.state != "failed" => {
                    (change, go_on) = (not_recorded(&node, &change, &error), false);
                }
                Err(error) => {
                    tracing::error!(%error, node = node.name, "cannot record what became of a node");
                    return;
                }
            }
        }
        if !go_on {
            return;
        }
    }
}

/// What becomes of the node, and whether there is more to be done at once.
async fn step(shared: &Shared, runners: &Runners, node: &Node) -> (Change, bool) {
    match node.state.as_str() {
        "leaving" => (leave::destroy(shared, node).await, false),
        _ if node.released && node.owned => (Change { state: "leaving", ..Change::default() }, true),
        _ if node.released => (leave::release(shared, node).await, false),
        _ if node.rebuild && node.owned => rebuild::again(shared, node).await,
        "up" if node.rebuild => (rebuild::empty(shared, runners, node).await, false),
        "creating" => join::create(shared, node).await,
        "joining" | "unreachable" => (join::join(shared, node).await, false),
        _ => (Change { state: word(&node.state), ..Change::default() }, false),
    }
}

/// What was found out does not fit what is there: a person has to look.
fn not_recorded(node: &Node, change: &Change, error: &StoreError) -> Change {
    let (code, reason) = match (error.constraint(), &change.access) {
        (Some("node_address_taken"), Some((address, port, _))) => {
            ("duplicate-node", format!("another node has the address {address} and port {port}"))
        }
        _ => (error.code(), error.to_string()),
    };
    tracing::warn!(node = node.name, code, "{reason}");
    Change { state: "failed", code: Some(code.to_owned()), reason: Some(reason), ..Change::default() }
}

fn word(state: &str) -> &'static str {
    ["creating", "joining", "up", "unreachable", "failed", "leaving", "gone"]
        .into_iter()
        .find(|known| *known == state)
        .unwrap_or("failed")
}

fn provider<'a>(shared: &'a Shared, node: &Node) -> Result<&'a Arc<dyn Provider>, Box<Change>> {
    shared.providers.get(&node.provider).ok_or_else(|| {
        Box::new(Change {
            state: "failed",
            code: Some("provider-unknown".to_owned()),
            reason: Some(format!("this engine has no provider `{}`", node.provider)),
            ..Change::default()
        })
    })
}

/// It stays where it is and is tried again, or has failed until a person has looked at it.
fn trouble(state: &'static str, node: &Node, code: &str, reason: String, transient: bool) -> Change {
    tracing::warn!(node = node.name, state, code, "{reason}");
    let pause = FIRST_PAUSE * 2u32.saturating_pow(u32::try_from(node.tries).unwrap_or(0).min(10));
    Change {
        state: if transient { state } else { "failed" },
        code: Some(code.to_owned()),
        reason: Some(reason),
        again_in: transient.then(|| pause.min(LONGEST_PAUSE)),
        ..Change::default()
    }
}
