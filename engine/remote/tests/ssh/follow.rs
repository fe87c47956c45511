//! What is done when an agent does not know a job, refuses it, or goes into a reboot: with agents that play each part.

use std::time::Duration;

use engine_agent::protocol::{JobSpec, Reply, Status};
use engine_core::document::Object;
use engine_core::id::JobId;
use engine_remote::{AgentBinary, Followed, Following, repeatable};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::parallel::done;
use crate::scripted::{hello, say};
use crate::sshd::{Sshd, uuid};

#[tokio::test]
async fn a_job_that_the_same_agent_never_had_is_sent() {
    let sshd = Sshd::start();
    let agent = knowing_only_what_is_run("same");
    let job = job("echo");
    let followed = follow(&sshd, agent, &job, Some("same"), false).await;
    let Followed::Done(outcome) = followed else { panic!("{followed:?}") };
    assert_eq!(outcome.status, Status::Succeeded);
}

#[tokio::test]
async fn a_job_that_another_agent_had_is_not_repeated_unless_that_is_safe() {
    let sshd = Sshd::start();
    let agent = knowing_only_what_is_run("new");
    let job = job("echo");
    let followed = follow(&sshd, agent.clone(), &job, Some("old"), false).await;
    let Followed::Done(outcome) = followed else { panic!("{followed:?}") };
    assert_eq!((outcome.status, outcome.code.as_deref()), (Status::Unknown, Some("outcome-unknown")));
    let followed = follow(&sshd, agent, &job, Some("old"), true).await;
    let Followed::Done(outcome) = followed else { panic!("{followed:?}") };
    assert_eq!(outcome.status, Status::Succeeded);
}

#[tokio::test]
async fn a_refusal_stops_and_silence_gives_up_at_the_deadline() {
    let sshd = Sshd::start();
    let refused = Reply::Refused { code: "fence-too-old".to_owned(), message: "taken over".to_owned() };
    let agent = script(&format!("{}; {}", say(&[hello("one")]), say(&[refused])));
    let followed = follow(&sshd, agent, &job("echo"), None, false).await;
    let Followed::Stopped(error) = followed else { panic!("{followed:?}") };
    assert!(error.to_string().contains("fence-too-old"), "{error}");
    let dying = script(&say(&[hello("one")]));
    let followed = follow(&sshd, dying, &job("echo"), None, false).await;
    let Followed::GaveUp { last: Some(error), seen: 0 } = followed else { panic!("{followed:?}") };
    assert_eq!(error.code(), "connection-lost");
}

#[tokio::test]
async fn a_node_that_does_not_come_back_from_its_reboot_fails_the_job() {
    let sshd = Sshd::start();
    let rebooting = Reply::Rebooting { boot_id: "boot-1".to_owned(), within: 1 };
    let agent = script(&say(&[hello("one"), rebooting]));
    let followed = follow(&sshd, agent, &job("echo"), None, false).await;
    let Followed::Done(outcome) = followed else { panic!("{followed:?}") };
    assert_eq!((outcome.status, outcome.code.as_deref()), (Status::Failed, Some("reboot-timeout")));
}

#[tokio::test]
async fn a_job_goes_on_after_the_reboot() {
    let sshd = Sshd::start();
    let flag = sshd.dir.path().join("rebooted");
    let rebooting = Reply::Rebooting { boot_id: "boot-1".to_owned(), within: 60 };
    let agent = script(&format!(
        "{}; if [ -e {flag} ]; then {}; else touch {flag}; {}; fi",
        say(&[hello("one")]),
        say(&[done()]),
        say(&[rebooting]),
        flag = flag.display()
    ));
    let followed = follow(&sshd, agent, &job("echo"), None, false).await;
    let Followed::Done(outcome) = followed else { panic!("{followed:?}") };
    assert_eq!(outcome.status, Status::Succeeded);
    assert_eq!(sshd.log().matches("Accepted publickey").count(), 2, "a connection is not carried over a reboot");
}

#[test]
fn what_may_be_repeated() {
    let check = |steps: serde_json::Value, expected: bool| {
        let job = JobSpec { steps: serde_json::from_value(steps).unwrap(), ..job("echo") };
        assert_eq!(repeatable(&job), expected);
    };
    check(json!([{"file": {"path": "/a", "content": "x"}}, {"package": ["a"]}]), true);
    check(json!([{"run": {"text": "echo"}}]), false);
    check(json!([{"run": {"text": "echo", "unless": "true"}}, {"run": {"text": "echo", "creates": "/a"}}]), true);
    check(json!([{"run": {"text": "echo", "asks": true}}]), true);
    check(json!([{"file": {"path": "/a"}}, {"reboot": {}}]), false);
}

/// Answers `done` to the run request, and to everything else that it does not know the job.
fn knowing_only_what_is_run(incarnation: &str) -> AgentBinary {
    let unknown = Reply::UnknownJob { job: JobId(uuid().0) };
    script(&format!(
        "{}; if head -c 100 | grep -q attach; then {}; else {}; fi",
        say(&[hello(incarnation)]),
        say(&[unknown]),
        say(&[done()])
    ))
}

fn script(text: &str) -> AgentBinary {
    AgentBinary::new(std::env::consts::ARCH, format!("#!/bin/sh\n{text}\n").into_bytes())
}

async fn follow(
    sshd: &Sshd,
    agent: AgentBinary,
    job: &JobSpec,
    incarnation: Option<&str>,
    repeatable: bool,
) -> Followed {
    let (sink, _notes) = mpsc::channel(100);
    let following = Following {
        job,
        begun: incarnation.is_some(),
        incarnation: incarnation.map(str::to_owned),
        seen: 0,
        repeatable,
        deadline: Instant::now() + Duration::from_secs(8),
    };
    sshd.pool(agent).follow(&sshd.target("a", "127.0.0.1"), following, &sink).await
}

/// A job of one `run` step.
pub(crate) fn job(text: &str) -> JobSpec {
    let steps = serde_json::from_value(json!([{"run": {"text": text}}])).unwrap();
    JobSpec {
        job: JobId(uuid().0),
        fence: 1,
        title: "node/role".to_owned(),
        owner: "owner".to_owned(),
        node: uuid(),
        mode: engine_agent::protocol::Mode::Apply,
        steps,
        then: Vec::new(),
        inputs: Object::default(),
        secret: Vec::new(),
        changed: Vec::new(),
        files: std::collections::BTreeMap::new(),
        outputs: Vec::new(),
        spare: Vec::new(),
        destroys: Vec::new(),
        limits: engine_agent::protocol::Limits::default(),
    }
}
