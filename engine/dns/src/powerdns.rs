//! Changes of zones that a PowerDNS serves, by its HTTP API. It does not speak TLS, and every request carries the key in clear: so
//! it is only spoken to on the engine's own machine.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::error::DnsError;
use crate::name::Name;
use crate::update::RecordSet;
use crate::zones::Data;

/// Bytes of an answer that are read.
const LONGEST: u64 = 64 << 10;

/// What lets us change zones.
#[derive(Clone)]
pub struct ApiKey(String);

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey")
    }
}

/// Why a text is no key. Says nothing of what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected the key of the API, one line of printable letters")]
pub struct ApiKeyError;

impl ApiKey {
    /// Reads a key; spaces around it do not count.
    ///
    /// # Errors
    /// Nothing, or something that can not stand in a header.
    pub fn parse(text: &str) -> Result<Self, ApiKeyError> {
        let text = text.trim();
        let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        if plain { Ok(Self(text.to_owned())) } else { Err(ApiKeyError) }
    }
}

/// Puts these sets in the place of those that a zone has, all or nothing. Doing it again changes nothing that is answered.
///
/// # Errors
/// An address of another machine, no answer within the time, or that the server refuses.
pub async fn replace(
    api: SocketAddr,
    key: &ApiKey,
    zone: &Name,
    sets: &[RecordSet],
    within: Duration,
) -> Result<(), DnsError> {
    if !api.ip().is_loopback() {
        return Err(DnsError::Open(api));
    }
    let body = json!({"rrsets": sets.iter().map(rrset).collect::<Vec<_>>()}).to_string();
    let request = format!(
        "PATCH /api/v1/servers/localhost/zones/{zone}. HTTP/1.1\r\nHost: {api}\r\nX-API-Key: {}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        key.0,
        body.len()
    );
    let talk = async {
        let failed = |source| DnsError::Io { server: api, source };
        let mut stream = TcpStream::connect(api).await.map_err(failed)?;
        stream.write_all(request.as_bytes()).await.map_err(failed)?;
        let mut answer = Vec::new();
        stream.take(LONGEST).read_to_end(&mut answer).await.map_err(failed)?;
        Ok::<_, DnsError>(answer)
    };
    let answer = timeout(within, talk).await.map_err(|_| DnsError::Silent { server: api, within })??;
    let refused = |code| Err(DnsError::Refused { server: api, zone: zone.to_string(), code });
    match status(&answer) {
        Some(200..=299) => Ok(()),
        Some(401 | 403) => refused("it does not know the key"),
        Some(404) => refused("it does not have the zone"),
        Some(422) => refused("it does not take these records, or does not have the zone"),
        _ => {
            let line: String =
                String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().chars().take(200).collect();
            Err(DnsError::Garbled { server: api, what: format!("`{line}`") })
        }
    }
}

fn rrset(set: &RecordSet) -> Value {
    let content = |value: &Data| match value {
        Data::Address(address) => address.to_string(),
        Data::Name(name) => format!("{name}."),
        Data::Text(text) => text.to_string(),
    };
    let name = format!("{}.", set.name);
    if set.values.is_empty() {
        return json!({"name": name, "type": set.kind.as_str(), "changetype": "DELETE"});
    }
    let records: Vec<Value> =
        set.values.iter().map(|value| json!({"content": content(value), "disabled": false})).collect();
    json!({"name": name, "type": set.kind.as_str(), "ttl": set.ttl, "changetype": "REPLACE", "records": records})
}

/// The number in `HTTP/1.1 204 No Content`.
fn status(answer: &[u8]) -> Option<u16> {
    let line = answer.split(|byte| *byte == b'\r').next()?;
    let mut words = std::str::from_utf8(line).ok()?.split(' ');
    words.next().filter(|version| version.starts_with("HTTP/1."))?;
    words.next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_are_one_word_and_not_shown() {
        assert_eq!(format!("{:?}", ApiKey::parse(" s3cret\n").expect("a key")), "ApiKey");
        for wrong in ["", " ", "two words", "a\r\nHost: else", "\u{e4}"] {
            assert!(ApiKey::parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[tokio::test]
    async fn a_key_does_not_leave_the_machine() {
        let key = ApiKey::parse("k").expect("a key");
        let (api, zone) = (SocketAddr::from(([192, 0, 2, 1], 8081)), Name::parse("demo.internal").expect("a name"));
        let refused = replace(api, &key, &zone, &[], Duration::from_secs(1)).await.expect_err("it must not");
        assert_eq!(refused.code(), "dns-api-open");
    }

    #[test]
    fn answers_have_a_status_or_are_none() {
        assert_eq!(status(b"HTTP/1.1 204 No Content\r\nServer: x\r\n\r\n"), Some(204));
        assert_eq!(status(b"HTTP/1.1 422"), Some(422));
        assert_eq!(status(b"SSH-2.0-OpenSSH\r\n"), None);
    }

    proptest! {
        #[test]
        fn no_answer_is_too_strange(answer in proptest::collection::vec(any::<u8>(), 0..200), rest in ".{0,50}") {
            let _ = status(&answer);
            prop_assert_eq!(status(format!("HTTP/1.0 401 {rest}").as_bytes()), Some(401));
        }
    }
}
