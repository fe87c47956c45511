//! What one deployment exports and another imports: values cross, and who exports stays while it is needed.

use engine_core::plan::Action;
use engine_core::view::{Health, RefusalKind, StatusView};

use crate::support::{World, find};

const BUNDLE: [(&str, &str); 7] = [
    (
        "roles/web/role.yaml",
        "role: web\nversion: 1.0.0\nabout: A service.\nruns: node\nmilestone: true\n\
         inputs: {port: {schema: {type: integer}, default: 80}}\n\
         outputs: {port: {schema: {type: integer}, value: '{{ port }}'}}\n\
         apply:\n  - run: {text: 'true', unless: 'false'}\n",
    ),
    (
        "roles/endpoint/role.yaml",
        "role: endpoint\nversion: 1.0.0\nabout: Where the service is.\nruns: deployment\nat: one web\nmilestone: true\n\
         inputs:\n  port: {schema: {type: integer}, from: one web.port}\n  note: {schema: {type: string}, default: none}\n\
         outputs: {port: {schema: {type: integer}, value: '{{ port }}'}}\n\
         apply:\n  - run: {text: 'true', unless: 'false'}\n",
    ),
    (
        "roles/client/role.yaml",
        "role: client\nversion: 1.0.0\nabout: Uses the service of others.\nruns: node\nmilestone: true\n\
         inputs: {port: {schema: {type: integer}, from: import store.port}}\n\
         outputs: {port: {schema: {type: integer}, value: '{{ port }}'}}\n\
         apply:\n  - run: {text: 'true', unless: 'false'}\n",
    ),
    (
        "roles/alone/role.yaml",
        "role: alone\nversion: 1.0.0\nabout: Needs nobody.\nruns: node\nmilestone: true\n\
         apply:\n  - run: {text: 'true', unless: 'false'}\n",
    ),
    (
        "roles/relay/role.yaml",
        "role: relay\nversion: 1.0.0\nabout: Passes on.\nruns: deployment\nat: one client\nmilestone: true\n\
         inputs: {port: {schema: {type: integer}, from: one client.port}}\n\
         outputs: {port: {schema: {type: integer}, value: '{{ port }}'}}\n\
         apply:\n  - run: {text: 'true', unless: 'false'}\n",
    ),
    (
        "workloads/store/workload.yaml",
        "workload: store\nversion: 1.0.0\nabout: Is imported.\ngroups: {all: {count: {default: 1}}}\n\
         parameters: {type: object, properties: {port: {type: integer, default: 80}, note: {type: string, default: none}}}\n\
         roles:\n  all: [{web: {with: {port: '{{ parameters.port }}'}}}]\n\
         \x20 deployment: [{endpoint: {with: {note: '{{ parameters.note }}'}}}]\nexports: {port: endpoint.port}\n",
    ),
    (
        "workloads/shop/workload.yaml",
        "workload: shop\nversion: 1.0.0\nabout: Imports, and exports.\ngroups: {all: {count: {default: 2}}}\n\
         parameters: {type: object, additionalProperties: false}\nroles:\n  all: [client, alone]\n  deployment: [relay]\n\
         imports: {store: {port: {schema: {type: integer}}}}\nexports: {port: relay.port}\n",
    ),
];

fn store(name: &str, port: u32, note: &str) -> String {
    format!(
        "deployment: {name}\nworkload: store\nparameters: {{port: {port}, note: {note}}}\n\
         nodes: {{all: {{provider: simulated, count: 1, with: {{script: {{web: {{delay_ms: 700}}}}}}}}}}\n"
    )
}

fn shop(name: &str, from: &str) -> String {
    format!(
        "deployment: {name}\nworkload: shop\nimports: {{store: {from}}}\n\
         nodes: {{all: {{provider: simulated, count: 2}}}}\n"
    )
}

