//! Keys with which others change zones. One counts as done when every engine that answers takes a change that is signed with it.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use engine_agent::protocol::Mode;
use engine_core::document::Object;
use engine_core::secret;
use engine_dns::{Key, Name, update};
use engine_store::StoreError;
use engine_store::dns::{self, Wanted};
use futures::future;
use serde::Deserialize;
use serde_json::json;

use super::{ANSWER, ZoneHandle, crooked, later, refused};
use crate::run::driver::{Did, Work};

#[derive(Deserialize)]
struct Inputs {
    zone: ZoneHandle,
    name: String,
    secret: String,
    below: String,
}

/// A key of a zone, and of the zones of addresses that go with it.
pub(in crate::run::driver) async fn key(work: &Work<'_>) -> Result<Did, StoreError> {
    let inputs: Inputs = match work.read() {
        Ok(inputs) => inputs,
        Err(did) => return Ok(did),
    };
    // What is kept is what stands for the secret; the job has it, and the work has the secret itself.
    let Some(digest) = work.job.inputs.get("secret").and_then(secret::digest_of) else {
        return Ok(Did::failed("input-invalid", "`secret` has to be secret in the role".to_owned()));
    };
    let (name, zones, key) = match read(&inputs) {
        Ok(read) => read,
        Err(did) => return Ok(did),
    };
    let (shared, job) = (work.shared, work.job);
    let wanted = Wanted { name: name.to_string(), digest: digest.to_owned(), zones };
    if work.mode == Mode::Check {
        let has = dns::keyed(&shared.pool, job.vertex).await?;
        let all = wanted.zones.keys().map(|zone| (zone.clone(), wanted.name.clone(), wanted.digest.clone()));
        if !has.iter().cloned().eq(all) {
            let has: Vec<&str> = has.iter().map(|(zone, ..)| zone.as_str()).collect();
            return Ok(Did::Drifted(format!("it has other keys than it should, of {}", has.join(", "))));
        }
    } else {
        let (held, of) = ((job.job, job.fence), (job.deployment, job.vertex));
        let wanted = (work.mode == Mode::Apply).then_some(&wanted);
        let written = dns::set_key(&shared.pool, shared.engine(), held, of, wanted).await?;
        if let Some(did) = refused(written) {
            return Ok(did);
        }
    }
    let zones: Vec<Name> = wanted.zones.keys().filter_map(|zone| Name::parse(zone).ok()).collect();
    let seen = differs(work, &key, &zones, inputs.zone.answered).await?;
    Ok(match (seen, work.mode) {
        (None, Mode::Apply) => Did::Told(Object::from_iter([("name".to_owned(), json!(name.as_str()))])),
        (None, _) => Did::nothing(),
        (Some(saw), Mode::Check) => Did::Drifted(saw),
        (Some(saw), _) => later(job, saw),
    })
}

/// The whole name of the key, what it may change by zone, and the key itself.
fn read(inputs: &Inputs) -> Result<(Name, BTreeMap<String, String>, Key), Did> {
    let zone = Name::parse(&inputs.zone.name).map_err(crooked)?;
    let name = zone.below(&inputs.name).map_err(crooked)?;
    let mut zones = BTreeMap::new();
    if inputs.below.is_empty() {
        zones.extend(inputs.zone.reverse.iter().map(|zone| (zone.clone(), zone.clone())));
        zones.insert(zone.to_string(), zone.to_string());
    } else {
        let below = Name::of_record(&format!("{}.{zone}", inputs.below)).map_err(crooked)?;
        zones.insert(zone.to_string(), below.to_string());
    }
    let wrong = |error| Did::failed("dns-key", format!("`secret` is none: {error}"));
    let key = Key::parse(&format!("hmac-sha256:{name}:{}", inputs.secret)).map_err(wrong)?;
    Ok((name, zones, key))
}

/// What an engine says that is not as it should be, to a change that changes nothing.
async fn differs(work: &Work<'_>, key: &Key, zones: &[Name], answered: bool) -> Result<Option<String>, StoreError> {
    let servers = dns::servers(&work.shared.pool).await?;
    let servers: Vec<SocketAddr> = servers.iter().filter_map(|server| server.parse().ok()).collect();
    if servers.is_empty() && answered && work.mode != Mode::Remove {
        return Ok(Some("no engine answers DNS questions; one does with `plinth serve --dns ADDRESS:PORT`".to_owned()));
    }
    let looks = servers.iter().flat_map(|server| zones.iter().map(move |zone| look(*server, key, zone, work.mode)));
    Ok(future::join_all(looks).await.into_iter().flatten().next())
}

async fn look(server: SocketAddr, key: &Key, zone: &Name, mode: Mode) -> Option<String> {
    match (update(server, key, zone, &[], ANSWER).await, mode) {
        (Ok(()), Mode::Remove) => Some(format!("{server} still takes changes of {zone} with the key")),
        (Ok(()), _) => None,
        // A key that it does not know, or a zone that is not there any more.
        (Err(error), Mode::Remove) if error.code() == "dns-refused" => None,
        (Err(error), _) => Some(error.to_string()),
    }
}
