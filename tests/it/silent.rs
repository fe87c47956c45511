//! Nodes that do not answer, and what a policy makes of them: put aside, back in, lost, or held by a budget.

use std::time::Duration;

use engine_core::settle::hood::Standing;
use engine_core::state::State;
use engine_core::view::{EventView, Health, NodeView, SilenceView, StatusView};
use engine_store::read;
use time::OffsetDateTime;

use crate::standing::{APART, seen};
use crate::support::{World, address};

fn document(count: u32, silent: &str) -> String {
    format!(
        "deployment: blue\nworkload: apart\nnodes:\n  all: {{provider: simulated, count: {count}}}\npolicy: {{silent: {silent}}}\n"
    )
}

fn node<'s>(status: &'s StatusView, name: &str) -> &'s NodeView {
    status.nodes.iter().find(|node| node.name == name).unwrap_or_else(|| panic!("no {name} in {status:#?}"))
}

fn silence<'s>(status: &'s StatusView, name: &str) -> Option<&'s SilenceView> {
    node(status, name).silence.as_ref()
}

fn stands(status: &StatusView, name: &str) -> Standing {
    node(status, name).standing
}

/// What a policy did, in order, once it is as much: events can be read when all older transactions have ended.
async fn done(world: &World, count: usize) -> Vec<EventView> {
    let ask = async || {
        let events = read::events(world.database.pool(), 0, Some("blue"), 1000).await.expect("events");
        let is_its = |event: &EventView| event.principal == "policy" && event.kind.starts_with("node.");
        let events: Vec<EventView> = events.into_iter().filter(is_its).collect();
        if events.len() < count { Err(format!("{events:#?}")) } else { Ok(events) }
    };
    world.until_so("so much done", ask).await
}

fn said(events: &[EventView]) -> Vec<(&str, &str)> {
    events.iter().map(|event| (event.kind.as_str(), event.detail["node"].as_str().expect("a name"))).collect()
}

