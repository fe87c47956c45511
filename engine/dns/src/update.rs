//! Changes of zones that others serve: RFC 2136, signed (RFC 8945). An update that is not signed is never sent, and an answer
//! that is not signed with the same key is never believed.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::tsig::TsigAlgorithm;
use hickory_proto::rr::rdata::{A, AAAA, PTR, TXT};
use hickory_proto::rr::{DNSClass, Name as Wire, RData, Record, RecordType, TSigVerifier, TSigner};
use tokio::time::timeout;

use crate::ask::{exchange, word};
use crate::error::DnsError;
use crate::name::Name;
use crate::zones::{Data, Kind};

/// How far the clocks of engine and server may be apart, in seconds.
const FUDGE: u16 = 300;
/// Shorter secrets are no secrets.
const SHORTEST: usize = 16;

/// A key that updates are signed with.
#[derive(Clone)]
pub struct Key(pub(crate) TSigner);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.0.signer_name())
    }
}

/// Why a text is no key. Says nothing of what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected hmac-sha256:NAME:SECRET, the secret at least 16 bytes in base64")]
pub struct KeyError;

impl Key {
    /// Reads a key as `dig -y` takes it: `hmac-sha256:NAME:SECRET`, the secret in base64.
    ///
    /// # Errors
    /// Another algorithm, or a crooked name or secret.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let mut parts = text.trim().splitn(3, ':');
        let (Some("hmac-sha256"), Some(name), Some(secret)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(KeyError);
        };
        Self::new(name, secret)
    }

    /// The key of this name, its secret in base64.
    pub(crate) fn new(name: &str, secret: &str) -> Result<Self, KeyError> {
        let secret = STANDARD.decode(secret).map_err(|_| KeyError)?;
        if secret.len() < SHORTEST || name.is_empty() {
            return Err(KeyError);
        }
        let name = Wire::from_ascii(name).map_err(|_| KeyError)?;
        TSigner::new(secret, TsigAlgorithm::HmacSha256, name, FUDGE).map(Self).map_err(|_| KeyError)
    }
}

/// All that a name is to have of one kind; without values it has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordSet {
    /// The whole name.
    pub name: Name,
    /// The kind.
    pub kind: Kind,
    /// How long it may be kept, in seconds.
    pub ttl: u32,
    /// What is to be there.
    pub values: Vec<Data>,
}

/// Puts these sets in the place of those that a server has in a zone, all or nothing. Doing it again changes nothing.
///
/// # Errors
/// No answer within the time, an answer that is not signed with the key, or that the server refuses.
pub async fn update(
    server: SocketAddr,
    key: &Key,
    zone: &Name,
    sets: &[RecordSet],
    within: Duration,
) -> Result<(), DnsError> {
    let garbled = |what: String| DnsError::Garbled { server, what };
    let mut message = message(zone, sets).map_err(garbled)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let verifier = message.finalize(&key.0, now).map_err(|error| garbled(error.to_string()))?;
    let packet = message.to_vec().map_err(|error| garbled(error.to_string()))?;
    let answer =
        timeout(within, exchange(server, &packet)).await.map_err(|_| DnsError::Silent { server, within })??;
    judge(server, zone, message.metadata.id, verifier, &answer)
}

/// What an answer means. Only one that is signed with the key of the question says that it was done.
fn judge(
    server: SocketAddr,
    zone: &Name,
    id: u16,
    verifier: Option<TSigVerifier>,
    answer: &[u8],
) -> Result<(), DnsError> {
    let garbled = |what: String| DnsError::Garbled { server, what };
    let read = Message::from_vec(answer).map_err(|error| garbled(error.to_string()))?;
    let code = read.metadata.response_code;
    let refused = |code| Err(DnsError::Refused { server, zone: zone.to_string(), code: word(code) });
    if read.metadata.message_type != MessageType::Response || read.metadata.id != id {
        return Err(garbled("the answer to another question".to_owned()));
    }
    let verified = verifier.map(|mut verifier| verifier.verify(answer));
    match (verified, code) {
        (Some(Ok(_)), ResponseCode::NoError) => Ok(()),
        // Who does not know the key can not sign that it refuses.
        (_, code) if code != ResponseCode::NoError => refused(code),
        (Some(Err(error)), _) => Err(DnsError::Forged { server, what: error.to_string() }),
        _ => Err(DnsError::Forged { server, what: "no signature".to_owned() }),
    }
}

