//! From a packet to its answer, without anything else: no wait, no failure, and no more work than an answer can hold.

use crate::zones::{NEGATIVE, Set, Zone, Zones};

/// How a packet came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// In one datagram.
    Udp,
    /// On a connection.
    Tcp,
}

const HEADER: usize = 12;
/// The longest name as it travels.
const LONGEST_NAME: usize = 255;
/// Longer datagrams get lost on some ways (DNS flag day 2020); who asks for more gets this much.
const LARGEST: usize = 1232;
/// What anybody can take in a datagram.
const SMALLEST: usize = 512;
/// Additional records of a question that are looked at: what extends it, and a signature.
const ADDITIONAL: u16 = 4;

const NO_ERROR: u8 = 0;
const FORMAT: u8 = 1;
const NO_SUCH_NAME: u8 = 3;
const NOT_IMPLEMENTED: u8 = 4;
const REFUSED: u8 = 5;
/// Upper bits of 16, which only an extended answer has room for.
const BAD_VERSION: u8 = 1;

const CLASS_IN: u16 = 1;
const CLASS_ANY: u16 = 255;
const TYPE_OPT: u16 = 41;
/// Transfers: of changes, of everything, of mail.
const TRANSFERS: std::ops::RangeInclusive<u16> = 251..=254;
const TYPE_ANY: u16 = 255;

struct Question {
    /// In small letters.
    name: [u8; LONGEST_NAME],
    length: usize,
    kind: u16,
    class: u16,
    /// Where it ends in its packet.
    end: usize,
}

/// What extends a question (RFC 6891).
#[derive(Clone, Copy)]
struct Extended {
    size: usize,
    version: u8,
}

