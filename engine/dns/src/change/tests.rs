//! Changes as they come in, and what is answered to them.

use std::sync::Mutex;

use hickory_proto::op::Query;
use hickory_proto::rr::rdata::{A, CNAME};
use hickory_proto::rr::{DNSClass, Name as Wire, RData, Record, RecordType};
use proptest::prelude::*;

use super::*;

const SECRET: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const OTHER: &str = "ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA=";

fn name(text: &str) -> Name {
    Name::of_record(text).expect("a name")
}

fn wire(text: &str) -> Wire {
    Wire::from_ascii(format!("{text}.")).expect("a name")
}

/// Does what is asked for in memory.
#[derive(Default)]
struct Written(Mutex<Sets>);

impl Changes for Written {
    async fn change(&self, asked: Asked) -> Code {
        match asked.apply(&mut self.0.lock().expect("whole")) {
            Ok(()) => Code::Done,
            Err(code) => code,
        }
    }
}

/// There is `web` of a role, and `mine` of the key; the key may change what is below `apps`, or everything.
fn world(below: &str) -> (RwLock<Zones>, Written) {
    let (zone, mut zones, written) = (name("demo.internal"), Zones::default(), Written::default());
    zones.put(&zone, 1, 60, &["192.0.2.53".parse().expect("an address")]);
    zones.grant(&zone, vec![Grant::new(name("key.demo.internal"), SECRET, name(below)).expect("a key")]);
    let held = |own, address| {
        let values = BTreeSet::from([Data::parse("A", address).expect("an address")]);
        Held { own, ttl: 60, values }
    };
    let mut sets = written.0.lock().expect("whole");
    sets.insert((name("web.demo.internal"), Kind::A), held(false, "192.0.2.7"));
    sets.insert((name("mine.demo.internal"), Kind::A), held(true, "192.0.2.8"));
    drop(sets);
    (RwLock::new(zones), written)
}

/// One record: class, name, kind, lifetime, and an address if it has data.
type Line = (DNSClass, &'static str, RecordType, u32, Option<&'static str>);

fn record((class, of, kind, ttl, data): Line) -> Record {
    let mut record = match data {
        Some(text) if kind == RecordType::CNAME => Record::from_rdata(wire(of), ttl, RData::CNAME(CNAME(wire(text)))),
        Some(text) => Record::from_rdata(wire(of), ttl, RData::A(A(text.parse().expect("an address")))),
        None => Record::update0(wire(of), ttl, kind),
    };
    record.dns_class = class;
    record
}

fn message(zone: &str, wants: &[Line], edits: &[Line]) -> Message {
    let mut message = Message::query();
    message.metadata.id = 4711;
    message.metadata.op_code = OpCode::Update;
    message.add_query(Query::query(wire(zone), RecordType::SOA));
    message.add_answers(wants.iter().copied().map(record));
    message.add_authorities(edits.iter().copied().map(record));
    message
}

fn signed(mut message: Message, key: &str, secret: &str, at: u64) -> Vec<u8> {
    message.finalize(&Key::new(key, secret).expect("a key").0, at).expect("signed");
    message.to_vec().expect("a packet")
}

async fn said(zones: &RwLock<Zones>, written: &Written, packet: &[u8]) -> (ResponseCode, Option<Option<TsigError>>) {
    let answer = Message::from_vec(&answer(zones, packet, written).await).expect("an answer");
    assert_eq!((answer.metadata.id, answer.metadata.message_type), (4711, MessageType::Response));
    (answer.metadata.response_code, answer.signature.map(|signature| signature.data.error))
}

#[tokio::test]
async fn only_who_has_the_key_changes_anything() {
    let (zones, written) = world("demo.internal");
    let before = written.0.lock().expect("whole").clone();
    let adds: &[Line] = &[(DNSClass::IN, "new.demo.internal", RecordType::A, 60, Some("192.0.2.9"))];
    let asked = || message("demo.internal", &[], adds);
    let key = "key.demo.internal";
    let mut forged = signed(asked(), key, SECRET, now());
    // The last number of the address.
    let at = forged.windows(4).position(|bytes| bytes == [192, 0, 2, 9]).expect("the address");
    forged[at + 3] = 66;
    let mut old = signed(asked(), key, SECRET, 10);
    old[0] = 18;
    old[1] = 103;
    for (what, packet, code, error) in [
        ("not signed", asked().to_vec().expect("a packet"), ResponseCode::Refused, None),
        ("another secret", signed(asked(), key, OTHER, now()), ResponseCode::NotAuth, Some(Some(TsigError::BadSig))),
        ("another key", signed(asked(), "else", SECRET, now()), ResponseCode::NotAuth, Some(Some(TsigError::BadKey))),
        ("changed on the way", forged, ResponseCode::NotAuth, Some(Some(TsigError::BadSig))),
        (
            "an hour ago",
            signed(asked(), key, SECRET, now() - 3600),
            ResponseCode::NotAuth,
            Some(Some(TsigError::BadTime)),
        ),
        (
            "in an hour",
            signed(asked(), key, SECRET, now() + 3600),
            ResponseCode::NotAuth,
            Some(Some(TsigError::BadTime)),
        ),
        ("before all time", old, ResponseCode::FormErr, None),
        (
            "a zone of others",
            signed(message("else.internal", &[], &[]), key, SECRET, now()),
            ResponseCode::NotAuth,
            Some(Some(TsigError::BadKey)),
        ),
    ] {
        assert_eq!(said(&zones, &written, &packet).await, (code, error), "{what}");
        assert_eq!(*written.0.lock().expect("whole"), before, "{what}");
    }
    let told = said(&zones, &written, &signed(asked(), key, SECRET, now())).await;
    assert_eq!(told, (ResponseCode::NoError, Some(None)));
    assert!(written.0.lock().expect("whole").contains_key(&(name("new.demo.internal"), Kind::A)));
}

