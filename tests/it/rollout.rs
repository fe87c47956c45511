//! A change goes through a fleet by budgets, stops where it fails, and waits for approvals.

use engine_core::request::Ask;
use engine_core::state::State;
use engine_core::view::{Health, JobView, StatusView};
use engine_store::read;

use crate::support::{World, find};

/// A service that may be out on one node at a time, and what reads it.
const FLEET: [(&str, &str); 3] = [
    (
        "roles/web/role.yaml",
        "role: web\nversion: 1.0.0\nabout: A service.\nruns: node\nmilestone: true\ndisrupts: [service]\n\
         inputs:\n  size: {schema: {type: integer}, default: 1}\n\
         apply:\n  - unit: {name: web.service, running: true, restart_for: [size]}\n",
    ),
    (
        "roles/agent/role.yaml",
        "role: agent\nversion: 1.0.0\nabout: Disturbs nobody.\nruns: node\nmilestone: true\n\
         inputs:\n  size: {schema: {type: integer}, default: 1}\napply:\n  - run: {text: 'true', unless: 'false'}\n",
    ),
    (
        "workloads/fleet/workload.yaml",
        "workload: fleet\nversion: 1.0.0\nabout: A fleet.\ngroups: {all: {count: {default: 3}}}\n\
         parameters: {type: object, properties: {size: {type: integer, default: 1}}}\n\
         roles:\n  all:\n    - {web: {with: {size: '{{ parameters.size }}'}}}\n    - {agent: {with: {size: '{{ parameters.size }}'}}}\n\
         budgets: {service: {max_unavailable: 1}}\n",
    ),
];

fn fleet(size: u32, with: &str, policy: &str) -> String {
    format!(
        "deployment: blue\nworkload: fleet\nparameters: {{size: {size}}}\npolicy: {policy}\n\
         nodes: {{all: {{provider: simulated, count: 4, with: {with}}}}}\n"
    )
}

/// The applies of a role since a revision, in the order of their claims.
async fn applies(world: &World, status: &StatusView, role: &str, since: i32) -> Vec<JobView> {
    let mut all = Vec::new();
    for of in status.node_roles.iter().filter(|of| of.role == role) {
        let jobs = read::jobs(world.database.pool(), of.id, 100).await.expect("jobs");
        all.extend(jobs.into_iter().filter(|job| job.action == "apply" && job.revision >= since));
    }
    all.sort_by_key(|job| job.claimed_at);
    all
}

