//! Names that others put into a zone, with `nsupdate` and as many at once as there are: taken from whoever has the key, durable
//! when it is said, answered by every engine, gone with the key.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use engine_core::view::Health;
use engine_dns::{Data, Key, Kind, Name, RecordSet, update};
use engine_store::read;
use futures::future;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::{NAMED, answer, answering, named};
use crate::support::{World, find};

const ONE: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const OTHER: &str = "ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA=";
const ZONE: &str = "demo.internal";
const KEY: &str = "external.demo.internal";

const OPEN: (&str, &str) = (
    "workloads/open/workload.yaml",
    "workload: open\nversion: 1.0.0\nabout: Nodes with names, and names of others.\ngroups: {all: {count: {default: 3}}}\n\
     parameters:\n  type: object\n  required: [secret]\n  properties:\n\
    \u{20}   secret: {type: string, writeOnly: true}\n    below: {type: string, default: ''}\n\
     roles:\n  all: [app]\n  deployment:\n\
    \u{20}   - dns-zone: {with: {name: demo.internal}}\n\
    \u{20}   - dns-key: {with: {name: external, secret: '{{ parameters.secret }}', below: '{{ parameters.below }}'}}\n",
);

fn open(secret: &str, below: &str) -> String {
    format!(
        "deployment: blue\nworkload: open\nparameters: {{secret: '{secret}', below: '{below}'}}\n\
         nodes: {{all: {{provider: simulated, count: 1}}}}\n"
    )
}

/// What `nsupdate` says of these lines; nothing if the server has done it.
async fn nsupdate(at: SocketAddr, key: Option<(&str, &str)>, lines: &str) -> String {
    let mut command = Command::new("nsupdate");
    if let Some((key, secret)) = key {
        command.args(["-y", &format!("hmac-sha256:{key}:{secret}")]);
    }
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("nsupdate");
    let text = format!("server {} {}\nzone {ZONE}\n{lines}\nsend\n", at.ip(), at.port());
    child.stdin.take().expect("its input").write_all(text.as_bytes()).await.expect("told");
    let output = child.wait_with_output().await.expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    assert_eq!(output.status.success(), said.is_empty(), "{said}");
    said
}

