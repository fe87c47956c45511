//! A server with a recorder behind it instead of an engine, and a small deployment in its database.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use api_client::{Client, Endpoint};
use api_server::control::{Control, Document};
use api_server::{Server, ServerError};
use async_trait::async_trait;
use engine_core::catalog::Catalog;
use engine_core::document::setting::SettingKind;
use engine_core::graph::Graph;
use engine_core::plan::dry_run::DryRun;
use engine_core::plan::{Action, Cause, Item, Plan, Totals};
use engine_core::request::{
    AskRequest, CheckRequest, ImportRequest, RedeployRequest, RevocationReason, RotationMove, Seen, SignRequest,
};
use engine_core::testing::{Fixture, catalog};
use engine_core::view::{
    Applied, AuthorityRequestView, BundleDiff, BundleView, BundlesRequest, CertificateView, Counted, ExecEvent,
    HookAdded, HookRequest, HookTest, HookView, LabelRequest, Moved, Pushed, Refusal, RefusalKind, Resealed, RuleTest,
    RuleTestRequest, SettingView, Settled, Stood,
};
use engine_store::testing::Database;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub(crate) const TOKEN: &str = "let-me-in";

/// Writes down what it is asked, and answers something.
#[derive(Clone, Default)]
pub(crate) struct Recorder(Arc<Mutex<Vec<String>>>);

impl Recorder {
    fn record(&self, said: String) {
        self.0.lock().expect("nobody panicked").push(said);
    }

    /// What was asked since the last look.
    pub(crate) fn taken(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().expect("nobody panicked"))
    }

    fn moved(&self, what: &str, name: &str, node_role: Option<&str>, by: &str) -> Result<Moved, Refusal> {
        self.record(format!("{what} {name} {} by {by}", node_role.unwrap_or("all")));
        known(name)?;
        Ok(Moved { node_roles: node_role.map(str::to_owned).into_iter().collect() })
    }
}

fn known(name: &str) -> Result<(), Refusal> {
    assert!(name != "panic", "asked to");
    match name {
        "red" => Err(Refusal::new(RefusalKind::NotFound, "unknown-deployment", "there is no deployment `red`")),
        _ => Ok(()),
    }
}

fn applied(create: usize) -> Applied {
    let item = Item {
        node: "g-1".to_owned(),
        role: "app".to_owned(),
        action: Action::Create,
        may_be_spared: false,
        causes: vec![Cause::New],
        effects: Vec::new(),
        effects_unknown: false,
    };
    let totals = Totals { create, ..Totals::default() };
    let plan = Plan { deployment: "blue".to_owned(), items: vec![item; create], totals, ..Plan::default() };
    Applied { deployment: "blue".to_owned(), revision: 1, changed: create > 0, plan, warnings: Vec::new() }
}

/// A document that says `nothing` does nothing, one that says `bad` is refused.
fn planned(document: &Document) -> Result<Vec<Applied>, Refusal> {
    if document.text.contains("bad") {
        let finding = engine_core::diagnostic::Diagnostic::error("unknown-key", "/bad", "no key `bad`");
        return Err(Refusal::findings(vec![finding.in_file(&document.file)]));
    }
    Ok(vec![applied(usize::from(!document.text.contains("nothing")))])
}

#[async_trait]
impl Control for Recorder {
    fn counted(&self) -> Counted {
        Counted { dns_answers: [7, 2], records_waiting: 3, certificates_waiting: 1 }
    }

    async fn catalog(&self) -> Result<Arc<Catalog>, Refusal> {
        let roles = [json!({"role": "app", "milestone": true, "apply": []})];
        let workloads = [json!({"workload": "w", "groups": {"g": {}}, "roles": {"g": ["app"]}})];
        Ok(Arc::new(catalog(roles, workloads)))
    }

    async fn bundles(&self) -> Result<Vec<BundleView>, Refusal> {
        self.record("bundles".to_owned());
        Ok(Vec::new())
    }

    async fn push_bundles(&self, what: &BundlesRequest, by: &str) -> Result<Pushed, Refusal> {
        let paths: Vec<&str> = what.bundles.iter().map(|one| one.path.as_str()).collect();
        self.record(format!("push {} by {by}", paths.join(" ")));
        Ok(Pushed { bundles: vec!["test".to_owned()], ..Pushed::default() })
    }

