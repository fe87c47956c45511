//! What a change says, as far as it can be read before anything is looked at (RFC 2136, sections 3.1, 3.2 and 3.4.1).

use std::collections::{BTreeMap, BTreeSet};

use hickory_proto::op::Message;
use hickory_proto::rr::{DNSClass, Name as Wire, RData, Record, RecordType};

use super::{Asked, Code, Edit, Want};
use crate::name::Name;
use crate::text::Text;
use crate::zones::{Data, Kind};

/// The zone that a change is of.
pub(super) fn zone(message: &Message) -> Result<Name, Code> {
    let [zone] = &message.queries[..] else { return Err(Code::Format) };
    if zone.query_type() != RecordType::SOA || zone.query_class() != DNSClass::IN {
        return Err(Code::Format);
    }
    name(zone.name())
}

/// A name that we can have.
pub(super) fn name(wire: &Wire) -> Result<Name, Code> {
    Name::of_record(&wire.to_ascii()).map_err(|_| Code::Refused)
}

pub(super) fn asked(message: &Message, zone: Name, key: Name, below: Name) -> Result<Asked, Code> {
    let mut asked = Asked { zone, key, below, wants: Vec::new(), edits: Vec::new() };
    let mut exactly: BTreeMap<(Name, Kind), BTreeSet<Data>> = BTreeMap::new();
    for record in &message.answers {
        let name = in_zone(&asked.zone, record)?;
        let kind = record.record_type();
        let empty = matches!(record.data, RData::Update0(_));
        if record.ttl != 0 {
            return Err(Code::Format);
        }
        asked.wants.push(match (record.dns_class, kind, empty) {
            (DNSClass::ANY, RecordType::ANY, true) => Want::Used(name),
            (DNSClass::NONE, RecordType::ANY, true) => Want::Unused(name),
            (DNSClass::ANY, kind, true) => Want::Some(name, u16::from(kind)),
            (DNSClass::NONE, kind, true) => Want::None(name, u16::from(kind)),
            (DNSClass::IN, _, false) => {
                // Of a kind that we do not have nothing is there.
                let data = data(&record.data).ok_or(Code::NoSuchSet)?;
                exactly.entry((name, data.kind())).or_default().insert(data);
                continue;
            }
            _ => return Err(Code::Format),
        });
    }
    asked.wants.extend(exactly.into_iter().map(|((name, kind), values)| Want::Exactly(name, kind, values)));
    for record in &message.authorities {
        let edit = edit(&asked.zone, record)?;
        asked.edits.extend(edit);
    }
    Ok(asked)
}

/// What one record of the update section means; nothing for what is never there.
fn edit(zone: &Name, record: &Record) -> Result<Option<Edit>, Code> {
    let name = in_zone(zone, record)?;
    let kind = record.record_type();
    let empty = matches!(record.data, RData::Update0(_));
    // Kinds of questions, which no record has.
    let question = (249..=255).contains(&u16::from(kind));
    Ok(match (record.dns_class, empty, record.ttl) {
        (DNSClass::IN, false, ttl) if !question => {
            let data = data(&record.data).ok_or(Code::Refused)?;
            // RFC 2181, section 8.
            Some(Edit::Add(name, if i32::try_from(ttl).is_ok() { ttl } else { 0 }, data))
        }
        (DNSClass::ANY, true, 0) if kind == RecordType::ANY => Some(Edit::RemoveName(name)),
        (DNSClass::ANY, true, 0) if !question => Some(Edit::RemoveSet(name, u16::from(kind))),
        (DNSClass::NONE, false, 0) if !question => data(&record.data).map(|data| Edit::Remove(name, data)),
        _ => return Err(Code::Format),
    })
}

fn in_zone(zone: &Name, record: &Record) -> Result<Name, Code> {
    let name = name(&record.name)?;
    if name.is_in(zone) { Ok(name) } else { Err(Code::NotInZone) }
}

/// Of the kinds that we have.
fn data(data: &RData) -> Option<Data> {
    Some(match data {
        RData::A(four) => Data::Address(four.0.into()),
        RData::AAAA(six) => Data::Address(six.0.into()),
        RData::PTR(name) => Data::Name(Name::parse(&name.0.to_ascii()).ok()?),
        RData::TXT(text) => Data::Text(Text::new(text.txt_data.to_vec())?),
        _ => return None,
    })
}
