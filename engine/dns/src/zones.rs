//! Zones in memory, changed a name at a time.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::change::Grant;
use crate::name::Name;
use crate::text::Text;

/// How long the answer that a name does not exist may be kept, in seconds. Names come in the middle of work.
pub(crate) const NEGATIVE: u32 = 5;
/// What secondaries would go by, had we any: refresh, retry, expire, in seconds.
const TIMES: [u32; 3] = [3600, 600, 604_800];

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// An IPv4 address.
    A,
    /// An IPv6 address.
    Aaaa,
    /// The name of an address.
    Ptr,
    /// Words, for programs that read them.
    Txt,
    /// What a zone says of itself.
    Soa,
    /// Who answers for a zone.
    Ns,
}

impl Kind {
    /// As in records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::Aaaa => "AAAA",
            Self::Ptr => "PTR",
            Self::Txt => "TXT",
            Self::Soa => "SOA",
            Self::Ns => "NS",
        }
    }

    /// Of those that a node role or a key can have.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::A, Self::Aaaa, Self::Ptr, Self::Txt].into_iter().find(|kind| kind.as_str() == text)
    }

    pub(crate) fn code(self) -> u16 {
        match self {
            Self::A => 1,
            Self::Ns => 2,
            Self::Soa => 6,
            Self::Ptr => 12,
            Self::Txt => 16,
            Self::Aaaa => 28,
        }
    }
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Data {
    /// An address.
    Address(IpAddr),
    /// A name.
    Name(Name),
    /// Words.
    Text(Text),
}

impl Data {
    /// Reads what is stored beside its kind.
    pub fn parse(kind: &str, value: &str) -> Option<Self> {
        match kind {
            "A" => value.parse::<Ipv4Addr>().ok().map(|four| Self::Address(four.into())),
            "AAAA" => value.parse::<Ipv6Addr>().ok().map(|six| Self::Address(six.into())),
            "PTR" => Name::parse(value).ok().map(Self::Name),
            "TXT" => Text::parse(value).map(Self::Text),
            _ => None,
        }
    }

    /// What kind of record says it.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Address(IpAddr::V4(_)) => Kind::A,
            Self::Address(IpAddr::V6(_)) => Kind::Aaaa,
            Self::Name(_) => Kind::Ptr,
            Self::Text(_) => Kind::Txt,
        }
    }

    pub(crate) fn wire(&self) -> Box<[u8]> {
        match self {
            Self::Address(IpAddr::V4(four)) => Box::new(four.octets()),
            Self::Address(IpAddr::V6(six)) => Box::new(six.octets()),
            Self::Name(name) => name.wire(),
            Self::Text(text) => text.wire(),
        }
    }
}

impl fmt::Display for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Name(name) => name.fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
}

/// The serial of a generation. Serials are compared modulo 2^32 (RFC 1982), so it may go round as long as nobody misses
/// half of the way.
pub fn serial(generation: i64) -> u32 {
    u32::try_from(generation & 0xffff_ffff).unwrap_or(0)
}

/// All records of one kind at one name.
#[derive(Debug)]
pub(crate) struct Set {
    pub(crate) kind: u16,
    pub(crate) ttl: u32,
    pub(crate) values: Vec<Box<[u8]>>,
}

/// A name of a zone.
#[derive(Debug, Default)]
pub(crate) struct Owner {
    pub(crate) sets: Vec<Set>,
    /// How many names with records are below it: it exists as long as there are any.
    below: usize,
}

/// A zone.
#[derive(Debug)]
pub(crate) struct Zone {
    apex: Box<[u8]>,
    pub(crate) owners: HashMap<Box<[u8]>, Owner>,
    grants: Vec<Grant>,
}

impl Zone {
    /// What it says of itself.
    pub(crate) fn soa(&self) -> Option<&Set> {
        self.owners.get(&self.apex)?.sets.iter().find(|set| set.kind == Kind::Soa.code())
    }
}

/// The zones that a server answers for.
#[derive(Debug, Default)]
pub struct Zones {
    zones: HashMap<Box<[u8]>, Zone>,
}

