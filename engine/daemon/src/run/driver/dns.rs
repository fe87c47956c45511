//! Zones and names of node roles. They count as done when every engine that answers questions answers them so, and every server
//! that they are pushed to.

mod key;
mod push;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use engine_agent::protocol::Mode;
use engine_core::document::Object;
use engine_dns::{Kind, Name, NameError, Over, ask, reverse_zone};
use engine_store::StoreError;
use engine_store::dns::{self, Change, Record, Written};
use engine_store::jobs::OpenJob;
use futures::future;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

pub(super) use self::key::key;
use self::push::{Push, Pushed};
use super::super::later::pause;
use super::{Did, Work};
use crate::shared::Shared;

/// A server that does not answer within this is looked at again later.
const ANSWER: Duration = Duration::from_millis(500);
/// This engine takes in what was written within this, nearly always; a job is not put away for that.
const SOON: Duration = Duration::from_millis(50);

#[derive(Deserialize)]
struct ZoneInputs {
    name: String,
    #[serde(default)]
    subnets: Vec<String>,
    ttl: i32,
    #[serde(default)]
    pushes: Vec<Push>,
    /// Does anybody have to answer? Those who do answer always have to.
    answered: bool,
}

/// As the role of a zone outputs it.
#[derive(Deserialize)]
struct ZoneHandle {
    name: String,
    reverse: Vec<String>,
    ttl: i32,
    pushes: Vec<Push>,
    answered: bool,
}

#[derive(Deserialize)]
struct RecordInputs {
    zone: ZoneHandle,
    name: String,
    address: IpAddr,
}

#[derive(Deserialize)]
struct ServiceInputs {
    zone: ZoneHandle,
    name: String,
    /// By node; the same one twice counts once.
    addresses: BTreeMap<String, Ipv4Addr>,
}

/// Names, and who else is to have them.
struct Wanted {
    zone: ZoneHandle,
    /// The one that is told.
    fqdn: Name,
    records: Vec<Named>,
}

/// What servers are to answer.
struct Expected {
    name: Name,
    kind: Kind,
    values: Values,
}

enum Values {
    /// These, and no others.
    Exactly(Vec<String>),
    /// Some, whatever they are.
    Some,
}

/// A zone, and the zones of the addresses in its subnets.
pub(super) async fn zone(work: &Work<'_>) -> Result<Did, StoreError> {
    let (inputs, names) = match work.read::<ZoneInputs>().and_then(|inputs| Ok((zone_names(&inputs)?, inputs))) {
        Ok((names, inputs)) => (inputs, names),
        Err(did) => return Ok(did),
    };
    let (shared, job, remove) = (work.shared, work.job, work.mode == Mode::Remove);
    let texts: Vec<String> = names.iter().map(ToString::to_string).collect();
    if work.mode == Mode::Check {
        let mut wanted = texts.clone();
        wanted.sort_unstable();
        let has = dns::zones_of(&shared.pool, job.vertex).await?;
        if has != wanted {
            return Ok(Did::Drifted(format!("it has the zones {}", has.join(", "))));
        }
    } else {
        let (held, of) = ((job.job, job.fence), (job.deployment, job.vertex));
        let wanted: &[String] = if remove { &[] } else { &texts };
        let written = dns::set_zones(&shared.pool, shared.engine(), held, of, wanted, inputs.ttl).await?;
        if let Some(did) = refused(written) {
            return Ok(did);
        }
    }
    let values = || if remove { Values::Exactly(Vec::new()) } else { Values::Some };
    let expected: Vec<Expected> =
        names.into_iter().map(|name| Expected { name, kind: Kind::Soa, values: values() }).collect();
    let (name, reverse) = texts.split_first().map_or((json!(""), json!([])), |(name, rest)| (json!(name), json!(rest)));
    let pushes = &inputs.pushes;
    let output =
        json!({"name": name, "reverse": reverse, "ttl": inputs.ttl, "pushes": pushes, "answered": inputs.answered});
    // Zones of others are theirs: they stay when ours go.
    let others = if remove { &[][..] } else { &inputs.pushes };
    observed(work, (others, inputs.answered), &expected, ("zone", output)).await
}

