//! What is in the database comes into the server's memory: hinted at after each commit, and looked at now and then anyway.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};

use engine_dns::{Data, Kind, Name, Server, Zones};
use engine_store::dns::{self, DNS, Record, Zone};
use engine_store::{StoreError, connect};
use futures::StreamExt as _;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::shared::Shared;

/// A zone as far as it was taken in.
struct Taken {
    name: Name,
    generation: i64,
}

struct Feed {
    zones: Arc<RwLock<Zones>>,
    own: Vec<IpAddr>,
    taken: HashMap<Uuid, Taken>,
}

/// Answers, and keeps what is answered as it is in the database.
pub(crate) async fn serve(shared: Arc<Shared>, server: Server, stop: CancellationToken) {
    let own = server.addresses().iter().map(std::net::SocketAddr::ip).collect();
    let mut feed = Feed { zones: Arc::default(), own, taken: HashMap::new() };
    let mut hints = connect::listen(&shared.database, &[DNS]);
    // Nobody is told that a zone is not there because it was not loaded yet.
    while feed.round(&shared).await.is_err() {
        if stop.run_until_cancelled(tokio::time::sleep(shared.poll)).await.is_none() {
            return;
        }
    }
    let answering = server.serve(Arc::clone(&feed.zones), stop.clone());
    tokio::pin!(answering);
    loop {
        tokio::select! {
            () = &mut answering => return,
            _ = hints.next() => {}
            () = tokio::time::sleep(shared.poll) => {}
        }
        // In memory things stay as they are until the database answers.
        match feed.round(&shared).await {
            Ok(()) => shared.taken_in.send_modify(|count| *count += 1),
            Err(error) => tracing::debug!(%error, "cannot look for names"),
        }
    }
}

impl Feed {
    /// Takes in all that is newer than what is in memory.
    async fn round(&mut self, shared: &Shared) -> Result<(), StoreError> {
        let all = dns::zones(&shared.pool).await?;
        let ids: HashSet<Uuid> = all.iter().map(|zone| zone.id).collect();
        let gone: Vec<Uuid> = self.taken.keys().copied().filter(|id| !ids.contains(id)).collect();
        for id in gone {
            if let Some(taken) = self.taken.remove(&id) {
                self.memory().remove(&taken.name);
            }
        }
        for zone in all {
            let known = self.taken.get(&zone.id).map_or(0, |taken| taken.generation);
            if known == zone.generation {
                continue;
            }
            let changed = dns::changed(&shared.pool, &zone, known).await?;
            self.take(&zone, known == 0, changed);
        }
        Ok(())
    }

    /// At once: whoever asks sees a zone as it was before or as it is now.
    fn take(&mut self, zone: &Zone, new: bool, changed: Vec<(Record, bool)>) {
        // Only such names are written.
        let Ok(name) = Name::parse(&zone.name) else { return };
        let ttl = |ttl: i32| u32::try_from(ttl).unwrap_or(0);
        let mut memory = self.memory();
        if new {
            memory.remove(&name);
        }
        memory.put(&name, zone.generation, ttl(zone.ttl), &self.own);
        for (record, gone) in changed {
            let Ok(at) = Name::parse(&record.name) else { continue };
            let kind = match record.kind.as_str() {
                "A" => Kind::A,
                "AAAA" => Kind::Aaaa,
                _ => Kind::Ptr,
            };
            let data: Vec<Data> = record.data.iter().filter_map(|value| Data::parse(&record.kind, value)).collect();
            memory.set(&name, &at, kind, ttl(record.ttl), if gone { &[] } else { &data });
        }
        drop(memory);
        self.taken.insert(zone.id, Taken { name, generation: zone.generation });
    }

    fn memory(&self) -> RwLockWriteGuard<'_, Zones> {
        self.zones.write().unwrap_or_else(PoisonError::into_inner)
    }
}