    async fn remove_bundle(&self, name: &str, by: &str) -> Result<Pushed, Refusal> {
        self.record(format!("remove bundle {name} by {by}"));
        Err(Refusal::new(RefusalKind::NotFound, "unknown-bundle", format!("no bundle {name}")))
    }

    async fn diff_bundles(&self, what: &BundlesRequest) -> Result<BundleDiff, Refusal> {
        self.record(format!("diff {} bundles", what.bundles.len()));
        Ok(BundleDiff { up_to_date: 1, ..BundleDiff::default() })
    }

    async fn hooks(&self) -> Result<Vec<HookView>, Refusal> {
        self.record("hooks".to_owned());
        Ok(Vec::new())
    }

    async fn add_hook(&self, what: &HookRequest, by: &str) -> Result<HookAdded, Refusal> {
        self.record(format!("add hook {} to {} by {by}", what.name, what.url));
        Err(Refusal::new(RefusalKind::Conflict, "duplicate-hook", format!("there is a hook {}", what.name)))
    }

    async fn remove_hook(&self, name: &str, by: &str) -> Result<(), Refusal> {
        self.record(format!("remove hook {name} by {by}"));
        Ok(())
    }

    async fn test_hook(&self, name: &str, by: &str) -> Result<HookTest, Refusal> {
        self.record(format!("test hook {name} by {by}"));
        Ok(HookTest { status: Some(200), millis: 3, code: None, message: None })
    }

    async fn skip_hook(&self, name: &str) -> Result<i64, Refusal> {
        self.record(format!("skip hook {name}"));
        Ok(7)
    }

    async fn settings(&self, kind: SettingKind) -> Result<Vec<SettingView>, Refusal> {
        self.record(format!("settings {}", kind.as_str()));
        Ok(Vec::new())
    }

    async fn set(&self, document: &Document, by: &str) -> Result<Settled, Refusal> {
        self.record(format!("set {} by {by}", document.file));
        Ok(Settled { changed: vec!["policy machines".to_owned()], concerns: vec!["blue".to_owned()] })
    }

    async fn remove_setting(&self, kind: SettingKind, name: &str, by: &str) -> Result<Settled, Refusal> {
        self.record(format!("remove {} {name} by {by}", kind.as_str()));
        Err(Refusal::new(RefusalKind::NotFound, "unknown-setting", format!("no {} {name}", kind.as_str())))
    }

    async fn test_rules(&self, what: &RuleTestRequest) -> Result<Vec<RuleTest>, Refusal> {
        self.record(format!("test rules of {}", what.document.as_ref().map_or("nothing", |one| &one.file)));
        Ok(Vec::new())
    }

    async fn label_node(&self, name: &str, what: &LabelRequest, by: &str) -> Result<(), Refusal> {
        self.record(format!("label {name} {} {:?} by {by}", json!(what.set), what.remove));
        Ok(())
    }

    async fn plan(&self, document: &Document) -> Result<Vec<Applied>, Refusal> {
        self.record(format!("plan {}", document.file));
        planned(document)
    }

    async fn dry_run(&self, document: &Document) -> Result<Vec<DryRun>, Refusal> {
        self.record(format!("dry-run {}", document.file));
        let of = planned(document)?.into_iter();
        Ok(of.map(|one| DryRun { deployment: one.deployment, node_roles: Vec::new() }).collect())
    }

    async fn apply(&self, document: &Document, seen: &[Seen], by: &str) -> Result<Vec<Applied>, Refusal> {
        let what: Vec<String> =
            seen.iter().map(|seen| format!("{} {} {}", seen.deployment, seen.revision, seen.plan.is_some())).collect();
        self.record(format!("apply {} {what:?} by {by}", document.file));
        if seen.iter().any(|seen| seen.revision != 1) {
            return Err(Refusal::new(RefusalKind::Conflict, "revision-moved", "it is another revision by now"));
        }
        planned(document)
    }

