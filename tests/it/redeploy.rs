//! Made anew: a deployment, or one of its nodes, under the same names and in one line of history.

use std::collections::BTreeMap;

use engine_core::plan::{Action, Cause};
use engine_core::request::Ask;
use engine_core::request::RedeployRequest;
use engine_core::view::{Health, NodeRoleView, RefusalKind, StatusView};
use engine_daemon::Engine;
use engine_store::read;
use serde_json::{Value, json};

use crate::support::{World, address, find};

/// Something that is done once unless it is made anew, members that know how often that was, and founders who are
/// decided once.
const FOUNDED: [(&str, &str); 4] = [
    (
        "roles/disk/role.yaml",
        "role: disk\nversion: 1.0.0\nabout: Done once.\nruns: node\nmilestone: true\ndestructive: true\ndestroys: [/srv/data]\n\
         inputs:\n  layout: {schema: {type: string}, default: one}\napply:\n  - run: {text: 'true', unless: 'false'}\n",
    ),
    (
        "roles/member/role.yaml",
        "role: member\nversion: 1.0.0\nabout: A member.\nruns: node\nmilestone: true\nrequires: [disk]\ndisrupts: [serving]\n\
         inputs:\n  name: {schema: {type: string}, from: node.name}\n  generation: {schema: {type: integer}, from: node.generation}\n\
         \x20 address: {schema: {type: string}, from: node.address}\n\
         outputs:\n  url: {schema: {type: string}, value: 'http://{{ name }}'}\n  at: {schema: {type: string}, value: '{{ address }}'}\n\
         \x20 start: {schema: {type: string}, value: \"{{ 'new' if generation == 0 else 'existing' }}\"}\n\
         apply:\n  - run: {text: 'true', unless: 'false'}\n",
    ),
    (
        "roles/founding/role.yaml",
        "role: founding\nversion: 1.0.0\nabout: Decided once.\nruns: deployment\nmilestone: true\n\
         inputs:\n  members: {schema: {type: object}, from: map member.at, on_change: ignore}\n  urls: {schema: {type: object}, from: map member.url}\n\
         outputs:\n  founders: {schema: {type: object}, value: '{{ members }}'}\n",
    ),
    (
        "workloads/founded/workload.yaml",
        "workload: founded\nversion: 1.0.0\nabout: Founded.\nparameters: {type: object, additionalProperties: false, properties: {layout: {type: string, default: one}}}\n\
         budgets: {serving: {max_unavailable: 1}}\ngroups: {all: {count: {default: 2, minimum: 1}}}\nroles: {all: [{disk: {with: {layout: '{{ parameters.layout }}'}}}, member], deployment: [founding]}\n",
    ),
];

fn founded(with: &str, more: &str) -> String {
    format!(
        "deployment: blue\nworkload: founded\nnodes: {{all: {{provider: simulated, count: 2, with: {with}}}}}\n{more}"
    )
}

fn seen(revision: i32) -> RedeployRequest {
    RedeployRequest { revision: Some(revision), ..RedeployRequest::default() }
}

fn node(name: &str) -> RedeployRequest {
    RedeployRequest { nodes: vec![name.to_owned()], ..RedeployRequest::default() }
}

async fn until_at(world: &World, revision: i32) -> StatusView {
    world.until("blue", |s| s.deployment.health == Health::Active && s.deployment.revision == revision).await
}

async fn outputs(world: &World, status: &StatusView) -> BTreeMap<String, Value> {
    let mut all = BTreeMap::new();
    for role in &status.node_roles {
        let why =
            read::why(world.database.pool(), "blue", &role.node, &role.role, None).await.expect("read").expect("there");
        all.insert(address(role), why.outputs);
    }
    all
}

fn fact(status: &StatusView, node: &str, fact: &str) -> Value {
    status.nodes.iter().find(|view| view.name == node).expect("a node").facts[fact].clone()
}

