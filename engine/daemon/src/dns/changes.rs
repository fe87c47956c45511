//! Changes that others ask for over the network: decided by what is in memory, and written if the database still has just that.

use std::collections::BTreeMap;
use std::sync::Arc;

use engine_dns::{Asked, Changes, Code, Data, Held, Kind, Name, Sets};
use engine_store::connect::Own;
use engine_store::dns::{self, Edit, Row};
use engine_store::{PgConnection, StoreError};
use uuid::Uuid;

use super::feed;
use super::memory::Taken;
use crate::gather::{Down, Gather, Write};
use crate::shared::Shared;

/// How often somebody else may be faster.
const ATTEMPTS: usize = 100;

/// The way to whoever writes changes from the network.
pub(crate) type NetworkChange = Gather<Asked, Code>;

/// Who is handed changes by the server.
pub(crate) struct Network(pub(crate) Arc<Shared>);

impl Changes for Network {
    async fn change(&self, asked: Asked) -> Code {
        match self.0.network.ask(asked).await {
            Some(Ok(code)) => code,
            Some(Err(failure)) => {
                tracing::warn!(code = failure.code, message = failure.message, "a change of a zone was not written");
                Code::Failed
            }
            None => Code::Failed,
        }
    }
}

/// Who writes them. Who asked is told if the database does not answer.
pub(crate) struct Drafts {
    pub(crate) shared: Arc<Shared>,
    pub(crate) own: Own,
}

impl Write for Drafts {
    type Asked = Asked;
    type Answer = Code;

    const DOWN: Down = Down::Fails;

    async fn write(&mut self, all: &[Asked]) -> Result<Vec<Code>, StoreError> {
        let mut zones: BTreeMap<&Name, Vec<usize>> = BTreeMap::new();
        for (place, asked) in all.iter().enumerate() {
            zones.entry(&asked.zone).or_default().push(place);
        }
        let mut connection = self.own.take().await?;
        let mut codes = vec![Code::Failed; all.len()];
        for (zone, places) in zones {
            let of_zone: Vec<&Asked> = places.iter().filter_map(|place| all.get(*place)).collect();
            let told = change(&self.shared, &mut connection, zone, &of_zone).await?;
            places.into_iter().zip(told).for_each(|(place, code)| codes[place] = code);
        }
        self.own.keep(connection);
        Ok(codes)
    }
}

/// What comes of changes of one zone, one after the other.
async fn change(
    shared: &Shared,
    connection: &mut PgConnection,
    zone: &Name,
    all: &[&Asked],
) -> Result<Vec<Code>, StoreError> {
    for _ in 0..ATTEMPTS {
        let decided = shared.memory.zone(zone, |taken| {
            let mut draft = Draft::new(taken);
            let codes: Vec<Code> = all.iter().map(|asked| draft.apply(asked)).collect();
            (taken.id, taken.generation, codes, draft.edits())
        });
        // It is gone: its keys went with it.
        let Some((id, generation, codes, edits)) = decided else { return Ok(vec![Code::NotAuthorized; all.len()]) };
        let stands = if edits.is_empty() {
            dns::stands(connection, (id, generation)).await?
        } else {
            let step = dns::step(&mut *connection, shared.engine(), (id, generation), edits).await?;
            let stands = step.is_some();
            shared.memory.take_steps(step.into_iter().collect());
            stands
        };
        if stands {
            return Ok(codes);
        }
        feed::round(shared).await?;
    }
    tracing::warn!(%zone, "others change a zone all the time, so changes asked for here are not done");
    Ok(vec![Code::Failed; all.len()])
}

/// A zone as it will be. What is not in it is as it was.
struct Draft<'a> {
    taken: &'a Taken,
    changed: BTreeMap<(String, String), Option<Row>>,
}

impl<'a> Draft<'a> {
    fn new(taken: &'a Taken) -> Self {
        Self { taken, changed: BTreeMap::new() }
    }

    /// Makes it so for the holder of the key, all of it or nothing.
    fn apply(&mut self, asked: &Asked) -> Code {
        let Some(holder) = self.taken.holders.get(asked.key.as_str()).copied() else { return Code::NotAuthorized };
        let mut before = Sets::new();
        for name in asked.names() {
            for kind in [Kind::A, Kind::Aaaa, Kind::Ptr, Kind::Txt] {
                if let Some(row) = self.row(&at(name, kind)) {
                    before.insert((name.clone(), kind), held(row, kind, holder));
                }
            }
        }
        let mut after = before.clone();
        if let Err(code) = asked.apply(&mut after) {
            return code;
        }
        // What is others' is not among what changed.
        for (name, kind) in before.keys().filter(|key| !after.contains_key(*key)) {
            self.changed.insert(at(name, *kind), None);
        }
        for (key, held) in after.iter().filter(|(key, held)| before.get(*key) != Some(*held)) {
            let data = held.values.iter().map(ToString::to_string).collect();
            let row = Row { vertex: holder, data, ttl: i32::try_from(held.ttl).unwrap_or(0) };
            self.changed.insert(at(&key.0, key.1), Some(row));
        }
        Code::Done
    }

    fn row(&self, at: &(String, String)) -> Option<&Row> {
        match self.changed.get(at) {
            Some(row) => row.as_ref(),
            None => self.taken.rows.get(at),
        }
    }

    /// What differs from what there was.
    fn edits(self) -> Vec<Edit> {
        let edit = |(at, row): (_, Option<Row>)| {
            let was = self.taken.rows.get(&at);
            let ((name, kind), gone) = (at, row.is_none());
            match (row, was) {
                (None, None) => None,
                (Some(row), Some(was)) if row == *was => None,
                (row, was) => row.or_else(|| was.cloned()).map(|row| Edit { name, kind, row, gone }),
            }
        };
        self.changed.into_iter().filter_map(edit).collect()
    }
}

fn at(name: &Name, kind: Kind) -> (String, String) {
    (name.to_string(), kind.as_str().to_owned())
}

fn held(row: &Row, kind: Kind, holder: Uuid) -> Held {
    let values = row.data.iter().filter_map(|value| Data::parse(kind.as_str(), value)).collect();
    Held { own: row.vertex == holder, ttl: u32::try_from(row.ttl).unwrap_or(0), values }
}