const IN: DNSClass = DNSClass::IN;
const ANY: DNSClass = DNSClass::ANY;
const NONE: DNSClass = DNSClass::NONE;
const WEB: &str = "web.demo.internal";
const MINE: &str = "mine.demo.internal";
const NEW: &str = "new.demo.internal";
const APEX: &str = "demo.internal";

#[tokio::test]
async fn what_is_asked_for_is_done_or_nothing_of_it() {
    let add: Line = (IN, NEW, RecordType::A, 60, Some("192.0.2.9"));
    let (refused, format) = (ResponseCode::Refused, ResponseCode::FormErr);
    // RFC 2136, sections 2.4 and 2.5.
    let cases: &[(&str, &[Line], &[Line], ResponseCode)] = &[
        ("a name", &[], &[add], ResponseCode::NoError),
        ("if a name is in use", &[(ANY, WEB, RecordType::ANY, 0, None)], &[add], ResponseCode::NoError),
        ("if it were in use", &[(ANY, NEW, RecordType::ANY, 0, None)], &[add], ResponseCode::NXDomain),
        ("if it is not in use", &[(NONE, NEW, RecordType::ANY, 0, None)], &[add], ResponseCode::NoError),
        ("if it were not in use", &[(NONE, WEB, RecordType::ANY, 0, None)], &[add], ResponseCode::YXDomain),
        ("the zone is in use", &[(NONE, APEX, RecordType::ANY, 0, None)], &[add], ResponseCode::YXDomain),
        ("if there is one of a kind", &[(ANY, WEB, RecordType::A, 0, None)], &[add], ResponseCode::NoError),
        ("if there were one", &[(ANY, WEB, RecordType::AAAA, 0, None)], &[add], ResponseCode::NXRRSet),
        ("the zone has a SOA", &[(ANY, APEX, RecordType::SOA, 0, None)], &[add], ResponseCode::NoError),
        ("if there is none of a kind", &[(NONE, WEB, RecordType::AAAA, 0, None)], &[add], ResponseCode::NoError),
        ("if there were none", &[(NONE, WEB, RecordType::A, 0, None)], &[add], ResponseCode::YXRRSet),
        ("if it is this", &[(IN, WEB, RecordType::A, 0, Some("192.0.2.7"))], &[add], ResponseCode::NoError),
        ("if it were this", &[(IN, WEB, RecordType::A, 0, Some("192.0.2.8"))], &[add], ResponseCode::NXRRSet),
        (
            "if it were both",
            &[(IN, WEB, RecordType::A, 0, Some("192.0.2.7")), (IN, WEB, RecordType::A, 0, Some("192.0.2.8"))],
            &[add],
            ResponseCode::NXRRSet,
        ),
        ("a want with a lifetime", &[(ANY, WEB, RecordType::A, 1, None)], &[add], format),
        ("a name of others", &[], &[add, (IN, WEB, RecordType::A, 60, Some("192.0.2.9"))], refused),
        ("another kind at a name of others", &[], &[(ANY, WEB, RecordType::AAAA, 0, None)], ResponseCode::NoError),
        ("the records of others", &[], &[add, (ANY, WEB, RecordType::ANY, 0, None)], refused),
        ("one record of others", &[], &[add, (NONE, WEB, RecordType::A, 0, Some("192.0.2.7"))], refused),
        ("the server's own name", &[], &[(IN, "ns.demo.internal", RecordType::A, 60, Some("192.0.2.9"))], refused),
        ("a kind that we do not have", &[], &[add, (IN, NEW, RecordType::CNAME, 60, Some(WEB))], refused),
        (
            "outside of the zone",
            &[],
            &[add, (IN, "a.else.internal", RecordType::A, 60, Some("192.0.2.9"))],
            ResponseCode::NotZone,
        ),
        ("a wildcard", &[], &[(IN, "*.demo.internal", RecordType::A, 60, Some("192.0.2.9"))], refused),
        ("one that is not there", &[], &[(NONE, NEW, RecordType::A, 0, Some("192.0.2.1"))], ResponseCode::NoError),
        ("a removal with a lifetime", &[], &[(ANY, MINE, RecordType::A, 1, None)], format),
        ("an addition without data", &[], &[(IN, NEW, RecordType::A, 60, None)], format),
        ("a removal with data", &[], &[(ANY, MINE, RecordType::A, 0, Some("192.0.2.8"))], format),
        ("another class", &[], &[(DNSClass::CH, NEW, RecordType::A, 60, Some("192.0.2.8"))], format),
    ];
    for (what, wants, edits, code) in cases {
        let (zones, written) = world("demo.internal");
        let before = written.0.lock().expect("whole").clone();
        let packet = signed(message("demo.internal", wants, edits), "key.demo.internal", SECRET, now());
        assert_eq!(said(&zones, &written, &packet).await, (*code, Some(None)), "{what}");
        let after = written.0.lock().expect("whole").clone();
        let added = *code == ResponseCode::NoError && edits.contains(&add);
        assert_eq!(after.len() - before.len(), usize::from(added), "{what}");
        assert!(added || after == before, "{what}");
    }
}

