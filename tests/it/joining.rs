//! Free nodes that come to match a selection join a deployment by themselves, and nobody else does.

use std::collections::BTreeMap;

use engine_core::request::Ask;
use engine_core::view::{EventView, Health, LabelRequest, StatusView};
use engine_store::read;
use serde_json::{Map, json};

use crate::support::World;

/// Every node has a `member`; `head` reads all of them, and so does `busy` on each node of a group.
const POOL: [(&str, &str); 4] = [
    (
        "roles/member/role.yaml",
        "role: member\nversion: 1.0.0\nabout: A member.\nruns: node\nmilestone: true\n\
         inputs:\n  name: {schema: {type: string}, from: node.name}\n  size: {schema: {type: integer}, default: 1}\n\
         outputs: {url: {schema: {type: string}, value: 'http://{{ name }}'}}\n\
         destroys: [/srv/member]\napply:\n  - file: {path: /etc/member, content: '{{ size }}'}\n  \
         - unit: {name: member.service, running: true, restart_for: [size]}\n",
    ),
    (
        "roles/head/role.yaml",
        "role: head\nversion: 1.0.0\nabout: Reads all.\nruns: deployment\nmilestone: true\n\
         inputs: {urls: {schema: {type: object}, from: map member.url}, step: {schema: {type: integer}, default: 1}}\n\
         outputs: {count: {schema: {type: integer}, value: '{{ urls | length }}'}}\n",
    ),
    (
        "roles/busy/role.yaml",
        "role: busy\nversion: 1.0.0\nabout: Starts all members again.\nruns: node\nmilestone: true\n\
         inputs: {urls: {schema: {type: object}, from: map member.url}}\n\
         apply:\n  - unit: {name: busy.service, running: true, restart_for: [urls]}\n",
    ),
    (
        "workloads/pool/workload.yaml",
        "workload: pool\nversion: 1.0.0\nabout: A pool.\ngroups: {all: {count: {minimum: 0}}, few: {count: {minimum: 0, maximum: 2}}}\n\
         roles:\n  all: [member]\n  few: [member, busy]\n  deployment: [head]\n",
    ),
];

const WANTED: &str = "{select: \"pool = 'storage'\", join: true}";

fn document(name: &str, group: &str, nodes: &str, more: &str) -> String {
    format!("deployment: {name}\nworkload: pool\nnodes: {{{group}: {nodes}}}\n{more}")
}

fn names(status: &StatusView) -> Vec<&str> {
    let mut names: Vec<&str> = status.nodes.iter().map(|node| node.name.as_str()).collect();
    names.sort_unstable();
    names
}

async fn until_joined(world: &World, name: &str, wanted: &[&str]) -> StatusView {
    world.until(name, |s| names(s) == wanted && s.deployment.health == Health::Active).await
}

/// Events of these kinds, once there are so many.
async fn events(world: &World, name: &str, kind: &str, count: usize) -> Vec<EventView> {
    let ask = async || {
        let events = read::events(world.database.pool(), 0, Some(name), 1000).await.expect("events");
        let events: Vec<EventView> = events.into_iter().filter(|event| event.kind == kind).collect();
        if events.len() < count { Err(format!("{events:#?}")) } else { Ok(events) }
    };
    world.until_so("so many events", ask).await
}

/// Until somebody has looked at all free nodes.
async fn until_looked(world: &World) {
    let due = "deployment_id is null and state in ('joining', 'up') and join_due > join_seen";
    let ask = async || if world.database.has("node", due).await { Err("not yet".to_owned()) } else { Ok(()) };
    world.until_so("looked at", ask).await;
}

