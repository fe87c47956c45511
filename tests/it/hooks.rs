//! Events that are sent to others: each at least once, in order, signed; whatever becomes of engines and receivers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use engine_core::hook;
use engine_core::view::HookRequest;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::support::{CHAIN, World, chain};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A request as it came.
#[derive(Clone, Debug)]
struct Got {
    id: String,
    event: Value,
}

/// A receiver.
#[derive(Clone)]
struct Receiver {
    got: Arc<Mutex<Vec<Got>>>,
    /// What it answers with; nothing at all while there is none.
    answer: watch::Sender<Option<u16>>,
}

async fn receive(State(receiver): State<Receiver>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let header = |name: &str| headers[name].to_str().expect("text").to_owned();
    let (id, text) = (header("webhook-id"), String::from_utf8(body.to_vec()).expect("text"));
    let timestamp: i64 = header("webhook-timestamp").parse().expect("seconds");
    assert!((time::OffsetDateTime::now_utc().unix_timestamp() - timestamp).abs() < 60);
    let signed = hook::signature(&hook::key(SECRET).expect("a key"), &id, timestamp, &text);
    assert_eq!(header("webhook-signature"), signed);
    let event: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(header("plinth-event"), event["type"].as_str().expect("a kind"));
    receiver.got.lock().expect("nobody panicked").push(Got { id, event });
    let mut answer = receiver.answer.subscribe();
    let status = answer.wait_for(Option::is_some).await.expect("it is there").expect("a status");
    StatusCode::from_u16(status).expect("a status")
}

impl Receiver {
    async fn start(answer: Option<u16>) -> (Self, String, JoinHandle<()>) {
        let receiver = Self { got: Arc::default(), answer: watch::Sender::new(answer) };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
        let url = format!("http://{}/in?from=plinth", listener.local_addr().expect("an address"));
        let router = Router::new().route("/in", post(receive)).with_state(receiver.clone());
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.expect("it serves") });
        (receiver, url, serving)
    }

    fn got(&self) -> Vec<Got> {
        self.got.lock().expect("nobody panicked").clone()
    }

    fn kinds(&self) -> Vec<String> {
        self.got().iter().map(|got| got.event["type"].as_str().expect("a kind").to_owned()).collect()
    }
}

fn asked(name: &str, url: &str, kinds: &[&str]) -> HookRequest {
    HookRequest {
        name: name.to_owned(),
        url: url.to_owned(),
        kinds: kinds.iter().map(|kind| (*kind).to_owned()).collect(),
        secret: Some(SECRET.to_owned()),
        ..HookRequest::default()
    }
}

/// Numbers of the events of these kinds that there are, in the order of the outbox.
async fn outbox(world: &World, kinds: &[String], after: i64) -> Vec<i64> {
    let (mut all, mut after) = (Vec::new(), after);
    loop {
        let page = engine_store::read::outbox(world.database.pool(), after, 100).await.expect("events");
        let Some((last, _)) = page.last() else { return all };
        after = *last;
        let wanted = page.into_iter().filter_map(|(_, event)| event).filter(|event| hook::wants(kinds, &[], event));
        all.extend(wanted.map(|event| event.seq));
    }
}

