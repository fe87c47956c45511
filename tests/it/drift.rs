//! Checks: on demand and by schedule, what they find, and what becomes of it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use engine_core::view::{DriftReport, DriftView, Health, RefusalKind};
use engine_store::read;

use crate::support::{CHAIN, World, chain};

/// Nothing here takes so long unless it hangs.
const LIMIT: Duration = Duration::from_mins(1);

async fn drift(world: &World) -> DriftReport {
    read::drift(world.database.pool(), "blue").await.expect("read").expect("known")
}

async fn until(world: &World, wanted: impl Fn(&DriftReport) -> bool) -> DriftReport {
    let end = Instant::now() + LIMIT;
    loop {
        let report = drift(world).await;
        if wanted(&report) {
            return report;
        }
        assert!(Instant::now() < end, "never came about: {report:#?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn settled(report: &DriftReport) -> bool {
    !report.node_roles.is_empty() && report.node_roles.iter().all(|one| !one.pending)
}

fn verdicts(report: &DriftReport) -> BTreeMap<String, Option<String>> {
    let place = |one: &DriftView| format!("{}/{}", one.node, one.role);
    report.node_roles.iter().map(|one| (place(one), one.verdict.clone())).collect()
}

fn verdict<'a>(report: &'a DriftReport, place: &str) -> &'a DriftView {
    let found = report.node_roles.iter().find(|one| format!("{}/{}", one.node, one.role) == place);
    found.unwrap_or_else(|| panic!("no {place} in {report:#?}"))
}

