//! etcd by name and behind a balancer on lab nodes: while members come and go, nobody is named or sent to who does not serve.

mod checks;
mod http;
mod virtual_address;

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use engine_dns::{Kind, Name, Over, ask};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;

use crate::dns::lab::Address;
use crate::site::Site;

const ZONE: &str = "it.plinth.internal";
/// Longer than any one answer takes.
const PATIENCE: Duration = Duration::from_secs(5);

fn cluster(resolver: &Address) -> String {
    format!(
        "deployment: it\nworkload: etcd-cluster\nparameters: {{resolvers: [{resolver}]}}\n\
         nodes: {{members: {{provider: lab, count: 3}}, balancers: {{provider: lab, count: 1}}, clients: {{provider: lab, count: 1}}}}\n"
    )
}

fn file(site: &Site, name: &str) -> Vec<u8> {
    let script = format!("base64 --wrap=0 /etc/etcd/tls/client/{name}.pem");
    let said = site.ok(&["exec", "it-clients-1", "--", "bash", "-c", &script]);
    STANDARD.decode(said.split_whitespace().last().expect("a word")).expect("base64")
}

/// What a client of the cluster shows and trusts.
fn client(site: &Site, shows: bool) -> Arc<ClientConfig> {
    let all = |name: &str| -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_slice_iter(&file(site, name)).collect::<Result<_, _>>().expect("certificates")
    };
    let mut roots = RootCertStore::empty();
    for certificate in all("ca") {
        roots.add(certificate).expect("an authority");
    }
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots);
    let key = || PrivateKeyDer::from_pem_slice(&file(site, "key")).expect("a key");
    Arc::new(if shows {
        config.with_client_auth_cert(all("cert"), key()).expect("a pair")
    } else {
        config.with_no_client_auth()
    })
}

/// Writes a key by way of whoever listens at this address and is called so.
fn put(client: &Arc<ClientConfig>, at: IpAddr, name: &str) -> Result<(), String> {
    let failed = |error: std::io::Error| error.to_string();
    let stream = TcpStream::connect_timeout(&SocketAddr::new(at, 2379), PATIENCE).map_err(failed)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    let name = ServerName::try_from(name.to_owned()).map_err(|error| error.to_string())?;
    let tls = ClientConnection::new(Arc::clone(client), name).map_err(|error| error.to_string())?;
    let mut stream = StreamOwned::new(tls, stream);
    let body = r#"{"key": "cHJvYmVk", "value": "eA=="}"#;
    let request = format!("POST /v3/kv/put HTTP/1.0\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    stream.write_all(request.as_bytes()).map_err(failed)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).map_err(failed)?;
    let answer = String::from_utf8_lossy(&answer);
    if answer.lines().next().unwrap_or_default().contains(" 200 ") { Ok(()) } else { Err(answer.into_owned()) }
}

/// Asks for names and talks to all that they lead to, without an end and without a second try.
struct Prober {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Found>,
}

#[derive(Default)]
struct Found {
    talks: u32,
    failed: Vec<String>,
    /// How many members were named at once.
    members: BTreeSet<usize>,
    slowest: Duration,
}

impl Prober {
    fn start(server: SocketAddr, client: Arc<ClientConfig>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&stop);
        let task = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            let mut found = Found::default();
            while !until.load(Ordering::Relaxed) {
                for name in ["etcd", "etcd-balanced"] {
                    found.talk(&runtime, server, &client, &format!("{name}.{ZONE}"));
                }
            }
            found
        });
        Self { stop, task }
    }

    fn stop(self) -> Found {
        self.stop.store(true, Ordering::Relaxed);
        self.task.join().expect("the prober does not panic")
    }
}

impl Found {
    fn talk(&mut self, runtime: &tokio::runtime::Runtime, server: SocketAddr, client: &Arc<ClientConfig>, name: &str) {
        let asked = Name::parse(name).expect("a name");
        let seen = match runtime.block_on(ask(server, &asked, Kind::A, Over::Udp, PATIENCE)) {
            Ok(seen) => seen,
            Err(error) => return self.failed.push(error.to_string()),
        };
        if seen.values.is_empty() {
            self.failed.push(format!("{name}: {}", seen.code));
        }
        if name.starts_with("etcd.") {
            self.members.insert(seen.values.len());
        }
        for address in seen.values {
            let began = Instant::now();
            match put(client, address.parse().expect("an address"), name) {
                Ok(()) => self.talks += 1,
                Err(error) => self.failed.push(format!("{name} at {address}: {error}")),
            }
            self.slowest = self.slowest.max(began.elapsed());
        }
    }
}

