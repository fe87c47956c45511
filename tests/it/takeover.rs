//! Several engines, and engines that die.

use std::time::Duration;

use engine_core::request::RedeployRequest;
use engine_core::view::Health;
use engine_daemon::Engine;
use engine_store::testing::newer;
use engine_store::{migrate, pass, read};

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

/// What the engine of a later release leaves behind: tables with more in them, and more in what is stored as JSON.
const LATER: (i64, &str) = (
    9001,
    "-- expand: more of everything
     alter table vertex add column pace text not null default 'slow';
     alter table job add column pace text;
     create table later (job_id uuid primary key);
     update content set body = jsonb_set(body, '{doc,later}', '{\"some\": \"thing\"}');
     update revision set document = jsonb_set(document, '{later}', 'true'),
            graph = jsonb_set(jsonb_set(graph, '{later}', 'true'), '{roles}',
                (select jsonb_object_agg(key, value || '{\"later\": 1}') from jsonb_each(graph -> 'roles')));
     update node set facts = facts || '{\"later\": true}';
    ",
);

#[tokio::test(flavor = "multi_thread")]
async fn engines_of_two_versions_work_side_by_side() {
    let world = World::new(&CHAIN).await;
    let one = world.engine().await;
    let with = "{script: {base: {delay_ms: 700}}}";
    one.control().apply(&chain("blue", 2, "{}", with), "f", &[], "test").await.expect("applied");
    world.until("blue", |s| s.deployment.counts.running == 2).await;
    // A newer engine brings its tables while this one is at work ...
    migrate::run_these(world.database.target(), &newer(&[LATER])).await.expect("it only adds");
    world.until_active("blue").await;
    one.stop().await;
    // ... and this version starts beside it as well, reads what the newer one wrote, and goes on with it.
    migrate::run(world.database.target()).await.expect("nothing that it could not work with");
    let two = world.engine().await;
    let control = two.control();
    let planned = control.plan(&chain("blue", 3, "{}", with), "f").await.expect("a plan").remove(0);
    assert!(planned.changed && planned.plan.is_allowed());
    control.apply(&chain("blue", 3, "{}", with), "f", &[], "test").await.expect("applied");
    let status = world.until("blue", |s| s.deployment.revision == 2 && s.deployment.health == Health::Active).await;
    let mut counts = world.applies(&status).await;
    // That one reads the members, of whom there are more now.
    counts.retain(|(place, _)| place != "deployment/head");
    assert!(counts.iter().all(|(_, count)| *count == 1), "what was made before was not made again: {counts:?}");
    control.redeploy("blue", &RedeployRequest::default(), "test").await.expect("from what is stored");
    world.until("blue", |s| s.deployment.revision == 3 && s.deployment.health == Health::Active).await;
    control.destroy("blue", "test").await.expect("destroyed");
    world.until("blue", |s| s.deployment.health == Health::Gone).await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_does_not_start_on_tables_that_were_taken_from() {
    let world = World::new(&CHAIN).await;
    let takes =
        "-- contract 9001: progress\nalter table job drop column progress;\nupdate compatibility set least = 9001;\n";
    migrate::run_these(world.database.target(), &newer(&[LATER, (9002, takes)])).await.expect("nobody is at work");
    let Err(refused) = Engine::start(world.config()).await else { panic!("it started") };
    assert_eq!(refused.code(), "schema-newer");
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
async fn a_report_that_comes_too_late_spoils_nothing_for_those_that_come_with_it() {
    let world = World::new(&CHAIN).await;
    let engine = world.engine().await;
    let with = "{script: {base: {delay_ms: 2000}}}";
    engine.control().apply(&chain("blue", 3, "{}", with), "f", &[], "test").await.expect("applied");
    let status = world.until("blue", |s| s.deployment.counts.running == 3).await;
    // As long as somebody else holds the deployment all three reports wait; meanwhile one job is taken away.
    let held = pass::lock(world.database.pool(), status.deployment.id).await.expect("Postgres").expect("it is there");
    tokio::time::sleep(Duration::from_millis(2500)).await;
    world.database.take_away("blue-all-2/base").await;
    held.roll_back().await.expect("let go");
    world.until_active("blue").await;
    // That one was taken away and taken up again; three and their members and the head ran once.
    let claims = world.database.claims("blue").await;
    assert_eq!(claims, [(1, 1), (1, 1), (1, 1), (1, 1), (1, 1), (1, 1), (3, 1)]);
    engine.stop().await;
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
