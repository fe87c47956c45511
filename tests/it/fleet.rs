//! Many deployments at once: none waits for all of another.

use engine_core::request::Ask;
use engine_core::view::Health;
use time::OffsetDateTime;

use crate::support::{CHAIN, World, chain};

#[tokio::test(flavor = "multi_thread")]
async fn a_large_deployment_leaves_places_to_a_small_one() {
    let world = World::new(&CHAIN).await;
    let mut config = world.config();
    config.jobs = 4;
    let engine = engine_daemon::Engine::start(config).await.expect("an engine");
    let slow = "{script: {base: {delay_ms: 60}, member: {delay_ms: 60}}}";
    let apply = async |text: &str| {
        engine.control().apply(text, "fleet.yaml", &[], "test").await.expect("applied");
    };
    apply(&chain("large", 60, "{}", slow)).await;
    world.until("large", |status| status.deployment.counts.running >= 4).await;
    apply(&chain("small", 2, "{}", slow)).await;
    world.until_active("small").await;
    // 120 jobs, two or four at a time: they take thirty times as long as the two after each other of the small one.
    let large = world.status("large").await;
    assert_ne!(large.deployment.health, Health::Active, "the small one waited for all of the large one");
    assert!(large.deployment.counts.running <= 4, "{large:#?}");
    world.until_active("large").await;
    engine.stop().await;
}

/// Of two that want as much as they can get, one of weight 3 is done first, and one of weight 1 is not kept from any place.
#[tokio::test(flavor = "multi_thread")]
async fn places_are_shared_by_weight_and_nobody_has_none() {
    let world = World::new(&CHAIN).await;
    let mut config = world.config();
    config.jobs = 8;
    let engine = engine_daemon::Engine::start(config).await.expect("an engine");
    let control = engine.control();
    let slow = "{script: {base: {delay_ms: 150}, member: {delay_ms: 150}}}";
    for (name, more) in [("light", ""), ("heavy", "weight: 3\n")] {
        let text = chain(name, 90, "{}", slow) + more;
        control.apply(&text, "fleet.yaml", &[], "test").await.expect("applied");
        control.ask(Ask::Pause, name, None, "test").await.expect("paused");
    }
    // Held until all nodes are there, so that both want all they can get.
    for name in ["light", "heavy"] {
        world.until(name, |status| status.nodes.iter().all(|node| node.state == "up")).await;
    }
    for name in ["light", "heavy"] {
        control.ask(Ask::Resume, name, None, "test").await.expect("resumed");
    }
    let too_much = control.plan(&(chain("x", 1, "{}", "{}") + "weight: 1000\n"), "f").await.expect_err("too much");
    assert_eq!(too_much.code, "wrong-value");
    let (light, heavy) = (jobs_of(&world, "light").await, jobs_of(&world, "heavy").await);
    engine.stop().await;
    // How many places each has at a time follows from whose turn comes when; the shares themselves are tests of `share`. With three
    // times the places the heavy one has begun all its jobs while the other one still has some to begin, which it began some of before.
    let last = |jobs: &[(OffsetDateTime, OffsetDateTime)]| jobs.iter().map(|job| job.0).max().expect("a job");
    assert_eq!(light.len(), heavy.len(), "both have the same to do");
    let beside = light.iter().filter(|job| job.0 < last(&heavy)).count();
    assert!(beside > 0, "the light one is not kept from any");
    assert!(beside < light.len(), "the heavy one is ahead");
}

/// When the jobs of a deployment began and ended, once it is active.
async fn jobs_of(world: &World, name: &str) -> Vec<(OffsetDateTime, OffsetDateTime)> {
    let status = world.until_active(name).await;
    let mut all = Vec::new();
    for role in status.node_roles.iter().filter(|role| role.node != "deployment") {
        let jobs = engine_store::read::jobs(world.database.pool(), role.id, 10).await.expect("jobs");
        all.extend(jobs.into_iter().filter_map(|job| Some((job.claimed_at, job.finished_at?))));
    }
    all
}
