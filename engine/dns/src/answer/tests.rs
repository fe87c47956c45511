//! Answers as a client reads them.

use std::net::IpAddr;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name as Wire, RecordType};

use super::{Over, answer};
use crate::name::{Name, reverse_zone};
use crate::zones::{Data, Kind, Zones};

fn name(text: &str) -> Name {
    Name::parse(text).expect("a name")
}

fn addresses(of: &[&str]) -> Vec<Data> {
    of.iter().map(|text| Data::Address(text.parse().expect("an address"))).collect()
}

/// A zone with a name of one address, one of many, one below another, and the zone of their subnet.
fn zones() -> Zones {
    let own: IpAddr = "192.0.2.53".parse().expect("an address");
    let (zone, back) = (name("demo.internal"), reverse_zone("192.0.2.0/24").expect("a zone"));
    let mut zones = Zones::default();
    zones.put(&zone, 7, 60, &[own]);
    zones.put(&back, 3, 60, &[own]);
    zones.set(&zone, &name("web.demo.internal"), Kind::A, 60, &addresses(&["192.0.2.7"]));
    zones.set(&zone, &name("web.demo.internal"), Kind::Aaaa, 60, &addresses(&["2001:db8::7"]));
    let many: Vec<Data> = (0..100).map(|last| Data::Address(IpAddr::from([10, 0, 0, last]))).collect();
    zones.set(&zone, &name("many.demo.internal"), Kind::A, 60, &many);
    zones.set(&zone, &name("a.b.c.demo.internal"), Kind::A, 60, &addresses(&["192.0.2.8"]));
    zones.set(&back, &name("7.2.0.192.in-addr.arpa"), Kind::Ptr, 60, &[Data::Name(name("web.demo.internal"))]);
    zones
}

fn question(text: &str, kind: RecordType) -> Message {
    let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Wire::from_ascii(text).expect("a name"), kind));
    message
}

fn answered(zones: &Zones, question: &Message, over: Over) -> Message {
    let mut out = Vec::new();
    answer(zones, &question.to_vec().expect("a packet"), over, &mut out);
    Message::from_vec(&out).expect("an answer")
}

/// `CODE flags: answers; authority`.
fn told(message: &Message) -> String {
    let header = &message.metadata;
    let mut flags = String::new();
    for (flag, letters) in
        [(header.authoritative, " aa"), (header.truncation, " tc"), (header.recursion_available, " ra")]
    {
        flags += if flag { letters } else { "" };
    }
    let records = |records: &[hickory_proto::rr::Record]| -> Vec<String> {
        records
            .iter()
            .map(|record| format!("{} {} {} {}", record.name, record.ttl, record.record_type(), record.data))
            .collect()
    };
    let (answers, authority) = (records(&message.answers).join(", "), records(&message.authorities).join(", "));
    format!("{:?}{flags}: {answers}; {authority}", header.response_code)
}

fn asked(text: &str, kind: RecordType) -> String {
    let message = answered(&zones(), &question(text, kind), Over::Udp);
    assert_eq!((message.metadata.id, message.metadata.recursion_desired), (4711, true));
    told(&message)
}

const SOA: &str = "demo.internal. 5 SOA ns.demo.internal. hostmaster.demo.internal. 7 3600 600 604800 5";

#[test]
fn names_are_answered_whatever_their_case() {
    assert_eq!(asked("web.demo.internal.", RecordType::A), "NoError aa: web.demo.internal. 60 A 192.0.2.7; ");
    assert_eq!(asked("WEB.demo.Internal.", RecordType::AAAA), "NoError aa: WEB.demo.Internal. 60 AAAA 2001:db8::7; ");
    assert_eq!(
        asked("7.2.0.192.in-addr.arpa.", RecordType::PTR),
        "NoError aa: 7.2.0.192.in-addr.arpa. 60 PTR web.demo.internal.; "
    );
    // Of everything there is, one kind.
    assert_eq!(asked("web.demo.internal.", RecordType::ANY), "NoError aa: web.demo.internal. 60 A 192.0.2.7; ");
}

#[test]
fn a_zone_says_who_answers_for_it() {
    assert_eq!(asked("demo.internal.", RecordType::NS), "NoError aa: demo.internal. 60 NS ns.demo.internal.; ");
    assert_eq!(asked("ns.demo.internal.", RecordType::A), "NoError aa: ns.demo.internal. 60 A 192.0.2.53; ");
    assert_eq!(asked("demo.internal.", RecordType::SOA), format!("NoError aa: {}; ", SOA.replacen(" 5 ", " 60 ", 1)));
}

#[test]
fn what_is_not_there_is_denied_for_a_time() {
    assert_eq!(asked("app.demo.internal.", RecordType::A), format!("NXDomain aa: ; {SOA}"));
    // The name is there, with records of another kind, or with names below it.
    for (text, kind) in [
        ("many.demo.internal.", RecordType::AAAA),
        ("b.c.demo.internal.", RecordType::A),
        ("demo.internal.", RecordType::A),
    ] {
        assert_eq!(asked(text, kind), format!("NoError aa: ; {SOA}"), "{text}");
    }
}

