//! A node more and a node less, on simulated nodes: who re-runs, who does not, and in which order what leaves goes.

use std::collections::{BTreeMap, BTreeSet};

use engine_core::plan::{Action, Cause};
use engine_core::request::Ask;
use engine_core::view::{Health, JobView, StatusView};
use engine_store::read;

use crate::support::{World, address};

/// `base` and `member` look at their own node; `peers` reads all members on each, `head` once, and `reader` what `head` says.
const GROWING: [(&str, &str); 6] = [
    (
        "roles/base/role.yaml",
        "role: base\nversion: 1.0.0\nabout: A base.\nruns: node\napply:\n  - run: {text: 'true', unless: 'false'}\n",
    ),
    (
        "roles/member/role.yaml",
        "role: member\nversion: 1.0.0\nabout: A member.\nruns: node\nmilestone: true\nrequires: [base]\n\
         inputs: {name: {schema: {type: string}, from: node.name}}\n\
         outputs: {url: {schema: {type: string}, value: 'http://{{ name }}'}}\n\
         apply:\n  - run: {text: 'true', unless: 'false'}\n",
    ),
    (
        "roles/peers/role.yaml",
        "role: peers\nversion: 1.0.0\nabout: Knows all members.\nruns: node\nmilestone: true\n\
         inputs: {urls: {schema: {type: object}, from: map member.url}, first: {schema: {type: string}, from: one member.url}}\n\
         apply:\n  - run: {text: 'true', unless: 'false'}\n",
    ),
    (
        "roles/head/role.yaml",
        "role: head\nversion: 1.0.0\nabout: Knows all members, too.\nruns: deployment\nat: one member\nmilestone: true\n\
         inputs: {urls: {schema: {type: array}, from: each member.url}}\n\
         outputs: {any: {schema: {type: boolean}, value: '{{ urls | length > 0 }}'}}\n\
         apply:\n  - run: {text: 'true', unless: 'false'}\n",
    ),
    (
        "roles/reader/role.yaml",
        "role: reader\nversion: 1.0.0\nabout: Reads the head.\nruns: node\nmilestone: true\n\
         inputs: {any: {schema: {type: boolean}, from: head.any}}\n\
         apply:\n  - run: {text: 'true', unless: 'false'}\n",
    ),
    (
        "workloads/growing/workload.yaml",
        "workload: growing\nversion: 1.0.0\nabout: Grows.\nparameters: {type: object, additionalProperties: false}\n\
         groups: {all: {count: {default: 3, minimum: 1}}}\nroles:\n  all: [member, peers, reader]\n  deployment: [head]\n",
    ),
];

fn document(count: u32) -> String {
    format!("deployment: blue\nworkload: growing\nnodes:\n  all: {{provider: simulated, count: {count}}}\n")
}