#[tokio::test]
async fn what_a_key_put_there_it_changes_and_takes_away() {
    let (zones, written) = world("demo.internal");
    let addresses = |of: &str| -> Vec<String> {
        let sets = written.0.lock().expect("whole");
        let held = sets.get(&(name(of), Kind::A));
        held.into_iter().flat_map(|held| held.values.iter().map(ToString::to_string)).collect()
    };
    let steps: &[(&[Line], &[&str])] = &[
        (&[(IN, MINE, RecordType::A, 5, Some("192.0.2.9"))], &["192.0.2.8", "192.0.2.9"]),
        (&[(NONE, MINE, RecordType::A, 0, Some("192.0.2.8"))], &["192.0.2.9"]),
        (&[(ANY, MINE, RecordType::A, 0, None), (IN, MINE, RecordType::A, 5, Some("192.0.2.1"))], &["192.0.2.1"]),
        (&[(NONE, MINE, RecordType::A, 0, Some("192.0.2.1"))], &[]),
        (&[(IN, MINE, RecordType::A, 5, Some("192.0.2.2"))], &["192.0.2.2"]),
        (&[(ANY, MINE, RecordType::ANY, 0, None)], &[]),
    ];
    for (edits, left) in steps {
        let packet = signed(message("demo.internal", &[], edits), "key.demo.internal", SECRET, now());
        assert_eq!(said(&zones, &written, &packet).await.0, ResponseCode::NoError);
        assert_eq!(addresses(MINE), *left);
    }
}

#[tokio::test]
async fn a_key_changes_nothing_above_what_it_was_given_for() {
    for (of, code) in [
        ("web.apps.demo.internal", ResponseCode::NoError),
        ("apps.demo.internal", ResponseCode::NoError),
        ("_acme-challenge.apps.demo.internal", ResponseCode::NoError),
        (NEW, ResponseCode::Refused),
        ("myapps.demo.internal", ResponseCode::Refused),
        (APEX, ResponseCode::Refused),
    ] {
        let (zones, written) = world("apps.demo.internal");
        let edits: &[Line] = &[(IN, of, RecordType::A, 60, Some("192.0.2.9"))];
        let packet = signed(message("demo.internal", &[], edits), "key.demo.internal", SECRET, now());
        assert_eq!(said(&zones, &written, &packet).await.0, code, "{of}");
    }
}

/// What is answered, and what there is then.
fn in_any_way(packet: &[u8]) -> (Vec<u8>, Sets) {
    let (zones, written) = world("demo.internal");
    let answer = futures_now(answer(&zones, packet, &written));
    (answer, written.0.into_inner().expect("whole"))
}

/// Nothing here waits.
fn futures_now<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(future)
}

proptest! {
    /// Whatever comes, something short comes back, with the same number.
    #[test]
    fn any_bytes_are_answered(mut packet in prop::collection::vec(any::<u8>(), 12..200)) {
        packet[2] = 5 << 3;
        let (answer, _) = in_any_way(&packet);
        prop_assert_eq!(&answer[..2], &packet[..2]);
        prop_assert!(answer[2] & 0x80 != 0 && answer[3] & 15 != 0);
    }

    /// Cut or changed anywhere, it is done as it was signed, for there is much around it that says nothing, or not at all.
    #[test]
    fn a_signed_change_is_done_as_it_was_signed_or_not_at_all(at in 0usize..200, flip in 1u8..=255, cut in any::<bool>()) {
        let edits: &[Line] = &[(IN, NEW, RecordType::A, 60, Some("192.0.2.9"))];
        let whole = signed(message("demo.internal", &[], edits), "key.demo.internal", SECRET, now());
        let mut packet = whole.clone();
        let at = at % packet.len();
        if cut {
            packet.truncate(at.max(12));
        } else {
            packet[at] ^= flip;
        }
        prop_assume!(is_change(&packet));
        let (answer, sets) = in_any_way(&packet);
        let (_, as_signed) = in_any_way(&whole);
        prop_assert_eq!(as_signed.len(), 3);
        let wanted = if answer[3] & 15 == 0 { as_signed } else { world("demo.internal").1.0.into_inner().expect("whole") };
        prop_assert_eq!(sets, wanted, "{}: {:?}", at, packet);
        prop_assert!(!cut || answer[3] & 15 != 0, "a part is not signed");
    }
}