fn message(zone: &Name, sets: &[RecordSet]) -> Result<Message, String> {
    let wire = |name: &Name| Wire::from_ascii(format!("{name}.")).map_err(|error| error.to_string());
    let mut message = Message::query();
    message.metadata.op_code = OpCode::Update;
    message.add_query(Query::query(wire(zone)?, RecordType::SOA));
    for set in sets {
        let name = wire(&set.name)?;
        // None of this kind, and then these.
        let mut none = Record::update0(name.clone(), 0, RecordType::from(set.kind.code()));
        none.dns_class = DNSClass::ANY;
        message.add_authority(none);
        for value in &set.values {
            let data = match value {
                Data::Address(IpAddr::V4(four)) => RData::A(A(*four)),
                Data::Address(IpAddr::V6(six)) => RData::AAAA(AAAA(*six)),
                Data::Name(name) => RData::PTR(PTR(wire(name)?)),
                Data::Text(text) => RData::TXT(TXT::from_bytes(text.strings().collect())),
            };
            message.add_authority(Record::from_rdata(name.clone(), set.ttl, data));
        }
    }
    Ok(message)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: &str = "hmac-sha256:plinth:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

    /// What becomes of an answer to a signed update with this id.
    fn judged(id: u16, answer: &[u8]) -> Result<(), DnsError> {
        let zone = Name::parse("demo.internal").expect("a name");
        let mut asked = message(&zone, &[]).expect("a message");
        asked.metadata.id = id;
        let verifier = asked.finalize(&Key::parse(KEY).expect("a key").0, 1_800_000_000).expect("signed");
        assert!(verifier.is_some(), "an update is signed");
        judge(SocketAddr::from(([192, 0, 2, 1], 53)), &zone, id, verifier, answer)
    }

    /// A header with this id and code, no questions and no records but so many that are said to follow.
    fn header(id: u16, code: u8, records: u8) -> Vec<u8> {
        let [high, low] = id.to_be_bytes();
        vec![high, low, 0xa8, code, 0, 0, 0, 0, 0, 0, 0, records]
    }

    #[test]
    fn an_answer_without_a_signature_says_nothing_good() {
        assert_eq!(judged(7, &header(7, 0, 0)).expect_err("not signed").code(), "dns-forged");
        assert_eq!(judged(7, &header(7, 9, 0)).expect_err("NOTAUTH").code(), "dns-refused");
        assert_eq!(judged(7, &header(8, 0, 0)).expect_err("another id").code(), "dns-garbled");
    }

    proptest! {
        #[test]
        fn nothing_that_is_made_up_is_believed(
            id: u16, code in 0u8..16, records in 0u8..3, rest in proptest::collection::vec(any::<u8>(), 0..160),
        ) {
            let answer = [header(id, code, records), rest.clone()].concat();
            prop_assert!(judged(id, &answer).is_err());
            prop_assert!(judged(id, &rest).is_err());
        }

        #[test]
        fn a_signature_of_our_own_question_is_none_of_the_answer(id: u16, at in 0usize..200, flip in 1u8..=255) {
            let zone = Name::parse("demo.internal").expect("a name");
            let mut asked = message(&zone, &[]).expect("a message");
            asked.metadata.id = id;
            asked.finalize(&Key::parse(KEY).expect("a key").0, 1_800_000_000).expect("signed");
            let mut echo = asked.to_vec().expect("bytes");
            echo[2] |= 0x80;
            prop_assert!(judged(id, &echo).is_err());
            let at = at % echo.len();
            echo[at] ^= flip;
            prop_assert!(judged(id, &echo).is_err());
        }
    }

    #[test]
    fn keys_are_read_and_not_shown() {
        let key = Key::parse("hmac-sha256:plinth.:MDEyMzQ1Njc4OWFiY2RlZg==\n").expect("a key");
        assert_eq!(format!("{key:?}"), "Key(plinth.)");
        for wrong in [
            "",
            "plinth:MDEyMzQ1Njc4OWFiY2RlZg==",
            "hmac-md5:plinth:MDEyMzQ1Njc4OWFiY2RlZg==",
            "hmac-sha256::MDEyMzQ1Njc4OWFiY2RlZg==",
            "hmac-sha256:plinth:MDEy",
            "hmac-sha256:plinth:???",
        ] {
            assert!(Key::parse(wrong).is_err(), "{wrong}");
        }
    }
}