/// Everything in the job table, by node role.
async fn table(world: &World, status: &StatusView) -> BTreeMap<String, Vec<JobView>> {
    let mut all = BTreeMap::new();
    for role in &status.node_roles {
        all.insert(address(role), read::jobs(world.database.pool(), role.id, 100).await.expect("jobs"));
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fourth_node_re_runs_who_reads_the_members_and_nobody_else() {
    let world = World::new(&GROWING).await;
    let engine = world.engine().await;
    let control = engine.control();
    control.apply(&document(3), "f", &[], "test").await.expect("applied");
    let before = world.until_active("blue").await;

    let planned = control.plan(&document(4), "f").await.expect("a plan");
    let plan = &planned[0].plan;
    let named: BTreeMap<String, Vec<&str>> = plan
        .items
        .iter()
        .filter(|item| item.action == Action::ReRun)
        .map(|item| {
            let inputs = item.causes.iter().map(|cause| match cause {
                Cause::Input { input, from: Some(from), to: Some(to), .. } if from != to => input.as_str(),
                other => panic!("{}/{} for {other:?}", item.node, item.role),
            });
            (format!("{}/{}", item.node, item.role), inputs.collect())
        })
        .collect();
    let readers = ["blue-all-1/peers", "blue-all-2/peers", "blue-all-3/peers", "deployment/head"];
    assert_eq!(named, BTreeMap::from(readers.map(|reader| (reader.to_owned(), vec!["urls"]))), "each with its input");
    assert_eq!((plan.totals.create, plan.totals.untouched), (4, before.node_roles.len() - readers.len()));

    control.apply(&document(4), "f", &[], "test").await.expect("applied");
    let status = world.until("blue", |s| s.deployment.health == Health::Active && s.deployment.revision == 2).await;
    let known: BTreeSet<String> = before.node_roles.iter().map(address).collect();
    for (node_role, jobs) in table(&world, &status).await {
        let wanted = if known.contains(&node_role) && readers.contains(&node_role.as_str()) { 2 } else { 1 };
        assert_eq!(jobs.len(), wanted, "jobs of {node_role}");
    }
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_less_is_let_go_of_before_it_is_taken_apart() {
    let world = World::new(&GROWING).await;
    let engine = world.engine().await;
    let control = engine.control();
    control.apply(&document(4), "f", &[], "test").await.expect("applied");
    let before = world.until_active("blue").await;
    control.apply(&document(3), "f", &[], "test").await.expect("applied");
    world.until("blue", |s| s.deployment.health == Health::Active && s.deployment.revision == 2).await;
    // Those that are gone, too.
    let jobs = table(&world, &before).await;
    let last = |node_role: &str, action: &str| {
        let job = jobs[node_role].iter().max_by_key(|job| job.claimed_at).expect("a job");
        assert_eq!((job.action.as_str(), job.outcome.as_deref()), (action, Some("succeeded")), "{node_role}");
        (job.claimed_at, job.finished_at.expect("it is over"))
    };
    let (member, base) = (last("blue-all-4/member", "remove"), last("blue-all-4/base", "remove"));
    for stays in ["blue-all-1/peers", "blue-all-2/peers", "blue-all-3/peers", "deployment/head"] {
        assert_eq!(jobs[stays].len(), 2, "jobs of {stays}");
        assert!(last(stays, "apply").1 <= member.0, "{stays} let go before");
    }
    assert!(last("blue-all-4/peers", "remove").1 <= member.0 && member.1 <= base.0, "in reverse order");
    for (node_role, jobs) in jobs.iter().filter(|(node_role, _)| node_role.ends_with("/reader")) {
        assert_eq!(jobs.len(), if node_role.starts_with("blue-all-4") { 2 } else { 1 }, "jobs of {node_role}");
    }
    // Its machine goes when nothing stands on it any more.
    world.until("blue", |s| s.nodes.iter().all(|node| node.name != "blue-all-4")).await;
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_lost_is_waited_for_no_more_and_another_takes_its_place() {
    let world = World::new(&GROWING).await;
    let engine = world.engine().await;
    let control = engine.control();
    control.apply(&document(2), "f", &[], "test").await.expect("applied");
    world.until_active("blue").await;
    // The third one dies in the middle of a job that would never end.
    let hangs =
        "update node set options = '{\"script\": {\"member\": {\"outcome\": \"hang\"}}}' where name = 'blue-all-3'";
    control.ask(Ask::Pause, "blue", None, "test").await.expect("paused");
    control.apply(&document(3), "f", &[], "test").await.expect("applied");
    world.database.run(hangs).await;
    control.ask(Ask::Resume, "blue", None, "test").await.expect("resumed");
    let running = |s: &StatusView| s.node_roles.iter().any(|r| address(r) == "blue-all-3/member" && r.job.is_some());
    let before = world.until("blue", running).await;
    assert_eq!(before.deployment.health, Health::Converging);

    assert_eq!(control.lose_node("nobody", "ann").await.expect_err("unknown").code, "unknown-node");
    control.lose_node("blue-all-3", "ann").await.expect("lost");
    let status = world.until("blue", |s| s.deployment.health == Health::Active && s.nodes.len() == 2).await;
    assert!(status.node_roles.iter().all(|role| role.node != "blue-all-3"), "{status:#?}");
    let jobs = table(&world, &before).await;
    let outcomes: Vec<_> = jobs["blue-all-3/member"].iter().map(|job| job.outcome.as_deref()).collect();
    assert_eq!(outcomes, [Some("abandoned")]);
    let residue = read::residue_of(world.database.pool(), "blue").await.expect("residue").expect("a deployment");
    assert!(residue.iter().all(|one| one.node == "blue-all-3" && one.reason == "its node is lost"), "{residue:#?}");
    assert!(residue.iter().any(|one| one.role == "base"), "what it had made is named: {residue:#?}");

    let planned = control.plan(&document(3), "f").await.expect("a plan");
    assert_eq!(planned[0].plan.totals.create, 4, "{:#?}", planned[0].plan);
    control.apply(&document(3), "f", &[], "test").await.expect("applied");
    let status = world.until("blue", |s| s.deployment.health == Health::Active && s.nodes.len() == 3).await;
    assert!(status.nodes.iter().any(|node| node.name == "blue-all-4"), "an index is used once: {status:#?}");
    engine.stop().await;
}

/// Two providers of one interface, and somebody who reads it.
const SWAPPING: [(&str, &str); 6] = [
    (
        "schemas/interfaces/net.json",
        "{\"$schema\": \"https://json-schema.org/draft/2020-12/schema\", \"title\": \"a net\", \"description\": \"A net.\", \"type\": \"object\",
          \"required\": [\"kind\"], \"properties\": {\"kind\": {\"type\": \"string\", \"description\": \"Which.\"}}}",
    ),
    (
        "roles/old-net/role.yaml",
        "role: old-net\nversion: 1.0.0\nabout: The old one.\nruns: node\nmilestone: true\nprovides: [net]\n\
         outputs: {kind: {schema: {type: string}, value: old}}\napply:\n  - run: {text: 'true', unless: 'false'}\n",
    ),
    (
        "roles/new-net/role.yaml",
        "role: new-net\nversion: 1.0.0\nabout: The new one.\nruns: node\nmilestone: true\nprovides: [net]\n\
         outputs: {kind: {schema: {type: string}, value: new}}\napply:\n  - run: {text: 'true', unless: 'false'}\n",
    ),
    (
        "roles/app/role.yaml",
        "role: app\nversion: 1.0.0\nabout: Reads the net.\nruns: node\nmilestone: true\n\
         inputs: {kind: {schema: {type: string}, from: net.kind}}\napply:\n  - run: {text: 'true', unless: 'false'}\n",
    ),
    (
        "workloads/before/workload.yaml",
        "workload: before\nversion: 1.0.0\nabout: With the old net.\ngroups: {all: {count: {default: 2, minimum: 1}}}\nroles: {all: [old-net, app]}\n",
    ),
    (
        "workloads/after/workload.yaml",
        "workload: after\nversion: 1.0.0\nabout: With the new net.\ngroups: {all: {count: {default: 2, minimum: 1}}}\nroles: {all: [new-net, app]}\n",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn who_provides_the_same_hands_over_on_each_node() {
    let world = World::new(&SWAPPING).await;
    let engine = world.engine().await;
    let control = engine.control();
    let document = |workload: &str| {
        format!("deployment: blue\nworkload: {workload}\nnodes: {{all: {{provider: simulated, count: 2}}}}\n")
    };
    control.apply(&document("before"), "f", &[], "test").await.expect("applied");
    let before = world.until_active("blue").await;
    control.apply(&document("after"), "f", &[], "test").await.expect("applied");
    let after = world.until("blue", |s| s.deployment.health == Health::Active && s.deployment.revision == 2).await;
    let (was, is) = (table(&world, &before).await, table(&world, &after).await);
    for node in ["blue-all-1", "blue-all-2"] {
        let removed =
            was[&format!("{node}/old-net")].iter().find(|job| job.action == "remove").expect("it was removed");
        let begun = &is[&format!("{node}/new-net")][0];
        assert!(removed.finished_at.expect("it is over") <= begun.claimed_at, "the new one waits on {node}");
        let reader = &is[&format!("{node}/app")];
        assert_eq!(reader.len(), 2, "{node}/app read both, one after the other");
        assert!(reader.iter().any(|job| job.claimed_at >= begun.finished_at.expect("it is over")), "on {node}");
    }
    engine.stop().await;
}
