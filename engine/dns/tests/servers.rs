//! Our server and those of others, as Debian has them: what they are told is what they answer, all alike, and nobody tells them
//! without the key.

use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use engine_dns::{
    ApiKey, Asked, Changes, Code, Data, DnsError, Grant, Key, Kind, Name, Over, RecordSet, Server, Unchanged, Zones,
    ask, replace, update,
};
use tokio_util::sync::CancellationToken;

const WITHIN: Duration = Duration::from_secs(5);
const SECRET: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const ZONE_FILE: &str = "$TTL 60\n@ IN SOA ns hostmaster 1 3600 600 604800 5\n@ IN NS ns\nns IN A 127.0.0.1\n";

/// A server that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(program: &str, arguments: &[&str]) -> Running {
    let child =
        Command::new(program).args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    Running(child.unwrap_or_else(|error| panic!("{program}: {error}; tests/packages.sh installs it")))
}

/// A port that was free a moment ago.
/// One that is free over UDP and TCP.
fn port() -> u16 {
    let free = || {
        let socket = UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port");
        TcpListener::bind(socket).is_ok().then_some(socket.port())
    };
    std::iter::repeat_with(free).take(100).flatten().next().expect("a port that is free for both")
}

fn name(text: &str) -> Name {
    Name::of_record(text).expect("a name")
}

fn key(of: &str, secret: &str) -> Key {
    Key::parse(&format!("hmac-sha256:{of}:{secret}")).expect("a key")
}

fn set(of: &str, kind: Kind, values: &[&str]) -> RecordSet {
    let values = values.iter().map(|value| Data::parse(kind.as_str(), value).expect("a value")).collect();
    RecordSet { name: name(of), kind, ttl: 60, values }
}

/// How a server is told what it is to answer.
enum Told {
    /// It is ours, and told by whoever has it.
    Ours(Arc<RwLock<Zones>>),
    /// By updates that are signed.
    Signed(Key),
    /// By the API of PowerDNS.
    Api(SocketAddr, ApiKey),
}

impl Told {
    async fn put(&self, server: SocketAddr, zone: &Name, sets: &[RecordSet]) -> Result<(), DnsError> {
        match self {
            Self::Ours(zones) => {
                let mut zones = zones.write().expect("whole");
                let now = GENERATION.fetch_add(1, Ordering::Relaxed);
                zones.put(zone, now, 60, &[server.ip()]);
                for set in sets {
                    zones.set(zone, &set.name, set.kind, set.ttl, &set.values);
                }
                Ok(())
            }
            Self::Signed(key) => update(server, key, zone, sets, WITHIN).await,
            Self::Api(api, key) => replace(*api, key, zone, sets, WITHIN).await,
        }
    }

    /// The same server, told by whoever must not: other keys, and a zone that it does not have.
    fn intruders(&self) -> Vec<(Self, &'static str)> {
        let foreign = "ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA=";
        match self {
            Self::Ours(_) => vec![(Self::Signed(key("plinth", SECRET)), ZONE)],
            Self::Signed(known) => vec![
                (Self::Signed(key("plinth", foreign)), ZONE),
                (Self::Signed(key("other", foreign)), ZONE),
                (Self::Signed(known.clone()), "else.internal"),
            ],
            Self::Api(api, known) => vec![
                (Self::Api(*api, ApiKey::parse("other").expect("a key")), ZONE),
                (Self::Api(*api, known.clone()), "else.internal"),
            ],
        }
    }
}

static GENERATION: AtomicI64 = AtomicI64::new(2);
const ZONE: &str = "demo.internal";