/// Writes the answer to a packet, and nothing if there is none to be given. `answer` is emptied first.
pub fn answer(zones: &Zones, packet: &[u8], over: Over, answer: &mut Vec<u8>) {
    answer.clear();
    // Too short to be told apart, or an answer itself: whoever answers answers for ever.
    if packet.len() < HEADER || packet[2] & 0x80 != 0 {
        return;
    }
    let opcode = packet[2] >> 3 & 15;
    answer.extend_from_slice(&packet[..2]);
    // An answer, to the same kind of question, recursion desired as it was; not available.
    answer.extend_from_slice(&[0x80 | packet[2] & 0x79, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    if opcode != 0 {
        answer[3] = NOT_IMPLEMENTED;
        return;
    }
    let Some((question, extended)) = read(packet) else {
        answer[3] = FORMAT;
        return;
    };
    answer[5] = 1;
    answer.extend_from_slice(&packet[HEADER..question.end]);
    let room = match (over, extended) {
        (Over::Tcp, _) => usize::from(u16::MAX),
        (Over::Udp, Some(extended)) => extended.size.clamp(SMALLEST, LARGEST),
        (Over::Udp, None) => SMALLEST,
    };
    let kept = if extended.is_some() { room - 11 } else { room };
    let mut high = 0;
    match extended {
        Some(extended) if extended.version > 0 => high = BAD_VERSION,
        _ => fill(zones, &question, kept, answer),
    }
    if extended.is_some() {
        answer[11] = 1;
        let size = u16::try_from(LARGEST).unwrap_or(u16::MAX).to_be_bytes();
        answer.extend_from_slice(&[0, 0, 41, size[0], size[1], high, 0, 0, 0, 0, 0]);
    }
}

/// Answer and authority, or that there is no room for them.
fn fill(zones: &Zones, question: &Question, room: usize, answer: &mut Vec<u8>) {
    let name = &question.name[..question.length];
    let ours = matches!(question.class, CLASS_IN | CLASS_ANY) && !TRANSFERS.contains(&question.kind);
    let Some((zone, at)) = zones.of(name).filter(|_| ours) else {
        answer[3] = REFUSED;
        return;
    };
    let owner = zone.owners.get(name);
    // Of all kinds one is enough (RFC 8482).
    let wanted = |set: &&Set| set.kind == question.kind || question.kind == TYPE_ANY;
    let found = owner.and_then(|owner| owner.sets.iter().find(wanted));
    let begin = answer.len();
    answer[2] |= 0x04;
    let (fits, count) = match found {
        Some(set) => (put(answer, 0, set, set.ttl, room), [set.values.len(), 0]),
        None => {
            answer[3] = if owner.is_some() { NO_ERROR } else { NO_SUCH_NAME };
            (deny(answer, zone, at, room), [0, 1])
        }
    };
    if fits {
        for (place, count) in [6, 8].into_iter().zip(count) {
            answer[place..place + 2].copy_from_slice(&u16::try_from(count).unwrap_or(u16::MAX).to_be_bytes());
        }
    } else {
        // Who needs it asks again over TCP.
        answer.truncate(begin);
        answer[2] |= 0x02;
    }
}

/// The zone's word on itself, by which an answer that there is nothing may be kept (RFC 2308).
fn deny(answer: &mut Vec<u8>, zone: &Zone, at: usize, room: usize) -> bool {
    let Some(soa) = zone.soa() else { return true };
    put(answer, at, soa, soa.ttl.min(NEGATIVE), room)
}

/// Records of the name that begins `at` bytes into that of the question. `false`: no room for all of them.
fn put(answer: &mut Vec<u8>, at: usize, set: &Set, ttl: u32, room: usize) -> bool {
    // No name is longer than 255, so this fits the 14 bits of a pointer.
    let [high, low] = u16::try_from(HEADER + at).unwrap_or(0).to_be_bytes();
    for value in &set.values {
        if answer.len() + 12 + value.len() > room {
            return false;
        }
        answer.extend_from_slice(&[0xc0 | high, low]);
        answer.extend_from_slice(&set.kind.to_be_bytes());
        answer.extend_from_slice(&CLASS_IN.to_be_bytes());
        answer.extend_from_slice(&ttl.to_be_bytes());
        answer.extend_from_slice(&u16::try_from(value.len()).unwrap_or(0).to_be_bytes());
        answer.extend_from_slice(value);
    }
    true
}

/// The one question of a packet; nothing if it is no sound question.
fn read(packet: &[u8]) -> Option<(Question, Option<Extended>)> {
    let count = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
    let additional = count(10);
    if count(4) != 1 || count(6) != 0 || count(8) != 0 || additional > ADDITIONAL {
        return None;
    }
    let question = question(packet)?;
    let (mut at, mut extended) = (question.end, None);
    for _ in 0..additional {
        let begin = at;
        at = skip_name(packet, at)?;
        let [kind_high, kind_low, size_high, size_low, _, version, _, _, high, low] =
            *packet.get(at..)?.first_chunk()?;
        at += 10 + usize::from(u16::from_be_bytes([high, low]));
        if at > packet.len() {
            return None;
        }
        if u16::from_be_bytes([kind_high, kind_low]) == TYPE_OPT {
            let size = usize::from(u16::from_be_bytes([size_high, size_low]));
            // There is one, and it is of the root.
            if packet[begin] != 0 || extended.replace(Extended { size, version }).is_some() {
                return None;
            }
        }
    }
    Some((question, extended))
}

fn question(packet: &[u8]) -> Option<Question> {
    let mut name = [0; LONGEST_NAME];
    let mut at = HEADER;
    let mut length = 0;
    loop {
        // Of a question there is nothing before it that a pointer could mean.
        let label = usize::from(*packet.get(at).filter(|length| **length < 64)?);
        let part = packet.get(at..=at + label)?;
        name.get_mut(length..=length + label)?.copy_from_slice(part);
        at += 1 + label;
        length += 1 + label;
        if label == 0 {
            break;
        }
    }
    // Lengths of labels are below any letter.
    name[..length].make_ascii_lowercase();
    let [kind_high, kind_low, class_high, class_low] = *packet.get(at..)?.first_chunk()?;
    Some(Question {
        name,
        length,
        kind: u16::from_be_bytes([kind_high, kind_low]),
        class: u16::from_be_bytes([class_high, class_low]),
        end: at + 4,
    })
}

fn skip_name(packet: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *packet.get(at)? {
            0 => return Some(at + 1),
            length @ 1..64 => at += 1 + usize::from(length),
            192.. => return Some(at + 2),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests;
