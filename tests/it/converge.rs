//! A deployment comes about, changes, fails, is mended, and goes away.

use engine_core::request::Ask;
use engine_core::request::Seen;
use engine_core::state::State;
use engine_core::view::{Health, RefusalKind};
use engine_store::nodes::{self, Change, Recording};
use engine_store::pass::Revisions;
use engine_store::read;

use crate::support::{CHAIN, World, address, chain, find};

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_converges_and_applying_it_again_does_nothing() {
    let world = World::new(&CHAIN).await;
    let engine = world.engine().await;
    let control = engine.control();
    let text = chain("blue", 3, "{}", "{}");
    let planned = control.plan(&text, "blue.yaml").await.expect("a plan");
    assert_eq!(planned[0].plan.totals.create, 7, "{:#?}", planned[0].plan);
    let applied = control.apply(&text, "blue.yaml", &[], "test").await.expect("applied");
    assert!(applied[0].changed);
    let status = world.until_active("blue").await;
    assert_eq!(status.node_roles.len(), 7);
    for (node_role, applies) in world.applies(&status).await {
        assert_eq!(applies, 1, "{node_role}");
    }
    let again = control.apply(&text, "blue.yaml", &[], "test").await.expect("applied");
    assert!(!again[0].changed, "{:#?}", again[0].plan);
    assert!(again[0].plan.is_empty());
    assert_eq!(again[0].revision, 1);
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_runs_what_it_touches_and_stops_where_outputs_are_equal() {
    let world = World::new(&CHAIN).await;
    let engine = world.engine().await;
    let control = engine.control();
    control.apply(&chain("blue", 2, "{size: 1}", "{}"), "f", &[], "test").await.expect("applied");
    world.until_active("blue").await;
    // The members' url does not change with this one: the head is spared.
    let text = chain("blue", 2, "{size: 2}", "{}");
    let planned = control.plan(&text, "f").await.expect("a plan");
    assert_eq!((planned[0].plan.totals.re_run, planned[0].plan.totals.untouched), (2, 3), "{:#?}", planned[0].plan);
    control.apply(&text, "f", &[], "test").await.expect("applied");
    let status = world.until("blue", |s| s.deployment.health == Health::Active && s.deployment.revision == 2).await;
    let counts = world.applies(&status).await;
    let of = |name: &str| counts.iter().find(|(at, _)| at == name).map(|(_, count)| *count);
    assert_eq!(of("blue-all-1/member"), Some(2));
    assert_eq!(of("blue-all-1/base"), Some(1));
    assert_eq!(of("deployment/head"), Some(1));
    // And with this one it does.
    control.apply(&chain("blue", 2, "{size: 20}", "{}"), "f", &[], "test").await.expect("applied");
    let status = world.until("blue", |s| s.deployment.health == Health::Active && s.deployment.revision == 3).await;
    let counts = world.applies(&status).await;
    let of = |name: &str| counts.iter().find(|(at, _)| at == name).map(|(_, count)| *count);
    assert_eq!((of("blue-all-2/member"), of("blue-all-2/base"), of("deployment/head")), (Some(3), Some(1), Some(2)));
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_holds_what_depends_on_it_and_retry_resumes() {
    let world = World::new(&CHAIN).await;
    let engine = world.engine().await;
    let control = engine.control();
    let with = "{script: {member: {outcome: {fail: {code: step-failed, message: broken}}, attempts: 1}}}";
    control.apply(&chain("blue", 2, "{}", with), "f", &[], "test").await.expect("applied");
    let status = world.until("blue", |s| s.deployment.counts.failed == 2 && s.deployment.counts.active == 2).await;
    assert_eq!(status.deployment.health, Health::Failed);
    let head = find(&status, "deployment/head");
    assert_eq!(head.state, State::Blocked);
    let says = &head.cause.as_ref().expect("a cause").says;
    assert!(says.starts_with("held back by blue-all-") && says.ends_with("/member failed: step-failed"), "{says}");
    assert_eq!(find(&status, "blue-all-1/member").message.as_deref(), Some("broken"));
    let moved = control.ask(Ask::Retry, "blue", None, "test").await.expect("retried");
    assert_eq!(moved.node_roles, ["blue-all-1/member", "blue-all-2/member"]);
    let status = world.until_active("blue").await;
    let counts = world.applies(&status).await;
    assert!(counts.iter().all(|(_, count)| *count == 1), "{counts:?}");
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destroyed_deployment_leaves_nothing_and_can_come_back() {
    let world = World::new(&CHAIN).await;
    let engine = world.engine().await;
    let control = engine.control();
    let text = chain("blue", 2, "{}", "{}");
    for round in 0..2 {
        control.apply(&text, "f", &[], "test").await.expect("applied");
        world.until_active("blue").await;
        let planned = control.plan_destroy("blue").await.expect("a plan");
        assert_eq!(planned.plan.totals.leave, 5, "round {round}");
        control.destroy("blue", "test").await.expect("destroyed");
        world.until("blue", |s| s.deployment.health == Health::Gone).await;
        assert!(read::nodes(world.database.pool(), None, 100).await.expect("nodes").is_empty());
    }
    assert_eq!(control.destroy("blue", "test").await.expect_err("gone").kind, RefusalKind::NotFound);
    engine.stop().await;
}

const COUNTING: [(&str, &str); 3] = [
    (
        "roles/local/role.yaml",
        "role: local\nversion: 1.0.0\nabout: Reads a fact.\nruns: node\nmilestone: true\ninputs:\n  cpus: {schema: {type: integer}, from: node.cpus}\n\
         apply:\n  - run: {text: 'true', unless: 'false'}\n",
    ),
    (
        "roles/total/role.yaml",
        "role: total\nversion: 1.0.0\nabout: Reads a fact of all.\nruns: deployment\nmilestone: true\ninputs:\n  all: {schema: {type: object}, from: map node.cpus}\n\
         outputs:\n  all: {schema: {type: object}, value: '{{ all }}'}\n",
    ),
    (
        "workloads/counting/workload.yaml",
        "workload: counting\nversion: 1.0.0\nabout: Counts.\nparameters: {type: object, additionalProperties: false}\n\
         groups: {all: {count: {default: 2, minimum: 1}}}\nroles:\n  all: [local]\n  deployment: [total]\n",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn facts_that_change_run_who_reads_them_and_nobody_else() {
    let world = World::new(&COUNTING).await;
    let engine = world.engine().await;
    let text = "deployment: blue\nworkload: counting\nnodes:\n  all: {provider: simulated, count: 2, with: {facts: {cpus: 2, disks: 1}}}\n";
    engine.control().apply(text, "f", &[], "test").await.expect("applied");
    let status = world.until_active("blue").await;
    let node = status.nodes.iter().find(|node| node.name == "blue-all-1").expect("a node");
    let tell = async |name: &str, value: u32| {
        let mut facts = node.facts.as_object().expect("facts").clone();
        facts.insert(name.to_owned(), value.into());
        let change = Change { state: "up", facts: Some(facts), ..Change::default() };
        let recording = Recording { node: node.id, engine: None, change };
        assert!(
            nodes::change(world.database.pool(), recording, &Revisions::default(), "test").await.expect("recorded")
        );
    };
    // Nobody reads this one.
    tell("disks", 7).await;
    assert_eq!(world.status("blue").await.deployment.health, Health::Active);
    tell("cpus", 8).await;
    world.until("blue", |s| s.deployment.health == Health::Active).await;
    let status = world.until_active("blue").await;
    let counts = world.applies(&status).await;
    let of = |name: &str| counts.iter().find(|(at, _)| at == name).map(|(_, count)| *count);
    let all = [of("blue-all-1/local"), of("blue-all-2/local"), of("deployment/total")];
    assert_eq!(all, [Some(2), Some(1), Some(2)], "{counts:?}");
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_made_for_a_time_goes_when_it_is_over() {
    let world = World::new(&CHAIN).await;
    let engine = world.engine().await;
    let control = engine.control();
    let forever = chain("blue", 1, "{}", "{}");
    control.apply(&forever, "f", &[], "test").await.expect("applied");
    world.until_active("blue").await;
    // The time counts from the commit that sets it, and nothing runs because of it.
    let applied = control.apply(&format!("{forever}expires_in: 2s\n"), "f", &[], "test").await.expect("applied");
    assert!(applied[0].changed && applied[0].plan.is_empty(), "{:#?}", applied[0].plan);
    world.until("blue", |s| s.deployment.health == Health::Gone).await;
    // They can be read once every older transaction has ended, those of other tests too.
    world.database.all_settled().await;
    let events = read::events(world.database.pool(), 0, Some("blue"), 1000).await.expect("events");
    assert!(events.iter().any(|event| event.principal == "expiry"), "{events:#?}");
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_shrinks_and_grows() {
    let world = World::new(&CHAIN).await;
    let engine = world.engine().await;
    let control = engine.control();
    for (revision, count) in [(1, 3), (2, 1), (3, 2)] {
        control.apply(&chain("blue", count, "{}", "{}"), "f", &[], "test").await.expect("applied");
        let nodes = count as usize;
        let status = world
            .until("blue", |s| {
                s.deployment.health == Health::Active && s.deployment.revision == revision && s.nodes.len() == nodes
            })
            .await;
        assert_eq!(
            status.node_roles.len(),
            nodes * 2 + 1,
            "{:?}",
            status.node_roles.iter().map(address).collect::<Vec<_>>()
        );
    }
    // Indices are not used twice.
    let status = world.status("blue").await;
    assert_eq!(status.nodes.iter().map(|node| node.name.as_str()).collect::<Vec<_>>(), ["blue-all-1", "blue-all-4"]);
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_deployment_starts_nothing_until_it_is_resumed() {
    let world = World::new(&CHAIN).await;
    let engine = world.engine().await;
    let control = engine.control();
    control.apply(&chain("blue", 1, "{}", "{}"), "f", &[], "test").await.expect("applied");
    world.until_active("blue").await;
    control.ask(Ask::Pause, "blue", None, "test").await.expect("paused");
    control.apply(&chain("blue", 1, "{size: 70}", "{}"), "f", &[], "test").await.expect("applied");
    let held = |s: &engine_core::view::StatusView| {
        s.node_roles.iter().any(|role| role.cause.as_ref().is_some_and(|cause| cause.says.contains("paused")))
    };
    let status = world.until("blue", held).await;
    assert_eq!((status.deployment.health, status.deployment.counts.running), (Health::Paused, 0));
    control.ask(Ask::Resume, "blue", None, "test").await.expect("resumed");
    world.until_active("blue").await;
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_job_can_be_cancelled() {
    let world = World::new(&CHAIN).await;
    let engine = world.engine().await;
    let control = engine.control();
    let with = "{script: {base: {outcome: hang, attempts: 1}}}";
    control.apply(&chain("blue", 1, "{}", with), "f", &[], "test").await.expect("applied");
    world.until("blue", |s| s.deployment.counts.running == 1).await;
    let moved = control.ask(Ask::Cancel, "blue", Some("blue-all-1/base"), "test").await.expect("cancelled");
    assert_eq!(moved.node_roles, ["blue-all-1/base"]);
    let status = world.until("blue", |s| s.deployment.counts.failed == 1).await;
    assert_eq!(find(&status, "blue-all-1/base").code.as_deref(), Some("cancelled"));
    control.ask(Ask::Retry, "blue", Some("blue-all-1/base"), "test").await.expect("retried");
    world.until_active("blue").await;
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_right_is_refused_with_its_place() {
    let world = World::new(&CHAIN).await;
    let engine = world.engine().await;
    let control = engine.control();
    let refused = control.apply(&chain("blue", 0, "{}", "{}"), "f.yaml", &[], "test").await.expect_err("too few");
    assert_eq!(refused.code, "too-few-nodes");
    assert_eq!((refused.diagnostics[0].file.as_deref(), refused.diagnostics[0].line), (Some("f.yaml"), Some(4)));
    let refused = control.apply(&chain("blue", 1, "{size: x}", "{}"), "f.yaml", &[], "test").await.expect_err("type");
    assert_eq!(refused.kind, RefusalKind::Invalid);
    assert!(read::deployment(world.database.pool(), "blue").await.expect("read").is_none());
    let seen = [Seen { deployment: "blue".to_owned(), revision: 4, plan: None }];
    let refused = control.apply(&chain("blue", 1, "{}", "{}"), "f", &seen, "test").await.expect_err("moved");
    assert_eq!((refused.kind, refused.code.as_str()), (RefusalKind::Conflict, "revision-moved"));
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_commits_at_once_each_counts_once() {
    let world = World::new(&CHAIN).await;
    let engine = world.engine().await;
    let (one, two) = (engine.control(), engine.control());
    let (a, b) = (chain("blue", 1, "{size: 30}", "{}"), chain("blue", 1, "{size: 40}", "{}"));
    let (first, second) = tokio::join!(one.apply(&a, "f", &[], "test"), two.apply(&b, "f", &[], "test"));
    let revisions = [first.expect("applied")[0].revision, second.expect("applied")[0].revision];
    assert!(revisions == [1, 2] || revisions == [2, 1], "{revisions:?}");
    world.until("blue", |s| s.deployment.health == Health::Active && s.deployment.revision == 2).await;
    engine.stop().await;
}

/// A plan that was kept is done exactly, or not at all: also when the revision is still the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_kept_plan_is_refused_when_the_world_has_moved_or_the_plan_was_forged() {
    let world = World::new(&CHAIN).await;
    let engine = world.engine().await;
    let control = engine.control();
    control.apply(&chain("blue", 2, "{}", "{}"), "f", &[], "test").await.expect("applied");
    world.until_active("blue").await;
    let wanted = chain("blue", 2, "{size: 30}", "{}");
    let kept = control.plan(&wanted, "f").await.expect("a plan").remove(0);
    let seen = |plan: &engine_core::plan::Plan, revision| {
        [Seen { deployment: "blue".to_owned(), revision, plan: Some(plan.digest()) }]
    };
    // As it comes back from a file.
    let text = serde_json::to_string(&kept).expect("JSON");
    let read: engine_core::view::Applied = serde_json::from_str(&text).expect("a plan");
    assert_eq!(read.plan.digest(), kept.plan.digest());

    let mut forged = kept.plan.clone();
    forged.items.clear();
    let refused = control.apply(&wanted, "f", &seen(&forged, kept.revision), "test").await.expect_err("forged");
    assert_eq!(refused.code, "plan-moved");
    // Another document than the one that the plan is of.
    let other = chain("blue", 2, "{size: 3000}", "{}");
    let refused = control.apply(&other, "f", &seen(&kept.plan, kept.revision), "test").await.expect_err("forged");
    assert_eq!(refused.code, "plan-moved");
    assert_eq!(world.status("blue").await.deployment.revision, kept.revision, "nothing was committed");
    let applied = control.apply(&wanted, "f", &seen(&kept.plan, kept.revision), "test").await.expect("as planned");
    assert!(applied[0].changed);
    world.until_active("blue").await;
    let refused = control.apply(&wanted, "f", &seen(&kept.plan, kept.revision), "test").await.expect_err("moved");
    assert_eq!(refused.code, "revision-moved");
    let refused = control
        .apply(&wanted, "f", &seen(&kept.plan, applied[0].revision), "test")
        .await
        .expect_err("nothing to do now");
    assert_eq!(refused.code, "plan-moved");
    engine.stop().await;
}

/// What a policy forbids is refused before anything ran.
#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_wipes_is_refused_where_that_is_forbidden() {
    let role = "role: data\nversion: 1.0.0\nabout: Keeps data.\nruns: node\nmilestone: true\ndestroys: [/srv/data]\n\
                apply:\n  - run: {text: 'true', unless: 'false'}\n";
    let workload = "workload: keep\nversion: 1.0.0\nabout: Keeps data.\ngroups: {all: {count: {default: 1, minimum: 1}}}\nroles: {all: [data]}\n";
    let world = World::new(&[("roles/data/role.yaml", role), ("workloads/keep/workload.yaml", workload)]).await;
    let engine = world.engine().await;
    let control = engine.control();
    let of = |count: u32| {
        format!(
            "deployment: blue\nworkload: keep\nnodes: {{all: {{provider: simulated, count: {count}}}}}\npolicy: {{forbid: [wipe]}}\n"
        )
    };
    control.apply(&of(2), "f", &[], "test").await.expect("nothing is wiped by what is new");
    let before = world.until_active("blue").await;
    let refused = control.apply(&of(1), "f.yaml", &[], "test").await.expect_err("forbidden");
    assert_eq!(refused.code, "forbidden-effect");
    assert_eq!(refused.diagnostics[0].line, Some(4), "{:#?}", refused.diagnostics);
    let after = world.status("blue").await;
    assert_eq!((after.deployment.revision, after.node_roles.len()), (1, before.node_roles.len()));
    assert_eq!(world.applies(&after).await, world.applies(&before).await);
    engine.stop().await;
}