fn ids(status: &StatusView) -> Vec<(String, String)> {
    let roles = status.node_roles.iter().map(|role: &NodeRoleView| (address(role), role.id.to_string()));
    roles.chain(status.nodes.iter().map(|node| (node.name.clone(), node.id.to_string()))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_is_made_anew_twice_and_stays_the_same() {
    let world = World::new(&FOUNDED).await;
    let engine = world.engine().await;
    let control = engine.control();
    let text = founded("{}", "");
    control.apply(&text, "f", &[], "test").await.expect("applied");
    let first = until_at(&world, 1).await;
    let before = outputs(&world, &first).await;
    let mut last = fact(&first, "blue-all-1", "address");
    for revision in [2, 3] {
        let planned = control.plan_redeploy("blue", &[]).await.expect("a plan");
        assert_eq!((planned.plan.totals.re_run, planned.plan.totals.may_be_spared), (5, 0), "{:#?}", planned.plan);
        let done = control.redeploy("blue", &seen(revision - 1), "ann").await.expect("redeployed");
        assert_eq!((done.revision, done.changed), (revision, true));
        let status = until_at(&world, revision).await;
        assert_eq!(ids(&status), ids(&first), "the same node roles on the same nodes");
        let address = fact(&status, "blue-all-1", "address");
        assert_ne!(address, last, "another machine");
        assert_eq!(fact(&status, "blue-all-1", "generation"), json!(0), "begins again");
        last = address.clone();
        for (node_role, applies) in world.applies(&status).await {
            assert_eq!(i32::try_from(applies), Ok(revision), "{node_role}");
        }
        let mut after = outputs(&world, &status).await;
        assert_eq!(after["deployment/founding"]["founders"]["blue-all-1"], address, "the founders are those of today");
        // Addresses are identities; all else comes out as it was.
        for (node_role, old) in &before {
            let new = after.get_mut(node_role).expect("still there");
            for identity in ["at", "founders"] {
                if let Some(value) = old.get(identity) {
                    new[identity] = value.clone();
                }
            }
        }
        assert_eq!(after, before);
        let again = control.apply(&text, "f", &[], "test").await.expect("applied");
        assert!(!again[0].changed && again[0].plan.is_empty(), "{:#?}", again[0].plan);
    }
    let history = read::revisions(world.database.pool(), "blue", None, 10).await.expect("read").expect("known");
    let told: Vec<(i32, &str, &str)> =
        history.iter().map(|one| (one.number, one.what.as_str(), one.committed_by.as_str())).collect();
    assert_eq!(told, [(3, "redeployed", "ann"), (2, "redeployed", "ann"), (1, "applied", "test")]);
    world.database.all_settled().await;
    let events = read::events(world.database.pool(), 0, Some("blue"), 1000).await.expect("events");
    let told: Vec<&str> = events
        .iter()
        .filter(|event| event.kind == "deployment.redeployed")
        .map(|event| event.principal.as_str())
        .collect();
    assert_eq!(told, ["ann", "ann"]);
    engine.stop().await;
}

/// Its job hangs: nobody waits for it, and nobody takes what still comes of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_made_anew_while_a_job_hangs_on_it_and_the_others_go_on() {
    let world = World::new(&FOUNDED).await;
    let engine = world.engine().await;
    let control = engine.control();
    control.apply(&founded("{}", ""), "f", &[], "test").await.expect("applied");
    let before = until_at(&world, 1).await;
    let founders = outputs(&world, &before).await["deployment/founding"]["founders"].clone();
    let hanging = "update node set options = '{\"script\": {\"member\": {\"outcome\": \"hang\", \"attempts\": 2}}}'
                   where name = 'blue-all-2'";
    world.database.run(hanging).await;
    control.redeploy("blue", &node("blue-all-2"), "ann").await.expect("redeployed");
    let status = world.until("blue", |s| find(s, "blue-all-2/member").job.is_some()).await;
    let abandoned = find(&status, "blue-all-2/member").job.expect("a job");
    let done = control.redeploy("blue", &node("blue-all-2"), "ann").await.expect("redeployed");
    assert_eq!(done.revision, 3);
    let status = until_at(&world, 3).await;
    let job = read::job(world.database.pool(), abandoned).await.expect("read").expect("a job");
    assert_eq!(job.outcome.as_deref(), Some("abandoned"));
    assert_eq!(fact(&status, "blue-all-2", "generation"), json!(2));
    assert_eq!(fact(&status, "blue-all-1", "generation"), json!(0));
    let counts: BTreeMap<String, usize> = world.applies(&status).await.into_iter().collect();
    assert_eq!((counts["blue-all-1/disk"], counts["blue-all-1/member"]), (1, 1), "not concerned: {counts:?}");
    assert_eq!((counts["blue-all-2/disk"], counts["blue-all-2/member"]), (3, 2), "{counts:?}");
    assert_eq!(counts["deployment/founding"], 1, "what it reads came out equal, and founders are decided once");
    let outputs = outputs(&world, &status).await;
    assert_eq!(outputs["blue-all-2/member"]["start"], "existing");
    assert_eq!(outputs["deployment/founding"]["founders"], founders);
    let history = read::revisions(world.database.pool(), "blue", None, 1).await.expect("read").expect("known");
    assert_eq!(history[0].nodes, ["blue-all-2"]);
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_failed_before_does_not_stand_in_the_way_and_a_destroyed_node_takes_its_roles_along() {
    let world = World::new(&FOUNDED).await;
    let engine = world.engine().await;
    let control = engine.control();
    let with = "{create: {fail: {message: no capacity, times: 1}}, script: {member: {outcome: {fail: {code: broken, message: b}}, attempts: 1}}}";
    control.apply(&founded(with, ""), "f", &[], "test").await.expect("applied");
    world.until("blue", |s| s.deployment.health == Health::Failed).await;
    control.redeploy("blue", &RedeployRequest::default(), "ann").await.expect("redeployed");
    // Some first attempts may be made only now.
    loop {
        let over = |s: &StatusView| {
            let failed = s.deployment.counts.failed > 0 || s.nodes.iter().any(|node| node.state == "failed");
            s.deployment.revision == 2 && (s.deployment.health == Health::Active || failed)
        };
        if world.until("blue", over).await.deployment.health == Health::Active {
            break;
        }
        control.ask(Ask::Retry, "blue", None, "test").await.expect("retried");
    }
    // The machine is being made again when everything is to leave: nothing has to be removed from it first.
    let slow = "update node set options = '{\"destroy\": {\"delay_ms\": 300}}' where name like 'blue-all-%'";
    world.database.run(slow).await;
    control.redeploy("blue", &node("blue-all-1"), "ann").await.expect("redeployed");
    control.destroy("blue", "test").await.expect("destroyed");
    world.until("blue", |s| s.deployment.health == Health::Gone).await;
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redeploy_is_refused_where_it_can_not_be_right() {
    let world = World::new(&FOUNDED).await;
    let engine = world.engine().await;
    let control = engine.control();
    let unknown = control.redeploy("blue", &RedeployRequest::default(), "ann").await.expect_err("not there");
    assert_eq!((unknown.kind, unknown.code.as_str()), (RefusalKind::NotFound, "unknown-deployment"));
    control.apply(&founded("{}", ""), "f", &[], "test").await.expect("applied");
    let before = until_at(&world, 1).await;
    control.apply(&founded("{}", "policy: {forbid: [reinstall]}\n"), "f", &[], "test").await.expect("applied");
    let forbidden = control.redeploy("blue", &RedeployRequest::default(), "ann").await.expect_err("forbidden");
    assert_eq!(forbidden.code, "forbidden-effect");
    control.apply(&founded("{}", "policy: {approve: [reinstall]}\n"), "f", &[], "test").await.expect("applied");
    let unapproved = control.redeploy("blue", &node("blue-all-1"), "ann").await.expect_err("nobody approved it");
    assert_eq!(unapproved.code, "redeploy-unapproved");
    let both = RedeployRequest {
        nodes: ["blue-all-1", "blue-all-2"].map(str::to_owned).to_vec(),
        approve: true,
        ..RedeployRequest::default()
    };
    let full = control.redeploy("blue", &both, "ann").await.expect_err("one may be out of service");
    assert_eq!(full.code, "budget-full", "{full:#?}");
    let stranger = control.redeploy("blue", &node("red-all-1"), "ann").await.expect_err("not its node");
    assert_eq!(stranger.code, "unknown-node");
    control.apply(&founded("{}", ""), "f", &[], "test").await.expect("applied");
    let moved = control.redeploy("blue", &seen(1), "ann").await.expect_err("seen another one");
    assert_eq!((moved.kind, moved.code.as_str()), (RefusalKind::Conflict, "revision-moved"));
    let after = world.status("blue").await;
    assert_eq!(world.applies(&after).await, world.applies(&before).await, "nothing ran");
    world.database.run("update node set options = '{\"destroy\": {\"delay_ms\": 2000}}'").await;
    control.destroy("blue", "test").await.expect("destroyed");
    let leaving = control.redeploy("blue", &RedeployRequest::default(), "ann").await.expect_err("it leaves");
    assert_eq!(leaving.code, "deployment-leaving");
    engine.stop().await;
}

/// What runs stays pinned to the content that it was committed with, also when it is made anew.
#[tokio::test(flavor = "multi_thread")]
async fn a_newer_role_in_the_catalog_shows_in_the_plan_and_moves_nothing_before_it_is_applied() {
    let world = World::new(&FOUNDED).await;
    let engine = world.engine().await;
    engine.control().apply(&founded("{}", ""), "f", &[], "test").await.expect("applied");
    let before = until_at(&world, 1).await;
    engine.stop().await;
    let (path, text) = FOUNDED[1];
    let newer = text.replace("http://", "https://");
    let engine = Engine::start(world.upgraded(&[(path, &newer)])).await.expect("an engine");
    let control = engine.control();
    control.redeploy("blue", &RedeployRequest::default(), "ann").await.expect("redeployed");
    let anew = until_at(&world, 2).await;
    assert!(world.applies(&anew).await.iter().all(|(_, count)| *count == 2), "only the redeploy ran");
    assert_eq!(outputs(&world, &anew).await["blue-all-1/member"]["url"], "http://blue-all-1", "what was committed");
    let planned = control.plan(&founded("{}", ""), "f").await.expect("a plan").remove(0);
    assert!(planned.changed);
    let run: Vec<(&str, &str, bool)> = planned
        .plan
        .items
        .iter()
        .filter(|item| item.action == Action::ReRun)
        .map(|item| (item.node.as_str(), item.role.as_str(), item.causes.contains(&Cause::Content)))
        .collect();
    let expected = [("blue-all-1", "member", true), ("blue-all-2", "member", true), ("deployment", "founding", false)];
    assert_eq!(run, expected, "{:#?}", planned.plan);
    control.apply(&founded("{}", ""), "f", &[], "test").await.expect("applied");
    let after = until_at(&world, 3).await;
    assert_eq!(outputs(&world, &after).await["blue-all-1/member"]["url"], "https://blue-all-1");
    let counts: BTreeMap<String, usize> = world.applies(&after).await.into_iter().collect();
    assert_eq!((counts["blue-all-1/disk"], counts["blue-all-1/member"]), (2, 3), "{counts:?}");
    assert_eq!(ids(&after), ids(&before));
    engine.stop().await;
}
