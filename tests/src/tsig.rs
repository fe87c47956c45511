//! Answers of DNS servers to signed updates.

use std::net::SocketAddr;

use engine_dns::{Data, DnsError, Key, Kind, Name, RecordSet, Sent};
use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::tsig::{TsigAlgorithm, TsigError};
use hickory_proto::rr::{Name as Wire, TSigResponseContext, TSigner};

const NAME: &str = "plinth";
const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
const KEY: &str = "hmac-sha256:plinth:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
/// When the update is signed, in seconds since 1970.
const NOW: u64 = 1_800_000_000;

fn asked() -> Sent {
    let name = |text| Name::parse(text).expect("a name");
    let values = vec![Data::Address([192, 0, 2, 7].into())];
    let set = RecordSet { name: name("web.demo.internal"), kind: Kind::A, ttl: 60, values };
    let key = Key::parse(KEY).expect("a key");
    Sent::new(&key, &name("demo.internal"), &[set], NOW).expect("signed")
}

fn judge(asked: Sent, answer: &[u8]) -> Result<(), DnsError> {
    let told = asked.judge(SocketAddr::from(([192, 0, 2, 1], 53)), answer);
    if let Err(error) = &told {
        let text = error.to_string();
        assert!(!text.contains(char::is_control), "what a server writes is shown to people: {text:?}");
    }
    told
}

/// Answers as servers give them, and one of them signed by somebody else.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for code in [ResponseCode::NoError, ResponseCode::Refused, ResponseCode::NotAuth] {
        let mut message = Message::new(0, MessageType::Response, OpCode::Update);
        message.metadata.response_code = code;
        seeds.push(message.to_vec().expect("a packet"));
    }
    let echo = Message::from_vec(asked().packet()).expect("our own").into_response();
    seeds.push(echo.to_vec().expect("a packet"));
    seeds
}

/// What was not signed with the key of the question is never believed, whatever it says. The same bytes signed as the server would
/// sign them are believed if they say that it was done, and not any more when a bit of them is another. Returns whether they were.
///
/// # Panics
/// When something of that does not hold.
pub fn check(bytes: &[u8]) -> bool {
    assert!(judge(asked(), bytes).is_err(), "nobody signed this");
    let ours = asked();
    let id = [ours.packet()[0], ours.packet()[1]];
    let mut bytes = bytes.to_vec();
    if let Some(start) = bytes.first_chunk_mut() {
        *start = id;
    }
    let Ok(mut message) = Message::from_vec(&bytes) else {
        assert!(judge(ours, &bytes).is_err(), "nobody can read this");
        return false;
    };
    // Without a signature, with its own, with that of our question, and with another key's.
    let our_mac = Message::from_vec(ours.packet()).expect("our own").signature().expect("signed").data.mac.clone();
    assert!(judge(ours, &bytes).is_err(), "nobody signed this");
    message.take_signature();
    let Ok(plain) = message.to_vec() else { return false };
    let signed = |secret: &[u8], asked: &Sent, mac: Vec<u8>| -> Option<Vec<u8>> {
        let (mut message, mut plain) = (message.clone(), plain.clone());
        plain[..2].copy_from_slice(&asked.packet()[..2]);
        message.metadata.id = u16::from_be_bytes([plain[0], plain[1]]);
        let name = Wire::from_ascii(NAME).expect("a name");
        let signer = TSigner::new(secret.to_vec(), TsigAlgorithm::HmacSha256, name, 300).expect("a key");
        let context = TSigResponseContext::new(message.metadata.id, NOW + 7, signer, mac, None::<TsigError>);
        message.set_signature(context.sign(&plain).ok()?);
        message.to_vec().ok()
    };
    let mac_of = |asked: &Sent| {
        Message::from_vec(asked.packet()).expect("our own").signature().expect("signed").data.mac.clone()
    };
    let (one, other, third, fourth) = (asked(), asked(), asked(), asked());
    let third_is_the_same = our_mac == mac_of(&third);
    let (Some(right), Some(wrong_key), Some(wrong_mac), Some(mut bent)) = (
        signed(SECRET, &one, mac_of(&one)),
        signed(b"fedcba9876543210fedcba9876543210", &other, mac_of(&other)),
        signed(SECRET, &third, our_mac),
        signed(SECRET, &fourth, mac_of(&fourth)),
    ) else {
        return false;
    };
    assert!(judge(other, &wrong_key).is_err(), "another key is none");
    // Questions have ids by chance; those of the same one are the same question.
    assert!(third_is_the_same || judge(third, &wrong_mac).is_err(), "the answer to another question is none");
    let at = 2 + usize::from(bytes.last().copied().unwrap_or_default()) % (plain.len() - 2);
    bent[at] ^= 1 << (bytes.len() % 8);
    assert!(judge(fourth, &bent).is_err(), "byte {at} was another when it was signed");
    let (kind, code) = (message.metadata.message_type, message.metadata.response_code);
    let wanted = kind == MessageType::Response && code == ResponseCode::NoError;
    let told = judge(one, &right);
    assert_eq!(told.is_ok(), wanted, "{told:?}");
    wanted
}
