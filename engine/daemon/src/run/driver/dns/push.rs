//! Names on servers of others.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use engine_core::settle::turn::Failure;
use engine_dns::{ApiKey, Data, DnsError, Key, Name, RecordSet, replace, update};
use serde::{Deserialize, Serialize};

use super::Named;

/// How long a server may take for an update.
const ANSWER: Duration = Duration::from_secs(2);

/// A server that is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Push {
    pub(super) server: SocketAddr,
    /// The file with its key, on the machine of the engine.
    key: PathBuf,
    /// Where the API of a PowerDNS is, if that is how it is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    api: Option<SocketAddr>,
}

/// How a server is told, and by what it knows us.
enum Way {
    Update(Key),
    Api(SocketAddr, ApiKey),
}

impl Push {
    async fn tell(&self, way: &Way, zone: &Name, sets: &[RecordSet]) -> Result<(), DnsError> {
        match way {
            Way::Update(key) => update(self.server, key, zone, sets, ANSWER).await,
            Way::Api(api, key) => replace(*api, key, zone, sets, ANSWER).await,
        }
    }
}

/// What became of it.
pub(super) enum Pushed {
    Done,
    /// It does not take it.
    Refused(Failure),
    /// It could not be told; what was seen, to follow `sees that`.
    NotYet(String),
}

/// By zone, what is to be there: nothing, if it is to be removed.
pub(super) fn sets(records: &[Named], remove: bool) -> BTreeMap<Name, Vec<RecordSet>> {
    let mut sets: BTreeMap<Name, Vec<RecordSet>> = BTreeMap::new();
    for (name, kind, record) in records {
        let Ok(zone) = Name::parse(&record.zone) else { continue };
        let data = record.data.iter().filter_map(|value| Data::parse(&record.kind, value));
        let values = if remove { Vec::new() } else { data.collect() };
        let ttl = u32::try_from(record.ttl).unwrap_or(0);
        sets.entry(zone).or_default().push(RecordSet { name: name.clone(), kind: *kind, ttl, values });
    }
    sets
}

/// Tells every server. It may be told again: it is told what is to be there.
pub(super) async fn push(pushes: &[Push], sets: &BTreeMap<Name, Vec<RecordSet>>) -> Pushed {
    for push in pushes {
        let way = match way(push.api, &push.key).await {
            Ok(way) => way,
            Err(failure) => return Pushed::Refused(failure),
        };
        for (zone, sets) in sets {
            match push.tell(&way, zone, sets).await {
                Ok(()) => {}
                Err(error @ (DnsError::Refused { .. } | DnsError::Open(_))) => {
                    return Pushed::Refused(Failure { code: error.code().to_owned(), message: error.to_string() });
                }
                Err(error) => return Pushed::NotYet(error.to_string()),
            }
        }
    }
    Pushed::Done
}

async fn way(api: Option<SocketAddr>, path: &Path) -> Result<Way, Failure> {
    let wrong =
        |why: String| Failure { code: "dns-key".to_owned(), message: format!("the key in {}: {why}", path.display()) };
    let text = tokio::fs::read_to_string(path).await.map_err(|error| wrong(error.to_string()))?;
    match api {
        Some(api) => ApiKey::parse(&text).map(|key| Way::Api(api, key)).map_err(|error| wrong(error.to_string())),
        None => Key::parse(&text).map(Way::Update).map_err(|error| wrong(error.to_string())),
    }
}
