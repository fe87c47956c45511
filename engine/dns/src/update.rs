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
/// Of the fourth byte of a header.
const RESERVED: u8 = 0x40;
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
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let asked = Sent::new(key, zone, sets, now).map_err(|what| DnsError::Garbled { server, what })?;
    let answer =
        timeout(within, exchange(server, &asked.packet)).await.map_err(|_| DnsError::Silent { server, within })??;
    asked.judge(server, &answer)
}

/// A signed update without a socket: what is sent, and what an answer to it means.
pub struct Sent {
    packet: Vec<u8>,
    zone: Name,
    id: u16,
    verifier: Option<TSigVerifier>,
}

impl Sent {
    /// Signs an update at a time in seconds since 1970.
    ///
    /// # Errors
    /// What can not be written.
    pub fn new(key: &Key, zone: &Name, sets: &[RecordSet], now: u64) -> Result<Self, String> {
        let mut message = message(zone, sets)?;
        let verifier = message.finalize(&key.0, now).map_err(|error| error.to_string())?;
        let packet = message.to_vec().map_err(|error| error.to_string())?;
        Ok(Self { packet, zone: zone.clone(), id: message.metadata.id, verifier })
    }

    /// What is sent.
    pub fn packet(&self) -> &[u8] {
        &self.packet
    }

    /// What an answer means. Only one that is signed with the key of the question says that it was done.
    ///
    /// # Errors
    /// Everything else.
    pub fn judge(self, server: SocketAddr, answer: &[u8]) -> Result<(), DnsError> {
        let garbled = |what: String| DnsError::Garbled { server, what };
        // Nobody may set it (RFC 1035), and who looks at the signature reads the header without it: it is not covered.
        if answer.get(3).is_some_and(|flags| flags & RESERVED != 0) {
            return Err(garbled("a reserved bit of its header is set".to_owned()));
        }
        let read = Message::from_vec(answer).map_err(|error| garbled(error.to_string()))?;
        let code = read.metadata.response_code;
        let refused = |code| Err(DnsError::Refused { server, zone: self.zone.to_string(), code: word(code) });
        if read.metadata.message_type != MessageType::Response || read.metadata.id != self.id {
            return Err(garbled("the answer to another question".to_owned()));
        }
        let verified = self.verifier.map(|mut verifier| verifier.verify(answer));
        match (verified, code) {
            (Some(Ok(_)), ResponseCode::NoError) => Ok(()),
            // "A server failure" and nothing about what was asked (RFC 2136, section 2.2).
            (_, ResponseCode::ServFail) => Err(DnsError::Unable { server, zone: self.zone.to_string() }),
            // Who does not know the key can not sign that it refuses.
            (_, code) if code != ResponseCode::NoError => refused(code),
            (Some(Err(error)), _) => Err(DnsError::Forged { server, what: error.to_string() }),
            _ => Err(DnsError::Forged { server, what: "no signature".to_owned() }),
        }
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
    use super::*;

    #[test]
    fn an_answer_without_a_signature_says_nothing_good() {
        let key = Key::parse("hmac-sha256:plinth:MDEyMzQ1Njc4OWFiY2RlZg==").expect("a key");
        let zone = Name::parse("demo.internal").expect("a name");
        let server = SocketAddr::from(([192, 0, 2, 1], 53));
        for (code, other, says) in [
            (0, 0, "dns-forged"),
            (2, 0, "dns-unable"),
            (9, 0, "dns-refused"),
            (0, 1, "dns-garbled"),
            (RESERVED, 0, "dns-garbled"),
        ] {
            let asked = Sent::new(&key, &zone, &[], 1_800_000_000).expect("signed");
            let [high, low] = [asked.packet()[0], asked.packet()[1] ^ other];
            let answer = [high, low, 0xa8, code, 0, 0, 0, 0, 0, 0, 0, 0];
            assert_eq!(asked.judge(server, &answer).expect_err("not signed").code(), says);
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
