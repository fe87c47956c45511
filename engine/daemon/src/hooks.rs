//! Events reach those who asked for them: at least once, and for each hook in their order.
//!
//! Whoever has a hook sends one event after the other and notes each that was taken. If we die between the two, the next engine
//! sends that event again, under the same id. A hook that is slow or down waits by itself: each is a task of its own, and between
//! two tries nobody has it.

pub(crate) mod post;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use engine_core::hook;
use engine_core::view::EventView;
use engine_store::hooks::{self, Hook};
use engine_store::seal::{Place, Sealed};
use engine_store::{StoreError, read};
use time::OffsetDateTime;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::shared::Shared;
use post::{PostError, Target};

/// How often it is looked whether there is something for a hook.
const LOOK: Duration = Duration::from_secs(1);
/// Who delivers is given up after this time without a word.
const LEASE: Duration = Duration::from_secs(30);
/// How long a receiver may take to answer.
const ANSWER: Duration = Duration::from_secs(10);
/// Events that are read at once.
const PAGE: i64 = 200;

pub(crate) async fn watch(shared: Arc<Shared>, stop: CancellationToken) {
    let (mut running, mut held) = (JoinSet::<Uuid>::new(), HashSet::new());
    while stop.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_some() {
        while let Some(ended) = running.try_join_next() {
            match ended {
                Ok(id) => held.remove(&id),
                // Which one it was is not known; each that is still held is only looked at again later.
                Err(error) => {
                    tracing::error!(%error, "a delivery failed");
                    held.clear();
                    false
                }
            };
        }
        match hooks::take(&shared.pool, shared.engine(), LEASE).await {
            Ok(taken) => {
                for hook in taken.into_iter().filter(|hook| held.insert(hook.id)).collect::<Vec<_>>() {
                    let shared = Arc::clone(&shared);
                    running.spawn(async move {
                        let id = hook.id;
                        let name = hook.name.clone();
                        if let Err(error) = deliver(&shared, hook).await {
                            tracing::debug!(%error, code = error.code(), hook = name, "cannot deliver events");
                        }
                        id
                    });
                }
            }
            Err(error) => tracing::debug!(%error, code = error.code(), "cannot look for events to deliver"),
        }
    }
    // What is on its way is sent again by the next engine.
    running.shutdown().await;
}

/// All that there is for a hook, until there is nothing more or a delivery fails.
async fn deliver(shared: &Shared, mut hook: Hook) -> Result<(), StoreError> {
    let engine = shared.engine();
    let key = key(shared, &hook)?;
    let target = match Target::new(&hook.url, hook.ca.as_deref()) {
        Ok(target) => target,
        Err(error) => return failed(shared, &hook, &error).await,
    };
    loop {
        let page = read::outbox(&shared.pool, hook.after, PAGE).await?;
        let Some((last, _)) = page.last() else { return hooks::release(&shared.pool, &hook, engine).await };
        let last = *last;
        for event in page.into_iter().filter_map(|(_, event)| event) {
            if !hook::wants(&hook.kinds, &hook.deployments, &event) {
                continue;
            }
            let now = OffsetDateTime::now_utc();
            let (id, body) = (hook::id(&event), hook::body(&event).to_string());
            if let Err(error) = send(&target, &key, &id, now, &event.kind, body).await {
                return failed(shared, &hook, &error).await;
            }
            if !moved(shared, &mut hook, (event.seq, true)).await? {
                return Ok(());
            }
        }
        if hook.after != last && !moved(shared, &mut hook, (last, false)).await? {
            return Ok(());
        }
    }
}

/// Signs and sends.
pub(crate) async fn send(
    target: &Target,
    key: &[u8],
    id: &str,
    now: OffsetDateTime,
    kind: &str,
    body: String,
) -> Result<u16, PostError> {
    let seconds = now.unix_timestamp();
    let headers = [
        ("webhook-id", id.to_owned()),
        ("webhook-timestamp", seconds.to_string()),
        ("webhook-signature", hook::signature(key, id, seconds, &body)),
        ("plinth-event", kind.to_owned()),
    ];
    target.post(&headers, body, ANSWER).await
}

async fn moved(shared: &Shared, hook: &mut Hook, (after, delivered): (i64, bool)) -> Result<bool, StoreError> {
    let moved = hooks::moved(&shared.pool, hook, shared.engine(), (after, delivered), LEASE).await?;
    (hook.after, hook.failed) = (after, 0);
    Ok(moved)
}

async fn failed(shared: &Shared, hook: &Hook, error: &PostError) -> Result<(), StoreError> {
    let tries = u32::try_from(hook.failed).unwrap_or(0) + 1;
    let again = hook::backoff(tries);
    tracing::warn!(hook = hook.name, code = error.code(), %error, tries, "a delivery failed and is tried again");
    hooks::failed(&shared.pool, hook, shared.engine(), (error.code(), &error.to_string()), again).await
}

/// The key that signs for a hook.
pub(crate) fn key(shared: &Shared, hook: &Hook) -> Result<Vec<u8>, StoreError> {
    let id = hook.id.to_string();
    let clear = shared.sealer.open(&place(&id), &Sealed::stored(hook.secret.clone()))?;
    Ok(clear.to_vec())
}

/// Where the key of a hook is sealed for.
pub(crate) fn place(id: &str) -> Place<'_> {
    Place { table: "hook", row: id, column: "secret" }
}

/// What is sent to try a hook.
pub(crate) fn trial(by: &str) -> EventView {
    EventView {
        seq: 0,
        at: OffsetDateTime::now_utc(),
        kind: "hook.test".to_owned(),
        deployment: None,
        node: None,
        role: None,
        job: None,
        principal: by.to_owned(),
        detail: serde_json::Value::Null,
    }
}
