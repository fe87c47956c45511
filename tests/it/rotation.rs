//! Authorities that go over to another key: with etcd under writes and engines that die, held up, taken back, and what holds
//! a stage.

use std::time::{Duration, Instant};

use engine_core::request::{Ask, RevocationReason, RotationMove};
use engine_core::state::State;
use engine_core::view::{RotationView, Stage, StatusView};
use engine_store::pki;
use serde_json::{Value, json};

use crate::pki::{NAMES, WEB, authorities, request, signed, web};
use crate::site::Site;
use crate::support::{World, find};
use crate::writer::{Client, PATIENCE, Writer, endpoints};

const FIVE: &str = "deployment: it\nworkload: etcd-cluster\n\
                    nodes: {members: {provider: lab, count: 5}, clients: {provider: lab, count: 1}}\n";

/// Generation and state of what is trusted.
fn trusted(site: &Site) -> Vec<(i64, String)> {
    let all = site.json(&["ca", "list", "it"]);
    let one = |one: &Value| {
        (one["generation"].as_i64().expect("a number"), one["state"].as_str().expect("a word").to_owned())
    };
    all.as_array().expect("a list").iter().map(one).collect()
}

/// The certificates of all that is trusted.
fn bundle(site: &Site) -> String {
    let listed = site.json(&["ca", "list", "it"]);
    listed.as_array().expect("a list").iter().filter_map(|one| one["certificate"].as_str()).collect()
}

/// How far the rotation is, as the status says.
fn stage(site: &Site) -> Option<Value> {
    site.status("it")?["rotations"].as_array().and_then(|all| all.first().cloned())
}

fn until_stage(site: &Site, name: &str, (from, to): (i64, i64)) -> Value {
    site.until_so(&format!("in stage {name}"), || {
        let now = stage(site).unwrap_or_default();
        let there = now["stage"] == name && now["from"] == from && now["to"] == to;
        if there { Ok(now) } else { Err(format!("{now} {:?}", trusted(site))) }
    })
}

fn until_over(site: &Site, signs: i64) {
    site.until_so("over", || {
        let (trusted, stage) = (trusted(site), stage(site));
        if trusted == [(signs, "active".to_owned())] && stage.is_none() {
            Ok(())
        } else {
            Err(format!("{trusted:?} {stage:?}"))
        }
    });
    site.until_active("it");
}

fn restart(site: &mut Site, engine: &mut usize) {
    site.kill(*engine);
    *engine = site.start();
}

/// Files of the first member for its clients.
fn file(site: &Site, name: &str) -> String {
    Client::file(site, "it-members-1", &format!("/etc/etcd/tls/server/{name}.pem"))
}

fn list(client: &Client, url: &str) -> Result<Value, String> {
    client.post(url, "/v3/cluster/member/list", &json!({}), PATIENCE)
}

fn refused_by_all(client: &Client, urls: &[String]) {
    for url in urls {
        let said = list(client, url);
        assert!(said.as_ref().is_err_and(|said| said.contains("ertificate")), "{url}: {said:?}");
    }
}

fn heard_by_all(client: &Client, urls: &[String]) {
    for url in urls {
        list(client, url).unwrap_or_else(|said| panic!("{url}: {said}"));
    }
}

/// To another key, with an engine that is killed in each of the stages; held up in the second one.
fn goes_over_while_engines_die(site: &mut Site, engine: &mut usize, writer: &Writer, urls: &[String]) {
    let (old, key) = (file(site, "cert"), file(site, "key"));
    site.ok(&["ca", "rotate", "it", "etcd-ca"]);
    let said = site.fails(&["ca", "rotate", "it", "etcd-ca"]);
    assert!(said.contains("authority-moves"), "{said}");
    // Whoever talks to the members has to trust both from now on, as the graph tells its own.
    let both = bundle(site);
    let before = Client::with(&both, Some((&old, &key)));
    writer.be(before.clone());
    until_stage(site, "introduce", (1, 2));
    assert!(site.ok(&["status", "it"]).contains("1 to 2  introduce"), "{}", site.ok(&["status", "it"]));
    restart(site, engine);
    until_stage(site, "switch", (1, 2));
    site.ok(&["ca", "rotate", "it", "etcd-ca", "--pause"]);
    restart(site, engine);
    site.until_so("absorbed", || {
        let now = stage(site).unwrap_or_default();
        if now["absorbed"] == true || now["waits_for"].is_null() && file(site, "cert") != old {
            Ok(())
        } else {
            Err(now.to_string())
        }
    });
    site.until_active("it");
    // It is held up: whoever is of the old one is still heard by all.
    assert_eq!(trusted(site), [(1, "retiring".to_owned()), (2, "active".to_owned())]);
    heard_by_all(&before, urls);
    let next = file(site, "cert");
    assert_ne!(next, old);
    writer.be(Client::with(&both, Some((&next, &key))));
    site.ok(&["ca", "rotate", "it", "etcd-ca", "--resume"]);
    until_stage(site, "retire", (1, 2));
    restart(site, engine);
    until_over(site, 2);
    assert_eq!(file(site, "key"), key, "the keys of members stayed");
    let after = Client::of(site);
    heard_by_all(&after, urls);
    refused_by_all(&before, urls);
    writer.be(after);
}