/// What happened after a point in the stream of events.
struct Line(Vec<Value>);

impl Line {
    fn now(site: &Site) -> i64 {
        Self::after(site, 0).0.iter().filter_map(|event| event["seq"].as_i64()).max().unwrap_or(0)
    }

    fn after(site: &Site, seq: i64) -> Self {
        let all = site.json(&["events", "--deployment", "it", "--limit", "5000"]);
        let all = all.as_array().expect("events").iter();
        Self(all.filter(|event| event["seq"].as_i64() > Some(seq)).cloned().collect())
    }

    /// Where something happened to `NODE/ROLE`, for the first time.
    fn first(&self, kind: &str, place: &str) -> i64 {
        let (node, role) = place.split_once('/').expect("a place");
        let found = self.0.iter().find(|event| event["kind"] == kind && event["node"] == node && event["role"] == role);
        found.unwrap_or_else(|| panic!("no {kind} of {place} in {:#?}", self.0))["seq"].as_i64().expect("a number")
    }

    fn begins(&self, place: &str) -> i64 {
        self.first("node-role.claim", place)
    }

    fn ends(&self, place: &str) -> i64 {
        self.first("node-role.done", place)
    }

    /// Each of `first` ended before any of `then` began.
    fn is_before(&self, first: &[&str], then: &[&str]) {
        for before in first {
            for after in then {
                assert!(self.ends(before) < self.begins(after), "{after} began before {before} had ended");
            }
        }
    }
}

const SERVICE: &str = "deployment/etcd-service-name";
const BALANCER: &str = "it-balancers-1/etcd-balancer-service";

fn who_came(line: &Line, node: &str) {
    let of = |role: &str| format!("{node}/{role}");
    let [leaf, etcd, name] = [of("etcd-tls-server-leaf"), of("etcd"), of("etcd-name")];
    line.is_before(&[&leaf], &[&etcd]);
    line.is_before(&[&etcd], &[&name]);
    line.is_before(&[&name], &[SERVICE, BALANCER]);
    line.is_before(&[SERVICE, BALANCER], &["deployment/etcd-roster"]);
}

fn who_left(line: &Line, node: &str) {
    let of = |role: &str| format!("{node}/{role}");
    let [etcd, name, leaf] = [of("etcd"), of("etcd-name"), of("etcd-tls-server-leaf")];
    line.is_before(&[SERVICE, BALANCER], &[&name, "deployment/etcd-roster"]);
    line.is_before(&[&name, "deployment/etcd-roster"], &[&etcd]);
    line.is_before(&[&etcd], &[&leaf]);
    assert!(line.first("certificate.revoked", &leaf) > line.ends(&etcd), "its certificate went before it did");
}

/// By the name and the path that stand in its certificate, and by nothing else that is known of the engine.
fn a_node_has_the_list_that_its_certificate_names(site: &Site, lists: &str) {
    let fetch = r"set -e; cd /etc/etcd/tls/client
        url=$(openssl x509 -in cert.pem -noout -ext crlDistributionPoints | sed -n 's/.*URI:http:..//p')
        export LC_ALL=C
        exec 3<>/dev/tcp/${url%%/*}/80
        printf 'GET /%s HTTP/1.0\r\n\r\n' ${url#*/} >&3
        sed -z 's/.*\r\n\r\n//' <&3 >/tmp/list || true
        openssl crl -inform DER -in /tmp/list -CAfile ca.pem -noout -text 2>&1";
    let said = site.ok(&["exec", "it-clients-1", "--", "bash", "-c", fetch]);
    assert!(said.contains("verify OK") && said.contains("No Revoked Certificates"), "{said}");
    // What others can reach has nothing else.
    for path in ["", "api/v1/deployments", "metrics", "crl/0.crl"] {
        let mut stream = TcpStream::connect(lists).expect("it listens");
        stream.write_all(format!("GET /{path} HTTP/1.0\r\n\r\n").as_bytes()).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        assert!(answer.split(' ').nth(1).is_some_and(|code| ["400", "404"].contains(&code)), "{path}: {answer}");
    }
}

