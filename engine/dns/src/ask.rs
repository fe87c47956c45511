//! Questions to servers, whose answers are not trusted.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, Query, ResponseCode};
use hickory_proto::rr::{Name as Wire, RData, RecordType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use crate::answer::Over;
use crate::error::DnsError;
use crate::name::Name;
use crate::text::Text;
use crate::zones::Kind;

/// The longest answer that fits a datagram on any way.
const LONGEST: usize = 4096;

/// What a server says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// `NOERROR`, `NXDOMAIN`, `REFUSED`, …
    pub code: &'static str,
    /// It answers for the zone.
    pub authoritative: bool,
    /// Values at the name, sorted: addresses, names without their last dot, the serial of a zone.
    pub values: Vec<String>,
    /// The serial of the zone, if the answer has its SOA.
    pub serial: Option<u32>,
}

/// Asks a server, over UDP and, where the answer was cut, over TCP; or over TCP alone.
///
/// # Errors
/// No answer within the time, or none that can be read.
pub async fn ask(server: SocketAddr, name: &Name, kind: Kind, over: Over, within: Duration) -> Result<Seen, DnsError> {
    let wire =
        Wire::from_ascii(format!("{name}.")).map_err(|error| DnsError::Garbled { server, what: error.to_string() })?;
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(wire.clone(), RecordType::from(kind.code())));
    let packet = message.to_vec().map_err(|error| DnsError::Garbled { server, what: error.to_string() })?;
    let exchange = async {
        if over == Over::Udp {
            let seen = by_udp(server, &packet, &message).await?;
            if !seen.metadata.truncation {
                return Ok(seen);
            }
        }
        by_tcp(server, &packet, &message).await
    };
    let answer = timeout(within, exchange).await.map_err(|_| DnsError::Silent { server, within })??;
    Ok(read(&answer, &wire))
}

async fn by_udp(server: SocketAddr, packet: &[u8], question: &Message) -> Result<Message, DnsError> {
    let failed = |source| DnsError::Io { server, source };
    let own: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((own, 0)).await.map_err(failed)?;
    socket.connect(server).await.map_err(failed)?;
    socket.send(packet).await.map_err(failed)?;
    let mut buffer = vec![0; LONGEST];
    loop {
        let length = socket.recv(&mut buffer).await.map_err(failed)?;
        // What is not the answer to this question is passed over: anybody can send it.
        if let Ok(answer) = Message::from_vec(&buffer[..length])
            && is_answer(&answer, question)
        {
            return Ok(answer);
        }
    }
}

async fn by_tcp(server: SocketAddr, packet: &[u8], question: &Message) -> Result<Message, DnsError> {
    let garbled = |what: String| DnsError::Garbled { server, what };
    let answer = Message::from_vec(&exchange(server, packet).await?).map_err(|error| garbled(error.to_string()))?;
    if is_answer(&answer, question) { Ok(answer) } else { Err(garbled("the answer to another question".to_owned())) }
}

/// A message and the next one that comes back, on a connection of their own.
pub(crate) async fn exchange(server: SocketAddr, packet: &[u8]) -> Result<Vec<u8>, DnsError> {
    let failed = |source| DnsError::Io { server, source };
    let mut stream = TcpStream::connect(server).await.map_err(failed)?;
    let mut out = u16::try_from(packet.len()).unwrap_or(u16::MAX).to_be_bytes().to_vec();
    out.extend_from_slice(packet);
    stream.write_all(&out).await.map_err(failed)?;
    let mut buffer = vec![0; usize::from(stream.read_u16().await.map_err(failed)?)];
    stream.read_exact(&mut buffer).await.map_err(failed)?;
    Ok(buffer)
}

fn is_answer(answer: &Message, question: &Message) -> bool {
    let header = &answer.metadata;
    // A refusal may leave the question out.
    header.message_type == MessageType::Response
        && header.id == question.metadata.id
        && (answer.queries.is_empty() || answer.queries == question.queries)
}

fn read(answer: &Message, name: &Wire) -> Seen {
    let value = |data: &RData| match data {
        RData::A(a) => Some(a.0.to_string()),
        RData::AAAA(aaaa) => Some(aaaa.0.to_string()),
        RData::PTR(ptr) => Some(text(&ptr.0)),
        RData::NS(ns) => Some(text(&ns.0)),
        RData::TXT(words) => Text::new(words.txt_data.to_vec()).map(|words| words.to_string()),
        RData::SOA(soa) => Some(soa.serial.to_string()),
        _ => None,
    };
    let mut values: Vec<String> =
        answer.answers.iter().filter(|record| record.name == *name).filter_map(|record| value(&record.data)).collect();
    values.sort_unstable();
    let serial = answer.answers.iter().chain(&answer.authorities).find_map(|record| match &record.data {
        RData::SOA(soa) => Some(soa.serial),
        _ => None,
    });
    Seen { code: word(answer.metadata.response_code), authoritative: answer.metadata.authoritative, values, serial }
}

fn text(name: &Wire) -> String {
    name.to_ascii().trim_end_matches('.').to_ascii_lowercase()
}

/// As people know it.
pub(crate) fn word(code: ResponseCode) -> &'static str {
    match code {
        ResponseCode::NoError => "NOERROR",
        ResponseCode::FormErr => "FORMERR",
        ResponseCode::ServFail => "SERVFAIL",
        ResponseCode::NXDomain => "NXDOMAIN",
        ResponseCode::NotImp => "NOTIMP",
        ResponseCode::Refused => "REFUSED",
        ResponseCode::YXDomain => "YXDOMAIN",
        ResponseCode::YXRRSet => "YXRRSET",
        ResponseCode::NXRRSet => "NXRRSET",
        ResponseCode::NotAuth => "NOTAUTH",
        ResponseCode::NotZone => "NOTZONE",
        _ => "another error",
    }
}