/// Some have certificates by the new key when it is taken back.
fn is_taken_back_in_its_second_stage(site: &Site, writer: &Writer, urls: &[String]) {
    let (second, key) = (file(site, "cert"), file(site, "key"));
    site.ok(&["ca", "rotate", "it", "etcd-ca"]);
    let both = bundle(site);
    let of_second = Client::with(&both, Some((&second, &key)));
    writer.be(of_second.clone());
    until_stage(site, "switch", (2, 3));
    let third = site.until_so("signed by the third", || {
        let now = file(site, "cert");
        if now == second { Err("not yet".to_owned()) } else { Ok(now) }
    });
    site.until_so("taken back", || {
        let said = site.run(&["ca", "rotate", "it", "etcd-ca", "--back"]);
        if said.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&said.stderr).into_owned()) }
    });
    let said = site.fails(&["ca", "rotate", "it", "etcd-ca", "--back"]);
    assert!(said.contains("authority-moves"), "{said}");
    until_stage(site, "switch", (3, 2));
    until_over(site, 2);
    heard_by_all(&of_second, urls);
    refused_by_all(&Client::with(&both, Some((&third, &key))), urls);
    let said = site.fails(&["ca", "rotate", "it", "etcd-ca", "--back"]);
    assert!(said.contains("authority-rests"), "{said}");
    assert_eq!(file(site, "ca").matches("BEGIN CERTIFICATE").count(), 1, "one is trusted");
    writer.be(Client::of(site));
}

#[test]
fn five_members_go_over_to_another_key_while_engines_die_and_come_back_from_a_third_and_no_write_fails() {
    let mut site = Site::new(&[]);
    let mut engine = site.start();
    site.apply(FIVE);
    site.until_active("it");
    let urls = endpoints(&site);
    assert_eq!(urls.len(), 5);
    let writer = Writer::start(Client::of(&site), urls.clone());
    let began = Instant::now();
    goes_over_while_engines_die(&mut site, &mut engine, &writer, &urls);
    let over = began.elapsed();
    is_taken_back_in_its_second_stage(&site, &writer, &urls);
    let back = began.elapsed().saturating_sub(over);
    let written = writer.stop();
    println!(
        "over in {over:?}, there and back in {back:?}; {} writes, {} retries, the slowest took {:?}",
        written.acknowledged.len(),
        written.retries,
        written.slowest
    );
    assert_eq!(written.failed, Vec::<String>::new());
    assert!(written.acknowledged.len() > 100, "only {} writes", written.acknowledged.len());
    let events = site.ok(&["events", "--deployment", "it", "--limit", "1000"]);
    for kind in ["introduced", "absorbed", "switched", "paused", "resumed", "retired", "taken-back"] {
        assert!(events.contains(&format!("authority.{kind}")), "no authority.{kind}: {events}");
    }
    assert!(!events.contains("no handshake"), "{events}");
}

async fn rotations(world: &World) -> Vec<RotationView> {
    world.status("blue").await.rotations
}