#[test]
fn members_come_and_go_and_nobody_is_named_or_sent_to_who_does_not_serve() {
    let at = Address::new(55);
    let mut site = Site::new(&[]);
    let lists = at.server().replace(":53", ":80");
    site.start_with(&["--dns", &at.server(), "--lists", &lists]);
    site.apply(&cluster(&at));
    site.until_active("it");
    a_node_has_the_list_that_its_certificate_names(&site, &lists);
    // The client has been told of the balancer alone, and reaches the cluster by its name.
    let health = "set -a; . /etc/etcd/client.env; echo $ETCDCTL_ENDPOINTS; etcdctl endpoint health 2>&1";
    let said = site.ok(&["exec", "it-clients-1", "--", "bash", "-c", health]);
    assert!(said.contains(&format!("https://etcd-balanced.{ZONE}:2379 is healthy")), "{said}");
    // It counted as there only when its own resolver led it to the balancer.
    let line = Line::after(&site, 0);
    line.is_before(&["deployment/etcd-balanced-name"], &["it-clients-1/etcd-client-lookup"]);
    line.is_before(&["it-clients-1/dns-resolver", "it-clients-1/etcd-client-lookup"], &["it-clients-1/etcd-client"]);
    let shown = site.json(&["deployment", "show", "it"]);
    assert_eq!(shown["exports"]["balanced"][0], format!("https://etcd-balanced.{ZONE}:2379"), "{shown:#}");

    let server = at.server().parse().expect("an address");
    let prober = Prober::start(server, client(&site, true));
    let process = "journalctl --unit haproxy.service --no-pager | grep --count 'Reloading HAProxy'";
    let loaded = || site.ok(&["exec", "it-balancers-1", "--", "bash", "-c", process]);
    let before = loaded();
    let mark = Line::now(&site);
    site.ok(&["scale", "it", "members", "5", "--yes", "--wait"]);
    let line = Line::after(&site, mark);
    // The one that came last was named last.
    let came = |node: &&&str| line.ends(&format!("{node}/etcd-name"));
    let first = ["it-members-4", "it-members-5"].iter().min_by_key(came).expect("one");
    who_came(&line, first);
    let mark = Line::now(&site);
    site.ok(&["scale", "it", "members", "3", "--yes", "--wait"]);
    let line = Line::after(&site, mark);
    for node in ["it-members-4", "it-members-5"] {
        who_left(&line, node);
    }
    assert_eq!(loaded(), before, "HAProxy was never loaded anew");

    let found = prober.stop();
    println!("{} talks, {} failed, the slowest took {:?}", found.talks, found.failed.len(), found.slowest);
    assert_eq!(found.failed, Vec::<String>::new());
    assert!(found.talks > 100, "only {} talks", found.talks);
    assert!(found.members.contains(&3) && found.members.contains(&5), "{:?}", found.members);

    checks::find_what_another_hand_broke(&site, "it-balancers-1");
    let naked = client(&site, false);
    let balancers = site.json(&["dns", "records", ZONE]);
    let balancers = balancers.as_array().expect("records").iter();
    let found = balancers.filter(|record| record["name"] == format!("etcd-balanced.{ZONE}")).collect::<Vec<_>>();
    let address = found[0]["values"][0].as_str().expect("an address").parse().expect("an address");
    let said = put(&naked, address, &format!("etcd-balanced.{ZONE}"));
    assert!(said.as_ref().is_err_and(|said| said.contains("ertificate")), "let in without a certificate: {said:?}");

    // The file says what the process was told: another process has the same members.
    let name = format!("etcd-balanced.{ZONE}");
    site.ok(&["exec", "it-balancers-1", "--", "systemctl", "restart", "haproxy.service"]);
    let own = client(&site, true);
    site.until_so("reached again", || put(&own, address, &name));
    let servers = "grep --count '^ *server it-members' /etc/haproxy/services/etcd.cfg";
    let said = site.ok(&["exec", "it-balancers-1", "--", "bash", "-c", servers]);
    assert!(said.trim().ends_with('3'), "{said}");

    // Without a balancer there is no such name, and what is left of it on its node goes with it.
    let file = site.folder().join("applied.yaml").display().to_string();
    site.ok(&["plan", &file, "--detailed-exitcode"]);
    site.ok(&["scale", "it", "balancers", "0", "--yes", "--wait"]);
    let name = Name::parse(&name).expect("a name");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let seen = runtime.block_on(ask(server, &name, Kind::A, Over::Udp, PATIENCE)).expect("an answer");
    assert_eq!((seen.code, seen.values), ("NXDOMAIN", Vec::new()));
    let said = site.run(&["residue", "it"]);
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stdout));
}
