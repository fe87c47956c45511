//! Questions to the engine's DNS server.

use std::net::IpAddr;
use std::sync::LazyLock;

use engine_dns::{Data, Kind, Name, Over, Zones, answer, reverse_zone};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name as Wire, RData, RecordType};

/// A zone with a name of one address and one of more than fit a datagram, and the zone of their subnet.
static ZONES: LazyLock<Zones> = LazyLock::new(|| {
    let name = |text| Name::parse(text).expect("a name");
    let own: IpAddr = "192.0.2.53".parse().expect("an address");
    let (zone, back) = (name("demo.internal"), reverse_zone("192.0.2.0/24").expect("a zone"));
    let mut zones = Zones::default();
    zones.put(&zone, 7, 60, &[own]);
    zones.put(&back, 3, 60, &[own]);
    let one = Data::Address(IpAddr::from([192, 0, 2, 7]));
    zones.set(&zone, &name("web.demo.internal"), Kind::A, 60, &[one]);
    let many: Vec<Data> = (0..100).map(|last| Data::Address(IpAddr::from([10, 0, 0, last]))).collect();
    zones.set(&zone, &name("many.demo.internal"), Kind::A, 60, &many);
    zones.set(&back, &name("7.2.0.192.in-addr.arpa"), Kind::Ptr, 60, &[Data::Name(name("web.demo.internal"))]);
    zones
});

/// Questions of every kind that is told apart.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for text in ["web.demo.internal.", "many.demo.internal.", "nobody.demo.internal.", "demo.internal.", "else.where."]
    {
        for (kind, extended) in [(RecordType::A, false), (RecordType::PTR, true), (RecordType::AXFR, false)] {
            let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
            message.metadata.recursion_desired = true;
            message.add_query(Query::query(Wire::from_ascii(text).expect("a name"), kind));
            if extended {
                message.set_edns(Edns::new());
            }
            seeds.push(message.to_vec().expect("a packet"));
        }
    }
    seeds
}

/// Whatever comes, the answer can be read, is small, offers nothing that is not there, and what it says of a zone is what the zone
/// has. Returns whether a record was in the answer.
///
/// # Panics
/// When something of that does not hold.
pub fn check(packet: &[u8]) -> bool {
    let over_udp = checked(packet, Over::Udp);
    let over_tcp = checked(packet, Over::Tcp);
    if let (Some(udp), Some(tcp)) = (&over_udp, &over_tcp) {
        let (one, other) = (&udp.metadata, &tcp.metadata);
        assert_eq!(one.response_code, other.response_code, "the way changes no answer");
        assert!(!other.truncation, "everything fits a connection");
        assert!(one.truncation || udp.answers == tcp.answers);
    }
    over_tcp.is_some_and(|answer| !answer.answers.is_empty())
}

fn checked(packet: &[u8], over: Over) -> Option<Message> {
    let mut out = vec![1];
    answer(&ZONES, packet, over, &mut out);
    if out.is_empty() {
        assert!(packet.len() < 12 || packet[2] & 0x80 != 0, "a question is answered");
        return None;
    }
    assert!(over == Over::Tcp || out.len() <= 1232, "{} bytes in a datagram", out.len());
    assert_eq!(out[..2], packet[..2], "the id is that of the question");
    assert_eq!(out[2] & 0x80, 0x80, "it is an answer");
    assert_eq!(out[3] & 0x80, 0, "it offers no recursion");
    // Reserved opcodes and types are read by nobody, but were only echoed.
    let Ok(message) = Message::from_vec(&out) else {
        assert!(out[3] & 15 == 4 || Message::from_vec(packet).is_err(), "nobody can read the answer");
        return None;
    };
    for record in &message.answers {
        let name = record.name.to_ascii().to_ascii_lowercase();
        match &record.data {
            RData::A(address) => match name.as_str() {
                "web.demo.internal." => assert_eq!(address.0.octets(), [192, 0, 2, 7]),
                "many.demo.internal." => assert!(address.0.octets().starts_with(&[10, 0, 0])),
                other => assert_eq!((other, address.0.octets()), ("ns.demo.internal.", [192, 0, 2, 53])),
            },
            RData::PTR(back) => {
                assert_eq!(
                    (name.as_str(), back.0.to_ascii().as_str()),
                    ("7.2.0.192.in-addr.arpa.", "web.demo.internal.")
                );
            }
            RData::SOA(_) | RData::NS(_) => {
                assert!(["demo.internal.", "2.0.192.in-addr.arpa."].contains(&name.as_str()), "{name}");
            }
            other => panic!("nobody has such a record: {other}"),
        }
    }
    assert!(message.answers.is_empty() || message.metadata.response_code == ResponseCode::NoError);
    Some(message)
}