/// For how long it was counted, says the event.
fn counted(event: &EventView) -> u64 {
    event.detail["silent_seconds"].as_u64().unwrap_or_else(|| panic!("no time in {event:#?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_node_that_falls_silent_is_put_aside_and_in_again_when_it_answers() {
    let world = World::new(&APART).await;
    // Whoever looks, it is done once.
    let (one, other) = (world.engine().await, world.engine().await);
    let control = one.control();
    control.apply(&document(3, "{aside: 2s}"), "f", &[], "test").await.expect("applied");
    let before = world.until_active("blue").await;
    assert!(before.nodes.iter().all(|node| node.silence.is_none()), "{before:#?}");

    world.switch("blue-all-1", false).await;
    let aside = |s: &StatusView| {
        stands(s, "blue-all-1") == Standing::Aside
            && s.node_roles.iter().any(|role| address(role) == "blue-all-1/peers" && role.state == State::Blocked)
            && s.node_roles.iter().filter(|role| role.node != "blue-all-1").all(|role| role.state == State::Active)
    };
    let status = world.until("blue", aside).await;
    let without = ["http://blue-all-2/1", "http://blue-all-3/1"];
    assert_eq!(seen(&world, &status, "deployment/head").await.0, without, "as when a person says so");
    let view = silence(&status, "blue-all-1").expect("it is silent");
    assert!(view.since.is_some(), "{view:#?}");
    assert_eq!(view.aside_by.as_deref(), Some("the policy of the deployment"));
    let why =
        read::why(world.database.pool(), "blue", "blue-all-1", "peers", None).await.expect("why").expect("a node role");
    let says = why.node_role.cause.expect("it is held").says;
    let wanted = "node blue-all-1 stands aside by the policy of the deployment, has not answered since 20";
    assert!(says.starts_with(wanted), "{says}");

    world.switch("blue-all-1", true).await;
    let status =
        world.until("blue", |s| stands(s, "blue-all-1") == Standing::In && s.deployment.health == Health::Active).await;
    assert_eq!(silence(&status, "blue-all-1"), None);
    assert_eq!(seen(&world, &status, "deployment/head").await.0.len(), 3);
    let events = done(&world, 2).await;
    assert_eq!(said(&events), [("node.aside", "blue-all-1"), ("node.in", "blue-all-1")]);
    assert!(counted(&events[0]) >= 2 && events[0].detail["silent_since"].is_string(), "{events:#?}");

    // What a person says, a policy does not undo: neither that it stands aside, nor that it is in.
    world.switch("blue-all-1", false).await;
    world.until("blue", aside).await;
    control.stand_node("blue-all-1", true, "ann").await.expect("aside");
    world.switch("blue-all-1", true).await;
    let status = world.until("blue", |s| node(s, "blue-all-1").state == "up").await;
    assert_eq!((stands(&status, "blue-all-1"), silence(&status, "blue-all-1")), (Standing::Aside, None));
    world.switch("blue-all-2", false).await;
    world.until("blue", |s| silence(s, "blue-all-2").is_some_and(|silence| silence.held.is_some())).await;
    world.switch("blue-all-2", true).await;
    world.until("blue", |s| node(s, "blue-all-2").state == "up").await;
    control.stand_node("blue-all-1", false, "ann").await.expect("in");
    world.until_active("blue").await;
    let events = done(&world, 4).await;
    assert_eq!(said(&events)[2..], [("node.aside", "blue-all-1"), ("node.held", "blue-all-2")]);
    let planned = control.plan(&document(3, "{aside: 2s}"), "f").await.expect("a plan");
    assert!(planned[0].plan.is_empty() && !planned[0].changed, "{:#?}", planned[0].plan);
    one.stop().await;
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_longer_time_it_is_lost_and_never_comes_back() {
    let world = World::new(&APART).await;
    let engine = world.engine().await;
    let control = engine.control();
    let policy = "policy: usual\nsilent: {aside: 1s, lost: 4s}\n";
    control.set(policy, "p", "ann").await.expect("set");
    // The more patient of the two holds.
    control.apply(&document(3, "{aside: 2s}"), "f", &[], "test").await.expect("applied");
    world.until_active("blue").await;
    world.switch("blue-all-3", false).await;
    let gone = |s: &StatusView| s.nodes.len() == 2 && s.deployment.health == Health::Active;
    let status = world.until("blue", gone).await;
    assert_eq!(seen(&world, &status, "deployment/head").await.0, ["http://blue-all-1/1", "http://blue-all-2/1"]);
    let events = done(&world, 2).await;
    assert_eq!(said(&events), [("node.aside", "blue-all-3"), ("node.lost", "blue-all-3")]);
    assert_eq!(events[0].detail["policy"], "the policy of the deployment");
    assert_eq!(events[1].detail["policy"], "policy `usual` (set by ann)");
    assert!(counted(&events[0]) >= 2 && counted(&events[1]) >= 4, "{events:#?}");

    // Of three that it was committed with, two are left: that is all that a budget of one bears.
    world.switch("blue-all-2", false).await;
    let held = |s: &StatusView| silence(s, "blue-all-2").is_some_and(|silence| silence.held.is_some());
    let status = world.until("blue", held).await;
    assert_eq!(stands(&status, "blue-all-2"), Standing::In);
    world.switch("blue-all-2", true).await;
    control.apply(&document(3, "{aside: 2s}"), "f", &[], "test").await.expect("applied");
    let status = world.until("blue", |s| s.nodes.len() == 3 && s.deployment.health == Health::Active).await;
    assert_eq!(stands(&status, "blue-all-4"), Standing::In, "another one in its place");
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_holds_the_policy_back_and_says_so() {
    let world = World::new(&APART).await;
    let engine = world.engine().await;
    let control = engine.control();
    control.apply(&document(5, "{aside: 2s, lost: 3s}"), "f", &[], "test").await.expect("applied");
    world.until_active("blue").await;
    // Both at once are more than the budget bears, whoever is the first.
    control.stand_node("blue-all-5", true, "ann").await.expect("aside");
    world.switch("blue-all-4", false).await;
    let held = |s: &StatusView| silence(s, "blue-all-4").is_some_and(|silence| silence.held.is_some());
    let status = world.until("blue", held).await;
    let view = silence(&status, "blue-all-4").expect("it is silent");
    assert_eq!(view.held.as_deref(), Some("budget service allows no node more to be out of service"));
    assert_eq!(stands(&status, "blue-all-4"), Standing::In);
    let long = |s: &StatusView| silence(s, "blue-all-4").is_some_and(|silence| silence.seconds >= 6);
    let status = world.until("blue", long).await;
    assert_eq!((stands(&status, "blue-all-4"), status.nodes.len()), (Standing::In, 5), "however long it takes");
    assert_eq!(said(&done(&world, 1).await), [("node.held", "blue-all-4")], "and it is said once");
    // There is room again.
    control.stand_node("blue-all-5", false, "ann").await.expect("in");
    world.until("blue", |s| s.nodes.len() == 4 && s.deployment.health == Health::Active).await;
    assert_eq!(said(&done(&world, 2).await)[1..], [("node.lost", "blue-all-4")]);
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn if_nobody_answers_it_is_rather_the_engine_that_is_cut_off() {
    let world = World::new(&APART).await;
    let engine = world.engine().await;
    let control = engine.control();
    control.apply(&document(3, "{aside: 8s, lost: 9s}"), "f", &[], "test").await.expect("applied");
    world.until_active("blue").await;
    let all = ["blue-all-1", "blue-all-2", "blue-all-3"];
    for name in all {
        world.switch(name, false).await;
    }
    let long = Duration::from_secs(15);
    let silent = |s: &StatusView| {
        let since = |name: &&str| silence(s, name).and_then(|silence| silence.since);
        all.iter().all(|name| since(name).is_some_and(|since| OffsetDateTime::now_utc() - since > long))
    };
    let status = world.until("blue", silent).await;
    for name in all {
        let silence = silence(&status, name).expect("it is silent");
        assert!(
            silence.seconds < 8,
            "no time counts but the first moment, as long as one was not missed yet: {silence:#?}"
        );
        assert_eq!(stands(&status, name), Standing::In);
    }
    for name in all {
        world.switch(name, true).await;
    }
    world.until("blue", |s| s.nodes.iter().all(|node| node.state == "up" && node.silence.is_none())).await;
    assert_eq!(said(&done(&world, 0).await), []);
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn time_in_which_no_engine_looked_does_not_count() {
    let world = World::new(&APART).await;
    let engine = world.engine().await;
    let control = engine.control();
    control.apply(&document(3, "{aside: 3s}"), "f", &[], "test").await.expect("applied");
    world.until_active("blue").await;
    world.switch("blue-all-1", false).await;
    world.until("blue", |s| node(s, "blue-all-1").state == "unreachable").await;
    engine.stop().await;
    let stopped = world.status("blue").await;
    let since = silence(&stopped, "blue-all-1").and_then(|silence| silence.since).expect("it is silent");
    world.until("blue", |_| OffsetDateTime::now_utc() - since > Duration::from_secs(8)).await;
    assert_eq!(stands(&world.status("blue").await, "blue-all-1"), Standing::In, "nobody was there");

    // Another engine goes on with what counted so far, and with no more.
    let counted_before = silence(&stopped, "blue-all-1").expect("it is silent").seconds;
    let begun = OffsetDateTime::now_utc();
    let engine = world.engine().await;
    let status = world.until("blue", |s| stands(s, "blue-all-1") == Standing::Aside).await;
    let events = done(&world, 1).await;
    assert_eq!(said(&events), [("node.aside", "blue-all-1")]);
    let looked = Duration::from_secs(2_u64.saturating_sub(u64::try_from(counted_before).expect("a time")));
    assert!(events[0].at - begun >= looked, "{begun} {counted_before} {events:#?}");
    let counted = i64::try_from(counted(&events[0])).expect("a time");
    assert!(
        (events[0].at - since).whole_seconds() - counted >= 4,
        "the time between the engines is missing: {events:#?}"
    );
    assert_eq!(silence(&status, "blue-all-1").and_then(|silence| silence.since), Some(since), "it is one silence");
    engine.stop().await;
}
