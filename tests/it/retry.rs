//! What fails is tried again by itself where its role wants it so, and only what is known to have failed.

use std::time::Duration;

use engine_core::request::Ask;
use engine_core::state::State;
use engine_core::view::{Health, JobView, NodeRoleView};
use engine_store::read;

use crate::support::{World, find};

/// A service that is tried three times, and what needs it.
const TRIED: [(&str, &str); 3] = [
    (
        "roles/web/role.yaml",
        "role: web\nversion: 1.0.0\nabout: A service.\nruns: node\nmilestone: true\ndisrupts: [service]\n\
         retry: {attempts: 3, backoff: 1s}\ninputs:\n  size: {schema: {type: integer}, default: 1}\n\
         apply:\n  - unit: {name: web.service, running: true, restart_for: [size]}\n",
    ),
    (
        "roles/app/role.yaml",
        "role: app\nversion: 1.0.0\nabout: Needs it.\nruns: node\nmilestone: true\nrequires: [web]\n\
         apply:\n  - run: {text: 'true', unless: 'false'}\n",
    ),
    (
        "workloads/tried/workload.yaml",
        "workload: tried\nversion: 1.0.0\nabout: Nodes.\ngroups: {all: {count: {default: 2}}}\n\
         parameters: {type: object, properties: {size: {type: integer, default: 1}}}\n\
         roles: {all: [{web: {with: {size: '{{ parameters.size }}'}}}, app]}\nbudgets: {service: {max_unavailable: 1}}\n",
    ),
];

fn tried(size: u32, script: &str) -> String {
    format!(
        "deployment: blue\nworkload: tried\nparameters: {{size: {size}}}\n\
         nodes: {{all: {{provider: simulated, count: 2, with: {{script: {script}}}}}}}\n"
    )
}

/// The attempts of a node role, oldest first.
async fn attempts(world: &World, of: &NodeRoleView) -> Vec<JobView> {
    let mut jobs = read::jobs(world.database.pool(), of.id, 100).await.expect("jobs");
    jobs.reverse();
    jobs
}

fn pauses(jobs: &[JobView]) -> Vec<Duration> {
    let between = |pair: &[JobView]| pair[1].claimed_at - pair[0].finished_at.expect("over");
    jobs.windows(2).map(|pair| between(pair).try_into().expect("one after the other")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_failed_is_tried_again_after_ever_longer_waits_also_by_another_engine() {
    let world = World::new(&TRIED).await;
    let engine = world.engine().await;
    let script = "{web: {outcome: {fail: {code: busy, message: not now, times: 2}}}}";
    engine.control().apply(&tried(1, script), "f", &[], "test").await.expect("applied");
    let waits = |role: &NodeRoleView| role.state == State::Failed && role.retry_at.is_some();
    let status = world
        .until("blue", |s| {
            s.node_roles.len() == 4 && waits(find(s, "blue-all-1/web")) && find(s, "blue-all-1/app").cause.is_some()
        })
        .await;
    let says = &find(&status, "blue-all-1/app").cause.as_ref().expect("a cause").says;
    assert!(says.starts_with("held back by blue-all-1/web failed: busy, tries again at 20"), "{says}");
    // The time is in its row and not in an engine.
    engine.stop().await;
    let engine = world.engine().await;
    let status = world.until_active("blue").await;
    for node in ["blue-all-1", "blue-all-2"] {
        let web = find(&status, &format!("{node}/web"));
        let jobs = attempts(&world, web).await;
        let outcomes: Vec<Option<&str>> = jobs.iter().map(|job| job.outcome.as_deref()).collect();
        assert_eq!(outcomes, [Some("failed"), Some("failed"), Some("succeeded")]);
        // It waits since it failed, which is not before it was claimed; that it is over is written later.
        let began: Vec<_> = jobs.iter().map(|job| job.claimed_at).collect();
        let waited: Vec<_> = began.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(waited[0] >= Duration::from_millis(990) && waited[1] >= Duration::from_millis(1990), "{waited:?}");
        assert_eq!(web.retry_at, None);
    }
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_last_try_a_person_is_waited_for_who_need_not_wait() {
    let world = World::new(&TRIED).await;
    let engine = world.engine().await;
    let control = engine.control();
    // The first attempt is well, the next four are not.
    let script = "{web: {attempts: 1}, 'we*': {outcome: {fail: {code: busy, message: not now, times: 5}}}}";
    control.apply(&tried(1, script), "f", &[], "test").await.expect("applied");
    world.until_active("blue").await;
    control.apply(&tried(2, script), "f", &[], "test").await.expect("applied");
    let over = |role: &NodeRoleView| role.state == State::Failed && role.attempts == 4 && role.retry_at.is_none();
    let status = world.until("blue", |s| over(find(s, "blue-all-1/web"))).await;
    // Whoever waits for another try is out of service still: nobody else was taken out.
    let other = find(&status, "blue-all-2/web");
    assert_eq!((other.attempts, other.state), (1, State::Blocked));
    let moved = control.ask(Ask::Retry, "blue", None, "ann").await.expect("retried");
    assert_eq!(moved.node_roles, ["blue-all-1/web"]);
    let waits = |role: &NodeRoleView| role.attempts == 5 && role.retry_at.is_some();
    let status = world.until("blue", |s| waits(find(s, "blue-all-1/web"))).await;
    let jobs = attempts(&world, find(&status, "blue-all-1/web")).await;
    assert_eq!(jobs.len(), 5);
    // Asked again while the second try is waited for: at once, and counted anew.
    control.ask(Ask::Retry, "blue", Some("blue-all-1/web"), "ann").await.expect("retried");
    let status = world.until("blue", |s| find(s, "blue-all-1/web").state == State::Active).await;
    let jobs = attempts(&world, find(&status, "blue-all-1/web")).await;
    assert_eq!(jobs.len(), 6);
    assert!(pauses(&jobs)[4] < Duration::from_millis(900), "{:?}", pauses(&jobs));
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_known_to_have_failed_or_was_cancelled_is_not_tried_again() {
    let world = World::new(&TRIED).await;
    let engine = world.engine().await;
    let control = engine.control();
    control.apply(&tried(1, "{web: {on: [apply], outcome: unknown}}"), "f", &[], "test").await.expect("applied");
    let failed = |role: &NodeRoleView| role.state == State::Failed;
    let status = world.until("blue", |s| s.node_roles.iter().filter(|role| failed(role)).count() == 2).await;
    for role in status.node_roles.iter().filter(|role| failed(role)) {
        assert_eq!((role.code.as_deref(), role.retry_at), (Some("outcome-unknown"), None));
    }
    control.destroy("blue", "test").await.expect("destroyed");
    world.until("blue", |s| s.deployment.health == Health::Gone).await;
    control.apply(&tried(1, "{web: {on: [apply], outcome: hang}}"), "f", &[], "test").await.expect("applied");
    world.until("blue", |s| s.node_roles.iter().filter(|role| role.state == State::Running).count() == 2).await;
    control.ask(Ask::Cancel, "blue", None, "ann").await.expect("cancelled");
    let status = world.until("blue", |s| s.node_roles.iter().filter(|role| failed(role)).count() == 2).await;
    for role in status.node_roles.iter().filter(|role| failed(role)) {
        assert_eq!((role.code.as_deref(), role.retry_at, role.attempts), (Some("cancelled"), None, 1));
    }
    engine.stop().await;
}
