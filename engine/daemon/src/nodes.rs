//! The life of nodes: made, joined, looked after while they do not answer, let go of, destroyed.

mod join;
mod leave;
mod look;
mod rebuild;
mod record;
mod residue;

use std::sync::Arc;
use std::time::Duration;

use engine_core::id::NodeId;
use engine_provider::Provider;
use engine_store::StoreError;
use engine_store::nodes::{self, Change, Node, Recording};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::hints::{self, Woken};
use crate::run::Runners;
use crate::shared::Shared;
pub(crate) use look::{unreachable, watch};
use record::{Queue, Told};

/// Nodes worked on at once.
const AT_ONCE: usize = 32;
/// With those of which is only to be recorded what became of them.
const HELD: usize = 1024;
/// After a look that found no node to work on, the next one comes no sooner: most hints are not of nodes.
const SELDOM: Duration = Duration::from_millis(250);
/// Between attempts, doubled from the first to the last.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What all who work on nodes share.
struct Yard {
    shared: Arc<Shared>,
    runners: Runners,
    places: Arc<Semaphore>,
    /// A place is free again.
    freed: Notify,
    queue: Queue,
}

pub(crate) async fn work(shared: Arc<Shared>, runners: Runners, stop: CancellationToken) {
    let mut hints = shared.hints.subscribe();
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let yard = Arc::new(Yard { shared, runners, places, freed: Notify::new(), queue: Queue::default() });
    let mut at_work: JoinSet<()> = JoinSet::new();
    let mut pause = Duration::ZERO;
    let mut in_vain = Instant::now();
    loop {
        tokio::select! {
            woken = hints::wait(&mut hints, pause, &stop) => if woken == Woken::Stop { break },
            () = yard.freed.notified() => {}
        }
        hints.mark_unchanged();
        let early = in_vain.saturating_duration_since(Instant::now());
        if !early.is_zero() {
            pause = early;
            continue;
        }
        while let Some(done) = at_work.try_join_next() {
            if let Err(error) = done {
                tracing::error!(%error, "work on a node panicked; its lease of the node is given back when the engine ends");
            }
        }
        let began = Instant::now();
        pause = match round(&yard, &mut at_work).await {
            Ok((found, pause)) => {
                if !found {
                    in_vain = hints::not_before(SELDOM, began);
                }
                pause
            }
            Err(error) => {
                tracing::debug!(%error, "cannot look after nodes");
                Duration::from_millis(500)
            }
        };
    }
    // Whatever is half done is found again by the next engine: every action may be repeated.
    at_work.shutdown().await;
}

/// Takes what there is room for. Whether there may be more, and how long until there is.
async fn round(yard: &Arc<Yard>, at_work: &mut JoinSet<()>) -> Result<(bool, Duration), StoreError> {
    let shared = &yard.shared;
    // Without room nobody knows.
    let mut found = true;
    let free = yard.places.available_permits().min(HELD.saturating_sub(at_work.len()));
    if free > 0 {
        let taken = nodes::take(&shared.pool, shared.engine(), i64::try_from(free).unwrap_or(1)).await?;
        found = !taken.is_empty();
        for node in taken {
            // Whoever goes on with a node may have come first: then this one waits for its place.
            let place = Arc::clone(&yard.places).try_acquire_owned().ok();
            at_work.spawn(one(Arc::clone(yard), node, place));
        }
    }
    for name in nodes::close_destroyed(&shared.pool).await? {
        tracing::info!(deployment = name, "destroyed");
    }
    let next = nodes::next_in(&shared.pool).await?;
    Ok((found, next.map_or(shared.poll, |next| next.max(Duration::from_millis(50)).min(shared.poll))))
}

/// Does what there is to be done with a node, and records it.
async fn one(yard: Arc<Yard>, id: NodeId, mut place: Option<OwnedSemaphorePermit>) {
    let shared = &yard.shared;
    let engine = shared.engine();
    'node: loop {
        if place.is_none() {
            let Ok(free) = Arc::clone(&yard.places).acquire_owned().await else { return };
            place = Some(free);
        }
        let node = match nodes::load(&shared.pool, &[id]).await {
            Ok(mut found) => found.pop(),
            Err(_) => {
                tokio::time::sleep(Duration::from_millis(500)).await;
                continue;
            }
        };
        let Some(node) = node else { return };
        let (mut change, mut go_on) = step(shared, &yard.runners, &node).await;
        // To record it takes no place.
        place = None;
        yard.freed.notify_one();
        loop {
            // Between two steps it stays ours: nobody else needs to take it up.
            let release = if go_on { None } else { Some(engine) };
            let recording = Recording { node: id, engine: release, change: change.clone() };
            match yard.queue.record(shared, node.deployment, recording).await {
                Ok(Told::Over) => break,
                Ok(Told::Moved) => continue 'node,
                Ok(Told::Later) => tokio::time::sleep(Duration::from_millis(500)).await,
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