    async fn plan_destroy(&self, name: &str) -> Result<Applied, Refusal> {
        self.record(format!("plan destroy {name}"));
        known(name).map(|()| applied(0))
    }

    async fn destroy(&self, name: &str, by: &str) -> Result<Applied, Refusal> {
        self.record(format!("destroy {name} by {by}"));
        known(name).map(|()| applied(0))
    }

    async fn plan_redeploy(&self, name: &str, what: &RedeployRequest) -> Result<Applied, Refusal> {
        self.record(format!("plan redeploy {name} {:?}", what.nodes));
        known(name).map(|()| applied(0))
    }

    async fn redeploy(&self, name: &str, what: &RedeployRequest, by: &str) -> Result<Applied, Refusal> {
        self.record(format!("redeploy {name} {:?} seen {:?} by {by}", what.nodes, what.revision));
        known(name).map(|()| applied(0))
    }

    async fn check(&self, name: &str, what: &CheckRequest, by: &str) -> Result<Moved, Refusal> {
        self.moved("check", name, what.role.as_deref(), by)
    }

    async fn ask(&self, name: &str, what: &AskRequest, by: &str) -> Result<Moved, Refusal> {
        self.moved(&format!("{:?}", what.ask), name, what.node_role.as_deref(), by)
    }

    async fn add_nodes(
        &self,
        document: &Document,
        keys: &[(String, String)],
        by: &str,
    ) -> Result<Vec<String>, Refusal> {
        let names: Vec<String> = keys.iter().map(|(name, _)| name.clone()).collect();
        self.record(format!("add nodes of {} with keys for {names:?} by {by}", document.file));
        Ok(names)
    }

    async fn stand_node(&self, name: &str, aside: bool, by: &str) -> Result<Stood, Refusal> {
        self.record(format!("node {name} {} by {by}", if aside { "aside" } else { "in" }));
        Ok(Stood { beyond: if aside { vec!["etcd".to_owned()] } else { Vec::new() } })
    }

    async fn lose_node(&self, name: &str, by: &str) -> Result<(), Refusal> {
        self.record(format!("lose node {name} by {by}"));
        Err(Refusal::new(RefusalKind::Conflict, "node-unused", format!("no deployment uses node {name}")))
    }

    async fn revoke(&self, serial: &str, reason: RevocationReason, by: &str) -> Result<(), Refusal> {
        self.record(format!("revoke {serial} for {} by {by}", reason.as_str()));
        Err(Refusal::new(RefusalKind::NotFound, "unknown-certificate", format!("no certificate {serial}")))
    }

    async fn renew_secret(&self, name: &str, role: &str) -> Result<(), Refusal> {
        self.record(format!("another secret of {role} of {name}"));
        Ok(())
    }

    async fn reseal(&self) -> Result<Resealed, Refusal> {
        self.record("seal again".to_owned());
        Ok(Resealed { values: 2, unused: vec!["0011223344556677".to_owned()] })
    }

    async fn seal_document(&self, document: &Document) -> Result<String, Refusal> {
        self.record(format!("seal {}", document.file));
        Ok(document.text.clone())
    }

    async fn rotate(&self, name: &str, role: &str, by: &str) -> Result<(), Refusal> {
        self.record(format!("rotate {role} of {name} by {by}"));
        Ok(())
    }

    async fn revoke_authority(
        &self,
        name: &str,
        role: &str,
        reason: RevocationReason,
        by: &str,
    ) -> Result<(), Refusal> {
        self.record(format!("revoke {role} of {name} for {} by {by}", reason.as_str()));
        Ok(())
    }

    async fn request_authority(&self, name: &str, role: &str) -> Result<AuthorityRequestView, Refusal> {
        self.record(format!("request of {role} of {name}"));
        Ok(AuthorityRequestView { request: "PEM".to_owned() })
    }

    async fn import_authority(&self, name: &str, role: &str, what: &ImportRequest, by: &str) -> Result<(), Refusal> {
        self.record(format!("import {what:?} for {role} of {name} by {by}"));
        Ok(())
    }

    async fn renew(&self, serial: &str, by: &str) -> Result<(), Refusal> {
        self.record(format!("renew {serial} by {by}"));
        Ok(())
    }

