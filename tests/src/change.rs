//! Changes of names that others ask the engine's DNS server for.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::{LazyLock, Mutex, RwLock};
use std::task::{Context, Poll, Waker};
use std::time::{SystemTime, UNIX_EPOCH};

use engine_dns::{Asked, Changes, Code, Data, Grant, Held, Kind, Name, Sets, Zones, answer_change};
use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::tsig::TsigAlgorithm;
use hickory_proto::rr::rdata::{A, TXT};
use hickory_proto::rr::{DNSClass, Name as Wire, RData, Record, RecordType, TSigner};

const KEY: &str = "key.demo.internal";
const SECRET: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const CLEAR: &[u8] = b"0123456789abcdef0123456789abcdef";
/// What the key may change.
const BELOW: &str = "apps.demo.internal";

fn name(text: &str) -> Name {
    Name::parse(text).expect("a name")
}

static ZONES: LazyLock<RwLock<Zones>> = LazyLock::new(|| {
    let (zone, mut zones) = (name("demo.internal"), Zones::default());
    zones.put(&zone, 1, 60, &["192.0.2.53".parse().expect("an address")]);
    zones.grant(&zone, vec![Grant::new(name(KEY), SECRET, name(BELOW)).expect("a key")]);
    RwLock::new(zones)
});

/// What there is: of the key, of a node role below what the key may change, and of one elsewhere.
static BEFORE: LazyLock<Sets> = LazyLock::new(|| {
    let held = |own, address: [u8; 4]| Held { own, ttl: 60, values: BTreeSet::from([Data::Address(address.into())]) };
    BTreeMap::from([
        ((name("mine.apps.demo.internal"), Kind::A), held(true, [192, 0, 2, 8])),
        ((name("web.apps.demo.internal"), Kind::A), held(false, [192, 0, 2, 7])),
        ((name("web.demo.internal"), Kind::A), held(false, [192, 0, 2, 6])),
    ])
});

/// Does what is asked for in memory.
struct Written(Mutex<Sets>);

impl Changes for Written {
    async fn change(&self, asked: Asked) -> Code {
        match asked.apply(&mut self.0.lock().expect("whole")) {
            Ok(()) => Code::Done,
            Err(code) => code,
        }
    }
}

/// What is answered, and what there is then.
fn answered(packet: &[u8]) -> (Vec<u8>, Sets) {
    let written = Written(Mutex::new(BEFORE.clone()));
    let answer = {
        let answer = pin!(answer_change(&ZONES, packet, &written));
        match answer.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(answer) => answer,
            Poll::Pending => panic!("there is nothing to wait for"),
        }
    };
    assert_eq!(answer[..2], packet[..2], "the id is that of the change");
    assert_eq!(answer[2] & 0x80, 0x80, "it is an answer");
    (answer, written.0.into_inner().expect("whole"))
}

/// Changes of every kind, without signatures.
pub fn seeds() -> Vec<Vec<u8>> {
    let wire = |text: &str| Wire::from_ascii(format!("{text}.")).expect("a name");
    let set = |of: &str, kind, class| {
        let mut record = Record::update0(wire(of), 0, kind);
        record.dns_class = class;
        record
    };
    let add = |of: &str, data| Record::from_rdata(wire(of), 60, data);
    let mut gone = Record::from_rdata(wire("mine.apps.demo.internal"), 0, RData::A(A::new(192, 0, 2, 8)));
    gone.dns_class = DNSClass::NONE;
    let new = add("new.apps.demo.internal", RData::A(A::new(192, 0, 2, 9)));
    let text = add("_acme.apps.demo.internal", RData::TXT(TXT::new(vec!["x y".to_owned()])));
    let (any, mine) = (DNSClass::ANY, "mine.apps.demo.internal");
    let edits = [
        (vec![], vec![new.clone()]),
        (vec![set(mine, RecordType::A, any)], vec![text, gone]),
        (vec![set("new.apps.demo.internal", RecordType::ANY, DNSClass::NONE)], vec![set(mine, RecordType::ANY, any)]),
        (vec![], vec![add("web.demo.internal", RData::A(A::new(192, 0, 2, 9))), new]),
        (vec![], vec![set("web.apps.demo.internal", RecordType::A, any)]),
    ];
    let packet = |(wants, edits): (Vec<Record>, Vec<Record>)| {
        let mut message = Message::query();
        message.metadata.op_code = OpCode::Update;
        message.add_query(Query::query(wire("demo.internal"), RecordType::SOA));
        message.add_answers(wants);
        message.add_authorities(edits);
        message.to_vec().expect("a packet")
    };
    edits.into_iter().map(packet).collect()
}

/// What is not signed changes nothing, whatever it says. The same bytes signed with a key change only what the key may change and
/// nobody else has, and only where the answer says so, which is signed then. Returns whether something was changed.
///
/// # Panics
/// When something of that does not hold.
pub fn check(bytes: &[u8]) -> bool {
    if bytes.len() < 12 {
        return false;
    }
    let mut bytes = bytes.to_vec();
    // The server takes others for questions.
    bytes[2] = 5 << 3 | bytes[2] & 7;
    let (answer, sets) = answered(&bytes);
    assert!(sets == *BEFORE && answer[3] & 15 != 0, "nobody signed this");
    let Ok(mut message) = Message::from_vec(&bytes) else { return false };
    message.take_signature();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let key = Wire::from_ascii(KEY).expect("a name");
    let signer =
        |secret: &[u8]| TSigner::new(secret.to_vec(), TsigAlgorithm::HmacSha256, key.clone(), 300).expect("a key");
    let mut forged = message.clone();
    if forged.finalize(&signer(b"fedcba9876543210fedcba9876543210"), now).is_ok()
        && let Ok(packet) = forged.to_vec()
    {
        let (answer, sets) = answered(&packet);
        assert!(sets == *BEFORE && answer[3] & 15 != 0, "another key signed this");
    }
    let Ok(Some(mut verifier)) = message.finalize(&signer(CLEAR), now) else { return false };
    let Ok(packet) = message.to_vec() else { return false };
    let (answer, sets) = answered(&packet);
    let read = Message::from_vec(&answer).expect("our own answers can be read");
    assert_eq!(read.metadata.message_type, MessageType::Response);
    if sets == *BEFORE {
        return false;
    }
    assert_eq!(read.metadata.response_code, ResponseCode::NoError, "what is done is said");
    verifier.verify(&answer).expect("whoever asked believes it");
    let all: BTreeSet<_> = sets.keys().chain(BEFORE.keys()).collect();
    for place in all {
        let (now, before) = (sets.get(place), BEFORE.get(place));
        let free = place.0.is_in(&name(BELOW)) && before.is_none_or(|held| held.own);
        assert!(now == before || free, "{place:?} is not for this key to change");
        assert!(now.is_none_or(|held| !held.values.is_empty()), "{place:?} has nothing");
    }
    true
}