async fn applies(world: &World) -> BTreeMap<String, usize> {
    let status = world.status("blue").await;
    world.applies(&status).await.into_iter().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_on_demand_says_what_conforms_what_drifted_and_what_nobody_knows() {
    let world = World::new(&CHAIN).await;
    let engine = world.engine().await;
    let control = engine.control();
    let with = "{script: {member: {outcome: drift}}}";
    control.apply(&chain("blue", 2, "{}", with), "f", &[], "test").await.expect("applied");
    let before = world.until_active("blue").await;
    // What has no steps can not drift.
    let asked = control.check("blue", None, None, "ann").await.expect("asked");
    assert_eq!(asked.node_roles, ["blue-all-1/base", "blue-all-1/member", "blue-all-2/base", "blue-all-2/member"]);
    let report = until(&world, settled).await;
    for node in ["blue-all-1", "blue-all-2"] {
        assert_eq!(verdict(&report, &format!("{node}/base")).verdict.as_deref(), Some("conform"));
        assert_eq!(verdict(&report, &format!("{node}/member")).verdict.as_deref(), Some("drifted"));
    }
    let after = world.until_active("blue").await;
    assert_eq!(world.applies(&after).await, world.applies(&before).await, "it is told, and nothing else");
    assert_eq!(after.node_roles, before.node_roles, "no node role moved");
    world.database.all_settled().await;
    let events = read::events(world.database.pool(), 0, Some("blue"), 1000).await.expect("events");
    assert_eq!(events.iter().filter(|event| event.kind == "node-role.drifted").count(), 2);
    assert!(events.iter().any(|event| event.kind == "deployment.check-asked" && event.principal == "ann"));
    // One role on one node: nothing else is looked at.
    let first = verdict(&report, "blue-all-2/base").job;
    let asked = control.check("blue", Some("base"), Some("blue-all-1"), "ann").await.expect("asked");
    assert_eq!(asked.node_roles, ["blue-all-1/base"]);
    let report = until(&world, settled).await;
    assert_eq!(verdict(&report, "blue-all-2/base").job, first);
    // What failed can not be checked, and says so.
    let failing =
        "update node set options = '{\"script\": {\"member\": {\"outcome\": {\"fail\": {\"code\": \"step-failed\"}}}}}'
                   where name = 'blue-all-1'";
    world.database.run(failing).await;
    control.apply(&chain("blue", 2, "{size: 20}", with), "f", &[], "test").await.expect("applied");
    world.until("blue", |s| s.deployment.counts.failed == 1).await;
    control.check("blue", Some("member"), Some("blue-all-1"), "ann").await.expect("asked");
    let report = until(&world, settled).await;
    let unknown = verdict(&report, "blue-all-1/member");
    assert_eq!((unknown.verdict.as_deref(), unknown.code.as_deref()), (Some("unknown"), Some("not-active")));
    let refused = control.check("blue", Some("nothing"), None, "ann").await.expect_err("no such role");
    assert_eq!((refused.kind, refused.code.as_str()), (RefusalKind::NotFound, "unknown-node-role"));
    engine.stop().await;
}

/// What its steps did not mend is not tried again and again.
#[tokio::test(flavor = "multi_thread")]
async fn drift_that_is_found_by_schedule_is_repaired_once() {
    let world = World::new(&CHAIN).await;
    let engine = world.engine().await;
    let control = engine.control();
    // The member conforms once it has run twice, the base never does.
    let with = "{script: {member: {outcome: drift, attempts: 1}, base: {outcome: drift}}}";
    let text = chain("blue", 1, "{}", with) + "check: {schedule: '0 3 * * *', on_drift: repair}\n";
    control.apply(&text, "f", &[], "test").await.expect("applied");
    world.until_active("blue").await;
    let report = until(&world, |report| report.next_at.is_some()).await;
    assert_eq!((report.schedule.as_deref(), report.on_drift.as_str()), (Some("0 3 * * *"), "repair"));
    let next = report.next_at.expect("a time");
    assert_eq!((next.hour(), next.minute()), (3, 0));
    world.database.run("update deployment set check_at = now() - interval '1 second' where name = 'blue'").await;
    let report = until(&world, |report| {
        let conforms = |one: &DriftView| one.role == "member" && one.verdict.as_deref() == Some("conform");
        settled(report) && report.node_roles.iter().any(conforms)
    })
    .await;
    assert!(report.next_at.is_some_and(|at| at > next - Duration::from_secs(1)), "and so on: {:?}", report.next_at);
    // Both ran again; the base was looked at after that, and is left as it is.
    let report = until(&world, |report| {
        let base = verdict(report, "blue-all-1/base");
        settled(report)
            && base.verdict.as_deref() == Some("drifted")
            && base.job != verdict(report, "blue-all-1/member").job
    })
    .await;
    assert_eq!(verdicts(&report)["blue-all-1/base"].as_deref(), Some("drifted"));
    world.until_active("blue").await;
    let counts = applies(&world).await;
    assert_eq!((counts["blue-all-1/base"], counts["blue-all-1/member"]), (2, 2), "{counts:?}");
    world.database.all_settled().await;
    let events = read::events(world.database.pool(), 0, Some("blue"), 1000).await.expect("events");
    let retried =
        |event: &&engine_core::view::EventView| event.kind == "node-role.retry" && event.detail["by"] == "check";
    assert_eq!(events.iter().filter(retried).count(), 2, "the cause is told");
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_that_hangs_holds_nobody_up() {
    let world = World::new(&CHAIN).await;
    let engine = world.engine().await;
    let control = engine.control();
    let with = "{script: {member: {outcome: hang, 'on': [check]}}}";
    control.apply(&chain("blue", 2, "{}", with), "f", &[], "test").await.expect("applied");
    world.until_active("blue").await;
    control.check("blue", Some("member"), None, "ann").await.expect("asked");
    until(&world, |report| report.node_roles.iter().all(|one| one.pending && one.job.is_some())).await;
    control.apply(&chain("blue", 2, "{size: 20}", with), "f", &[], "test").await.expect("applied");
    world.until("blue", |s| s.deployment.health == Health::Active && s.deployment.revision == 2).await;
    // Their jobs began, so nobody knows what the checks would have said.
    let report = until(&world, settled).await;
    for one in &report.node_roles {
        assert_eq!(one.verdict.as_deref(), Some("unknown"), "{one:#?}");
    }
    control.destroy("blue", "test").await.expect("destroyed");
    world.until("blue", |s| s.deployment.health == Health::Gone).await;
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn checks_are_bounded_in_number() {
    let world = World::new(&CHAIN).await;
    let engine = world.engine().await;
    let control = engine.control();
    let with = "{script: {'*': {delay_ms: 300, 'on': [check]}}}";
    control.apply(&chain("blue", 20, "{}", with), "f", &[], "test").await.expect("applied");
    world.until_active("blue").await;
    let begun = Instant::now();
    assert_eq!(control.check("blue", None, None, "ann").await.expect("asked").node_roles.len(), 40);
    let report = until(&world, settled).await;
    assert!(report.node_roles.iter().all(|one| one.verdict.as_deref() == Some("conform")), "{report:#?}");
    assert!(begun.elapsed() >= Duration::from_millis(900), "16 at once, three times: {:?}", begun.elapsed());
    engine.stop().await;
}