async fn port(world: &World, name: &str) -> i64 {
    let why = engine_store::read::why(world.database.pool(), name, "deployment", "relay", None).await.expect("a why");
    why.expect("a relay").outputs["port"].as_i64().expect("a port")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_exported_reaches_who_imports_it_and_nobody_else() {
    let world = World::new(&BUNDLE).await;
    let engine = world.engine().await;
    let control = engine.control();
    // Both in one file; the shop waits for what the store has not told yet, and says so.
    let both = format!("{}---\n{}---\n{}", store("blue", 80, "none"), shop("green", "blue"), shop("red", "green"));
    assert_eq!(control.plan(&both, "f").await.expect("a plan").len(), 3);
    control.apply(&both, "f", &[], "test").await.expect("applied");
    let says = "waits for deployment blue to tell its export port";
    let is_held = |s: &StatusView| find(s, "green-all-1/client").cause.as_ref().is_some_and(|cause| cause.says == says);
    let held = world.until("green", is_held).await;
    assert_eq!(find(&held, "green-all-1/alone").cause, None);
    for name in ["blue", "green", "red"] {
        world.until_active(name).await;
    }
    assert_eq!((port(&world, "green").await, port(&world, "red").await), (80, 80));

    // Another value re-runs who reads it, through both, and nobody else.
    let plan = control.plan(&store("blue", 81, "none"), "f").await.expect("a plan");
    assert!(plan[0].changed);
    control.apply(&store("blue", 81, "none"), "f", &[], "test").await.expect("applied");
    let end = tokio::time::Instant::now() + std::time::Duration::from_secs(30);
    while port(&world, "red").await != 81 {
        assert!(tokio::time::Instant::now() < end, "the value never came");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let status = world.until_active("green").await;
    let applies = world.applies(&status).await;
    let count = |name: &str| applies.iter().find(|(address, _)| address == name).expect("a node role").1;
    assert_eq!((count("green-all-1/client"), count("green-all-1/alone"), count("deployment/relay")), (2, 1, 2));

    // A run that comes out with the same value re-runs nobody there.
    control.apply(&store("blue", 81, "again"), "f", &[], "test").await.expect("applied");
    world.until("blue", |s| s.deployment.revision == 3 && s.deployment.health == Health::Active).await;
    // What green imports is taken in when nothing of it is marked any more.
    while !engine_store::imports::moved(world.database.pool()).await.expect("imports").is_empty() {
        assert!(tokio::time::Instant::now() < end, "never taken in");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let status = world.until_active("green").await;
    assert_eq!(world.applies(&status).await, applies);

    // From elsewhere: planned with the value that is there.
    control.apply(&store("black", 99, "none"), "f", &[], "test").await.expect("applied");
    world.until_active("black").await;
    let plan = control.plan(&shop("green", "black"), "f").await.expect("a plan");
    let rerun: Vec<String> = plan[0]
        .plan
        .items
        .iter()
        .filter(|item| item.action == Action::ReRun)
        .map(|item| format!("{}/{}", item.node, item.role))
        .collect();
    assert!(
        rerun.contains(&"green-all-1/client".to_owned()) && !rerun.contains(&"green-all-1/alone".to_owned()),
        "{rerun:?}"
    );
    control.apply(&shop("green", "black"), "f", &[], "test").await.expect("applied");
    while port(&world, "red").await != 99 {
        assert!(tokio::time::Instant::now() < end, "the value never came");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_exports_stays_while_others_import() {
    let world = World::new(&BUNDLE).await;
    let engine = world.engine().await;
    let control = engine.control();
    let missing = control.apply(&shop("green", "blue"), "f", &[], "test").await.expect_err("nobody exports");
    assert_eq!(missing.diagnostics[0].code, "unknown-deployment");
    control
        .apply(&format!("{}---\n{}", store("blue", 80, "none"), shop("green", "blue")), "f", &[], "test")
        .await
        .expect("applied");
    for name in ["blue", "green"] {
        world.until_active(name).await;
    }
    let refused = control.destroy("blue", "test").await.expect_err("it is imported");
    assert_eq!((refused.kind, refused.code.as_str()), (RefusalKind::Conflict, "export-in-use"));
    assert_eq!(refused.message, "deployment `blue` exports what others import: green; destroy these first");
    // Nor may it become something that exports nothing, or import from those who import from it.
    let other =
        "deployment: blue\nworkload: shop\nimports: {store: green}\nnodes: {all: {provider: simulated, count: 2}}\n";
    let cycle = control.apply(other, "f", &[], "test").await.expect_err("a cycle");
    assert_eq!(cycle.code, "import-cycle");
    let itself = control.apply(&shop("green", "green"), "f", &[], "test").await.expect_err("a cycle");
    assert_eq!(itself.code, "import-cycle");
    control.destroy("green", "test").await.expect("nobody imports from it");
    // Until it is gone it may still need what it imports.
    world.until("green", |s| s.deployment.health == Health::Gone).await;
    control.destroy("blue", "test").await.expect("nobody imports any more");
    engine.stop().await;
}