async fn dig(at: SocketAddr, words: &[&str]) -> String {
    let port = at.port().to_string();
    let output = Command::new("dig").args(["@127.0.0.1", "-p", &port]).args(words).output().await.expect("dig");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Until it is answered so: another engine than the one that was told hears of it.
async fn until(at: SocketAddr, name: &str, said: &str) {
    let end = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        let answer = answer(at, name, Kind::A).await;
        if answer == said {
            return;
        }
        assert!(tokio::time::Instant::now() < end, "{at} answers {answer} to {name}, and never {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_the_key_puts_names_into_the_zone_and_nobody_else() {
    let world = World::new(&[NAMED[0], NAMED[1], OPEN]).await;
    let ((one, at), (two, at_two)) = (answering(&world).await, answering(&world).await);
    let control = one.control();
    control.apply(&open(ONE, ""), "f", &[], "test").await.expect("applied");
    world.until_active("blue").await;

    let lines = "update add web.demo.internal 30 A 192.0.2.7\nupdate add _acme-challenge.demo.internal 30 TXT \"a b\"";
    for (key, said) in [
        (None, "update failed: REFUSED"),
        (Some((KEY, OTHER)), "; TSIG error with server: tsig indicates error\nupdate failed: NOTAUTH(BADSIG)"),
        (Some(("else", ONE)), "; TSIG error with server: tsig indicates error\nupdate failed: NOTAUTH(BADKEY)"),
    ] {
        assert_eq!(nsupdate(at, key, lines).await, said);
        assert_eq!(answer(at, "web.demo.internal", Kind::A).await, "NXDOMAIN");
    }
    let transfer = dig(at, &["-y", &format!("hmac-sha256:{KEY}:{ONE}"), ZONE, "AXFR"]).await;
    assert!(transfer.contains("Transfer failed"), "not even with the key: {transfer}");

    // At once where it was told, and soon elsewhere.
    let with_key = Some((KEY, ONE));
    assert_eq!(nsupdate(at, with_key, lines).await, "");
    assert_eq!(answer(at, "web.demo.internal", Kind::A).await, "192.0.2.7");
    assert_eq!(dig(at, &["+short", "_acme-challenge.demo.internal", "TXT"]).await, "\"a b\"");
    until(at_two, "web.demo.internal", "192.0.2.7").await;
    // The other engine changes what this one wrote.
    let moved = "prereq yxrrset web.demo.internal A 192.0.2.7\nupdate delete web.demo.internal A\nupdate add web.demo.internal 30 A 192.0.2.8";
    assert_eq!(nsupdate(at_two, with_key, moved).await, "");
    assert_eq!(nsupdate(at_two, with_key, moved).await, "update failed: NXRRSET", "it is so no more");
    until(at, "web.demo.internal", "192.0.2.8").await;

    // Names of nodes are not for others.
    let node = "blue-all-1.demo.internal";
    let address = answer(at, node, Kind::A).await;
    assert_eq!(nsupdate(at, with_key, &format!("update delete {node}")).await, "update failed: REFUSED");
    assert_eq!(answer(at, node, Kind::A).await, address);
    let records = read::records(world.database.pool(), ZONE, "").await.expect("records").expect("the zone");
    let shown: Vec<_> = records.items.iter().map(|record| format!("{} {}", record.name, record.node_role)).collect();
    assert_eq!(
        shown,
        [
            "_acme-challenge.demo.internal deployment/dns-key",
            "blue-all-1.demo.internal blue-all-1/dns-name",
            "web.demo.internal deployment/dns-key",
        ]
    );

    // Another secret, for a part of the zone: what was put there stays.
    control.apply(&open(OTHER, "apps"), "f", &[], "test").await.expect("applied");
    world.until_active("blue").await;
    assert!(nsupdate(at, with_key, lines).await.ends_with("NOTAUTH(BADSIG)"));
    let with_key = Some((KEY, OTHER));
    assert_eq!(nsupdate(at, with_key, lines).await, "update failed: REFUSED");
    assert_eq!(nsupdate(at, with_key, "update add web.apps.demo.internal 30 A 192.0.2.9").await, "");
    assert_eq!(answer(at, "web.demo.internal", Kind::A).await, "192.0.2.8");

    // With the key goes what was put there with it.
    control.apply(&named("blue", 1, ZONE, "[]", "{}"), "f", &[], "test").await.expect("applied");
    world.until_active("blue").await;
    for at in [at, at_two] {
        for name in ["web.demo.internal", "web.apps.demo.internal"] {
            until(at, name, "NXDOMAIN").await;
        }
        assert_eq!(answer(at, node, Kind::A).await, address);
    }
    assert!(nsupdate(at, with_key, lines).await.ends_with("NOTAUTH(BADKEY)"));

    // A secret that is none.
    control.apply(&open("c2hvcnQ=c2hvcnQ=c2hvcnQ=", ""), "f", &[], "test").await.expect_err("not by the schema");
    control.apply(&open("abcdefghijklmnopqrstuvw", ""), "f", &[], "test").await.expect("applied");
    let status = world.until("blue", |status| status.deployment.health == Health::Failed).await;
    assert_eq!(find(&status, "deployment/dns-key").code.as_deref(), Some("dns-key"));
    for engine in [one, two] {
        engine.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_said_to_be_done_is_there_whoever_answers_later() {
    const WRITERS: usize = 8;
    const EACH: usize = 25;
    let world = World::new(&[NAMED[0], NAMED[1], OPEN]).await;
    let (engine, at) = answering(&world).await;
    engine.control().apply(&open(ONE, ""), "f", &[], "test").await.expect("applied");
    world.until_active("blue").await;
    let zone = Name::parse(ZONE).expect("a name");
    let key = Key::parse(&format!("hmac-sha256:{KEY}:{ONE}")).expect("a key");
    let write = async |writer: usize| {
        for number in 0..EACH {
            let name = zone.below(&format!("n{writer}-{number}")).expect("a name");
            let values = vec![Data::parse("A", "192.0.2.7").expect("an address")];
            let set = RecordSet { name: name.clone(), kind: Kind::A, ttl: 60, values };
            update(at, &key, &zone, &[set], Duration::from_secs(20)).await.expect("done");
            assert_eq!(answer(at, name.as_str(), Kind::A).await, "192.0.2.7", "as soon as it is said");
        }
    };
    future::join_all((0..WRITERS).map(write)).await;
    engine.stop().await;
    let (engine, at) = answering(&world).await;
    super::seen_until(at, ZONE).await;
    for writer in 0..WRITERS {
        for number in 0..EACH {
            assert_eq!(answer(at, &format!("n{writer}-{number}.{ZONE}"), Kind::A).await, "192.0.2.7");
        }
    }
    engine.stop().await;
}
