//! A budget of all deployments: what is out of service in one of them holds the others back.

use engine_core::document::setting::SettingKind;
use engine_core::request::{Ask, RedeployRequest};
use engine_core::state::State;
use engine_core::view::{DriftView, Health, StatusView};
use engine_store::read;

use crate::support::{World, find};

/// A service that may be out on half of the nodes of a deployment at a time.
const FLEET: [(&str, &str); 2] = [
    (
        "roles/web/role.yaml",
        "role: web\nversion: 1.0.0\nabout: A service.\nruns: node\nmilestone: true\ndisrupts: [service]\n\
         inputs:\n  size: {schema: {type: integer}, default: 1}\n\
         apply:\n  - unit: {name: web.service, running: true, restart_for: [size]}\n\
         check:\n  - wait: {unit: web.service}\n",
    ),
    (
        "workloads/fleet/workload.yaml",
        "workload: fleet\nversion: 1.0.0\nabout: A fleet.\ngroups: {all: {count: {default: 4}}}\n\
         parameters: {type: object, properties: {size: {type: integer, default: 1}}}\n\
         roles:\n  all: [{web: {with: {size: '{{ parameters.size }}'}}}]\n\
         budgets: {service: {max_unavailable: '50%'}}\n",
    ),
];

const NAMES: [&str; 3] = ["blue", "green", "red"];

fn fleet(name: &str, size: u32, with: &str) -> String {
    format!(
        "deployment: {name}\nworkload: fleet\nparameters: {{size: {size}}}\n\
         nodes: {{all: {{provider: simulated, count: 4, with: {with}}}}}\n"
    )
}

fn shared(most: u32) -> String {
    format!("budget: service\nmax_unavailable: {most}\n")
}

fn done(status: &StatusView, revision: i32) -> bool {
    status.deployment.revision == revision && status.deployment.health == Health::Active
}

/// The newest event so far. What others do on the same server may keep readers from seeing it for a moment.
async fn now(world: &World) -> i64 {
    world.database.all_settled().await;
    read::head(world.database.pool()).await.expect("a number")
}

/// How many jobs ran at once at most after an event, over all deployments.
async fn most_at_once(world: &World, after: i64) -> i32 {
    world.database.all_settled().await;
    let mut events = read::latest_events(world.database.pool(), None, 10_000).await.expect("events");
    events.retain(|event| event.seq > after);
    // Of turns that wait for one another this is the order; their numbers were taken when they began.
    events.sort_by_key(|event| (event.at, event.seq));
    let running = events.iter().scan(0, |running, event| {
        *running += match event.kind.as_str() {
            "node-role.claim" => 1,
            "node-role.done" | "node-role.fail" => -1,
            _ => 0,
        };
        Some(*running)
    });
    running.max().unwrap_or(0)
}

