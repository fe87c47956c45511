//! Engines, bundles and waiting.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use engine_catalog::{Folder, load_folders};
use engine_core::view::{Health, NodeRoleView, StatusView};
use engine_daemon::{Config, Engine};
use engine_provider::simulated::Simulated;
use engine_provider::{Power, Provider as _};
use engine_remote::AgentBinary;
use engine_store::read;
use engine_store::testing::Database;
use serde_json::Value;

/// Nothing in these tests takes so long unless it hangs.
const LIMIT: Duration = Duration::from_mins(1);

/// A database with a bundle, and a folder for keys.
pub(crate) struct World {
    pub(crate) database: Database,
    folder: tempfile::TempDir,
    /// The machines are one world, however many engines there are.
    machines: Arc<Simulated>,
}

impl World {
    /// A bundle of these roles and workloads, by file name.
    pub(crate) async fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let bundle = folder.path().join("bundle");
        write(&bundle.join("bundle.yaml"), "bundle: test\nversion: 1.0.0\n");
        for (path, text) in files {
            write(&bundle.join(path), text);
        }
        let loaded = load_folders(vec![Folder::read(&bundle).expect("a bundle")]);
        assert!(!loaded.has_errors(), "{:#?}", loaded.diagnostics);
        let database = Database::fresh().await;
        Self { database, folder, machines: Arc::new(Simulated::new()) }
    }

    /// The settings of an engine of this world.
    pub(crate) fn config(&self) -> Config {
        let mut config = Config::new(
            self.database.pool().clone(),
            self.database.target().clone(),
            vec![Folder::read(&self.bundle()).expect("a bundle")],
            AgentBinary::new("x86_64", &b"none"[..]),
            self.folder.path().join("data"),
        );
        config.providers.insert("simulated".to_owned(), Arc::clone(&self.machines) as _);
        config.lease = Duration::from_secs(6);
        config.poll = Duration::from_millis(500);
        config
    }

    /// The folder of its bundle.
    pub(crate) fn bundle(&self) -> PathBuf {
        self.folder.path().join("bundle")
    }

    /// Settings of an engine that was started with these files of the bundle changed.
    pub(crate) fn upgraded(&self, files: &[(&str, &str)]) -> Config {
        for (path, text) in files {
            write(&self.bundle().join(path), text);
        }
        self.config()
    }

    /// A simulated machine that exists already, and that no deployment uses.
    pub(crate) async fn found(&self, name: &str, number: u8, facts: &Value) {
        let node = format!(
            "insert into node (node_id, name, provider, state, address, port, ssh_user, facts, created_at, changed_at)
             values (gen_random_uuid(), '{name}', 'simulated', 'joining', '198.19.0.{number}', 22, 'root', '{facts}', now(), now())"
        );
        self.database.run(&node).await;
    }

    /// Switches a simulated machine on or off. One that is off does not answer.
    pub(crate) async fn switch(&self, name: &str, on: bool) {
        let power = if on { Power::On } else { Power::Off };
        self.machines.power(name, power).await.expect("a machine");
    }

    /// An engine.
    pub(crate) async fn engine(&self) -> Engine {
        Engine::start(self.config()).await.expect("an engine")
    }

    /// The status; a connection that was cut is not what a test waits for.
    pub(crate) async fn status(&self, name: &str) -> StatusView {
        let end = tokio::time::Instant::now() + LIMIT;
        loop {
            match read::status(self.database.pool(), name).await {
                Err(error) if error.is_transient() && tokio::time::Instant::now() < end => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                status => return status.expect("a status").expect("a deployment"),
            }
        }
    }

    /// Waits until the status is as wanted; panics with what it is when it never becomes so.
    pub(crate) async fn until(&self, name: &str, wanted: impl Fn(&StatusView) -> bool) -> StatusView {
        let end = tokio::time::Instant::now() + LIMIT;
        loop {
            let status = self.status(name).await;
            if wanted(&status) {
                return status;
            }
            assert!(tokio::time::Instant::now() < end, "never came about: {status:#?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Asks until the answer comes; panics with what is said instead when it never does.
    pub(crate) async fn until_so<T>(&self, what: &str, mut ask: impl AsyncFnMut() -> Result<T, String>) -> T {
        let end = tokio::time::Instant::now() + LIMIT;
        loop {
            match ask().await {
                Ok(answer) => return answer,
                Err(said) => assert!(tokio::time::Instant::now() < end, "never {what}: {said}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) async fn until_active(&self, name: &str) -> StatusView {
        self.until(name, |status| status.deployment.health == Health::Active).await
    }

    /// How many applies of each node role have succeeded.
    pub(crate) async fn applies(&self, status: &StatusView) -> Vec<(String, usize)> {
        let mut all = Vec::new();
        for role in &status.node_roles {
            let jobs = read::jobs(self.database.pool(), role.id, 100).await.expect("jobs");
            let done = |job: &&engine_core::view::JobView| {
                job.action == "apply" && job.outcome.as_deref() == Some("succeeded")
            };
            all.push((address(role), jobs.iter().filter(done).count()));
        }
        all
    }
}

pub(crate) fn address(role: &NodeRoleView) -> String {
    format!("{}/{}", role.node, role.role)
}

pub(crate) fn find<'a>(status: &'a StatusView, wanted: &str) -> &'a NodeRoleView {
    status
        .node_roles
        .iter()
        .find(|role| address(role) == wanted)
        .unwrap_or_else(|| panic!("no {wanted} in {status:#?}"))
}

fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    std::fs::write(path, text).expect("a file");
}

/// A small chain: a base, members that know each other through a gather, and a head that reads them all.
pub(crate) const CHAIN: [(&str, &str); 4] = [
    (
        "roles/base/role.yaml",
        "role: base\nversion: 1.0.0\nabout: A base.\nruns: node\nmilestone: true\ninputs:\n  level: {schema: {type: integer}, default: 1}\n\
         apply:\n  - run: {text: 'true', unless: 'false'}\n",
    ),
    (
        "roles/member/role.yaml",
        "role: member\nversion: 1.0.0\nabout: A member.\nruns: node\nmilestone: true\nrequires: [base]\ninputs:\n  name: {schema: {type: string}, from: node.name}\n  \
         size: {schema: {type: integer}, default: 1}\noutputs:\n  url: {schema: {type: string}, value: 'http://{{ name }}:{{ size // 10 }}'}\n\
         apply:\n  - run: {text: 'true', unless: 'false'}\n",
    ),
    (
        "roles/head/role.yaml",
        "role: head\nversion: 1.0.0\nabout: Reads all.\nruns: deployment\nmilestone: true\ninputs:\n  urls: {schema: {type: object}, from: map member.url}\n\
         outputs:\n  count: {schema: {type: integer}, value: '{{ urls | length }}'}\n",
    ),
    (
        "workloads/chain/workload.yaml",
        "workload: chain\nversion: 1.0.0\nabout: A chain.\nparameters: {type: object, additionalProperties: false, properties: {size: {type: integer, default: 1}, level: {type: integer, default: 1}}}\n\
         groups: {all: {count: {default: 3, minimum: 1}}}\nroles:\n  all: [{base: {with: {level: '{{ parameters.level }}'}}}, {member: {with: {size: '{{ parameters.size }}'}}}]\n  deployment: [head]\n",
    ),
];

/// A deployment of [`CHAIN`].
pub(crate) fn chain(name: &str, count: u32, parameters: &str, with: &str) -> String {
    format!(
        "deployment: {name}\nworkload: chain\nnodes:\n  all: {{provider: simulated, count: {count}, with: {with}}}\nparameters: {parameters}\n"
    )
}

/// What openssl says, with this on its input.
pub(crate) fn openssl(words: &[&str], input: &str) -> String {
    let mut child = Command::new("openssl")
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("openssl");
    child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("it reads");
    let said = child.wait_with_output().expect("it ends");
    format!("{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr))
}
