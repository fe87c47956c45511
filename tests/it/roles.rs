//! One contract for every role of the tree that has steps, on a real node: applied, applied again it changes nothing,
//! its check finds nothing, removed it leaves nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::slice;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use engine_agent::protocol::{JobSpec, Limits, Mode, Outcome, Status};
use engine_catalog::{Folder, load_folders};
use engine_core::catalog::CatalogRole;
use engine_core::document::Object;
use engine_core::id::{JobId, NodeId};
use engine_core::view::Health;
use engine_daemon::{Config, Engine};
use engine_provider::lab::{Lab, LabConfig};
use engine_remote::{AgentBinary, DeployKey, Ended, Keys, Pool, Settings, Target};
use engine_store::testing::Database;
use engine_store::{nodes, read, snapshot};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::dns::lab::Address;

const LIMIT: Duration = Duration::from_secs(400);

/// Deployments that between them use every role of the core bundle with steps.
const DEPLOYMENTS: [(&str, &str); 4] = [
    ("rh", "deployment: rh\nworkload: hello\nnodes: {greeters: {provider: lab, count: 1}}\n"),
    (
        "re",
        "deployment: re\nworkload: etcd-cluster\n\
         nodes: {members: {provider: lab, count: 1}, clients: {provider: lab, count: 1}, balancers: {provider: lab, count: 1}}\n",
    ),
    (
        "rd",
        "deployment: rd\nworkload: named-nodes\nparameters: {servers: [198.51.100.54]}\n\
         nodes: {members: {provider: lab, count: 1}}\n",
    ),
    ("rt", "deployment: rt\nworkload: trusting\nnodes: {all: {provider: lab, count: 1}}\n"),
];

/// Who looks at certificates of others: for roles of the core bundle that none of its workloads uses.
const TRUSTING: [(&str, &str); 4] = [
    ("bundle.yaml", "bundle: test\nversion: 1.0.0\n"),
    (
        "roles/trusting-ca/role.yaml",
        "role: trusting-ca\nversion: 1.0.0\nabout: An authority.\nis: certificate-authority\nwith: {common_name: trusting}\n",
    ),
    (
        "roles/trusting/role.yaml",
        "role: trusting\nversion: 1.0.0\nabout: Trusts it.\nruns: node\nmilestone: true\n\
         uses:\n  bundle: {role: trust-bundle, from: {trust: trusting-ca.trust}, with: {path: /etc/trusting.pem}}\n\
         inputs:\n  file: {schema: {$ref: types/file-ref}, from: bundle.file}\n",
    ),
    (
        "workloads/trusting/workload.yaml",
        "workload: trusting\nversion: 1.0.0\nabout: Nodes that trust.\ngroups: {all: {count: {default: 1}}}\nroles: {all: [trusting]}\n",
    ),
];