/// The name of a node, and the way back from its address where that zone is ours too.
pub(super) async fn record(work: &Work<'_>) -> Result<Did, StoreError> {
    match work.read().and_then(records) {
        Ok(wanted) => publish(work, wanted).await,
        Err(did) => Ok(did),
    }
}

/// The name of a service, with the addresses of those that serve. Without any there is no such name.
pub(super) async fn service(work: &Work<'_>) -> Result<Did, StoreError> {
    match work.read().and_then(service_record) {
        Ok(wanted) => publish(work, wanted).await,
        Err(did) => Ok(did),
    }
}

async fn publish(work: &Work<'_>, wanted: Wanted) -> Result<Did, StoreError> {
    let Wanted { zone, fqdn, records } = wanted;
    let pushes = &zone.pushes;
    let (shared, job, remove) = (work.shared, work.job, work.mode == Mode::Remove);
    let sets = push::sets(&records, remove);
    let mut expected = Vec::new();
    for (name, kind, record) in &records {
        let values = if remove { Vec::new() } else { record.data.clone() };
        expected.push(Expected { name: name.clone(), kind: *kind, values: Values::Exactly(values) });
    }
    let mut wanted: Vec<Record> =
        records.into_iter().map(|(_, _, record)| record).filter(|record| !record.data.is_empty()).collect();
    if work.mode == Mode::Check {
        wanted.sort_unstable_by(|a, b| (&a.name, &a.kind).cmp(&(&b.name, &b.kind)));
        let has = dns::records_of(&shared.pool, job.vertex).await?;
        if has != wanted {
            let has: Vec<&str> = has.iter().map(|record| record.name.as_str()).collect();
            return Ok(Did::Drifted(format!("it has other records than it should, at {}", has.join(", "))));
        }
    } else {
        let records = if remove { Vec::new() } else { wanted };
        let (deployment, vertex) = (job.deployment, job.vertex);
        let did = match shared.names.ask(Change { job: (job.job, job.fence), deployment, vertex, records }).await {
            // The engine ends.
            None => Some(Did::NotOurs),
            Some(Err(failure)) => Some(Did::Failed(failure)),
            Some(Ok(written)) => refused(written),
        };
        if let Some(did) = did {
            return Ok(did);
        }
        match push::push(pushes, &sets).await {
            Pushed::Done => {}
            Pushed::Refused(failure) => return Ok(Did::Failed(failure)),
            Pushed::NotYet(saw) => return Ok(later(job, saw)),
        }
    }
    observed(work, (pushes, zone.answered), &expected, ("fqdn", json!(fqdn.as_str()))).await
}

fn crooked(error: NameError) -> Did {
    Did::failed(error.code(), error.to_string())
}

