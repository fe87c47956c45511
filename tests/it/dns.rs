//! Names of nodes: answered as soon as they count as done, gone before their machines are, the same by every engine.

mod keys;
pub(crate) mod lab;
mod lookup;
mod service;

use std::net::SocketAddr;
use std::time::Duration;

use engine_core::request::Ask;
use engine_core::state::State;
use engine_core::view::{Health, StatusView};
use engine_daemon::Engine;
use engine_dns::{Kind, Name, Over, Seen, ask};
use engine_store::read;

use crate::support::{World, find};

/// An application that runs only where its node has a name.
const NAMED: [(&str, &str); 2] = [
    (
        "roles/app/role.yaml",
        "role: app\nversion: 1.0.0\nabout: Is called by the name of its node.\nruns: node\nmilestone: true\n\
         inputs: {fqdn: {schema: {type: string}, from: dns-name.fqdn}}\n\
         outputs: {url: {schema: {type: string}, value: 'http://{{ fqdn }}/'}}\n\
         apply:\n  - run: {text: 'true', unless: 'false'}\n",
    ),
    (
        "workloads/named/workload.yaml",
        "workload: named\nversion: 1.0.0\nabout: Nodes with names.\ngroups: {all: {count: {default: 3}}}\n\
         parameters: {type: object, properties: {zone: {type: string}, subnets: {type: array, items: {type: string}}, pushes: {type: array, items: {$ref: types/dns-push}, default: []}}}\n\
         roles: {all: [app], deployment: [{dns-zone: {with: {name: '{{ parameters.zone }}', subnets: '{{ parameters.subnets }}', pushes: '{{ parameters.pushes }}'}}}]}\n",
    ),
];

fn named(name: &str, count: u32, zone: &str, subnets: &str, script: &str) -> String {
    format!(
        "deployment: {name}\nworkload: named\nparameters: {{zone: {zone}, subnets: {subnets}}}\n\
         nodes: {{all: {{provider: simulated, count: {count}, with: {{script: {script}}}}}}}\n"
    )
}

/// An engine that answers on a port of this machine.
async fn answering(world: &World) -> (Engine, SocketAddr) {
    let mut config = world.config();
    config.dns = vec!["127.0.0.1:0".parse().expect("an address")];
    let engine = Engine::start(config).await.expect("an engine");
    let at = engine.dns()[0];
    (engine, at)
}

async fn seen(at: SocketAddr, name: &str, kind: Kind, over: Over) -> Seen {
    let name = Name::parse(name).expect("a name");
    ask(at, &name, kind, over, Duration::from_secs(5)).await.expect("an answer")
}

/// What a name is, or the code of its denial.
async fn answer(at: SocketAddr, name: &str, kind: Kind) -> String {
    let mut udp = seen(at, name, kind, Over::Udp).await;
    loop {
        let tcp = seen(at, name, kind, Over::Tcp).await;
        // Between the two the zone may have changed; then the first way tells it too.
        let again = seen(at, name, kind, Over::Udp).await;
        if udp == again {
            assert_eq!(udp, tcp, "the same either way");
            break;
        }
        udp = again;
    }
    if udp.values.is_empty() { udp.code.to_owned() } else { udp.values.join(" ") }
}

fn address_of(status: &StatusView, node: &str) -> String {
    let found = status.nodes.iter().find(|other| other.name == node).expect("a node");
    found.address.clone().expect("an address")
}

