//! Streams: nothing is passed over, whoever goes away meanwhile; a server with followers stops.

use std::time::Duration;

use api_client::LogEvent;
use engine_core::view::EventView;

use crate::support::{Running, start};

fn told(event: &EventView) -> String {
    let role = event.role.clone().unwrap_or_default();
    format!("{} {role}", event.kind)
}

#[tokio::test]
async fn events_come_as_they_happen_and_go_on_after_a_restart() {
    let (database, recorder, running) = start().await;
    database.event("g-1/base", "node-role.touch").await;
    let known = database.all_settled().await;
    let client = running.client();
    let mut all = client.follow_events(None, known);
    let mut past = client.follow_events(Some("blue"), 0);
    assert_eq!(told(&past.next().await.unwrap()), "node-role.touch base");
    database.event("g-1/base", "node-role.claim").await;
    assert_eq!(told(&all.next().await.unwrap()), "node-role.claim base");
    assert_eq!(told(&past.next().await.unwrap()), "node-role.claim base");

    let address = running.address.to_string();
    running.stop().await.unwrap();
    database.event("g-1/base", "node-role.done").await;
    let running = Running::start(&database, &recorder, &address).await;
    assert_eq!(told(&all.next().await.unwrap()), "node-role.done base");
    database.event("g-1/app", "node-role.go").await;
    assert_eq!(told(&all.next().await.unwrap()), "node-role.go app");
    running.stop().await.unwrap();
}

/// A hint is lost when nobody sends it, as after a crash between a commit and its notification.
#[tokio::test]
async fn a_hint_that_never_comes_costs_seconds_and_no_event() {
    let (database, _, running) = start().await;
    let mut events = running.client().follow_events(None, 0);
    database.event("g-1/base", "node-role.touch").await;
    assert_eq!(told(&events.next().await.unwrap()), "node-role.touch base");
    database.run("insert into event (at, kind, principal, detail) values (now(), 'engine.up', 'engine', '{}')").await;
    assert_eq!(told(&events.next().await.unwrap()), "engine.up ");
    running.stop().await.unwrap();
}

/// Events may be read once every older transaction has ended. Who comes between the hint and that hears no hint.
#[tokio::test]
async fn who_comes_after_the_hint_of_an_event_that_is_not_readable_yet_gets_it() {
    let (database, _, running) = start().await;
    let older = database.older().await;
    database.event("g-1/base", "node-role.touch").await;
    // Nobody follows: by the time of an answer to this, the hint was heard by nobody.
    running.client().status("blue").await.unwrap();
    let mut events = running.client().follow_events(None, 0);
    let soon = tokio::time::timeout(Duration::from_millis(300), events.next()).await;
    assert!(soon.is_err(), "it can not be read yet: {soon:?}");
    older.rollback().await.unwrap();
    let event = tokio::time::timeout(Duration::from_secs(30), events.next()).await;
    assert_eq!(told(&event.expect("it comes").unwrap()), "node-role.touch base");
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_log_is_followed_from_attempt_to_attempt() {
    let (database, _, running) = start().await;
    let mut log = running.client().follow_log("blue", "g-1", "app");
    let line = |text: &str, job| {
        format!(
            "insert into job_log select '{job}', coalesce(max(seq), 0) + 1, now(), 'stdout', '{text}' from job_log where job_id = '{job}'; select pg_notify('plinth_events', '')"
        )
    };
    let first = database.job("g-1/app", 1, None).await;
    database.run(&line("one", first)).await;
    let next = async |log: &mut api_client::Log| match log.next().await.unwrap() {
        LogEvent::Line(line) => line.line,
        LogEvent::End(job) => format!("end: {}", job.outcome.unwrap_or_default()),
    };
    assert_eq!(next(&mut log).await, "one");
    database.run(&line("two", first)).await;
    assert_eq!(next(&mut log).await, "two");
    database.run(&format!("update job set outcome = 'failed', finished_at = now() where job_id = '{first}'; select pg_notify('plinth_events', '')")).await;
    assert_eq!(next(&mut log).await, "end: failed");
    let second = database.job("g-1/app", 2, None).await;
    database.run(&line("again", second)).await;
    assert_eq!(next(&mut log).await, "again");
    running.stop().await.unwrap();
}
