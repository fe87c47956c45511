//! Names of services: those who serve are in them, from when they do until before they stop.

use std::collections::{BTreeMap, BTreeSet};

use engine_core::state::{Goal, State};
use engine_core::view::{Health, NodeRoleView, StatusView};
use engine_dns::Kind;
use engine_store::read;

use super::{address_of, answer, answering};
use crate::support::World;

/// Servers that take their time, and a name for all of them.
const SERVICE: [(&str, &str); 2] = [
    (
        "roles/web/role.yaml",
        "role: web\nversion: 1.0.0\nabout: Serves.\nruns: node\nmilestone: true\n\
         inputs: {address: {schema: {type: string, format: ipv4}, from: node.address}}\n\
         outputs: {address: {schema: {type: string, format: ipv4}, value: '{{ address }}'}}\n\
         apply:\n  - run: {text: 'true', unless: 'false'}\n",
    ),
    (
        "workloads/serving/workload.yaml",
        "workload: serving\nversion: 1.0.0\nabout: Servers with one name.\ngroups: {all: {count: {default: 3}}}\n\
         parameters: {type: object, properties: {answered: {type: boolean, default: true}}}\n\
         roles:\n  all: [web]\n  deployment:\n\
        \u{20}   - dns-service: {with: {name: www}, from: {addresses: map web.address}}\n\
        \u{20}   - dns-zone: {with: {answered: '{{ parameters.answered }}'}}\n",
    ),
];

fn serving(count: u32, answered: bool) -> String {
    format!(
        "deployment: blue\nworkload: serving\nparameters: {{answered: {answered}}}\n\
         nodes: {{all: {{provider: simulated, count: {count}, with: {{script: {{web: {{on: [apply, remove], delay_ms: 1500}}}}}}}}}}\n"
    )
}

/// Addresses of nodes whose server is there: it came, and its removal has not begun.
fn served(status: &StatusView) -> BTreeMap<String, String> {
    let there = |role: &&NodeRoleView| match role.goal {
        Goal::Present => role.state == State::Active,
        Goal::Absent => role.state != State::Running,
    };
    let serve = status.node_roles.iter().filter(|role| role.role == "web").filter(there);
    serve.map(|role| (address_of(status, &role.node), role.node.clone())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_is_known_by_those_who_serve_and_by_nobody_else() {
    let world = World::new(&SERVICE).await;
    // Nobody answers and nobody has to: the names are written down for whoever does.
    let silent = world.engine().await;
    silent.control().apply(&serving(3, false), "f", &[], "test").await.expect("applied");
    let status = world.until_active("blue").await;
    let zone = "blue.plinth.internal";
    let records =
        read::records(world.database.pool(), zone, "").await.expect("records").expect("the deployment's zone");
    assert_eq!((records.items.len(), records.items[0].values.len()), (1, 3), "{records:?}");
    let (engine, at) = answering(&world).await;
    let (control, name) = (engine.control(), format!("www.{zone}"));
    let end = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<BTreeSet<_>>();
    let all: BTreeSet<String> = served(&status).into_keys().collect();
    while words(&answer(at, &name, Kind::A).await) != all {
        assert!(tokio::time::Instant::now() < end, "what was written is never answered");
    }

    for count in [5, 2] {
        control.apply(&serving(count, true), "f", &[], "test").await.expect("applied");
        let mut seen = BTreeSet::new();
        loop {
            // Whoever is named serves: it did before the question, or it does after the answer.
            let before = served(&world.status("blue").await);
            let said = words(&answer(at, &name, Kind::A).await);
            let status = world.status("blue").await;
            let after = served(&status);
            let idle: Vec<_> =
                said.iter().filter(|one| !before.contains_key(*one) && !after.contains_key(*one)).collect();
            assert!(idle.is_empty(), "{idle:?} of {said:?} do not serve: {before:?}, {after:?}");
            seen.insert(said.len());
            if status.deployment.health == Health::Active && status.nodes.len() == count as usize {
                assert_eq!(said, after.into_keys().collect());
                break;
            }
        }
        assert!(seen.len() > 1, "it was asked only at the end");
    }
    control.apply(&serving(0, true), "f", &[], "test").await.expect("applied");
    world.until("blue", |status| status.deployment.health == Health::Active && status.nodes.is_empty()).await;
    assert_eq!(answer(at, &name, Kind::A).await, "NXDOMAIN", "without servers there is no such name");
    for engine in [silent, engine] {
        engine.stop().await;
    }
}