async fn until(world: &World, wanted: impl Fn(&[RotationView]) -> bool) -> Vec<RotationView> {
    let end = tokio::time::Instant::now() + Duration::from_mins(1);
    loop {
        let now = rotations(world).await;
        if wanted(&now) {
            return now;
        }
        assert!(tokio::time::Instant::now() < end, "never came about: {now:#?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The service of [`WEB`], with a check that finds what the node's script says.
fn checked() -> [(&'static str, String); 3] {
    let check = "check:\n  - run: {text: 'true'}\n";
    WEB.map(|(path, text)| (path, if path.contains("web/role") { format!("{text}{check}") } else { text.to_owned() }))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stage_that_checks_do_not_prove_holds_the_next_one_back_until_it_is_taken_back() {
    let files = checked();
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();
    let world = World::new(&files).await;
    let engine = world.engine().await;
    let csr = request("blue-all-1", &NAMES);
    let document = web("30d", &csr)
        .replace("\"web-tls-key\"", "\"web\":{\"on\":[\"check\"],\"outcome\":\"drift\"},\"web-tls-key\"");
    engine.control().apply(&document, "f", &[], "test").await.expect("applied");
    let status = world.until_active("blue").await;
    let first = signed(&world, &status).await;
    engine.control().rotate("blue", "web-ca", "test").await.expect("begun");
    let refuted = |now: &[RotationView]| {
        now.first()
            .is_some_and(|one| one.absorbed && one.waits_for.iter().any(|who| who.starts_with("blue-all-1/web:")))
    };
    let now = until(&world, refuted).await;
    assert_eq!((now[0].stage, now[0].from, now[0].to, now[0].paused), (Stage::Introduce, 1, 2, false));
    assert_eq!(signed(&world, &status).await, first, "the old one signs still");
    engine.control().ask_rotation("blue", "web-ca", RotationMove::Pause, "test").await.expect("held up");
    assert!(rotations(&world).await[0].paused);
    // The check passes from now on, but a person holds it up.
    world.database.run("update node set options = options #- '{script,web}' where name = 'blue-all-1'").await;
    engine.control().ask_rotation("blue", "web-ca", RotationMove::Resume, "test").await.expect("let go");
    until(&world, |now| now.first().is_none_or(|one| one.stage != Stage::Introduce)).await;
    until(&world, <[RotationView]>::is_empty).await;
    let resting = engine.control().ask_rotation("blue", "web-ca", RotationMove::Back, "test").await.expect_err("over");
    assert_eq!(resting.code, "authority-rests");
    assert_eq!(authorities(&world).await, [(2, "active".to_owned(), Vec::new())]);
    // The third is taken back before it signs anything.
    world.until_active("blue").await;
    let second = signed(&world, &status).await;
    world.database.run("update node set options = jsonb_set(options, '{script,web}', '{\"on\": [\"check\"], \"outcome\": \"drift\"}')
                        where name = 'blue-all-1'").await;
    engine.control().rotate("blue", "web-ca", "test").await.expect("begun");
    let now = until(&world, refuted).await;
    assert_eq!((now[0].stage, now[0].from, now[0].to), (Stage::Introduce, 2, 3));
    engine.control().ask_rotation("blue", "web-ca", RotationMove::Back, "test").await.expect("taken back");
    until(&world, <[RotationView]>::is_empty).await;
    assert_eq!(authorities(&world).await, [(2, "active".to_owned(), Vec::new())]);
    world.until_active("blue").await;
    assert_eq!(signed(&world, &status).await, second, "nothing was signed again");
    // The next one is the fourth.
    engine.control().rotate("blue", "web-ca", "test").await.expect("begun");
    until(&world, |now| now.first().is_some_and(|one| (one.from, one.to) == (2, 4))).await;
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_retired_key_signed_is_listed_until_nobody_can_trust_it_any_more() {
    let world = World::new(&WEB).await;
    let engine = world.engine().await;
    let control = engine.control();
    let csr = request("blue-all-1", &NAMES);
    // Long enough to be held back while it runs.
    let document = web("30d", &csr).replace("\"web-tls\":{", "\"web-tls\":{\"delay_ms\":1500,");
    control.apply(&document, "f", &[], "test").await.expect("applied");
    let status = world.until_active("blue").await;
    let (authority, held) = (find(&status, "deployment/web-ca").id, "blue-all-1/web-tls");
    let first = signed(&world, &status).await.remove(0);
    control.revoke(&first.serial, RevocationReason::Superseded, "test").await.expect("revoked");
    let listed = async || -> Vec<String> {
        let all = pki::listed(world.database.pool(), authority).await.expect("readable");
        all.into_iter().map(|(serial, ..)| serial).collect()
    };
    assert_eq!(listed().await, [first.serial.as_str()]);

    control.rotate("blue", "web-ca", "test").await.expect("begun");
    let switches = |status: &StatusView| {
        let stage = status.rotations.first().map(|one| one.stage);
        stage == Some(Stage::Switch) && find(status, held).state == State::Running
    };
    world.until("blue", switches).await;
    // It ends what it does, and does not hear that the first key is retired.
    control.ask(Ask::Pause, "blue", Some(held), "test").await.expect("paused");
    let retired = async |status: StatusView| {
        authorities(&world).await == [(2, "active".to_owned(), Vec::new())]
            && find(&status, held).state == State::Blocked
    };
    let end = tokio::time::Instant::now() + Duration::from_mins(1);
    while !retired(world.status("blue").await).await {
        assert!(tokio::time::Instant::now() < end, "never came about: {:?}", authorities(&world).await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    world.until("blue", |status| find(status, "deployment/web-ca").state == State::Active).await;
    assert_eq!(listed().await, [first.serial.as_str()], "it trusts that key still");
    control.ask(Ask::Resume, "blue", Some(held), "test").await.expect("resumed");
    world.until_active("blue").await;
    assert_eq!(listed().await, Vec::<String>::new());
    let second = signed(&world, &status).await.pop().expect("the last one");
    control.revoke(&second.serial, RevocationReason::Superseded, "test").await.expect("revoked");
    assert_eq!(listed().await, [second.serial], "of the key that is trusted");
    engine.stop().await;
}