/// The zone of the /8 that an address is in, and the name of the address there.
fn back(address: &str) -> (String, String) {
    let name = Name::of_address(address.parse().expect("an address"));
    let first = address.split('.').next().expect("four numbers");
    (format!("[{first}.0.0.0/8]"), name.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_have_names_from_the_moment_that_they_count_until_before_they_go() {
    let world = World::new(&NAMED).await;
    let (engine, at) = answering(&world).await;
    let control = engine.control();
    assert_eq!(answer(at, "blue-all-1.demo.internal", Kind::A).await, "REFUSED");
    control.apply(&named("blue", 3, "demo.internal", "[]", "{}"), "f", &[], "test").await.expect("applied");
    let status = world.until_active("blue").await;
    let address = address_of(&status, "blue-all-1");
    for node in ["blue-all-1", "blue-all-2", "blue-all-3"] {
        let name = format!("{node}.demo.internal");
        assert_eq!(answer(at, &name, Kind::A).await, address_of(&status, node));
        assert_eq!(answer(at, &name, Kind::Aaaa).await, "NOERROR", "it is there, and has none");
    }
    assert_eq!(answer(at, "blue-all-4.demo.internal", Kind::A).await, "NXDOMAIN");
    assert_eq!(answer(at, "demo.internal", Kind::Ns).await, "ns.demo.internal");
    assert_eq!(answer(at, "ns.demo.internal", Kind::A).await, "127.0.0.1");
    let serial = seen(at, "demo.internal", Kind::Soa, Over::Udp).await.serial.expect("a serial");

    // The subnet gets names back, and a member leaves: its name is gone while its machine is still there.
    let (subnets, way_back) = back(&address);
    let slow = "{app: {on: [remove], delay_ms: 700}}";
    let leaving = named("blue", 2, "demo.internal", &subnets, slow);
    control.apply(&leaving, "f", &[], "test").await.expect("applied");
    let gone = |status: &StatusView| {
        !status.node_roles.iter().any(|role| role.role == "dns-name" && role.node == "blue-all-3")
    };
    let status = world.until("blue", gone).await;
    assert_eq!(answer(at, "blue-all-3.demo.internal", Kind::A).await, "NXDOMAIN");
    assert!(
        status.node_roles.iter().all(|role| role.node != "blue-all-3" || role.role != "app"),
        "whoever is called by it left before"
    );
    world.until("blue", |status| status.deployment.health == Health::Active && status.nodes.len() == 2).await;
    assert_eq!(answer(at, &way_back, Kind::Ptr).await, "blue-all-1.demo.internal");
    let later = seen(at, "demo.internal", Kind::Soa, Over::Udp).await.serial.expect("a serial");
    assert!(later > serial, "{later} after {serial}");
    let zones = read::zones(world.database.pool()).await.expect("zones");
    assert_eq!(zones.iter().map(|zone| zone.names).collect::<Vec<_>>(), [2, 2], "{zones:?}");
    let records = read::records(world.database.pool(), "demo.internal", "").await.expect("records").expect("the zone");
    let shown: Vec<_> = records.items.iter().map(|record| format!("{} {}", record.name, record.node_role)).collect();
    assert_eq!(shown, ["blue-all-1.demo.internal blue-all-1/dns-name", "blue-all-2.demo.internal blue-all-2/dns-name"]);

    // What an engine answers is in the database, and not in the engine.
    engine.stop().await;
    let (engine, at) = answering(&world).await;
    assert_eq!(later, seen_until(at, "demo.internal").await.serial.expect("a serial"));
    assert_eq!(answer(at, "blue-all-1.demo.internal", Kind::A).await, address);
    engine.control().destroy("blue", "test").await.expect("destroyed");
    world.until("blue", |status| status.deployment.health == Health::Gone).await;
    assert_eq!(answer(at, "blue-all-1.demo.internal", Kind::A).await, "REFUSED");
    assert_eq!(read::zones(world.database.pool()).await.expect("zones"), []);
    engine.stop().await;
}

/// The SOA, once the engine has loaded its zones: until then it says nothing.
async fn seen_until(at: SocketAddr, zone: &str) -> Seen {
    let name = Name::parse(zone).expect("a name");
    for _ in 0..100 {
        if let Ok(seen) = ask(at, &name, Kind::Soa, Over::Udp, Duration::from_millis(100)).await {
            return seen;
        }
    }
    panic!("{at} never answers")
}

#[tokio::test(flavor = "multi_thread")]
async fn names_wait_for_somebody_who_answers_them_and_every_engine_counts() {
    let world = World::new(&NAMED).await;
    let silent = world.engine().await;
    silent.control().apply(&named("blue", 2, "demo.internal", "[]", "{}"), "f", &[], "test").await.expect("applied");
    let waits =
        |status: &StatusView| status.node_roles.iter().any(|role| role.role == "dns-zone" && role.saw.is_some());
    let status = world.until("blue", waits).await;
    let saw = find(&status, "deployment/dns-zone").saw.clone().expect("it says so");
    assert_eq!(saw, "no engine answers DNS questions; one does with `plinth serve --dns ADDRESS:PORT`");
    // Two that answer: what one of them performs counts when both have it.
    let ((one, at_one), (two, at_two)) = (answering(&world).await, answering(&world).await);
    let status = world.until_active("blue").await;
    for at in [at_one, at_two] {
        assert_eq!(answer(at, "blue-all-2.demo.internal", Kind::A).await, address_of(&status, "blue-all-2"));
    }
    for engine in [silent, one, two] {
        engine.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zone_has_one_deployment_and_a_lost_node_no_name() {
    let world = World::new(&NAMED).await;
    let (engine, at) = answering(&world).await;
    let control = engine.control();
    control.apply(&named("blue", 2, "demo.internal", "[]", "{}"), "f", &[], "test").await.expect("applied");
    world.until_active("blue").await;
    control.apply(&named("red", 1, "demo.internal", "[]", "{}"), "f", &[], "test").await.expect("applied");
    let status = world.until("red", |status| status.deployment.health == Health::Failed).await;
    let zone = find(&status, "deployment/dns-zone");
    assert_eq!((zone.code.as_deref(), zone.state), (Some("dns-taken"), State::Failed));
    assert_eq!(zone.message.as_deref(), Some("`demo.internal` belongs to another node role"));
    control.apply(&named("red", 1, "10.0.0.1", "[]", "{}"), "f", &[], "test").await.expect("applied");
    let wrong = |status: &StatusView| find(status, "deployment/dns-zone").code.as_deref() == Some("dns-name");
    world.until("red", wrong).await;
    control.apply(&named("red", 1, "red.internal", "[]", "{}"), "f", &[], "test").await.expect("applied");
    world.until_active("red").await;
    control.lose_node("blue-all-2", "test").await.expect("lost");
    let end = tokio::time::Instant::now() + Duration::from_secs(20);
    while answer(at, "blue-all-2.demo.internal", Kind::A).await != "NXDOMAIN" {
        assert!(tokio::time::Instant::now() < end, "it still leads to the lost node");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for name in ["blue", "red"] {
        control.destroy(name, "test").await.expect("destroyed");
        world.until(name, |status| status.deployment.health == Health::Gone).await;
    }
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_belongs_to_one_node_role_and_a_fleet_gets_its_names_in_few_commits() {
    let www = include_str!("../../roles/dns-name/role.yaml")
        .replace("role: dns-name", "role: www")
        .replace("from: node.name", "default: www");
    let workload = "workload: sites\nversion: 1.0.0\nabout: One name, many nodes.\ngroups: {all: {count: {default: 2}}}\n\
        parameters: {type: object, properties: {shared: {type: boolean}}}\n\
        roles: {all: [www], deployment: [{dns-zone: {with: {name: sites.internal}}}]}\n";
    let mut files = NAMED.to_vec();
    files.extend([("roles/www/role.yaml", www.as_str()), ("workloads/sites/workload.yaml", workload)]);
    let world = World::new(&files).await;
    let (engine, at) = answering(&world).await;
    let control = engine.control();
    let sites = "deployment: sites\nworkload: sites\nnodes: {all: {provider: simulated, count: 2}}\n";
    control.apply(sites, "f", &[], "test").await.expect("applied");
    let status = world.until("sites", |s| s.deployment.counts.failed == 1 && s.deployment.counts.active >= 2).await;
    let of = |state| {
        status.node_roles.iter().find(move |role| role.role == "www" && role.state == state).expect("one of two")
    };
    let (has, failed) = (of(State::Active), of(State::Failed));
    assert_eq!(failed.message.as_deref(), Some("`www.sites.internal` belongs to another node role"));
    assert_eq!(failed.code.as_deref(), Some("dns-taken"));
    assert_eq!(answer(at, "www.sites.internal", Kind::A).await, address_of(&status, &has.node));
    control.destroy("sites", "test").await.expect("destroyed");

    control.apply(&named("fleet", 150, "fleet.internal", "[]", "{}"), "f", &[], "test").await.expect("applied");
    let status = world.until_active("fleet").await;
    for number in [1, 75, 150] {
        let node = format!("fleet-all-{number}");
        assert_eq!(answer(at, &format!("{node}.fleet.internal"), Kind::A).await, address_of(&status, &node));
    }
    // Each commit that changes something raises the serial by one.
    let commits = seen(at, "fleet.internal", Kind::Soa, Over::Udp).await.serial.expect("a serial") - 1;
    assert!(commits < 150, "{commits} commits for 150 names");
    let counts = world.applies(&status).await;
    assert!(counts.iter().all(|(_, count)| *count == 1), "{counts:?}");
    engine.stop().await;
}

/// Ends with the test.
struct Named(std::process::Child);

impl Drop for Named {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// BIND with an empty zone that a key may change. It has no way back into the database.
fn bind(folder: &std::path::Path, secret: &str) -> (Named, SocketAddr) {
    let free = || {
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port");
        std::net::TcpListener::bind(udp).is_ok().then_some(udp.port())
    };
    let port = std::iter::repeat_with(free).take(100).flatten().next().expect("a port that is free for UDP and TCP");
    let at = folder.display();
    let zone = "$TTL 60\n@ IN SOA ns hostmaster 1 3600 600 604800 5\n@ IN NS ns\nns IN A 127.0.0.1\n";
    std::fs::write(folder.join("zone"), zone).expect("a file");
    let conf = format!(
        "options {{ directory \"{at}\"; pid-file \"{at}/pid\"; session-keyfile \"{at}/session\"; recursion no; dnssec-validation no;\n\
         managed-keys-directory \"{at}\"; listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }}; }};\ncontrols {{ }};\n\
         key \"plinth\" {{ algorithm hmac-sha256; secret \"{secret}\"; }};\n\
         zone \"demo.internal\" {{ type primary; file \"{at}/zone\"; allow-update {{ key \"plinth\"; }}; }};\n"
    );
    std::fs::write(folder.join("named.conf"), conf).expect("a file");
    (start_bind(folder), SocketAddr::from(([127, 0, 0, 1], port)))
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_pushed_to_a_server_of_others_and_wait_for_it() {
    let world = World::new(&NAMED).await;
    let (engine, ours) = answering(&world).await;
    let control = engine.control();
    let folder = tempfile::tempdir().expect("a folder");
    let key = folder.path().join("push.key");
    let secret = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
    let (named, theirs) = bind(folder.path(), secret);
    let document = |count| {
        let pushes = format!("pushes: [{{server: '{theirs}', key: {}}}]", key.display());
        named_document(count).replace("subnets: []", &format!("subnets: [], {pushes}"))
    };
    control.apply(&document(2), "f", &[], "test").await.expect("applied");
    let status = world.until("blue", |status| status.deployment.counts.failed == 2).await;
    assert_eq!(find(&status, "blue-all-1/dns-name").code.as_deref(), Some("dns-key"), "it was not given yet");
    std::fs::write(&key, format!("hmac-sha256:plinth:{secret}\n")).expect("a file");
    control.ask(Ask::Retry, "blue", None, "test").await.expect("retried");
    let status = world.until_active("blue").await;
    for at in [ours, theirs] {
        for node in ["blue-all-1", "blue-all-2"] {
            assert_eq!(answer(at, &format!("{node}.demo.internal"), Kind::A).await, address_of(&status, node));
        }
    }
    // It does not answer while a member leaves: the member stays until it does.
    drop(named);
    control.apply(&document(1), "f", &[], "test").await.expect("applied");
    let waits = |status: &StatusView| find(status, "blue-all-2/dns-name").saw.clone();
    let status = world.until("blue", |status| waits(status).is_some_and(|saw| saw.contains(&theirs.to_string()))).await;
    assert_eq!(find(&status, "blue-all-2/dns-name").state, State::Running);
    // One that has not loaded its zone can not say whether it would take a change of it: it is asked again, too.
    let (zone, aside) = (folder.path().join("zone"), folder.path().join("aside"));
    std::fs::rename(&zone, &aside).expect("it was written before");
    let named = start_bind(folder.path());
    let status = world.until("blue", |status| waits(status).is_some_and(|saw| saw.contains("SERVFAIL"))).await;
    assert_eq!(find(&status, "blue-all-2/dns-name").state, State::Running);
    drop(named);
    std::fs::rename(&aside, &zone).expect("it was there before");
    let _named = start_bind(folder.path());
    world.until("blue", |status| status.deployment.health == Health::Active && status.nodes.len() == 1).await;
    for at in [ours, theirs] {
        assert_eq!(answer(at, "blue-all-2.demo.internal", Kind::A).await, "NXDOMAIN");
    }
    engine.stop().await;
}

fn named_document(count: u32) -> String {
    named("blue", count, "demo.internal", "[]", "{}")
}

/// With what it had.
fn start_bind(folder: &std::path::Path) -> Named {
    let null = std::process::Stdio::null;
    let conf = folder.join("named.conf").display().to_string();
    let mut command = std::process::Command::new("/usr/sbin/named");
    Named(command.args(["-f", "-c", &conf]).stdout(null()).stderr(null()).spawn().expect("it was there before"))
}