fn says(status: &StatusView, address: &str) -> String {
    find(status, address).cause.as_ref().map(|cause| cause.says.clone()).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn deployments_that_share_a_budget_take_no_more_nodes_out_than_it_allows_whatever_engine_turns_them() {
    let world = World::new(&FLEET).await;
    let engines = [world.engine().await, world.engine().await];
    let control = engines[0].control();
    let slow = "{script: {web: {delay_ms: 60}}}";
    for name in NAMES {
        control.apply(&fleet(name, 1, slow), "f", &[], "test").await.expect("applied");
    }
    for name in NAMES {
        world.until(name, |s| done(s, 1)).await;
    }
    control.set(&shared(2), "b", "ann").await.expect("set");
    let began = now(&world).await;
    for name in NAMES {
        control.apply(&fleet(name, 2, slow), "f", &[], "test").await.expect("applied");
    }
    for name in NAMES {
        world.until(name, |s| done(s, 2)).await;
    }
    assert_eq!(most_at_once(&world, began).await, 2, "no more than it allows, and as many");
    // Without it each deployment has its own budget only.
    control.remove_setting(SettingKind::Budget, "service", "ann").await.expect("removed");
    let began = now(&world).await;
    for name in NAMES {
        control.apply(&fleet(name, 3, "{script: {web: {delay_ms: 300}}}"), "f", &[], "test").await.expect("applied");
    }
    for name in NAMES {
        world.until(name, |s| done(s, 3)).await;
    }
    assert!(most_at_once(&world, began).await > 2, "it was not held back by chance");
    for engine in engines {
        engine.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_out_of_service_elsewhere_is_named_and_waited_for() {
    let world = World::new(&FLEET).await;
    let engine = world.engine().await;
    let control = engine.control();
    // The first attempt of each node of blue is well, the second is not.
    let breaks = "{script: {web: {attempts: 1}, 'we*': {outcome: {fail: {code: step-failed, message: no such flag, times: 2}}}}}";
    for (name, with) in [("blue", breaks), ("green", "{}")] {
        control.apply(&fleet(name, 1, with), "f", &[], "test").await.expect("applied");
        world.until(name, |s| done(s, 1)).await;
    }
    control.set(&shared(1), "b", "ann").await.expect("set");
    // A node that stands aside is out of service, though nothing else moves in its deployment.
    control.stand_node("blue-all-2", true, "ann").await.expect("aside");
    control.apply(&fleet("green", 2, "{}"), "f", &[], "test").await.expect("applied");
    let waits =
        "waits for budget service of all deployments, which allows no node more to be out of service: 1 in blue";
    let status = world.until("green", |s| says(s, "green-all-1/web") == waits).await;
    assert!(status.node_roles.iter().all(|role| role.attempts == 1), "none of it has begun");
    let why = read::why(world.database.pool(), "green", "green-all-1", "web", None).await;
    let chain = why.expect("a why").expect("a node role").chain;
    assert_eq!(chain.last().expect("an end").what, "budget service of all deployments");
    let listed = control.settings(SettingKind::Budget).await.expect("a list").remove(0);
    assert_eq!(listed.out_of_service.into_iter().collect::<Vec<_>>(), [("blue".to_owned(), 1)]);
    // Nor may nodes be made anew meanwhile.
    let nodes = RedeployRequest { nodes: vec!["green-all-3".to_owned()], ..RedeployRequest::default() };
    let refused = control.redeploy("green", &nodes, "ann").await.expect_err("there is no room");
    assert_eq!(refused.code, "budget-full");
    control.stand_node("blue-all-2", false, "ann").await.expect("in");
    world.until("green", |s| done(s, 2)).await;

    // A failure in one opens the circuit for all, and what is mended closes it.
    control.apply(&fleet("blue", 2, breaks), "f", &[], "test").await.expect("applied");
    let fails = |s: &StatusView| s.node_roles.iter().any(|role| role.state == State::Failed);
    world.until("blue", fails).await;
    control.set(&shared(3), "b", "ann").await.expect("set");
    control.apply(&fleet("green", 3, "{}"), "f", &[], "test").await.expect("applied");
    world.until("green", |s| (1..=4).all(|node| says(s, &format!("green-all-{node}/web")) == waits)).await;
    while !done(&world.until("blue", |s| fails(s) || done(s, 2)).await, 2) {
        control.ask(Ask::Retry, "blue", None, "ann").await.expect("retried");
    }
    world.until("green", |s| done(s, 3)).await;

    // Who waits for a budget that nobody sets any more goes on.
    control.stand_node("blue-all-1", true, "ann").await.expect("aside");
    control.set(&shared(0), "b", "ann").await.expect("set");
    control.apply(&fleet("green", 4, "{}"), "f", &[], "test").await.expect("applied");
    world.until("green", |s| says(s, "green-all-1/web") == waits).await;
    control.remove_setting(SettingKind::Budget, "service", "ann").await.expect("removed");
    world.until("green", |s| done(s, 4)).await;
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_its_check_is_out_of_service_until_it_is_mended() {
    let world = World::new(&FLEET).await;
    let engine = world.engine().await;
    let control = engine.control();
    for name in ["blue", "green"] {
        control.apply(&fleet(name, 1, "{}"), "f", &[], "test").await.expect("applied");
        world.until(name, |s| done(s, 1)).await;
    }
    // The step after those of `apply` is a probe.
    let break_probes = "update node set options = '{\"script\": {\"web\": {\"on\": [\"check\"], \"outcome\":
                        {\"fail\": {\"code\": \"wait-timeout\", \"step\": 1}}}}}' where name in ('blue-all-3', 'blue-all-4')";
    world.database.run(break_probes).await;
    let check = async |verdict: &str| {
        control.check("blue", None, None, "ann").await.expect("asked");
        let all = async || {
            let report = read::drift(world.database.pool(), "blue").await.expect("read").expect("known");
            let of = |node: &str| {
                let at = report.node_roles.iter().find(|one| one.node == node && !one.pending);
                at.and_then(|one| one.verdict.clone()).unwrap_or_default()
            };
            let found = ["blue-all-3", "blue-all-4"].map(of);
            if found == [verdict, verdict] { Ok(()) } else { Err(format!("{report:#?}")) }
        };
        world.until_so("checked", all).await;
    };
    check("drifted").await;
    // Two of four may be out, and are: by those that work one is not taken out.
    for node in ["blue-all-3/web", "blue-all-4/web"] {
        control.ask(Ask::Pause, "blue", Some(node), "ann").await.expect("paused");
    }
    let began = now(&world).await;
    control.apply(&fleet("blue", 2, "{}"), "f", &[], "test").await.expect("applied");
    let waits = "waits for budget service, which allows no node more to be out of service";
    world.until("blue", |s| ["blue-all-1/web", "blue-all-2/web"].iter().all(|at| says(s, at) == waits)).await;
    assert_eq!(most_at_once(&world, began).await, 0, "nothing has begun");
    // They may be worked on, and count no more when they are made anew.
    control.ask(Ask::Resume, "blue", Some("blue-all-3/web"), "ann").await.expect("resumed");
    let status = world.until("blue", |s| find(s, "blue-all-1/web").state == State::Active).await;
    assert_eq!(find(&status, "blue-all-3/web").state, State::Active);
    world.until("blue", |s| find(s, "blue-all-2/web").state == State::Active).await;
    control.ask(Ask::Resume, "blue", Some("blue-all-4/web"), "ann").await.expect("resumed");
    world.until("blue", |s| done(s, 2)).await;

    // What was mended by hand is seen by the next check, and tells others.
    check("drifted").await;
    control.set(&shared(2), "b", "ann").await.expect("set");
    control.apply(&fleet("green", 2, "{}"), "f", &[], "test").await.expect("applied");
    let waits =
        "waits for budget service of all deployments, which allows no node more to be out of service: 2 in blue";
    world.until("green", |s| (1..=4).all(|node| says(s, &format!("green-all-{node}/web")) == waits)).await;
    world.database.run("update node set options = '{}' where name in ('blue-all-3', 'blue-all-4')").await;
    check("conform").await;
    world.until("green", |s| done(s, 2)).await;

    // What a check looks at may be another node. Those that all fail for one are not worked on all at once.
    let break_all = "update node set options = '{\"script\": {\"web\": {\"on\": [\"check\"], \"outcome\":
                     {\"fail\": {\"code\": \"wait-timeout\", \"step\": 1}}}, \"we*\": {\"delay_ms\": 200}}}' where name like 'blue-%'";
    world.database.run(break_all).await;
    check("drifted").await;
    let all = async || {
        let report = read::drift(world.database.pool(), "blue").await.expect("read").expect("known");
        let fails = |one: &DriftView| !one.pending && one.verdict.as_deref() == Some("drifted");
        if report.node_roles.iter().all(fails) { Ok(()) } else { Err(format!("{report:#?}")) }
    };
    world.until_so("failing", all).await;
    let began = now(&world).await;
    control.apply(&fleet("blue", 3, "{}"), "f", &[], "test").await.expect("applied");
    let waits = "waits for blue-all-1/web (running)";
    world.until("blue", |s| says(s, "blue-all-4/web") == waits).await;
    world.until("blue", |s| done(s, 3)).await;
    assert!(most_at_once(&world, began).await <= 2, "not more than the budget allows");
    engine.stop().await;
}