fn labelled(label: &str, value: &str) -> LabelRequest {
    LabelRequest { set: Map::from_iter([(label.to_owned(), json!(value))]), remove: Vec::new() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_a_rule_gives_a_label_joins_by_itself_once_whoever_looks() {
    let world = World::new(&POOL).await;
    // Both look at all times; one commits.
    let (one, other) = (world.engine().await, world.engine().await);
    let control = one.control();
    let rule = "rule: storage\nwhen: disks >= 8\nset: {pool: storage}\n";
    control.set(rule, "r", "ann").await.expect("set");
    control.apply(&document("blue", "all", WANTED, ""), "f", &[], "test").await.expect("applied");
    control
        .apply(&document("red", "all", "{select: \"pool = 'storage'\"}", ""), "f", &[], "test")
        .await
        .expect("applied");
    until_joined(&world, "blue", &[]).await;

    // Discovered: what fits the rule joins whoever wants it so, what does not is left alone.
    world.found("n1", 1, &json!({"disks": 8})).await;
    world.found("n2", 2, &json!({"disks": 2})).await;
    let status = until_joined(&world, "blue", &["n1"]).await;
    assert_eq!(status.deployment.revision, 2);
    until_looked(&world).await;
    // A label later is as good, by a person too.
    control.label_node("n2", &labelled("pool", "storage"), "ann").await.expect("labelled");
    until_joined(&world, "blue", &["n1", "n2"]).await;
    for number in 3..=6 {
        world.found(&format!("n{number}"), number, &json!({"disks": 9})).await;
    }
    let all = ["n1", "n2", "n3", "n4", "n5", "n6"];
    let status = until_joined(&world, "blue", &all).await;
    until_looked(&world).await;

    // Each joined by one revision, and none was made for nothing.
    let committed = events(&world, "blue", "deployment.committed", 3).await;
    assert!(committed[1..].iter().all(|event| event.principal == "selection"), "{committed:#?}");
    let history =
        read::revisions(world.database.pool(), "blue", None, 100).await.expect("a history").expect("a deployment");
    let by_itself: Vec<_> = history.iter().filter(|revision| revision.what == "joined").collect();
    assert_eq!(by_itself.len() + 1, history.len(), "{history:#?}");
    let mut joined: BTreeMap<&str, usize> = BTreeMap::new();
    for node in by_itself.iter().flat_map(|revision| &revision.nodes) {
        *joined.entry(node).or_default() += 1;
    }
    assert_eq!(joined, all.map(|name| (name, 1)).into());
    assert!(names(&world.status("red").await).is_empty(), "it does not want it so");
    let applies = world.applies(&status).await;
    let members: Vec<usize> =
        applies.iter().filter(|(role, _)| role.ends_with("/member")).map(|(_, count)| *count).collect();
    assert_eq!(members, [1; 6], "nobody ran again for it: {applies:?}");

    // Whoever does not fit any more stays, until a person applies: then it is in the plan.
    control.label_node("n2", &labelled("pool", "other"), "ann").await.expect("labelled");
    world.found("n7", 7, &json!({"disks": 8})).await;
    let with = ["n1", "n2", "n3", "n4", "n5", "n6", "n7"];
    until_joined(&world, "blue", &with).await;
    // A lost one is not waited for, and not brought back.
    control.lose_node("n3", "ann").await.expect("lost");
    world.found("n9", 9, &json!({"disks": 8})).await;
    until_joined(&world, "blue", &["n1", "n2", "n4", "n5", "n6", "n7", "n9"]).await;
    one.stop().await;
    other.stop().await;
    let engine = world.engine().await;
    let control = engine.control();
    let plan = control.plan(&document("blue", "all", WANTED, ""), "f").await.expect("a plan").remove(0).plan;
    assert_eq!(plan.totals.leave, 1, "{plan:#?}");
    world.found("n8", 8, &json!({"disks": 8})).await;
    let status = world.until("blue", |s| names(s).contains(&"n8")).await;
    assert!(names(&status).contains(&"n2"), "engines come and go: {:?}", names(&status));
    control.apply(&document("blue", "all", WANTED, ""), "f", &[], "ann").await.expect("applied");
    until_joined(&world, "blue", &["n1", "n4", "n5", "n6", "n7", "n8", "n9"]).await;
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_must_not_be_is_told_once_and_done_when_it_may_be() {
    let world = World::new(&POOL).await;
    let engine = world.engine().await;
    let control = engine.control();
    world.found("n1", 1, &json!({"pool": "storage"})).await;
    let few = |more: &str| document("blue", "few", WANTED, more);
    control.apply(&few("policy: {forbid: [restart]}\n"), "f", &[], "test").await.expect("applied");
    until_joined(&world, "blue", &["n1"]).await;

    // With another one, `busy` would restart on the first: that is forbidden.
    world.found("n2", 2, &json!({"pool": "storage"})).await;
    let refused = events(&world, "blue", "deployment.join-refused", 1).await;
    assert_eq!((&refused[0].detail["nodes"], refused[0].principal.as_str()), (&json!(["n2"]), "selection"));
    assert_eq!(refused[0].detail["code"], "forbidden-effect", "{refused:#?}");
    assert_eq!(names(&world.status("blue").await), ["n1"]);

    // An approval is waited for by the jobs, not by the revision.
    control.apply(&few("policy: {approve: [restart]}\n"), "f", &[], "ann").await.expect("applied");
    let waits = |s: &StatusView| {
        let waiting =
            s.node_roles.iter().filter(|role| role.cause.as_ref().is_some_and(|cause| cause.says.contains("approval")));
        names(s) == ["n1", "n2"] && waiting.count() == 1
    };
    world.until("blue", waits).await;
    control.ask(Ask::Approve, "blue", None, "ann").await.expect("approved");
    until_joined(&world, "blue", &["n1", "n2"]).await;

    // It bears no third; another one that wants it, has it.
    world.found("n3", 3, &json!({"pool": "storage"})).await;
    until_looked(&world).await;
    assert_eq!(names(&world.status("blue").await), ["n1", "n2"]);
    control.apply(&document("green", "all", WANTED, ""), "f", &[], "test").await.expect("applied");
    until_joined(&world, "green", &["n3"]).await;
    assert_eq!(events(&world, "blue", "deployment.join-refused", 1).await.len(), 1, "and it was told once");

    // What a person has not applied yet, a node that joins does not bring along.
    control.set("profile: all\nglobal: true\nvalues: {head.step: 2}\n", "p", "ann").await.expect("set");
    world.found("n4", 4, &json!({"pool": "storage"})).await;
    let behind = events(&world, "green", "deployment.join-refused", 1).await;
    assert_eq!(behind[0].detail["code"], "join-behind", "{behind:#?}");
    until_looked(&world).await;
    assert_eq!(names(&world.status("green").await), ["n3"]);
    // A paused one waits, and goes on.
    control
        .apply(&document("green", "all", "{select: \"pool = 'other'\", join: true}", ""), "f", &[], "ann")
        .await
        .expect("applied");
    until_joined(&world, "green", &[]).await;
    control.ask(Ask::Pause, "green", None, "ann").await.expect("paused");
    world.found("n5", 5, &json!({"pool": "other"})).await;
    let up = async || {
        if world.database.has("node", "name = 'n5' and state = 'up'").await { Ok(()) } else { Err("no".to_owned()) }
    };
    world.until_so("up", up).await;
    assert!(names(&world.status("green").await).is_empty());
    control.ask(Ask::Resume, "green", None, "ann").await.expect("resumed");
    until_joined(&world, "green", &["n5"]).await;
    engine.stop().await;
}