fn numbers(got: &[Got]) -> Vec<i64> {
    got.iter().map(|got| got.event["data"]["seq"].as_i64().expect("a number")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_dies_between_sending_and_noting_it_sends_that_event_again_and_no_other() {
    let world = World::new(&CHAIN).await;
    let engine = world.engine().await;
    let control = engine.control();
    let (receiver, url, serving) = Receiver::start(None).await;
    let added = control.add_hook(&asked("audit", &url, &[]), "ann").await.expect("added");
    assert_eq!(added.secret, SECRET);
    let after = added.hook.after;
    control.apply(&chain("blue", 2, "{}", "{}"), "f", &[], "test").await.expect("applied");
    world.until_active("blue").await;
    // The first event is with the receiver, which says nothing yet.
    world.until_so("the first event", async || (!receiver.got().is_empty()).then_some(()).ok_or(String::new())).await;
    let first = receiver.got()[0].clone();
    // As a process that is killed: all its work ends where it is.
    drop(engine);
    receiver.answer.send_replace(Some(200));
    let noted = engine_store::hooks::named(world.database.pool(), "audit").await.expect("read").expect("a hook");
    assert_eq!(noted.after, after, "it was never noted");

    let (engine, other) = (world.engine().await, world.engine().await);
    let wanted = outbox(&world, &[], after).await;
    assert!(wanted.len() > 20, "{wanted:?}");
    world
        .until_so("all events", async || {
            let got: BTreeSet<i64> = numbers(&receiver.got()).into_iter().collect();
            wanted.iter().all(|event| got.contains(event)).then_some(()).ok_or(format!(
                "{} of {}",
                got.len(),
                wanted.len()
            ))
        })
        .await;
    let got = receiver.got();
    assert_eq!((&got[0].id, &got[1].id), (&first.id, &first.id), "sent again under the same id");
    assert_eq!(got[0].event, got[1].event);
    let once: Vec<i64> = numbers(&got)[1..].iter().copied().take(wanted.len()).collect();
    assert_eq!(once, wanted, "each once, in order, though there are two engines");
    let ids: BTreeMap<&String, usize> = got[1..].iter().fold(BTreeMap::new(), |mut all, got| {
        *all.entry(&got.id).or_default() += 1;
        all
    });
    assert!(ids.values().all(|count| *count == 1), "{ids:?}");
    let view = engine.control().hooks().await.expect("hooks").remove(0);
    assert!(view.delivered >= i64::try_from(wanted.len()).expect("a few") && view.failed == 0, "{view:?}");
    engine.stop().await;
    other.stop().await;
    serving.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_taken_is_tried_again_in_its_order_and_holds_up_nobody_else() {
    let world = World::new(&CHAIN).await;
    let engine = world.engine().await;
    let control = engine.control();
    let (down, down_url, serving_down) = Receiver::start(Some(503)).await;
    let (slow, slow_url, serving_slow) = Receiver::start(None).await;
    let (well, well_url, serving_well) = Receiver::start(Some(204)).await;
    control.add_hook(&asked("down", &down_url, &["deployment.*"]), "ann").await.expect("added");
    control.add_hook(&asked("slow", &slow_url, &[]), "ann").await.expect("added");
    let only =
        HookRequest { deployments: vec!["blue".to_owned()], ..asked("well", &well_url, &["deployment.committed"]) };
    control.add_hook(&only, "ann").await.expect("added");
    for name in ["blue", "green"] {
        control.apply(&chain(name, 1, "{}", "{}"), "f", &[], "test").await.expect("applied");
        world.until_active(name).await;
    }
    control.apply(&chain("blue", 1, "{size: 20}", "{}"), "f", &[], "test").await.expect("applied");
    world
        .until_so("both commits of blue", async || {
            let kinds = well.kinds();
            (kinds.len() == 2).then_some(()).ok_or(format!("{kinds:?}"))
        })
        .await;
    assert!(well.got().iter().all(|got| got.event["data"]["deployment"] == "blue"), "{:?}", well.got());

    // The same event again and again, with longer and longer waits, and nothing else.
    world.until_so("three tries", async || (down.got().len() >= 3).then_some(()).ok_or(String::new())).await;
    let ids: BTreeSet<String> = down.got().into_iter().map(|got| got.id).collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
    // What the receiver has got is noted when it has answered.
    let view = world
        .until_so("three failures noted", async || {
            let hooks = control.hooks().await.expect("hooks");
            let view = hooks.into_iter().find(|one| one.name == "down").expect("it is there");
            if view.failed >= 3 { Ok(view) } else { Err(format!("{view:?}")) }
        })
        .await;
    assert!(view.code.as_deref() == Some("hook-refused") && view.next_try_at.is_some(), "{view:?}");
    assert!(view.message.as_deref().is_some_and(|said| said.ends_with("answered 503")), "{view:?}");
    let tried = control.test_hook("down", "ann").await.expect("tried");
    assert_eq!((tried.status, tried.code.as_deref()), (Some(503), Some("hook-refused")));
    assert_eq!(down.kinds().last().expect("one"), "hook.test");
    // Past the first one by hand; then it is well again, and gets the others.
    let skipped = control.skip_hook("down").await.expect("skipped");
    assert_eq!(format!("evt_{skipped}"), ids.into_iter().next().expect("one"));
    down.answer.send_replace(Some(200));
    let after = skipped;
    let wanted = outbox(&world, &["deployment.*".to_owned()], after).await;
    world
        .until_so("the others", async || {
            let got = numbers(&down.got());
            got.ends_with(&wanted).then_some(()).ok_or(format!("{got:?} {wanted:?}"))
        })
        .await;
    assert_eq!(control.skip_hook("down").await.expect_err("nothing fails").code, "hook-not-failed");
    assert_eq!(slow.got().len(), 1, "one event is on its way, and no other before it is taken");

    // Nobody reads the secret.
    let dump = world.database.everything().await;
    assert!(!dump.contains("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"));
    engine.stop().await;
    for serving in [serving_down, serving_slow, serving_well] {
        serving.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hooks_that_can_not_be_are_refused_and_certificates_are_checked() {
    let world = World::new(&CHAIN).await;
    let engine = world.engine().await;
    let control = engine.control();
    let refused = async |what: HookRequest| control.add_hook(&what, "ann").await.expect_err("refused").code;
    assert_eq!(refused(asked("x", "http://192.0.2.1/in", &[])).await, "hook-url");
    assert_eq!(refused(asked("x", "ftp://localhost/in", &[])).await, "hook-url");
    assert_eq!(refused(asked("x", "https://ann:secret@localhost/in", &[])).await, "hook-url");
    assert_eq!(refused(asked("x", "nothing", &[])).await, "hook-url");
    assert_eq!(refused(asked("X y", "http://localhost/", &[])).await, "bad-hook");
    assert_eq!(refused(asked("x", "http://localhost/", &["node up"])).await, "bad-hook");
    let short = HookRequest { secret: Some("whsec_AAAA".to_owned()), ..asked("x", "http://localhost/", &[]) };
    assert_eq!(refused(short).await, "bad-hook");
    let none = HookRequest { ca: Some("no certificate".to_owned()), ..asked("x", "https://localhost/", &[]) };
    assert_eq!(refused(none).await, "hook-trust");
    assert_eq!(control.remove_hook("x", "ann").await.expect_err("none").code, "unknown-hook");
    assert_eq!(control.test_hook("x", "ann").await.expect_err("none").code, "unknown-hook");

    // Over TLS: to whom its certificates say, and to nobody else.
    let named = |name: &str| rcgen::CertificateParams::new(vec![name.to_owned()]).expect("a name");
    let key = rcgen::KeyPair::generate().expect("a key");
    let own = named("localhost").self_signed(&key).expect("a certificate");
    let other = named("localhost").self_signed(&rcgen::KeyPair::generate().expect("a key")).expect("a certificate");
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(
            vec![own.der().clone()],
            rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).expect("a key"),
        )
        .expect("a configuration");
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
    let url = format!("https://localhost:{}/in", listener.local_addr().expect("an address").port());
    let serving = tokio::spawn(async move {
        loop {
            let (plain, _) = listener.accept().await.expect("somebody");
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
                let Ok(mut stream) = acceptor.accept(plain).await else { return };
                let mut bytes = vec![0; 65536];
                let read = stream.read(&mut bytes).await.unwrap_or(0);
                assert!(bytes[..read].starts_with(b"POST /in HTTP/1.1\r\n"));
                let _ = stream.write_all(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n").await;
                let _ = stream.shutdown().await;
            });
        }
    });
    let hook = |name: &str, ca: String| HookRequest { ca: Some(ca), ..asked(name, &url, &["nothing.happens"]) };
    control.add_hook(&hook("right", own.pem()), "ann").await.expect("added");
    control.add_hook(&hook("wrong", other.pem()), "ann").await.expect("added");
    let right = control.test_hook("right", "ann").await.expect("tried");
    assert_eq!((right.status, right.code), (Some(202), None), "{:?}", right.message);
    let wrong = control.test_hook("wrong", "ann").await.expect("tried");
    assert_eq!((wrong.status, wrong.code.as_deref()), (None, Some("hook-unreachable")), "{:?}", wrong.message);
    let twice = control.add_hook(&hook("right", own.pem()), "ann").await.expect_err("there is one");
    assert_eq!(twice.code, "duplicate-hook");
    control.remove_hook("right", "ann").await.expect("removed");
    engine.stop().await;
    serving.abort();
    tokio::time::timeout(Duration::from_secs(5), serving).await.expect("it ends").ok();
}