/// Sets of names: name, kind, values.
type Sets = &'static [(&'static str, Kind, &'static [&'static str])];
/// What is answered: name, kind, the code and the values.
type Answers = &'static [(&'static str, Kind, &'static str, &'static [&'static str])];

const WEB: &str = "web.demo.internal";
const CHALLENGE: &str = "_acme-challenge.demo.internal";
const BACK: &str = "7.2.0.192.demo.internal";

/// What is told, and what is answered then. Everything is told twice, and answered alike.
const CASES: &[(&str, Sets, Answers)] = &[
    ("nothing yet", &[], &[(WEB, Kind::A, "NXDOMAIN", &[]), ("ns.demo.internal", Kind::A, "NOERROR", &["127.0.0.1"])]),
    (
        "two kinds of one name",
        &[(WEB, Kind::A, &["192.0.2.7", "192.0.2.8"]), (WEB, Kind::Aaaa, &["2001:db8::7"])],
        &[
            (WEB, Kind::A, "NOERROR", &["192.0.2.7", "192.0.2.8"]),
            (WEB, Kind::Aaaa, "NOERROR", &["2001:db8::7"]),
            (WEB, Kind::Ptr, "NOERROR", &[]),
            ("other.demo.internal", Kind::A, "NXDOMAIN", &[]),
        ],
    ),
    (
        "another address in the place of two",
        &[(WEB, Kind::A, &["192.0.2.9"])],
        &[(WEB, Kind::A, "NOERROR", &["192.0.2.9"]), (WEB, Kind::Aaaa, "NOERROR", &["2001:db8::7"])],
    ),
    (
        "a name below a name that has nothing",
        &[("db.deep.demo.internal", Kind::A, &["192.0.2.10"])],
        &[
            ("db.deep.demo.internal", Kind::A, "NOERROR", &["192.0.2.10"]),
            ("deep.demo.internal", Kind::A, "NOERROR", &[]),
            ("x.deep.demo.internal", Kind::A, "NXDOMAIN", &[]),
        ],
    ),
    (
        "the way back",
        &[(BACK, Kind::Ptr, &[WEB])],
        &[(BACK, Kind::Ptr, "NOERROR", &[WEB]), (BACK, Kind::A, "NOERROR", &[])],
    ),
    (
        "words, under a name that no host has",
        &[(CHALLENGE, Kind::Txt, &["\"a \\\"quoted\\\" word\" \"\\195\\188\"", "\"one\""])],
        &[(CHALLENGE, Kind::Txt, "NOERROR", &["\"a \\\"quoted\\\" word\" \"\\195\\188\"", "\"one\""])],
    ),
    ("words go", &[(CHALLENGE, Kind::Txt, &[])], &[(CHALLENGE, Kind::Txt, "NXDOMAIN", &[])]),
    ("a zone of others", &[], &[("www.example.com", Kind::A, "REFUSED", &[])]),
    (
        "one kind goes, the other one stays",
        &[(WEB, Kind::A, &[])],
        &[(WEB, Kind::A, "NOERROR", &[]), (WEB, Kind::Aaaa, "NOERROR", &["2001:db8::7"])],
    ),
    (
        "all go",
        &[(WEB, Kind::Aaaa, &[]), ("db.deep.demo.internal", Kind::A, &[]), (BACK, Kind::Ptr, &[])],
        &[
            (WEB, Kind::A, "NXDOMAIN", &[]),
            ("deep.demo.internal", Kind::A, "NXDOMAIN", &[]),
            (BACK, Kind::Ptr, "NXDOMAIN", &[]),
        ],
    ),
];

/// The same for all of them.
async fn suite(server: SocketAddr, told: Told) {
    let zone = name(ZONE);
    let mut up = false;
    for _ in 0..100 {
        up = true;
        for over in [Over::Udp, Over::Tcp] {
            let seen = ask(server, &zone, Kind::Soa, over, Duration::from_millis(200)).await;
            up &= seen.is_ok_and(|seen| seen.serial.is_some());
        }
        if up {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(up, "{server} never answers");
    let serial =
        async || ask(server, &zone, Kind::Soa, Over::Tcp, WITHIN).await.expect("an answer").serial.expect("its SOA");
    for (case, sets, answers) in CASES {
        let sets: Vec<RecordSet> = sets.iter().map(|(of, kind, values)| set(of, *kind, values)).collect();
        let before = serial().await;
        for time in ["once", "twice"] {
            if !sets.is_empty() {
                told.put(server, &zone, &sets).await.unwrap_or_else(|error| panic!("{case}, {time}: {error}"));
            }
            for (of, kind, code, values) in *answers {
                for over in [Over::Udp, Over::Tcp] {
                    let seen = ask(server, &name(of), *kind, over, WITHIN).await.expect("an answer");
                    assert_eq!(
                        (seen.code, &seen.values[..]),
                        (*code, &strings(values)[..]),
                        "{case}, {time}: {of} {kind:?}"
                    );
                }
            }
        }
        assert!(sets.is_empty() || serial().await > before, "{case}: secondaries see that it changed");
    }

    // More than a datagram holds.
    let many: Vec<String> = (1..=99).map(|last| format!("198.51.100.{last}")).collect();
    let many_are: Vec<&str> = many.iter().map(String::as_str).collect();
    told.put(server, &zone, &[set(WEB, Kind::A, &many_are)]).await.expect("told");
    let seen = ask(server, &name(WEB), Kind::A, Over::Udp, WITHIN).await.expect("an answer");
    assert_eq!(seen.values.len(), 99);

    for (intruder, zone) in told.intruders() {
        let taken = [set(&format!("web.{zone}"), Kind::A, &["192.0.2.66"])];
        let refused = intruder.put(server, &name(zone), &taken).await.expect_err("it must not");
        assert_eq!(refused.code(), "dns-refused", "{refused}");
    }
    assert_eq!(ask(server, &name(WEB), Kind::A, Over::Udp, WITHIN).await.expect("an answer").values.len(), 99);
}

fn strings(values: &[&str]) -> Vec<String> {
    values.iter().map(|value| (*value).to_owned()).collect()
}

#[tokio::test]
async fn ours() {
    let (zones, stop) = (Arc::new(RwLock::new(Zones::default())), CancellationToken::new());
    let server = Server::bind(&["127.0.0.1:0".parse().expect("an address")]).await.expect("a free port");
    let at = server.addresses()[0];
    zones.write().expect("whole").put(&name(ZONE), 1, 60, &[at.ip()]);
    tokio::spawn(server.serve(Arc::clone(&zones), Arc::new(Unchanged), stop.clone()));
    suite(at, Told::Ours(zones)).await;
    stop.cancel();
}

/// Writes changes down in memory.
struct InMemory {
    zones: Arc<RwLock<Zones>>,
    sets: Mutex<(i64, engine_dns::Sets)>,
}

impl Changes for InMemory {
    async fn change(&self, asked: Asked) -> Code {
        let mut guard = self.sets.lock().expect("whole");
        let (generation, sets) = &mut *guard;
        let before = sets.clone();
        if let Err(code) = asked.apply(sets) {
            return code;
        }
        *generation += 1;
        let mut zones = self.zones.write().expect("whole");
        zones.put(&asked.zone, *generation, 60, &["127.0.0.1".parse().expect("an address")]);
        for (name, kind) in before.keys().chain(sets.keys()) {
            let held = sets.get(&(name.clone(), *kind));
            let values: Vec<Data> = held.into_iter().flat_map(|held| held.values.iter().cloned()).collect();
            zones.set(&asked.zone, name, *kind, held.map_or(0, |held| held.ttl), &values);
        }
        Code::Done
    }
}

#[tokio::test]
async fn ours_by_updates() {
    let (zones, stop) = (Arc::new(RwLock::new(Zones::default())), CancellationToken::new());
    let server = Server::bind(&["127.0.0.1:0".parse().expect("an address")]).await.expect("a free port");
    let at = server.addresses()[0];
    zones.write().expect("whole").put(&name(ZONE), 1, 60, &[at.ip()]);
    let grant = Grant::new(name("plinth"), SECRET, name(ZONE)).expect("a key");
    zones.write().expect("whole").grant(&name(ZONE), vec![grant]);
    let changes = InMemory { zones: Arc::clone(&zones), sets: Mutex::new((1, engine_dns::Sets::new())) };
    tokio::spawn(server.serve(zones, Arc::new(changes), stop.clone()));
    suite(at, Told::Signed(key("plinth", SECRET))).await;
    stop.cancel();
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).expect("a file");
}

#[tokio::test]
async fn bind() {
    let (folder, port) = (tempfile::tempdir().expect("a folder"), port());
    let at = folder.path().display();
    write(&folder.path().join("zone"), ZONE_FILE);
    write(
        &folder.path().join("named.conf"),
        &format!(
            "options {{ directory \"{at}\"; pid-file \"{at}/pid\"; session-keyfile \"{at}/session\"; listen-on port {port} {{ 127.0.0.1; }};\n\
             listen-on-v6 {{ none; }}; recursion no; dnssec-validation no; managed-keys-directory \"{at}\"; }};\n\
             controls {{ }};\n\
             key \"plinth\" {{ algorithm hmac-sha256; secret \"{SECRET}\"; }};\n\
             zone \"demo.internal\" {{ type primary; file \"{at}/zone\"; allow-update {{ key \"plinth\"; }}; }};\n"
        ),
    );
    let _running = start("/usr/sbin/named", &["-f", "-c", &format!("{at}/named.conf")]);
    suite(SocketAddr::from(([127, 0, 0, 1], port)), Told::Signed(key("plinth", SECRET))).await;
}

#[tokio::test]
async fn knot() {
    let (folder, port) = (tempfile::tempdir().expect("a folder"), port());
    let at = folder.path().display();
    write(&folder.path().join("demo.internal.zone"), ZONE_FILE);
    write(
        &folder.path().join("knot.conf"),
        &format!(
            "server:\n  rundir: \"{at}\"\n  listen: 127.0.0.1@{port}\n\
             database:\n  storage: \"{at}\"\n\
             key:\n  - id: plinth\n    algorithm: hmac-sha256\n    secret: {SECRET}\n\
             acl:\n  - id: push\n    key: plinth\n    action: update\n\
             zone:\n  - domain: demo.internal\n    storage: \"{at}\"\n    acl: push\n    zonefile-sync: -1\n    zonefile-load: difference\n    journal-content: changes\n"
        ),
    );
    let _running = start("/usr/sbin/knotd", &["-c", &format!("{at}/knot.conf")]);
    suite(SocketAddr::from(([127, 0, 0, 1], port)), Told::Signed(key("plinth", SECRET))).await;
}

#[tokio::test]
async fn powerdns() {
    let (folder, port) = (tempfile::tempdir().expect("a folder"), port());
    let api = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    let at = folder.path().display();
    let run = |program: &str, arguments: &[&str]| {
        let done = Command::new(program).args(arguments).output();
        let done = done.unwrap_or_else(|error| panic!("{program}: {error}; tests/packages.sh installs it"));
        assert!(done.status.success(), "{program}: {}", String::from_utf8_lossy(&done.stderr));
    };
    let schema = "/usr/share/pdns-backend-sqlite3/schema/schema.sqlite3.sql";
    run("sqlite3", &[&format!("{at}/zones"), &format!(".read {schema}")]);
    write(
        &folder.path().join("pdns.conf"),
        &format!(
            "launch=gsqlite3\ngsqlite3-database={at}/zones\nsocket-dir={at}\nlocal-address=127.0.0.1\nlocal-port={port}\n\
             webserver=yes\nwebserver-address=127.0.0.1\nwebserver-port={}\napi=yes\napi-key=s3cret\n\
             security-poll-suffix=\nguardian=no\ndaemon=no\n",
            api.port()
        ),
    );
    let config = format!("--config-dir={at}");
    run("pdnsutil", &[&config, "create-zone", ZONE, "ns.demo.internal"]);
    run("pdnsutil", &[&config, "add-record", ZONE, "ns", "A", "60", "127.0.0.1"]);
    run("pdnsutil", &[&config, "set-meta", ZONE, "SOA-EDIT-API", "INCREASE"]);
    let _running = start("/usr/sbin/pdns_server", &[&config]);
    // It answers questions before it takes changes.
    for _ in 0..100 {
        if TcpStream::connect(api).is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    suite(SocketAddr::from(([127, 0, 0, 1], port)), Told::Api(api, ApiKey::parse("s3cret").expect("a key"))).await;
}
