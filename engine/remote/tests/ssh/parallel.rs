//! Many nodes, many jobs, and connections that break under them.

use std::time::Duration;

use engine_agent::protocol::{Outcome, Reply, Status};
use engine_core::document::Object;
use engine_core::id::JobId;
use engine_remote::{Ended, Note, Pool, Settings, Target};
use tokio::sync::mpsc;

use crate::scripted::{self, say};
use crate::sshd::{Sshd, uuid};

#[tokio::test]
async fn fifty_nodes_at_once() {
    let sshd = Sshd::start();
    // How fast the machine is that runs this test is not what is tested: fifty logins without optimization take ten
    // seconds of a processor that may have other things to do.
    let settings = Settings { connect_timeout: Duration::from_mins(5), ..sshd.settings() };
    let pool = Pool::new(settings, scripted::with_facts("m"));
    let targets: Vec<_> = (1..=50).map(|n| sshd.target(&format!("n{n}"), &format!("127.0.1.{n}"))).collect();
    for joined in futures::future::join_all(targets.iter().map(|target| pool.facts(target))).await {
        joined.unwrap();
    }
    assert_eq!(pool.connections(), 50);
    assert_eq!(sshd.log().matches("Accepted publickey").count(), 50);
}

#[tokio::test]
async fn more_jobs_than_sessions_wait_for_each_other() {
    let sshd = Sshd::start();
    let lasting = scripted::agent(&[scripted::hello("one")], &format!("sleep 0.05; {}", say(&[done()])));
    let pool = sshd.pool(lasting);
    let target = sshd.target("a", "127.0.0.1");
    for ended in futures::future::join_all((0..30).map(|_| attach(&pool, &target))).await {
        assert!(matches!(ended, Ended::Done(_)), "{ended:?}");
    }
    assert_eq!(pool.connections(), 1);
}

/// As on a host that has not collected the sessions that ended, or allows few.
#[tokio::test]
async fn a_session_that_is_refused_is_asked_for_again() {
    let sshd = Sshd::with("MaxSessions 2");
    let lasting = scripted::agent(&[scripted::hello("one")], &format!("sleep 0.05; {}", say(&[done()])));
    let pool = sshd.pool(lasting);
    let target = sshd.target("a", "127.0.0.1");
    for ended in futures::future::join_all((0..8).map(|_| attach(&pool, &target))).await {
        assert!(matches!(ended, Ended::Done(_)), "{ended:?}");
    }
    assert_eq!(pool.connections(), 1);
    assert!(sshd.log().contains("no more sessions"), "none was refused: {}", sshd.log());
}

#[tokio::test]
async fn dropped_conversations_leave_no_session_behind() {
    let sshd = Sshd::start();
    let waiting = scripted::agent(&[scripted::hello("one")], "cat > /dev/null");
    let pool = sshd.pool(waiting);
    let target = sshd.target("a", "127.0.0.1");
    for _ in 0..25 {
        let (sink, mut notes) = mpsc::channel(8);
        let job = JobId(uuid().0);
        tokio::select! {
            ended = pool.attach(&target, job, 1, 0, &sink) => panic!("{ended:?}"),
            note = notes.recv() => assert!(matches!(note, Some(Note::Greeting { .. }))),
        }
    }
    assert_eq!(pool.connections(), 1);
}

#[tokio::test]
async fn a_cut_connection_is_told_and_the_next_call_makes_another() {
    let sshd = Sshd::start();
    let waiting = scripted::agent(&[scripted::hello("one")], "cat > /dev/null");
    let pool = sshd.pool(waiting);
    let target = sshd.target("a", "127.0.0.1");
    let (sink, mut notes) = mpsc::channel(8);
    let job = JobId(uuid().0);
    let cut = async {
        notes.recv().await.unwrap();
        assert!(sshd.cut() > 0);
    };
    let (ended, ()) = tokio::join!(pool.attach(&target, job, 1, 0, &sink), cut);
    let Ended::Lost(error) = ended else { panic!("{ended:?}") };
    assert_eq!(error.code(), "connection-lost");
    assert!(error.is_transient());
    let (sink, mut notes) = mpsc::channel(8);
    tokio::select! {
        ended = pool.attach(&target, job, 1, 0, &sink) => panic!("{ended:?}"),
        note = notes.recv() => assert!(matches!(note, Some(Note::Greeting { .. }))),
    }
}

#[tokio::test]
async fn an_agent_that_dies_is_a_lost_conversation_with_its_last_words() {
    let sshd = Sshd::start();
    let dying = scripted::agent(&[scripted::hello("one")], "echo out of luck >&2; exit 9");
    let ended = attach(&sshd.pool(dying), &sshd.target("a", "127.0.0.1")).await;
    let Ended::Lost(error) = ended else { panic!("{ended:?}") };
    assert_eq!(error.code(), "connection-lost");
    assert!(error.to_string().contains("out of luck; status 9"), "{error}");
}

#[tokio::test]
async fn one_that_does_not_listen_holds_up_nobody_else() {
    let sshd = Sshd::start();
    // Only the conversation about the deaf job, which says so in its request, is a flood.
    let after = format!(
        "if head -c 110 | grep -q deadbeef; then i=10000000; while i=$((i+1)); do {}; done; else {}; fi",
        scripted::say_event("$i"),
        say(&[done()])
    );
    let pool = sshd.pool(scripted::agent(&[scripted::hello("one")], &after));
    let target = sshd.target("a", "127.0.0.1");
    let (deaf, _kept) = mpsc::channel(1);
    let flooded = JobId("deadbeef-0000-4000-8000-000000000000".parse().unwrap());
    let (sink, _notes) = mpsc::channel(8);
    let others = async {
        for _ in 0..5 {
            let job = JobId(uuid().0);
            let other = tokio::time::timeout(Duration::from_secs(20), pool.attach(&target, job, 1, 0, &sink));
            let ended = other.await.expect("not held up");
            assert!(matches!(ended, Ended::Done(_)), "{ended:?}");
        }
    };
    let (ended, ()) = tokio::join!(pool.attach(&target, flooded, 1, 0, &deaf), others);
    let Ended::Lost(error) = ended else { panic!("{ended:?}") };
    assert_eq!(error.code(), "sink-stalled");
    assert_eq!(pool.connections(), 1, "only the conversation is given up");
}

#[tokio::test]
async fn idle_connections_are_swept() {
    let sshd = Sshd::start();
    let settings = Settings { idle: Duration::ZERO, ..sshd.settings() };
    let pool = Pool::new(settings, scripted::with_facts("m"));
    let target = sshd.target("a", "127.0.0.1");
    pool.facts(&target).await.unwrap();
    while pool.connections() > 0 {
        pool.sweep().await;
        tokio::task::yield_now().await;
    }
    while !sshd.sessions().is_empty() {
        tokio::task::yield_now().await;
    }
    pool.facts(&target).await.unwrap();
}

pub(crate) fn done() -> Reply {
    let outcome = Outcome {
        status: Status::Succeeded,
        code: None,
        message: None,
        step: None,
        outputs: Object::default(),
        changed: false,
        steps: Vec::new(),
        residue: Vec::new(),
        millis: 1,
        exit: None,
    };
    Reply::Done { outcome }
}

async fn attach(pool: &Pool, target: &Target) -> Ended {
    let (sink, _notes) = mpsc::channel(8);
    pool.attach(target, JobId(uuid().0), 1, 0, &sink).await
}