fn done(status: &StatusView, revision: i32) -> bool {
    status.deployment.revision == revision && status.deployment.health == Health::Active
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_goes_through_one_by_one_and_first_creation_is_wide() {
    let world = World::new(&FLEET).await;
    let engine = world.engine().await;
    let control = engine.control();
    // The first ones meet in the middle of their jobs: with a budget they could not.
    let slow = "{script: {web: {delay_ms: 300}}}";
    control.apply(&fleet(1, slow, "{}"), "f", &[], "test").await.expect("applied");
    world
        .until("blue", |s| s.node_roles.iter().filter(|r| r.role == "web" && r.state == State::Running).count() > 1)
        .await;
    world.until_active("blue").await;
    control.apply(&fleet(2, slow, "{}"), "f", &[], "test").await.expect("applied");
    let held = world.until("blue", |s| s.deployment.revision == 2 && find(s, "blue-all-4/web").cause.is_some()).await;
    let says = &find(&held, "blue-all-4/web").cause.as_ref().expect("a cause").says;
    assert!(says.starts_with("waits for blue-all-") && says.ends_with("/web (running)"), "{says}");
    let status = world.until("blue", |s| done(s, 2)).await;
    let jobs = applies(&world, &status, "web", 2).await;
    let nodes: Vec<&str> = jobs.iter().map(|job| job.node.as_str()).collect();
    assert_eq!(nodes, ["blue-all-1", "blue-all-2", "blue-all-3", "blue-all-4"]);
    for pair in jobs.windows(2) {
        assert!(pair[0].finished_at.expect("over") <= pair[1].claimed_at, "two at once: {pair:#?}");
    }
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_breaks_stops_at_the_first_node_and_goes_on_when_it_is_mended() {
    let world = World::new(&FLEET).await;
    let engine = world.engine().await;
    let control = engine.control();
    // The first attempt of each node is well, the second is not.
    let breaks = "{script: {web: {attempts: 1}, 'we*': {outcome: {fail: {code: step-failed, message: no such flag, times: 2}}}}}";
    control.apply(&fleet(1, breaks, "{}"), "f", &[], "test").await.expect("applied");
    world.until_active("blue").await;
    control.apply(&fleet(2, breaks, "{}"), "f", &[], "test").await.expect("applied");
    let stopped = |s: &StatusView, node: &str, held: &str| {
        find(s, &format!("{node}/web")).state == State::Failed && find(s, &format!("{held}/web")).cause.is_some()
    };
    let status = world.until("blue", |s| stopped(s, "blue-all-1", "blue-all-2")).await;
    let says = &find(&status, "blue-all-3/web").cause.as_ref().expect("a cause").says;
    assert_eq!(says, "held back by blue-all-1/web failed: step-failed");
    // What disturbs nobody went on.
    let status =
        world.until("blue", |s| s.node_roles.iter().all(|r| r.role == "web" || r.state == State::Active)).await;
    assert_eq!(applies(&world, &status, "web", 2).await.len(), 1, "only the first node was tried");
    assert!(find(&status, "blue-all-2/web").serving);
    // Mended, the node that failed comes first.
    control.apply(&fleet(3, breaks, "{}"), "f", &[], "test").await.expect("applied");
    let status = world.until("blue", |s| stopped(s, "blue-all-2", "blue-all-3")).await;
    assert_eq!(find(&status, "blue-all-1/web").state, State::Active);
    for node in ["blue-all-3", "blue-all-4"] {
        control.ask(Ask::Retry, "blue", None, "test").await.expect("retried");
        let failed = format!("{node}/web");
        world.until("blue", |s| find(s, &failed).state == State::Failed).await;
    }
    control.ask(Ask::Retry, "blue", None, "test").await.expect("retried");
    let status = world.until("blue", |s| done(s, 3)).await;
    let nodes: Vec<String> = applies(&world, &status, "web", 2).await.into_iter().map(|job| job.node).collect();
    let all = [1, 1, 2, 2, 3, 3, 4, 4].map(|index| format!("blue-all-{index}"));
    assert_eq!(nodes, all);
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_policy_wants_approved_waits_for_a_person() {
    let world = World::new(&FLEET).await;
    let engine = world.engine().await;
    let control = engine.control();
    let policy = "{approve: [restart]}";
    control.apply(&fleet(1, "{}", policy), "f", &[], "test").await.expect("applied");
    world.until_active("blue").await;
    let applied = control.apply(&fleet(2, "{}", policy), "f", &[], "test").await.expect("applied");
    assert_eq!(applied[0].plan.approvals.len(), 4);
    let waits = |s: &StatusView, node: &str| {
        let of = find(s, &format!("{node}/web"));
        of.cause.as_ref().is_some_and(|cause| cause.says == "waits for an approval: restart")
    };
    let all = ["blue-all-1", "blue-all-2", "blue-all-3", "blue-all-4"];
    let status = world.until("blue", |s| all.iter().all(|node| waits(s, node))).await;
    assert!(applies(&world, &status, "web", 2).await.is_empty());
    let moved = control.ask(Ask::Approve, "blue", Some("blue-all-3/web"), "anna").await.expect("approved");
    assert_eq!(moved.node_roles, ["blue-all-3/web"]);
    let status = world.until("blue", |s| find(s, "blue-all-3/web").state == State::Active).await;
    assert!(["blue-all-1", "blue-all-2", "blue-all-4"].iter().all(|node| waits(&status, node)), "{status:#?}");
    // What was approved is that attempt; another one asks again.
    control.ask(Ask::Pause, "blue", None, "anna").await.expect("paused");
    control.ask(Ask::Approve, "blue", Some("blue-all-1/web"), "anna").await.expect("approved");
    control.apply(&fleet(3, "{}", policy), "f", &[], "test").await.expect("applied");
    control.ask(Ask::Resume, "blue", None, "anna").await.expect("resumed");
    world.until("blue", |s| all.iter().all(|node| waits(s, node))).await;
    let moved = control.ask(Ask::Approve, "blue", None, "anna").await.expect("approved");
    assert_eq!(moved.node_roles.len(), 4);
    world.until("blue", |s| done(s, 3)).await;
    let nothing = control.ask(Ask::Approve, "blue", None, "anna").await.expect("nothing to approve");
    assert!(nothing.node_roles.is_empty());
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn why_says_what_holds_a_deployment_and_what_its_time_went_to() {
    let world = World::new(&FLEET).await;
    let engine = world.engine().await;
    let control = engine.control();
    let pool = world.database.pool();
    let why = async |revision| read::why_deployment(pool, "blue", revision).await.expect("read").expect("a revision");
    let slow = "{script: {web: {delay_ms: 150}}}";
    control.apply(&fleet(1, slow, "{}"), "f", &[], "test").await.expect("applied");
    world.until("blue", |s| done(s, 1)).await;
    // One by one: the path goes through all four, and what was waited for is the budget.
    control.apply(&fleet(2, slow, "{}"), "f", &[], "test").await.expect("applied");
    let held = world.until("blue", |s| s.deployment.revision == 2 && find(s, "blue-all-4/web").cause.is_some()).await;
    assert_eq!(held.deployment.health, Health::Converging);
    control.ask(Ask::Pause, "blue", None, "test").await.expect("paused");
    let now = why(None).await;
    assert!(!now.held.is_empty() && now.remaining.is_some_and(|left| (150..10_000).contains(&left)), "{now:#?}");
    control.ask(Ask::Resume, "blue", None, "test").await.expect("resumed");
    world.until("blue", |s| done(s, 2)).await;
    let now = why(None).await;
    assert_eq!((now.current, now.held.len(), now.remaining), (true, 0, None));
    let path: Vec<(&str, &str)> = now.path.iter().map(|step| (step.node.as_str(), step.because.as_str())).collect();
    let by = "budget service";
    assert_eq!(path, [("blue-all-1", "the commit"), ("blue-all-2", by), ("blue-all-3", by), ("blue-all-4", by)]);
    assert!(now.path.iter().all(|step| step.role == "web" && step.took >= 150), "{:#?}", now.path);
    assert_eq!(now.slowest[0].role, "web");
    // The past is as it was.
    let first = why(Some(1)).await;
    assert!(!first.current && first.path.len() == 1 && first.revision == 1, "{first:#?}");
    let missing = read::why_deployment(pool, "blue", Some(9)).await.expect("read");
    assert_eq!(missing, Err(read::NoRevision::Revision));
    let of = async |revision| {
        let why = read::why(pool, "blue", "blue-all-1", "web", revision).await.expect("read").expect("there");
        let size = why.inputs.iter().find(|input| input.name == "size").and_then(|input| input.value.clone());
        (why.jobs.len(), size, why.node_role.state)
    };
    assert_eq!(of(Some(1)).await, (1, Some(1.into()), State::Active));
    assert_eq!(of(None).await, (2, Some(2.into()), State::Active));
    assert!(read::why(pool, "blue", "blue-all-1", "web", Some(9)).await.expect("read").is_none());
    engine.stop().await;
}
