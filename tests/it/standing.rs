//! Nodes that stand aside and failures that are accepted, on simulated nodes: nobody waits for them.

use engine_core::request::Ask;
use engine_core::settle::hood::Standing;
use engine_core::state::State;
use engine_core::view::{Health, NodeRoleView, StatusView};
use engine_store::read;

use crate::support::{World, address};

/// `app` may be out on one node at a time; `peers` reads all of it on each node, `head` once.
pub(crate) const APART: [(&str, &str); 4] = [
    (
        "roles/app/role.yaml",
        "role: app\nversion: 1.0.0\nabout: A service.\nruns: node\nmilestone: true\ndisrupts: [service]\n\
         inputs:\n  size: {schema: {type: integer}, default: 1}\n  name: {schema: {type: string}, from: node.name}\n\
         outputs: {url: {schema: {type: string}, value: 'http://{{ name }}/{{ size }}'}}\n\
         apply:\n  - run: {text: 'true', unless: 'false'}\n",
    ),
    (
        "roles/peers/role.yaml",
        "role: peers\nversion: 1.0.0\nabout: Knows all of the service.\nruns: node\nmilestone: true\n\
         inputs: {urls: {schema: {type: object}, from: map app.url}}\n\
         outputs: {seen: {schema: {type: object}, value: '{{ urls }}'}}\n\
         apply:\n  - run: {text: 'true', unless: 'false'}\n",
    ),
    (
        "roles/head/role.yaml",
        "role: head\nversion: 1.0.0\nabout: Knows all of the service, too.\nruns: deployment\nat: one app\nmilestone: true\n\
         inputs: {urls: {schema: {type: object}, from: map app.url}}\n\
         outputs: {seen: {schema: {type: object}, value: '{{ urls }}'}}\n\
         apply:\n  - run: {text: 'true', unless: 'false'}\n",
    ),
    (
        "workloads/apart/workload.yaml",
        "workload: apart\nversion: 1.0.0\nabout: Goes on without some.\n\
         parameters: {type: object, properties: {size: {type: integer, default: 1}}}\n\
         groups: {all: {count: {default: 3, minimum: 1}}}\n\
         roles:\n  all: [{app: {with: {size: '{{ parameters.size }}'}}}, peers]\n  deployment: [head]\n\
         budgets: {service: {max_unavailable: 1}}\n",
    ),
];

fn document(size: u32) -> String {
    format!(
        "deployment: blue\nworkload: apart\nparameters: {{size: {size}}}\n\
         nodes:\n  all: {{provider: simulated, count: 3}}\n"
    )
}

/// Whom a node role saw when it last ran, and how often it did.
pub(crate) async fn seen(world: &World, status: &StatusView, wanted: &str) -> (Vec<String>, usize) {
    let role = status.node_roles.iter().find(|role| address(role) == wanted).expect("a node role");
    let why = read::why(world.database.pool(), "blue", &role.node, &role.role, None)
        .await
        .expect("why")
        .expect("a node role");
    let seen = why.outputs["seen"].as_object().expect("what it saw");
    let jobs = read::jobs(world.database.pool(), role.id, 100).await.expect("jobs");
    (seen.values().map(|url| url.as_str().expect("text").to_owned()).collect(), jobs.len())
}

