//! What is in the database comes into the server's memory: hinted at after each commit of others, and looked at now and then
//! anyway.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use engine_dns::{Grant, Name, Server};
use engine_store::connect::Hint;
use engine_store::dns::{self, DNS, Zone, ZoneKey};
use engine_store::{StoreError, connect, secrets};
use futures::StreamExt as _;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::changes::Network;
use super::memory::News;
use crate::shared::Shared;

/// Answers, and keeps what is answered as it is in the database.
pub(crate) async fn serve(shared: Arc<Shared>, server: Server, stop: CancellationToken) {
    let mut hints = connect::listen(&shared.database, &[DNS]);
    // Nobody is told that a zone is not there because it was not loaded yet.
    while round(&shared).await.is_err() {
        if stop.run_until_cancelled(tokio::time::sleep(shared.poll)).await.is_none() {
            return;
        }
    }
    let changes = Arc::new(Network(Arc::clone(&shared)));
    let answering = server.serve(Arc::clone(&shared.memory.zones), changes, stop.clone());
    tokio::pin!(answering);
    loop {
        tokio::select! {
            () = &mut answering => return,
            hint = hints.next() => if hint.is_some_and(|hint| is_own(&shared, &hint)) { continue },
            () = shared.memory.behind.notified() => {}
            () = tokio::time::sleep(shared.poll) => {}
        }
        // In memory things stay as they are until the database answers.
        match round(&shared).await {
            Ok(()) => shared.taken_in.send_modify(|count| *count += 1),
            Err(error) => tracing::debug!(%error, "cannot look for names"),
        }
    }
}

/// What this engine wrote it took in when it wrote it, or it knows that it is behind.
fn is_own(shared: &Shared, hint: &Hint) -> bool {
    matches!(hint, Hint::Notified { payload, .. } if *payload == shared.engine().0.to_string())
}

/// Takes in all that is newer than what is in memory.
pub(super) async fn round(shared: &Shared) -> Result<(), StoreError> {
    let all = dns::zones(&shared.pool).await?;
    let ids: HashSet<Uuid> = all.iter().map(|zone| zone.id).collect();
    shared.memory.keep(&ids);
    let news: Vec<(Zone, i64)> = all
        .into_iter()
        .map(|zone| (shared.memory.generation(zone.id), zone))
        .filter(|(known, zone)| *known != zone.generation)
        .map(|(known, zone)| (zone, known))
        .collect();
    if news.is_empty() {
        return Ok(());
    }
    let mut grants = grants(shared, &news).await?;
    for (zone, after) in news {
        let edits = dns::changed(&shared.pool, &zone, after).await?;
        let grants = grants.remove(&zone.id).unwrap_or_default();
        shared.memory.take(News { zone, after, edits, grants });
    }
    Ok(())
}

/// Who may change these zones.
async fn grants(shared: &Shared, zones: &[(Zone, i64)]) -> Result<HashMap<Uuid, Vec<(Grant, Uuid)>>, StoreError> {
    let ids: Vec<Uuid> = zones.iter().map(|(zone, _)| zone.id).collect();
    let keys = dns::keys(&shared.pool, &ids).await?;
    let digests: BTreeSet<String> = keys.iter().map(|key| key.digest.clone()).collect();
    let clear = secrets::open(&shared.pool, &shared.sealer, &digests, None).await?;
    let mut all: HashMap<Uuid, Vec<(Grant, Uuid)>> = HashMap::new();
    for key in &keys {
        match clear.get(&key.digest).and_then(|value| grant(key, value)) {
            Some(grant) => all.entry(key.zone).or_default().push((grant, key.vertex.0)),
            None => tracing::warn!(key = key.name, "a key of a zone can not be read; nobody changes anything with it"),
        }
    }
    Ok(all)
}

fn grant(key: &ZoneKey, secret: &Value) -> Option<Grant> {
    Grant::new(Name::parse(&key.name).ok()?, secret.as_str()?, Name::of_record(&key.below).ok()?).ok()
}
