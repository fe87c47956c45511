//! Jobs that wait for something outside wait as rows: they hold nothing, survive their engine, and end in time.

use std::time::Duration;

use engine_core::request::Ask;
use engine_core::state::State;
use engine_core::view::{Health, JobView, StatusView};
use engine_store::read;

use crate::support::{World, find};

const GATES: [(&str, &str); 3] = [
    (
        "roles/gate/role.yaml",
        "role: gate\nversion: 1.0.0\nabout: Waits for something.\nruns: node\nmilestone: true\ntimeout: 30s\n\
         apply:\n  - run: {text: 'true', unless: 'false'}\n",
    ),
    (
        "roles/app/role.yaml",
        "role: app\nversion: 1.0.0\nabout: Comes after it.\nruns: node\nmilestone: true\nrequires: [gate]\n\
         apply:\n  - run: {text: 'true', unless: 'false'}\n",
    ),
    (
        "workloads/gates/workload.yaml",
        "workload: gates\nversion: 1.0.0\nabout: Nodes.\ngroups: {all: {count: {default: 2}}}\nroles: {all: [app]}\n",
    ),
];

fn gates(name: &str, script: &str) -> String {
    format!(
        "deployment: {name}\nworkload: gates\nnodes: {{all: {{provider: simulated, count: 3, with: {{script: {script}}}}}}}\n"
    )
}

fn wait(looks: u32, every_ms: u32) -> String {
    format!(
        "{{gate: {{on: [apply], outcome: {{wait: {{looks: {looks}, every_ms: {every_ms}, saw: the door is shut}}}}}}}}"
    )
}

fn all_wait(status: &StatusView) -> bool {
    let gates: Vec<_> = status.node_roles.iter().filter(|role| role.role == "gate").collect();
    gates.len() == 3
        && gates.iter().all(|role| role.state == State::Running && role.saw.as_deref() == Some("the door is shut"))
}

async fn jobs(world: &World, status: &StatusView, place: &str) -> Vec<JobView> {
    read::jobs(world.database.pool(), find(status, place).id, 10).await.expect("jobs")
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_takes_no_place_and_says_what_it_sees() {
    let world = World::new(&GATES).await;
    let mut config = world.config();
    config.jobs = 1;
    let engine = engine_daemon::Engine::start(config).await.expect("an engine");
    let control = engine.control();
    control.apply(&gates("shut", &wait(1_000_000, 3_600_000)), "f", &[], "test").await.expect("applied");
    // One place, and three that wait at the same time.
    let status = world.until("shut", all_wait).await;
    let app = find(&status, "shut-all-1/app").cause.clone().expect("held");
    assert_eq!(app.says, "waits for shut-all-1/gate (running: sees that the door is shut)");
    let gate = jobs(&world, &status, "shut-all-1/gate").await.remove(0);
    assert_eq!((gate.saw.as_deref(), gate.outcome), (Some("the door is shut"), None));
    // A last look is taken when its time is over, and not an hour from now.
    let next = gate.look_at.expect("a time") - gate.claimed_at;
    assert!(next <= Duration::from_secs(30) && next > Duration::from_secs(29), "{next}");
    control.apply(&gates("open", "{}"), "f", &[], "test").await.expect("applied");
    world.until_active("open").await;
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_looked_at_until_it_is_there_also_by_another_engine() {
    let world = World::new(&GATES).await;
    let engine = world.engine().await;
    engine.control().apply(&gates("blue", &wait(3, 1_500)), "f", &[], "test").await.expect("applied");
    world.until("blue", all_wait).await;
    // As by a crash: it neither signs off nor lets go of anything.
    let crashed = tokio::time::Instant::now();
    drop(engine);
    let engine = world.engine().await;
    let status = world.until_active("blue").await;
    assert!(
        crashed.elapsed() < Duration::from_secs(8),
        "nobody waited for the lease of the dead: {:?}",
        crashed.elapsed()
    );
    for node in 1..=3 {
        let done = jobs(&world, &status, &format!("blue-all-{node}/gate")).await;
        assert_eq!(done.len(), 1, "one attempt, however often it looked: {done:?}");
        let took = done[0].finished_at.expect("over") - done[0].claimed_at;
        assert!(took >= Duration::from_secs(3), "it succeeded before it was there: {took}");
        assert_eq!(done[0].look_at, None);
    }
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_never_comes_fails_in_time_and_says_what_was_seen() {
    let files = [GATES[0].1.replace("30s", "1s")];
    let world = World::new(&[(GATES[0].0, &files[0]), GATES[1], GATES[2]]).await;
    let engine = world.engine().await;
    engine.control().apply(&gates("blue", &wait(1_000_000, 300)), "f", &[], "test").await.expect("applied");
    let status = world.until("blue", |s| s.deployment.counts.failed == 3).await;
    let gate = find(&status, "blue-all-1/gate");
    assert_eq!(gate.code.as_deref(), Some("gate-deadline"));
    assert_eq!(gate.message.as_deref(), Some("after 1 s it still sees that the door is shut"));
    let job = jobs(&world, &status, "blue-all-1/gate").await.remove(0);
    let took = job.finished_at.expect("over") - job.claimed_at;
    assert!(took >= Duration::from_secs(1), "{took}");
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_can_be_cancelled_and_destroyed() {
    let world = World::new(&GATES).await;
    let engine = world.engine().await;
    let control = engine.control();
    control.apply(&gates("blue", &wait(1_000_000, 20_000)), "f", &[], "test").await.expect("applied");
    world.until("blue", all_wait).await;
    let asked = tokio::time::Instant::now();
    control.ask(Ask::Cancel, "blue", Some("blue-all-1/gate"), "ann").await.expect("cancelled");
    let status = world.until("blue", |s| find(s, "blue-all-1/gate").state == State::Failed).await;
    assert_eq!(find(&status, "blue-all-1/gate").code.as_deref(), Some("cancelled"));
    assert!(asked.elapsed() < Duration::from_secs(5), "nobody waited for its time: {:?}", asked.elapsed());
    assert_eq!(find(&status, "blue-all-2/gate").state, State::Running);
    control.ask(Ask::Cancel, "blue", None, "ann").await.expect("cancelled");
    control.destroy("blue", "test").await.expect("destroyed");
    world.until("blue", |s| s.deployment.health == Health::Gone).await;
    engine.stop().await;
}