fn on<'s>(status: &'s StatusView, node: &'s str) -> impl Iterator<Item = &'s NodeRoleView> {
    status.node_roles.iter().filter(move |role| role.node == node)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_aside_is_missed_by_nobody_and_comes_back() {
    let world = World::new(&APART).await;
    let engine = world.engine().await;
    let control = engine.control();
    control.apply(&document(1), "f", &[], "test").await.expect("applied");
    world.until_active("blue").await;

    assert_eq!(control.stand_node("nobody", true, "ann").await.expect_err("unknown").code, "unknown-node");
    assert!(control.stand_node("blue-all-1", true, "ann").await.expect("aside").beyond.is_empty(), "there was room");
    // Who gathers there is to run again, too, and waits for the node to be in.
    let settled = |s: &StatusView| {
        s.nodes.iter().any(|node| node.standing == Standing::Aside)
            && on(s, "blue-all-1").any(|role| role.role == "peers" && role.state == State::Blocked)
            && s.node_roles.iter().filter(|role| role.node != "blue-all-1").all(|role| role.state == State::Active)
    };
    let status = world.until("blue", settled).await;
    let without = ["http://blue-all-2/1", "http://blue-all-3/1"];
    assert_eq!(seen(&world, &status, "deployment/head").await.0, without, "who gathers goes on without it");
    assert_eq!(seen(&world, &status, "blue-all-2/peers").await.0, without);
    assert_eq!(seen(&world, &status, "blue-all-1/peers").await.1, 1, "nothing begins on it");

    // It is all that the budget bears: the change waits, and says for what.
    control.apply(&document(2), "f", &[], "test").await.expect("applied");
    let held = |s: &StatusView| {
        let waits = |role: &&NodeRoleView| role.cause.as_ref().is_some_and(|cause| cause.key == "b:service");
        s.node_roles.iter().filter(|role| role.role == "app").filter(waits).count() == 2
    };
    let status = world.until("blue", held).await;
    assert_eq!(status.deployment.health, Health::Converging);
    let why =
        read::why(world.database.pool(), "blue", "blue-all-2", "app", None).await.expect("why").expect("a node role");
    assert!(format!("{why:?}").contains("service"), "{why:#?}");
    // One more aside is more than the budget has room for: it is told, and done.
    assert_eq!(control.stand_node("blue-all-3", true, "ann").await.expect("aside").beyond, ["service"]);
    control.stand_node("blue-all-3", false, "ann").await.expect("in");

    control.stand_node("blue-all-1", false, "ann").await.expect("in");
    let status = world.until("blue", |s| s.deployment.health == Health::Active).await;
    assert!(status.nodes.iter().all(|node| node.standing == Standing::In), "{status:#?}");
    let all = ["http://blue-all-1/2", "http://blue-all-2/2", "http://blue-all-3/2"];
    for reader in ["deployment/head", "blue-all-1/peers", "blue-all-2/peers", "blue-all-3/peers"] {
        assert_eq!(seen(&world, &status, reader).await.0, all, "{reader}");
    }
    let planned = control.plan(&document(2), "f").await.expect("a plan");
    assert!(planned[0].plan.is_empty(), "{:#?}", planned[0].plan);
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_goes_through_without_a_node_aside_and_nothing_of_it_runs_there() {
    let world = World::new(&APART).await;
    let engine = world.engine().await;
    let control = engine.control();
    let wide = |size: u32| document(size) + "set: {}\n";
    control.apply(&wide(1), "f", &[], "test").await.expect("applied");
    world.until_active("blue").await;
    control.stand_node("blue-all-3", true, "ann").await.expect("aside");
    // Aside before it is lost: it is counted once.
    control.ask(Ask::Pause, "blue", None, "test").await.expect("paused");
    control.lose_node("blue-all-3", "ann").await.expect("lost");
    control.ask(Ask::Resume, "blue", None, "test").await.expect("resumed");
    let status = world.until("blue", |s| s.deployment.health == Health::Active && s.nodes.len() == 2).await;
    assert_eq!(on(&status, "blue-all-3").count(), 0);
    control.apply(&wide(2), "f", &[], "test").await.expect("applied");
    let status = world.until("blue", |s| s.deployment.health == Health::Active && s.nodes.len() == 3).await;
    let all = ["http://blue-all-1/2", "http://blue-all-2/2", "http://blue-all-4/2"];
    assert_eq!(seen(&world, &status, "deployment/head").await.0, all);
    let counted = "do $$ begin if exists (select from tally where stale + failed + leaving + unawaited <> 0) then
                   raise exception 'something is counted of which there is nothing'; end if; end $$";
    world.database.run(counted).await;
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_that_is_accepted_holds_nobody_until_its_next_change() {
    let world = World::new(&APART).await;
    let engine = world.engine().await;
    let control = engine.control();
    control.apply(&document(1), "f", &[], "test").await.expect("applied");
    world.until_active("blue").await;
    assert!(control.ask(Ask::Accept, "blue", None, "ann").await.expect("nothing failed").node_roles.is_empty());
    let fails = "update node set options = '{\"script\": {\"app\": {\"outcome\": {\"fail\": {\"code\": \"step-failed\", \"message\": \"broken\"}}}}}' where name = 'blue-all-1'";
    world.database.run(fails).await;
    control.apply(&document(2), "f", &[], "test").await.expect("applied");
    let failed = |s: &StatusView| {
        let app = s.node_roles.iter().find(|role| address(role) == "blue-all-1/app").expect("a node role");
        app.state == State::Failed && s.node_roles.iter().any(|role| role.cause.is_some())
    };
    world.until("blue", failed).await;

    // It goes on with what it last succeeded with: the others, and who reads them.
    let taken = control.ask(Ask::Accept, "blue", Some("blue-all-1/app"), "ann").await.expect("accepted");
    assert_eq!(taken.node_roles, ["blue-all-1/app"]);
    // It is still told as failed.
    let others = |s: &StatusView| {
        s.node_roles.iter().all(|role| role.state == State::Active || address(role) == "blue-all-1/app")
            && s.deployment.health == Health::Failed
    };
    let status = world.until("blue", others).await;
    let mixed = ["http://blue-all-1/1", "http://blue-all-2/2", "http://blue-all-3/2"];
    assert_eq!(seen(&world, &status, "deployment/head").await.0, mixed);
    let again = control.ask(Ask::Accept, "blue", None, "ann").await.expect("it is accepted");
    assert!(again.node_roles.is_empty(), "{again:?}");

    // The next change ends that.
    world.database.run("update node set options = '{}' where name = 'blue-all-1'").await;
    control.apply(&document(3), "f", &[], "test").await.expect("applied");
    let all = |s: &StatusView| s.node_roles.iter().all(|role| role.state == State::Active);
    let status = world.until("blue", |s| s.deployment.health == Health::Active && all(s)).await;
    let new = ["http://blue-all-1/3", "http://blue-all-2/3", "http://blue-all-3/3"];
    assert_eq!(seen(&world, &status, "deployment/head").await.0, new);
    engine.stop().await;
}
