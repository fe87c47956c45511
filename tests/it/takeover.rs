//! Several engines, and engines that die.

use std::time::Duration;

use engine_core::view::Health;
use engine_daemon::Engine;
use engine_store::read;

use crate::support::{CHAIN, World, chain};

#[tokio::test(flavor = "multi_thread")]
async fn two_engines_share_the_work_and_each_job_counts_once() {
    let world = World::new(&CHAIN).await;
    let (one, two) = (world.engine().await, world.engine().await);
    let with = "{script: {'*': {delay_ms: 20}}}";
    for name in ["a", "b", "c", "d"] {
        one.control().apply(&chain(name, 5, "{}", with), "f", &[], "test").await.expect("applied");
    }
    for name in ["a", "b", "c", "d"] {
        let status = world.until_active(name).await;
        let counts = world.applies(&status).await;
        assert!(counts.iter().all(|(_, count)| *count == 1), "{counts:?}");
    }
    one.stop().await;
    two.stop().await;
    assert!(read::engines(world.database.pool()).await.expect("engines").is_empty(), "both signed off");
}

#[tokio::test(flavor = "multi_thread")]
async fn engines_of_two_versions_do_not_share_a_database() {
    let world = World::new(&CHAIN).await;
    let one = world.engine().await;
    world.database.run("update engine set version = '0.0.9', host = 'elsewhere'").await;
    let Err(refused) = Engine::start(world.config()).await else { panic!("it started") };
    assert_eq!(refused.code(), "engine-version-differs");
    assert!(refused.to_string().contains("0.0.9"), "{refused}");
    one.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_jobs_of_an_engine_that_stopped_are_taken_over() {
    let world = World::new(&CHAIN).await;
    let one = world.engine().await;
    let with = "{script: {base: {delay_ms: 1500}}}";
    one.control().apply(&chain("blue", 2, "{}", with), "f", &[], "test").await.expect("applied");
    world.until("blue", |s| s.deployment.counts.running == 2).await;
    one.stop().await;
    let two = world.engine().await;
    let status = world.until_active("blue").await;
    let counts = world.applies(&status).await;
    assert!(counts.iter().all(|(_, count)| *count == 1), "{counts:?}");
    for role in &status.node_roles {
        let jobs = read::jobs(world.database.pool(), role.id, 10).await.expect("jobs");
        assert_eq!(jobs.len(), 1, "the same job went on");
    }
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_goes_on_after_its_connections_were_cut() {
    let world = World::new(&CHAIN).await;
    let engine = world.engine().await;
    let with = "{script: {base: {delay_ms: 700}}}";
    engine.control().apply(&chain("blue", 3, "{}", with), "f", &[], "test").await.expect("applied");
    world.until("blue", |s| s.deployment.counts.running == 3).await;
    // What a restart of Postgres does to connections.
    for _ in 0..5 {
        world.database.cut_connections().await;
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    let status = world.until("blue", |s| s.deployment.health == Health::Active).await;
    let counts = world.applies(&status).await;
    assert!(counts.iter().all(|(_, count)| *count == 1), "{counts:?}");
    engine.stop().await;
}
