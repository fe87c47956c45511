//! Many deployments at once: none waits for all of another.

use engine_core::view::Health;

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
