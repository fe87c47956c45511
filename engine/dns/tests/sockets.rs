//! Real sockets on this machine.

use std::net::SocketAddr;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use engine_dns::{Data, DnsError, Kind, Name, Over, Seen, Server, Unchanged, Zones, ask, serial};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio_util::sync::CancellationToken;

const WITHIN: Duration = Duration::from_secs(5);

fn name(text: &str) -> Name {
    Name::parse(text).expect("a name")
}

async fn server(zones: &Arc<RwLock<Zones>>, stop: &CancellationToken) -> SocketAddr {
    let server = Server::bind(&["127.0.0.1:0".parse().expect("an address")]).await.expect("a free port");
    let address = server.addresses()[0];
    tokio::spawn(server.serve(Arc::clone(zones), Arc::new(Unchanged), stop.clone()));
    address
}

fn seen(code: &'static str, values: &[&str], serial: Option<u32>) -> Seen {
    Seen { code, authoritative: code != "REFUSED", values: values.iter().map(ToString::to_string).collect(), serial }
}

#[tokio::test]
async fn names_come_and_go_while_it_answers() {
    let (zones, stop) = (Arc::new(RwLock::new(Zones::default())), CancellationToken::new());
    let at = server(&zones, &stop).await;
    let (zone, web) = (name("demo.internal"), name("web.demo.internal"));
    let look = async |over| ask(at, &web, Kind::A, over, WITHIN).await.expect("an answer");
    assert_eq!(look(Over::Udp).await, seen("REFUSED", &[], None));
    zones.write().expect("whole").put(&zone, 1, 60, &[at.ip()]);
    assert_eq!(look(Over::Udp).await, seen("NXDOMAIN", &[], Some(1)));
    let many: Vec<Data> = (1..=99).map(|last| Data::Address([192, 0, 2, last].into())).collect();
    zones.write().expect("whole").set(&zone, &web, Kind::A, 60, &many[..1]);
    for over in [Over::Udp, Over::Tcp] {
        assert_eq!(look(over).await, seen("NOERROR", &["192.0.2.1"], None));
    }
    // More than a datagram holds: asked again over TCP.
    zones.write().expect("whole").set(&zone, &web, Kind::A, 60, &many);
    assert_eq!(look(Over::Udp).await.values.len(), 99);
    zones.write().expect("whole").set(&zone, &web, Kind::A, 60, &[]);
    zones.write().expect("whole").put(&zone, 0x1_0000_0002, 60, &[at.ip()]);
    assert_eq!(look(Over::Tcp).await, seen("NXDOMAIN", &[], Some(2)));
    stop.cancel();
}

#[tokio::test]
async fn a_connection_answers_several_questions_and_many_connections_do_not_stop_it() {
    let (zones, stop) = (Arc::new(RwLock::new(Zones::default())), CancellationToken::new());
    zones.write().expect("whole").put(&name("demo.internal"), 1, 60, &[]);
    let at = server(&zones, &stop).await;
    let mut idle = Vec::new();
    for _ in 0..120 {
        idle.push(TcpStream::connect(at).await.expect("a connection"));
    }
    let question = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x04demo\x08internal\x00\x00\x06\x00\x01";
    let mut stream = TcpStream::connect(at).await.expect("a connection");
    for _ in 0..3 {
        let length = u16::try_from(question.len()).expect("short");
        // In pieces, as networks have it.
        stream.write_u16(length).await.expect("sent");
        stream.write_all(&question[..9]).await.expect("sent");
        stream.flush().await.expect("sent");
        stream.write_all(&question[9..]).await.expect("sent");
        let mut answer = vec![0; usize::from(stream.read_u16().await.expect("an answer"))];
        stream.read_exact(&mut answer).await.expect("an answer");
        assert_eq!((&answer[..2], answer[3] & 15, answer[7]), (&b"\x12\x34"[..], 0, 1));
    }
    // Rubbish ends its own connection, and no other.
    let mut rubbish = TcpStream::connect(at).await.expect("a connection");
    rubbish.write_all(&[0xff; 64]).await.expect("sent");
    assert_eq!(rubbish.read(&mut [0; 8]).await.ok().unwrap_or(0), 0);
    let seen = ask(at, &name("demo.internal"), Kind::Soa, Over::Udp, WITHIN).await.expect("an answer");
    assert_eq!(seen.serial, Some(1));
    drop(idle);
    stop.cancel();
}

#[tokio::test]
async fn who_does_not_answer_or_answers_something_else_is_told_apart() {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let at = socket.local_addr().expect("bound");
    let short = Duration::from_millis(200);
    let other = tokio::spawn(async move {
        let mut packet = [0; 512];
        let (length, from) = socket.recv_from(&mut packet).await.expect("a question");
        // Another id; rubbish; and the same id with another question.
        let mut forged = packet[..length].to_vec();
        forged[2] |= 0x80;
        forged[0] ^= 1;
        socket.send_to(&forged, from).await.expect("sent");
        socket.send_to(b"rubbish", from).await.expect("sent");
        forged[0] ^= 1;
        forged[13] ^= 1;
        socket.send_to(&forged, from).await.expect("sent");
        socket
    });
    let wrong = ask(at, &name("web.demo.internal"), Kind::A, Over::Udp, short).await.expect_err("nothing of it counts");
    assert!(matches!(wrong, DnsError::Silent { .. }), "{wrong}");
    drop(other.await.expect("it ran"));
    let wrong = ask(at, &name("web.demo.internal"), Kind::A, Over::Tcp, WITHIN).await.expect_err("nobody listens");
    assert_eq!(wrong.code(), "dns-unreachable");
    let wrong = Server::bind(&["0.0.0.0:0".parse().expect("an address")]).await.expect_err("of no use");
    assert_eq!(wrong.code(), "dns-address");
}

#[test]
fn serials_go_round() {
    assert_eq!([serial(1), serial(0xffff_ffff), serial(0x1_0000_0000), serial(0x1_0000_0001)], [1, u32::MAX, 0, 1]);
}