async fn until(database: &Database, name: &str, wanted: Health) {
    let end = tokio::time::Instant::now() + LIMIT;
    loop {
        let status = read::status(database.pool(), name).await.expect("a status").expect("a deployment");
        if status.deployment.health == wanted {
            return;
        }
        let stuck = status.deployment.health == Health::Failed || tokio::time::Instant::now() > end;
        assert!(!stuck, "{name} is not {wanted:?}: {status:#?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn spec(role: &CatalogRole, inputs: &Object, node: NodeId, owner: String, mode: Mode) -> JobSpec {
    let encode = |bytes: &Vec<u8>| base64::engine::general_purpose::STANDARD.encode(bytes);
    JobSpec {
        job: JobId(Uuid::now_v7()),
        fence: 1,
        title: role.doc.role.clone(),
        owner,
        node,
        mode,
        steps: role.doc.apply.clone().unwrap_or_default(),
        then: if mode == Mode::Check { role.doc.check.clone().unwrap_or_default() } else { Vec::new() },
        inputs: inputs.clone(),
        secret: Vec::new(),
        changed: Vec::new(),
        files: role.files.iter().map(|(path, bytes)| (path.clone(), encode(bytes))).collect(),
        outputs: role.doc.outputs.iter().filter(|(_, out)| out.value.is_none()).map(|(name, _)| name.clone()).collect(),
        spare: Vec::new(),
        destroys: Vec::new(),
        limits: Limits::default(),
    }
}

async fn run(pool: &Pool, target: &Target, spec: JobSpec) -> Outcome {
    let (sink, mut notes) = mpsc::channel(64);
    let reader = tokio::spawn(async move { while notes.recv().await.is_some() {} });
    let ended = pool.run(target, spec, &sink).await;
    drop(sink);
    reader.await.expect("a reader");
    match ended {
        Ended::Done(outcome) => outcome,
        other => panic!("no outcome: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_role_with_steps_keeps_the_contract() {
    let folder = tempfile::Builder::new().prefix("plinth-roles-").tempdir_in("/var/tmp").expect("a folder");
    let target_dir = std::env::current_exe().expect("this test");
    let target_dir = target_dir.ancestors().find(|folder| folder.ends_with("debug")).expect("a build folder");
    let agent = std::fs::read(target_dir.with_file_name("plinth-agent")).expect("run `make build` first");
    let agent = AgentBinary::new(std::env::consts::ARCH, agent);
    for (path, text) in TRUSTING {
        let file = folder.path().join("bundle").join(path);
        std::fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
        std::fs::write(file, text).expect("a file");
    }
    let bundle = Folder::read(&folder.path().join("bundle")).expect("a bundle");
    let loaded = load_folders(vec![bundle.clone()]);
    assert!(!loaded.has_errors(), "{:#?}", loaded.diagnostics);
    let catalog = loaded.catalog;
    let database = Database::fresh().await;
    let data = folder.path().join("data");
    let lab = Lab::new(LabConfig::new(data.join("lab")));
    let (pool, at) = (database.pool().clone(), database.target().clone());
    let mut config = Config::new(pool.clone(), at, vec![bundle], agent.clone(), data.clone());
    config.providers.insert("lab".to_owned(), Arc::new(lab.clone()));
    let answers = Address::new(54);
    config.dns = vec![answers.server().parse().expect("an address")];
    let engine = Engine::start(config).await.expect("an engine");
    let control = engine.control();
    for (_, text) in DEPLOYMENTS {
        control.apply(text, "f", &[], "test").await.expect("applied");
    }
    let deploy = Some(DeployKey::load_or_create(&data.join("deploy.key")).expect("the key"));
    let keys = Arc::new(Keys { deploy, ..Keys::default() });
    let ours = Pool::new(Settings::default(), agent);
    let (mut seen, mut rows) = (BTreeSet::new(), BTreeSet::new());
    for (name, _) in DEPLOYMENTS {
        until(&database, name, Health::Active).await;
        let snapshot = snapshot::snapshot(&pool, name).await.expect("a snapshot");
        let graph = snapshot.current.as_ref().expect("committed").graph.clone();
        let status = read::status(&pool, name).await.expect("a status").expect("a deployment");
        for row in status.node_roles.iter().filter(|row| row.node != "deployment") {
            let role = &catalog.roles[&graph.roles[&row.role].role];
            if role.doc.apply.is_none() {
                continue;
            }
            seen.insert(role.doc.role.clone());
            rows.insert(row.role.clone());
            let node = nodes::named(&pool, slice::from_ref(&row.node)).await.expect("a node").remove(0);
            let target = Target {
                node: node.id,
                name: node.name.clone(),
                address: node.address.expect("an address"),
                port: 22,
                user: node.user.expect("a user"),
                host_keys: node.host_keys,
                keys: Arc::clone(&keys),
            };
            let inputs = &snapshot.seen[&row.role][&row.node].inputs;
            for mode in [Mode::Apply, Mode::Check] {
                let outcome = run(&ours, &target, spec(role, inputs, node.id, row.id.to_string(), mode)).await;
                let what = format!("{} {mode:?} again: {outcome:#?}", role.doc.role);
                assert_eq!(outcome.status, Status::Succeeded, "{what}");
                assert!(!outcome.changed && outcome.steps.iter().all(|step| !step.changed), "{what}");
            }
        }
    }
    let with_steps: BTreeSet<String> = catalog
        .roles
        .values()
        .filter(|role| role.doc.apply.is_some() && role.doc.runs == Some(engine_core::document::role::Runs::Node))
        .map(|role| role.doc.role.clone())
        .collect();
    assert_eq!(seen, with_steps, "every role with steps was seen");
    let mut removes: BTreeMap<String, Option<String>> = BTreeMap::new();
    for (name, _) in DEPLOYMENTS {
        let status = read::status(&pool, name).await.expect("a status").expect("a deployment");
        control.destroy(name, "test").await.expect("destroyed");
        until(&database, name, Health::Gone).await;
        for row in status.node_roles {
            for job in read::jobs(&pool, row.id, 10).await.expect("jobs").into_iter().filter(|j| j.action == "remove") {
                assert_eq!(job.outcome.as_deref(), Some("succeeded"), "{}: {job:#?}", row.role);
                removes.insert(row.role.clone(), read::residue(&pool, job.id).await.expect("residue"));
            }
        }
    }
    assert!(rows.iter().all(|role| removes.contains_key(role)), "each was removed: {removes:?}");
    assert!(removes.values().all(Option::is_none), "something was left: {removes:#?}");
    engine.stop().await;
    lab.teardown(false).await.expect("the lab goes");
}