impl Zones {
    /// A zone as it is now; a new one begins without names. `own`: where this server answers, which is what the name of its
    /// server (`ns.ZONE`) says.
    pub fn put(&mut self, name: &Name, generation: i64, ttl: u32, own: &[IpAddr]) {
        let key = name.wire();
        let new = || Zone { apex: key.clone(), owners: HashMap::new(), grants: Vec::new() };
        let zone = self.zones.entry(key.clone()).or_insert_with(new);
        let mut server = vec![2, b'n', b's'];
        server.extend_from_slice(&key);
        let mut contact = vec![10];
        contact.extend_from_slice(b"hostmaster");
        contact.extend_from_slice(&key);
        let mut soa = server.clone();
        soa.extend_from_slice(&contact);
        for number in [serial(generation)].into_iter().chain(TIMES).chain([NEGATIVE]) {
            soa.extend_from_slice(&number.to_be_bytes());
        }
        zone.set(&key, Set { kind: Kind::Soa.code(), ttl, values: vec![soa.into()] });
        zone.set(&key, Set { kind: Kind::Ns.code(), ttl, values: vec![server.clone().into()] });
        for kind in [Kind::A, Kind::Aaaa] {
            let own = own.iter().map(|address| Data::Address(*address)).filter(|data| data.kind() == kind);
            zone.set(&server, Set { kind: kind.code(), ttl, values: own.map(|data| data.wire()).collect() });
        }
    }

    /// No zone of ours any more.
    pub fn remove(&mut self, name: &Name) {
        self.zones.remove(&name.wire());
    }

    /// Who may change a zone over the network, in the place of those before.
    pub fn grant(&mut self, zone: &Name, grants: Vec<Grant>) {
        if let Some(zone) = self.zones.get_mut(&zone.wire()) {
            zone.grants = grants;
        }
    }

    /// The grants of a zone of this very name. `None`: there is no such zone.
    pub(crate) fn grants(&self, zone: &Name) -> Option<&[Grant]> {
        self.zones.get(&zone.wire()).map(|zone| zone.grants.as_slice())
    }

    /// All records of a kind at a name, in the place of those before. What is not in the zone, or of another kind, is left
    /// out; without values the name has no record of that kind.
    pub fn set(&mut self, zone: &Name, name: &Name, kind: Kind, ttl: u32, values: &[Data]) {
        let key = zone.wire();
        if let Some(zone) = self.zones.get_mut(&key).filter(|_| name.is_in(zone)) {
            let values = values.iter().filter(|data| data.kind() == kind).map(Data::wire).collect();
            zone.set(&name.wire(), Set { kind: kind.code(), ttl, values });
        }
    }

    /// The zone that a name is in, the longest of several, and how many bytes of the name come before it.
    pub(crate) fn of(&self, name: &[u8]) -> Option<(&Zone, usize)> {
        let mut at = 0;
        loop {
            if let Some(zone) = self.zones.get(&name[at..]) {
                return Some((zone, at));
            }
            at += 1 + usize::from(*name.get(at).filter(|length| **length > 0)?);
        }
    }
}

impl Zone {
    fn set(&mut self, name: &[u8], set: Set) {
        let owner = self.owners.entry(name.into()).or_default();
        let before = !owner.sets.is_empty();
        owner.sets.retain(|other| other.kind != set.kind);
        if !set.values.is_empty() {
            owner.sets.push(set);
        }
        let after = !owner.sets.is_empty();
        if !after && owner.below == 0 {
            self.owners.remove(name);
        }
        if before != after {
            self.count(name, after);
        }
    }

    /// The names between one and its zone have one more below them, or one less.
    fn count(&mut self, name: &[u8], more: bool) {
        let mut at = 0;
        while name.len() - at > self.apex.len() {
            at += 1 + usize::from(name[at]);
            let above = self.owners.entry(name[at..].into()).or_default();
            above.below = if more { above.below + 1 } else { above.below.saturating_sub(1) };
            if above.below == 0 && above.sets.is_empty() {
                self.owners.remove(&name[at..]);
            }
        }
    }
}
