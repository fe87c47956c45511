//! Servers of others, as Debian has them: what is pushed to them is what they answer, and nothing without the key.

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use engine_dns::{Data, Key, Kind, Name, Over, RecordSet, ask, update};

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
fn port() -> u16 {
    UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port").port()
}

fn name(text: &str) -> Name {
    Name::parse(text).expect("a name")
}

fn key(of: &str, secret: &str) -> Key {
    Key::parse(&format!("hmac-sha256:{of}:{secret}")).expect("a key")
}

fn set(of: &str, kind: Kind, values: &[&str]) -> RecordSet {
    let values = values.iter().map(|value| Data::parse(kind.as_str(), value).expect("a value")).collect();
    RecordSet { name: name(of), kind, ttl: 60, values }
}

/// The same for all of them.
async fn suite(server: SocketAddr) {
    let (zone, web) = (name("demo.internal"), name("web.demo.internal"));
    let mut up = false;
    for _ in 0..100 {
        let seen = ask(server, &zone, Kind::Soa, Over::Udp, Duration::from_millis(200)).await;
        up = seen.is_ok_and(|seen| seen.serial.is_some());
        if up {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(up, "{server} never answers");
    let key_of_it = key("plinth", SECRET);
    let seen = async |of: &Name, kind| {
        let seen = ask(server, of, kind, Over::Udp, WITHIN).await.expect("an answer");
        (seen.code, seen.values.join(" "))
    };
    assert_eq!(seen(&web, Kind::A).await, ("NXDOMAIN", String::new()));
    let serial =
        async || ask(server, &zone, Kind::Soa, Over::Tcp, WITHIN).await.expect("an answer").serial.expect("its SOA");
    let first = serial().await;
    let both = [
        set("web.demo.internal", Kind::A, &["192.0.2.7", "192.0.2.8"]),
        set("web.demo.internal", Kind::Aaaa, &["2001:db8::7"]),
    ];
    for _ in 0..2 {
        update(server, &key_of_it, &zone, &both, WITHIN).await.expect("updated");
        assert_eq!(seen(&web, Kind::A).await, ("NOERROR", "192.0.2.7 192.0.2.8".to_owned()));
        assert_eq!(seen(&web, Kind::Aaaa).await, ("NOERROR", "2001:db8::7".to_owned()));
    }
    assert!(serial().await > first, "secondaries see that it changed");
    update(server, &key_of_it, &zone, &[set("web.demo.internal", Kind::A, &["192.0.2.9"])], WITHIN)
        .await
        .expect("updated");
    assert_eq!(seen(&web, Kind::A).await, ("NOERROR", "192.0.2.9".to_owned()));
    assert_eq!(seen(&web, Kind::Aaaa).await.1, "2001:db8::7", "another kind is left alone");

    // The wrong secret, a key that it does not know, a zone that it does not have.
    let foreign = "ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA=";
    let taken = [set("web.demo.internal", Kind::A, &["192.0.2.66"])];
    for (key, zone) in
        [(key("plinth", foreign), &zone), (key("other", foreign), &zone), (key_of_it.clone(), &name("else.internal"))]
    {
        let refused = update(server, &key, zone, &taken, WITHIN).await.expect_err("it must not");
        assert_eq!(refused.code(), "dns-refused", "{refused}");
    }
    assert_eq!(seen(&web, Kind::A).await, ("NOERROR", "192.0.2.9".to_owned()));

    let none = [set("web.demo.internal", Kind::A, &[]), set("web.demo.internal", Kind::Aaaa, &[])];
    for _ in 0..2 {
        update(server, &key_of_it, &zone, &none, WITHIN).await.expect("updated");
        assert_eq!(seen(&web, Kind::A).await, ("NXDOMAIN", String::new()));
    }
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
    suite(SocketAddr::from(([127, 0, 0, 1], port))).await;
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
    suite(SocketAddr::from(([127, 0, 0, 1], port))).await;
}
