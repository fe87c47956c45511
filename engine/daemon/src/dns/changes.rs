//! Changes that others ask for over the network: decided by what there is, in the transaction that writes them.

use std::collections::BTreeSet;
use std::sync::Arc;

use engine_core::id::VertexId;
use engine_dns::{Asked, Changes, Code, Data, Held, Kind, Name, Sets};
use engine_store::StoreError;
use engine_store::dns::{At, Changing, Row, Rows};
use uuid::Uuid;

use crate::gather::{Down, Gather, Write};
use crate::shared::Shared;

/// The way to whoever writes changes from the network.
pub(crate) type NetworkChange = Gather<Asked, Code>;

/// Who is handed changes by the server, and writes them. Who asked is told if the database does not answer.
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

impl Write for Network {
    type Asked = Asked;
    type Answer = Code;

    const DOWN: Down = Down::Fails;

    async fn write(&self, all: &[Asked]) -> Result<Vec<Code>, StoreError> {
        change(&self.0, all).await
    }
}

async fn change(shared: &Shared, all: &[Asked]) -> Result<Vec<Code>, StoreError> {
    let keys: BTreeSet<(String, String)> =
        all.iter().map(|asked| (asked.zone.to_string(), asked.key.to_string())).collect();
    let names: BTreeSet<String> = all.iter().flat_map(Asked::names).map(ToString::to_string).collect();
    let keys: Vec<(String, String)> = keys.into_iter().collect();
    let changing = Changing::begin(&shared.pool, &keys, &names.into_iter().collect::<Vec<_>>()).await?;
    let mut after = Zoned::of(changing.rows());
    let mut codes = Vec::new();
    for asked in all {
        codes.push(match changing.holder(asked.zone.as_str(), asked.key.as_str()) {
            None => Code::NotAuthorized,
            Some((zone, holder)) => match after.apply(asked, zone, holder) {
                Ok(()) => Code::Done,
                Err(code) => code,
            },
        });
    }
    let steps = changing.commit(shared.engine(), &after.0).await?;
    shared.memory.take_steps(&steps);
    Ok(codes)
}

/// What there is, changed one after the other.
struct Zoned(Rows);

impl Zoned {
    fn of(rows: &Rows) -> Self {
        Self(rows.clone())
    }

    /// Makes it so for the holder of the key of a zone, all of it or nothing.
    fn apply(&mut self, asked: &Asked, zone: Uuid, holder: VertexId) -> Result<(), Code> {
        let mut before = Sets::new();
        for name in asked.names() {
            for ((_, _, kind), row) in of(&self.0, zone, name) {
                let Some(kind) = Kind::parse(kind) else { continue };
                let values = row.data.iter().filter_map(|value| Data::parse(kind.as_str(), value)).collect();
                let held = Held { own: row.vertex == holder.0, ttl: u32::try_from(row.ttl).unwrap_or(0), values };
                before.insert((name.clone(), kind), held);
            }
        }
        let mut after = before.clone();
        asked.apply(&mut after)?;
        // What is others' is not among what changed.
        let at = |(name, kind): &(Name, Kind)| (zone, name.to_string(), kind.as_str().to_owned());
        for key in before.keys().filter(|key| !after.contains_key(*key)) {
            self.0.remove(&at(key));
        }
        for (key, held) in after.iter().filter(|(key, held)| before.get(*key) != Some(*held)) {
            let data = held.values.iter().map(ToString::to_string).collect();
            let row = Row { vertex: holder.0, data, ttl: i32::try_from(held.ttl).unwrap_or(0) };
            self.0.insert(at(key), row);
        }
        Ok(())
    }
}

fn of<'a>(rows: &'a Rows, zone: Uuid, name: &Name) -> impl Iterator<Item = (&'a At, &'a Row)> + use<'a> {
    let name = name.to_string();
    rows.range((zone, name.clone(), String::new())..).take_while(move |((of, at, _), _)| *of == zone && *at == name)
}