/// The zone first.
fn zone_names(inputs: &ZoneInputs) -> Result<Vec<Name>, Did> {
    let mut names = vec![Name::parse(&inputs.name).map_err(crooked)?];
    for subnet in &inputs.subnets {
        let name = reverse_zone(subnet).map_err(crooked)?;
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

type Named = (Name, Kind, Record);

fn records(inputs: RecordInputs) -> Result<Wanted, Did> {
    let zone = Name::parse(&inputs.zone.name).map_err(crooked)?;
    let name = zone.below(&inputs.name).map_err(crooked)?;
    let kind = if inputs.address.is_ipv4() { Kind::A } else { Kind::Aaaa };
    let record = |zone: &str, name: &Name, kind: Kind, data: String| Record {
        zone: zone.to_owned(),
        name: name.to_string(),
        kind: kind.as_str().to_owned(),
        data: vec![data],
        ttl: inputs.zone.ttl,
    };
    let mut records = vec![(name.clone(), kind, record(zone.as_str(), &name, kind, inputs.address.to_string()))];
    let back = Name::of_address(inputs.address);
    let reverse = inputs.zone.reverse.iter().filter_map(|zone| Name::parse(zone).ok()).filter(|zone| back.is_in(zone));
    // Of zones within zones the one that is asked.
    if let Some(zone) = reverse.max_by_key(|zone| zone.as_str().len()) {
        records.push((back.clone(), Kind::Ptr, record(zone.as_str(), &back, Kind::Ptr, name.to_string())));
    }
    Ok(Wanted { zone: inputs.zone, fqdn: name, records })
}

fn service_record(inputs: ServiceInputs) -> Result<Wanted, Did> {
    let zone = Name::parse(&inputs.zone.name).map_err(crooked)?;
    let name = zone.below(&inputs.name).map_err(crooked)?;
    // As servers' answers are compared.
    let data: BTreeSet<String> = inputs.addresses.values().map(ToString::to_string).collect();
    let record = Record {
        zone: zone.to_string(),
        name: name.to_string(),
        kind: Kind::A.as_str().to_owned(),
        data: data.into_iter().collect(),
        ttl: inputs.zone.ttl,
    };
    Ok(Wanted { zone: inputs.zone, fqdn: name.clone(), records: vec![(name, Kind::A, record)] })
}

/// What becomes of a job that could not write.
fn refused(written: Written) -> Option<Did> {
    Some(match written {
        Written::Done => return None,
        Written::NotOurs => Did::NotOurs,
        Written::Taken { name } => Did::failed("dns-taken", format!("`{name}` belongs to another node role")),
        Written::NoZone { name } => Did::failed("dns-no-zone", format!("the deployment has no zone `{name}`")),
    })
}

/// Done if all servers answer as expected; else what one of them said.
async fn observed(
    work: &Work<'_>,
    others: (&[Push], bool),
    expected: &[Expected],
    (output, value): (&str, Value),
) -> Result<Did, StoreError> {
    let mut taken_in = work.shared.taken_in.subscribe();
    let differs = async || differs(work.shared, others, expected).await;
    let mut seen = differs().await?;
    let end = Instant::now() + SOON;
    // Others are not waited for: this engine hears of their answers only by asking.
    while seen.is_some() && work.mode != Mode::Check && !work.shared.dns.is_empty() {
        match timeout_at(end, taken_in.changed()).await {
            Ok(Ok(())) => seen = differs().await?,
            _ => break,
        }
    }
    Ok(match (seen, work.mode) {
        (None, Mode::Apply) => Did::Told(Object::from_iter([(output.to_owned(), value)])),
        (None, _) => Did::nothing(),
        (Some(saw), Mode::Check) => Did::Drifted(saw),
        (Some(saw), _) => later(work.job, saw),
    })
}

fn later(job: &OpenJob, saw: String) -> Did {
    Did::NotYet(saw, pause(job))
}

/// What a server says that is not as expected, to follow `sees that`.
async fn differs(
    shared: &Shared,
    (pushes, answered): (&[Push], bool),
    expected: &[Expected],
) -> Result<Option<String>, StoreError> {
    let servers = dns::servers(&shared.pool).await?;
    let engines = servers.iter().filter_map(|server| server.parse().ok());
    let servers: Vec<SocketAddr> = engines.chain(pushes.iter().map(|push| push.server)).collect();
    if servers.is_empty() && answered {
        return Ok(Some("no engine answers DNS questions; one does with `plinth serve --dns ADDRESS:PORT`".to_owned()));
    }
    let questions = servers.iter().flat_map(|server| expected.iter().map(move |expected| (*server, expected)));
    let looks = questions.map(|(server, expected)| look(server, expected));
    Ok(future::join_all(looks).await.into_iter().flatten().next())
}

async fn look(server: SocketAddr, expected: &Expected) -> Option<String> {
    let Expected { name, kind, values } = expected;
    let seen = match ask(server, name, *kind, Over::Udp, ANSWER).await {
        Ok(seen) => seen,
        Err(error) => return Some(error.to_string()),
    };
    let fits = match values {
        // That nothing is there is said by who knows, and by who does not have the zone; not by who can not look.
        Values::Exactly(values) => seen.values == *values && ["NOERROR", "NXDOMAIN", "REFUSED"].contains(&seen.code),
        Values::Some => seen.authoritative && !seen.values.is_empty(),
    };
    let said = if seen.values.is_empty() { seen.code.to_owned() } else { seen.values.join(", ") };
    (!fits).then(|| format!("{server} answers {said} to {} {name}", kind.as_str()))
}