    async fn sign(&self, name: &str, role: &str, what: &SignRequest, by: &str) -> Result<CertificateView, Refusal> {
        self.record(format!("sign for {} with {role} of {name} by {by}", what.subject));
        Err(Refusal::new(RefusalKind::Invalid, "csr-unreadable", "no request"))
    }

    async fn list(&self, authority: Uuid, part: i32, as_pem: bool) -> Result<Vec<u8>, Refusal> {
        self.record(format!("list part {part} of {authority}{}", if as_pem { " in PEM" } else { "" }));
        Ok(b"a list".to_vec())
    }

    async fn ask_rotation(&self, name: &str, role: &str, what: RotationMove, by: &str) -> Result<(), Refusal> {
        self.record(format!("{what:?} the rotation of {role} of {name} by {by}"));
        Ok(())
    }

    async fn remove_node(&self, name: &str, force: bool, by: &str) -> Result<(), Refusal> {
        self.record(format!("remove node {name} by {by}{}", if force { " by force" } else { "" }));
        Err(Refusal::new(RefusalKind::Conflict, "node-in-use", format!("{name} is used by blue")))
    }

    async fn exec(
        &self,
        nodes: &[String],
        command: Vec<String>,
        seconds: u64,
    ) -> Result<mpsc::Receiver<ExecEvent>, Refusal> {
        self.record(format!("exec {command:?} on {nodes:?} for {seconds} s"));
        let (sender, receiver) = mpsc::channel(2 * nodes.len().max(1));
        for (node, exit) in nodes.iter().zip(0..) {
            let (node, stream, line) = (node.clone(), "stdout".to_owned(), command.join(" "));
            let line = ExecEvent::Line { node: node.clone(), stream, line };
            let ended = ExecEvent::Ended { node, exit: Some(exit), code: None, message: None };
            for event in [line, ended] {
                sender.try_send(event).expect("there is room");
            }
        }
        Ok(receiver)
    }
}

/// `base` feeds `app` on two nodes; `ready` stands on the virtual node.
pub(crate) fn graph() -> Graph {
    let text = json!({"type": "string"});
    let roles = [
        json!({"role": "base", "apply": [], "outputs": {"url": {"schema": text}}}),
        json!({"role": "app", "milestone": true, "apply": [], "requires": ["base"],
               "inputs": {"all": {"schema": {}, "from": "map base.url"}}}),
        json!({"role": "ready", "milestone": true, "runs": "deployment", "apply": [], "requires": ["app"]}),
    ];
    let workload = json!({"workload": "w", "groups": {"g": {}}, "roles": {"g": ["app"], "deployment": ["ready"]}});
    Fixture::new(catalog(roles, [workload]), &[("g", 2)]).compile().expect("compiles").graph
}

/// A server that runs.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<Result<(), ServerError>>,
}

impl Running {
    pub(crate) async fn start(database: &Database, recorder: &Recorder, address: &str) -> Self {
        let listener = TcpListener::bind(address).await.expect("a socket");
        let address = listener.local_addr().expect("an address");
        let server = Server {
            pool: database.pool().clone(),
            database: database.target().clone(),
            control: Arc::new(recorder.clone()),
            token: TOKEN.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let stop = CancellationToken::new();
        let task = tokio::spawn(server.serve(listener, stop.clone()));
        Self { address, stop, task }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn client(&self) -> Client {
        let endpoint = Endpoint { endpoint: self.url(), token: TOKEN.to_owned() };
        Client::new(endpoint, "ann").expect("an endpoint")
    }

    /// Stops in order; hangs if a stream keeps it.
    pub(crate) async fn stop(self) -> Result<(), ServerError> {
        self.stop.cancel();
        self.task.await.expect("the server does not panic")
    }
}

/// A database with the deployment `blue`, a recorder and a server.
pub(crate) async fn start() -> (Database, Recorder, Running) {
    let database = Database::fresh().await;
    database.deployment(&graph()).await;
    let recorder = Recorder::default();
    let running = Running::start(&database, &recorder, "127.0.0.1:0").await;
    (database, recorder, running)
}