#[test]
fn a_name_is_gone_with_its_last_record() {
    let mut zones = zones();
    let zone = name("demo.internal");
    let ask =
        |zones: &Zones, text: &str| answered(zones, &question(text, RecordType::A), Over::Udp).metadata.response_code;
    zones.set(&zone, &name("x.b.c.demo.internal"), Kind::A, 60, &addresses(&["192.0.2.9"]));
    zones.set(&zone, &name("a.b.c.demo.internal"), Kind::A, 60, &[]);
    assert_eq!(ask(&zones, "a.b.c.demo.internal."), ResponseCode::NXDomain);
    assert_eq!(ask(&zones, "b.c.demo.internal."), ResponseCode::NoError);
    zones.set(&zone, &name("x.b.c.demo.internal"), Kind::A, 60, &[]);
    for text in ["b.c.demo.internal.", "c.demo.internal."] {
        assert_eq!(ask(&zones, text), ResponseCode::NXDomain, "{text}");
    }
    zones.set(&zone, &name("web.demo.internal"), Kind::A, 60, &[]);
    assert_eq!(ask(&zones, "web.demo.internal."), ResponseCode::NoError, "it has another address");
    zones.set(&zone, &name("web.elsewhere"), Kind::A, 60, &addresses(&["192.0.2.9"]));
    assert_eq!(ask(&zones, "web.elsewhere."), ResponseCode::Refused, "not in the zone, so not in it");
    zones.remove(&zone);
    assert_eq!(ask(&zones, "many.demo.internal."), ResponseCode::Refused);
}

#[test]
fn what_is_not_ours_is_refused() {
    assert_eq!(asked("example.com.", RecordType::A), "Refused: ; ");
    assert_eq!(asked(".", RecordType::NS), "Refused: ; ");
    assert_eq!(asked("internal.", RecordType::SOA), "Refused: ; ");
    // A whole zone, of no kind.
    for kind in [RecordType::AXFR, RecordType::IXFR] {
        assert_eq!(asked("demo.internal.", kind), "Refused: ; ");
        let over_tcp = answered(&zones(), &question("demo.internal.", kind), Over::Tcp);
        assert_eq!(told(&over_tcp), "Refused: ; ");
    }
    let mut other = question("web.demo.internal.", RecordType::A);
    other.queries[0].query_class = DNSClass::CH;
    assert_eq!(told(&answered(&zones(), &other, Over::Udp)), "Refused: ; ");
    for opcode in [OpCode::Update, OpCode::Notify, OpCode::Status] {
        let mut other = question("demo.internal.", RecordType::SOA);
        other.metadata.op_code = opcode;
        let refused = answered(&zones(), &other, Over::Udp).metadata;
        assert_eq!((refused.response_code, refused.op_code), (ResponseCode::NotImp, opcode));
    }
}

#[test]
fn what_does_not_fit_is_asked_for_again() {
    let mut asked = question("many.demo.internal.", RecordType::A);
    let lengths = |asked: &Message, over| {
        let mut out = Vec::new();
        answer(&zones(), &asked.to_vec().expect("a packet"), over, &mut out);
        let read = Message::from_vec(&out).expect("an answer");
        (out.len(), read.metadata.truncation, read.answers.len(), read.edns.map(|edns| edns.max_payload()))
    };
    // 100 records of 16 bytes are in no datagram that gets through everywhere.
    let (length, cut, count, _) = lengths(&asked, Over::Udp);
    assert!(length <= 512 && cut && count == 0);
    asked.set_edns(Edns::new()).edns.as_mut().expect("set").set_max_payload(65_000);
    let (length, cut, count, size) = lengths(&asked, Over::Udp);
    assert!(length <= 1232 && cut && count == 0 && size == Some(1232), "{length} {cut} {count} {size:?}");
    assert_eq!(lengths(&asked, Over::Tcp), (12 + 24 + 100 * 16 + 11, false, 100, Some(1232)));
}

#[test]
fn a_later_version_of_extensions_is_told_so() {
    let mut asked = question("web.demo.internal.", RecordType::A);
    asked.set_edns(Edns::new()).edns.as_mut().expect("set").set_version(1);
    let told = answered(&zones(), &asked, Over::Udp);
    assert_eq!((told.metadata.response_code, told.answers.len()), (ResponseCode::from(1, 0), 0), "BADVERS");
}

#[test]
fn answers_and_scraps_are_not_answered() {
    let mut out = vec![1];
    let mut response = question("web.demo.internal.", RecordType::A);
    response.metadata.message_type = MessageType::Response;
    let packet = response.to_vec().expect("a packet");
    for packet in [&packet[..], &packet[..11], b""] {
        answer(&zones(), packet, Over::Udp, &mut out);
        assert!(out.is_empty(), "{packet:?}");
    }
}

#[test]
fn crooked_questions_are_told_so() {
    let sound = question("web.demo.internal.", RecordType::A).to_vec().expect("a packet");
    let wrong = |change: &dyn Fn(&mut Vec<u8>)| {
        let (mut packet, mut out) = (sound.clone(), Vec::new());
        change(&mut packet);
        answer(&zones(), &packet, Over::Udp, &mut out);
        (out[3] & 15, out.len())
    };
    assert_eq!(wrong(&|_| {}).0, 0);
    let none_or_many: [&dyn Fn(&mut Vec<u8>); 7] = [
        &|packet| packet[5] = 0,
        &|packet| packet[4] = 255,
        &|packet| packet[7] = 1,
        &|packet| packet[10] = 255,
        &|packet| packet[11] = 1,
        // A name that points at itself, and one that does not end.
        &|packet| packet[12] = 0xc0,
        &|packet| packet.truncate(20),
    ];
    for change in none_or_many {
        assert_eq!(wrong(change), (1, 12));
    }
}
