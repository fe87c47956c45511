//! The zones that this engine answers for, and how far they were taken in.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockWriteGuard};

use engine_dns::{Data, Grant, Kind, Name, Zones};
use engine_store::dns::{Record, Step, Zone};
use tokio::sync::Notify;
use uuid::Uuid;

/// A zone as far as it was taken in.
struct Taken {
    name: Name,
    ttl: u32,
    generation: i64,
}

/// Zones in memory.
pub(crate) struct Memory {
    pub(super) zones: Arc<RwLock<Zones>>,
    /// Where this engine answers.
    own: Vec<IpAddr>,
    taken: Mutex<HashMap<Uuid, Taken>>,
    /// Something was written that did not follow what is here.
    pub(super) behind: Notify,
}

/// What is newer in a zone than what is here.
pub(super) struct News {
    pub(super) zone: Zone,
    /// The generation that it follows.
    pub(super) after: i64,
    pub(super) records: Vec<(Record, bool)>,
    pub(super) grants: Vec<Grant>,
}

impl Memory {
    /// Of nothing. `own`: where it is answered.
    pub(crate) fn new(own: Vec<IpAddr>) -> Self {
        Self { zones: Arc::default(), own, taken: Mutex::default(), behind: Notify::new() }
    }

    /// The generation up to which a zone was taken in; 0 if it is not here.
    pub(super) fn generation(&self, zone: Uuid) -> i64 {
        self.taken().get(&zone).map_or(0, |taken| taken.generation)
    }

    /// Other zones than these are not ours any more.
    pub(super) fn keep(&self, zones: &HashSet<Uuid>) {
        let mut taken = self.taken();
        let gone: Vec<Uuid> = taken.keys().copied().filter(|id| !zones.contains(id)).collect();
        for id in gone {
            if let Some(taken) = taken.remove(&id) {
                self.memory().remove(&taken.name);
            }
        }
    }

    /// At once: whoever asks sees a zone as it was before or as it is now. What does not follow what is here by now is left out.
    pub(super) fn take(&self, news: News) {
        let News { zone, after, records, grants } = news;
        // Only such names are written.
        let Ok(name) = Name::parse(&zone.name) else { return };
        let mut taken = self.taken();
        if taken.get(&zone.id).map_or(0, |taken| taken.generation) != after {
            return;
        }
        let ttl = u32::try_from(zone.ttl).unwrap_or(0);
        let mut memory = self.memory();
        if after == 0 {
            memory.remove(&name);
        }
        memory.put(&name, zone.generation, ttl, &self.own);
        memory.grant(&name, grants);
        for (record, gone) in records {
            set(&mut memory, &name, &record, gone);
        }
        drop(memory);
        taken.insert(zone.id, Taken { name, ttl, generation: zone.generation });
    }

    /// What was just written here, without a look at the database.
    pub(super) fn take_steps(&self, steps: &[Step]) {
        let mut all = self.taken();
        for step in steps {
            let Some(taken) = all.get_mut(&step.zone).filter(|taken| taken.generation + 1 == step.generation) else {
                self.behind.notify_one();
                continue;
            };
            let mut memory = self.memory();
            memory.put(&taken.name, step.generation, taken.ttl, &self.own);
            for (name, kind, data, ttl) in &step.records {
                let (name, kind, data) = (name.clone(), kind.clone(), data.clone());
                let record = Record { zone: taken.name.to_string(), name, kind, data, ttl: *ttl };
                set(&mut memory, &taken.name, &record, record.data.is_empty());
            }
            taken.generation = step.generation;
        }
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<Uuid, Taken>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn memory(&self) -> RwLockWriteGuard<'_, Zones> {
        self.zones.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn set(memory: &mut Zones, zone: &Name, record: &Record, gone: bool) {
    let (Ok(name), Some(kind)) = (Name::of_record(&record.name), Kind::parse(&record.kind)) else { return };
    let data: Vec<Data> = record.data.iter().filter_map(|value| Data::parse(&record.kind, value)).collect();
    memory.set(zone, &name, kind, u32::try_from(record.ttl).unwrap_or(0), if gone { &[] } else { &data });
}
