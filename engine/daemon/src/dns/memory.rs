//! The zones that this engine answers for, and how far they were taken in.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockWriteGuard};

use engine_core::identity::LISTS;
use engine_dns::{Data, Grant, Kind, Name, Zones};
use engine_store::dns::{Edit, Row, Step, Zone};
use tokio::sync::Notify;
use uuid::Uuid;

/// A zone as far as it was taken in.
pub(super) struct Taken {
    pub(super) id: Uuid,
    pub(super) name: Name,
    ttl: u32,
    pub(super) generation: i64,
    /// By name and kind.
    pub(super) rows: BTreeMap<(String, String), Row>,
    /// Which node role has which key.
    pub(super) holders: HashMap<String, Uuid>,
}

/// Zones in memory.
pub(crate) struct Memory {
    pub(super) zones: Arc<RwLock<Zones>>,
    /// Where this engine answers.
    own: Vec<IpAddr>,
    /// Where it has lists of what was revoked.
    lists: Vec<IpAddr>,
    taken: Mutex<HashMap<Uuid, Taken>>,
    /// Something was written that did not follow what is here.
    pub(super) behind: Notify,
}

/// What is newer in a zone than what is here.
pub(super) struct News {
    pub(super) zone: Zone,
    /// The generation that it follows.
    pub(super) after: i64,
    pub(super) edits: Vec<Edit>,
    pub(super) grants: Vec<(Grant, Uuid)>,
}

impl Memory {
    /// Of nothing. `own`: where it is answered; `lists`: where lists of what was revoked are.
    pub(crate) fn new(own: Vec<IpAddr>, lists: Vec<IpAddr>) -> Self {
        Self { zones: Arc::default(), own, lists, taken: Mutex::default(), behind: Notify::new() }
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

    /// A zone as it was taken in. Nothing else is done to any meanwhile.
    pub(super) fn zone<T>(&self, name: &Name, look: impl FnOnce(&Taken) -> T) -> Option<T> {
        self.taken().values().find(|taken| taken.name == *name).map(look)
    }

    /// At once: whoever asks sees a zone as it was before or as it is now. What does not follow what is here by now is left out.
    pub(super) fn take(&self, news: News) {
        let News { zone, after, edits, grants } = news;
        // Only such names are written.
        let Ok(name) = Name::parse(&zone.name) else { return };
        let mut all = self.taken();
        if all.get(&zone.id).map_or(0, |taken| taken.generation) != after {
            return;
        }
        let (id, generation, ttl) = (zone.id, zone.generation, u32::try_from(zone.ttl).unwrap_or(0));
        let mut memory = self.memory();
        if after == 0 {
            memory.remove(&name);
        }
        memory.put(&name, generation, ttl, &self.own);
        let (grants, holders): (Vec<Grant>, Vec<(String, Uuid)>) =
            grants.into_iter().map(|(grant, vertex)| (grant.clone(), (grant.name().to_string(), vertex))).unzip();
        memory.grant(&name, grants);
        let fresh = || Taken { id, name, ttl, generation, rows: BTreeMap::new(), holders: HashMap::new() };
        let taken = all.entry(id).or_insert_with(fresh);
        (taken.ttl, taken.generation, taken.holders) = (ttl, generation, holders.into_iter().collect());
        for edit in edits {
            taken.edit(&mut memory, edit);
        }
        self.name_lists(&mut memory, taken);
    }

    /// What was just written here, without a look at the database.
    pub(super) fn take_steps(&self, steps: Vec<Step>) {
        let mut all = self.taken();
        for step in steps {
            let Some(taken) = all.get_mut(&step.zone).filter(|taken| taken.generation + 1 == step.generation) else {
                self.behind.notify_one();
                continue;
            };
            let mut memory = self.memory();
            memory.put(&taken.name, step.generation, taken.ttl, &self.own);
            taken.generation = step.generation;
            for edit in step.edits {
                taken.edit(&mut memory, edit);
            }
            self.name_lists(&mut memory, taken);
        }
    }

    /// The name that certificates say their lists are at. One that somebody gave in the zone stays.
    fn name_lists(&self, memory: &mut Zones, taken: &Taken) {
        let Some(name) = self.lists.first().and_then(|_| Name::parse(&format!("{LISTS}.{}", taken.name)).ok()) else {
            return;
        };
        for kind in [Kind::A, Kind::Aaaa] {
            let own = self.lists.iter().map(|address| Data::Address(*address)).filter(|data| data.kind() == kind);
            let given = taken.rows.contains_key(&(name.to_string(), kind.as_str().to_owned()));
            if !given && !taken.name.as_str().ends_with(".arpa") {
                memory.set(&taken.name, &name, kind, taken.ttl, &own.collect::<Vec<_>>());
            }
        }
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<Uuid, Taken>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn memory(&self) -> RwLockWriteGuard<'_, Zones> {
        self.zones.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    fn edit(&mut self, memory: &mut Zones, edit: Edit) {
        let Edit { name, kind, row, gone } = edit;
        if let (Ok(name), Some(kind)) = (Name::of_record(&name), Kind::parse(&kind)) {
            let data = row.data.iter().filter(|_| !gone).filter_map(|value| Data::parse(kind.as_str(), value));
            memory.set(&self.name, &name, kind, u32::try_from(row.ttl).unwrap_or(0), &data.collect::<Vec<_>>());
        }
        if gone {
            self.rows.remove(&(name, kind));
        } else {
            self.rows.insert((name, kind), row);
        }
    }
}
