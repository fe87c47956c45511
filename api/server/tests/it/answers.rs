//! Every route through the typed client.

use api_client::{Client, Endpoint};
use api_server::control::Document;
use engine_core::document::setting::SettingKind;
use engine_core::request::{
    Ask, CertificateUsage, CheckRequest, ExecRequest, ImportRequest, NodeKey, RevocationReason, RotationMove, Seen,
    SignRequest,
};
use engine_core::state::State;
use engine_core::view::{BundleFiles, ExecEvent, Health, HookRequest, LabelRequest};

use crate::support::start;

#[tokio::test]
async fn what_is_read() {
    let (database, _, running) = start().await;
    let client = running.client();
    client.ready().await.unwrap();
    assert_eq!(client.version().await.unwrap().version, env!("CARGO_PKG_VERSION"));
    database.set("g-1/base", "state = 'failed', since = 1, code = 'step-failed'").await;
    let job = database.job("g-1/base", 1, Some("failed")).await;
    database
        .run(&format!(
            "insert into job_log select '{job}', n, now(), 'stdout', 'line ' || n from generate_series(1, 2500) n"
        ))
        .await;
    database.event("g-1/base", "node-role.fail").await;
    database.all_settled().await;

    let listed = client.deployments().await.unwrap();
    assert_eq!(
        listed.iter().map(|one| (one.name.as_str(), one.health)).collect::<Vec<_>>(),
        [("blue", Health::Failed)]
    );
    assert_eq!(client.deployment("blue").await.unwrap().deployment, listed[0]);
    let status = client.status("blue").await.unwrap();
    assert_eq!((status.node_roles.len(), status.nodes.len(), &status.deployment), (5, 2, &listed[0]));
    for (format, begin) in [("json", "{"), ("dot", "digraph"), ("mermaid", "flowchart"), ("svg", "<svg")] {
        assert!(client.graph("blue", format).await.unwrap().starts_with(begin), "{format}");
    }
    let why = client.why("blue", "g-1", "base", None).await.unwrap();
    assert_eq!((why.node_role.state, why.jobs.len(), why.events.len()), (State::Failed, 1, 1));
    // A helper has a blank in its name.
    let unknown = client.why("blue", "g-1", "base", Some(9)).await.unwrap_err();
    assert_eq!((unknown.status(), unknown.code()), (Some(404), "unknown-revision"));
    let whole = client.why_deployment("blue", None).await.unwrap();
    assert_eq!((whole.revision, whole.current), (1, true));
    assert_eq!(client.why_deployment("blue", Some(9)).await.unwrap_err().code(), "unknown-revision");
    assert_eq!(client.why_deployment("red", None).await.unwrap_err().code(), "unknown-deployment");
    assert_eq!(client.why("blue", "deployment", "map base.url", None).await.unwrap().node_role.state, State::Active);
    let jobs = client.jobs("blue", "g-1", "base").await.unwrap();
    assert_eq!(client.job(jobs[0].id).await.unwrap().id, jobs[0].id);
    let log = client.log("blue", "g-1", "base", None).await.unwrap();
    assert_eq!((log.len(), log[2499].line.as_str()), (2500, "line 2500"), "in three parts");
    let none = client.log("blue", "g-1", "base", Some(why.jobs[0].id)).await.unwrap();
    assert_eq!(none.len(), 2500);
    let other = client.log("blue", "g-2", "base", Some(why.jobs[0].id)).await.unwrap_err();
    assert_eq!(other.code(), "unknown-job", "a job of another node role is not shown under this one");
    let nodes = client.nodes().await.unwrap();
    assert_eq!(nodes.iter().map(|node| node.name.as_str()).collect::<Vec<_>>(), ["g-1", "g-2"]);
    assert_eq!(client.node("g-1").await.unwrap(), nodes[0]);
    assert_eq!(client.node_roles("g-1").await.unwrap().len(), 2);
    assert_eq!(client.roles().await.unwrap()[0].name, "app");
    assert!(client.role("app").await.unwrap().role.milestone);
    assert_eq!(client.workloads().await.unwrap()[0].groups, ["g"]);
    assert_eq!(client.workload("w").await.unwrap().document["workload"], "w");
    let events = client.events(Some("blue"), 10).await.unwrap();
    assert_eq!(events.iter().map(|event| event.kind.as_str()).collect::<Vec<_>>(), ["node-role.fail"]);
    assert_eq!(client.engines().await.unwrap(), []);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn lists_come_in_parts() {
    let (database, _, running) = start().await;
    database
        .run(
            "insert into node (node_id, name, provider, state, created_at, changed_at)
             select gen_random_uuid(), 'n' || to_char(n, 'FM0000'), 'simulated', 'up', now(), now()
             from generate_series(1, 2100) n",
        )
        .await;
    assert_eq!(running.client().nodes().await.unwrap().len(), 2102);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn what_is_asked_reaches_the_engine_with_a_name() {
    let (_database, recorder, running) = start().await;
    let client = running.client();
    let document = Document { text: "deployment: blue".to_owned(), file: "blue.yaml".to_owned() };
    let seen = |revision| vec![Seen { deployment: "blue".to_owned(), revision, plan: None }];
    assert_eq!(client.plan(&document).await.unwrap()[0].plan.totals.create, 1);
    assert_eq!(client.dry_run(&document).await.unwrap()[0].deployment, "blue");
    assert!(client.apply(document.clone(), seen(1)).await.unwrap()[0].changed);
    let moved = client.apply(document.clone(), seen(2)).await.unwrap_err();
    assert_eq!((moved.status(), moved.code()), (Some(409), "revision-moved"));
    client.plan_destroy("blue").await.unwrap();
    client.destroy("blue").await.unwrap();
    client.plan_redeploy("blue", &["web-1".to_owned()]).await.unwrap();
    let again = engine_core::request::RedeployRequest { revision: Some(3), ..Default::default() };
    client.redeploy("blue", &again).await.unwrap();
    assert_eq!(client.ask("blue", Ask::Retry, None).await.unwrap().node_roles, [""; 0]);
    assert_eq!(client.ask("blue", Ask::Pause, Some("g-1/app")).await.unwrap().node_roles, ["g-1/app"]);
    client.ask("blue", Ask::Resume, None).await.unwrap();
    client.ask("blue", Ask::Cancel, None).await.unwrap();
    client.ask("blue", Ask::Approve, Some("g-1/app")).await.unwrap();
    client.ask("blue", Ask::Accept, Some("g-1/app")).await.unwrap();
    let check = CheckRequest { role: Some("app".to_owned()), node: None };
    client.check("blue", &check).await.unwrap();
    let keys = vec![NodeKey { node: "n1".to_owned(), key: "secret".to_owned() }];
    assert!(!format!("{keys:?}").contains("secret"));
    assert_eq!(client.add_nodes(document, keys).await.unwrap(), ["n1"]);
    assert_eq!(client.stand_node("g-1", true).await.unwrap().beyond, ["etcd"]);
    assert_eq!(client.stand_node("g-1", false).await.unwrap().beyond, [""; 0]);
    assert_eq!(client.lose_node("g-1").await.unwrap_err().code(), "node-unused");
    client.rotate("blue", "etcd-ca").await.unwrap();
    client.rotate_secret("blue", "password").await.unwrap();
    assert_eq!(client.reseal().await.unwrap().unused, ["0011223344556677"]);
    client.ask_rotation("blue", "etcd-ca", RotationMove::Back).await.unwrap();
    client.revoke_authority("blue", "etcd-ca", RevocationReason::KeyCompromise).await.unwrap();
    assert_eq!(client.request_authority("blue", "etcd-ca").await.unwrap().request, "PEM");
    let import = ImportRequest { chain: "chain".to_owned(), key: Some("secret".to_owned()) };
    client.import_authority("blue", "etcd-ca", &import).await.unwrap();
    client.renew("4000").await.unwrap();
    let request = SignRequest {
        csr: String::new(),
        subject: "ann".to_owned(),
        names: Vec::new(),
        usages: vec![CertificateUsage::Client],
        lifetime: None,
        not_before: None,
        not_after: None,
    };
    assert_eq!(client.sign("blue", "etcd-ca", &request).await.unwrap_err().code(), "csr-unreadable");
    assert_eq!(client.certificate("4000").await.unwrap_err().code(), "unknown-certificate");
    let refused = client.revoke("4000", RevocationReason::Superseded).await.unwrap_err();
    assert_eq!(refused.code(), "unknown-certificate");
    assert_eq!(client.remove_node("g-1", true).await.unwrap_err().code(), "node-in-use");
    let request = ExecRequest { nodes: vec!["a".into(), "b".into()], command: vec!["true".into()], seconds: 5 };
    let mut exec = client.exec(&request).await.unwrap();
    let mut exits = Vec::new();
    while let Some(event) = exec.next().await.unwrap() {
        if let ExecEvent::Ended { node, exit, .. } = event {
            exits.push((node, exit));
        }
    }
    assert_eq!(exits, [("a".to_owned(), Some(0)), ("b".to_owned(), Some(1))]);
    insta::assert_snapshot!(recorder.taken().join("\n"), @r#"
    plan blue.yaml
    dry-run blue.yaml
    apply blue.yaml ["blue 1 false"] by ann
    apply blue.yaml ["blue 2 false"] by ann
    plan destroy blue
    destroy blue by ann
    plan redeploy blue ["web-1"]
    redeploy blue [] seen Some(3) by ann
    Retry blue all by ann
    Pause blue g-1/app by ann
    Resume blue all by ann
    Cancel blue all by ann
    Approve blue g-1/app by ann
    Accept blue g-1/app by ann
    check blue app by ann
    add nodes of blue.yaml with keys for ["n1"] by ann
    node g-1 aside by ann
    node g-1 in by ann
    lose node g-1 by ann
    rotate etcd-ca of blue by ann
    another secret of password of blue
    seal again
    Back the rotation of etcd-ca of blue by ann
    revoke etcd-ca of blue for key-compromise by ann
    request of etcd-ca of blue
    import ImportRequest { chain: "chain", .. } for etcd-ca of blue by ann
    renew 4000 by ann
    sign for ann with etcd-ca of blue by ann
    revoke 4000 for superseded by ann
    remove node g-1 by ann by force
    exec ["true"] on ["a", "b"] for 5 s
    "#);
    let mut document = Document { text: "bad".to_owned(), file: "x.yaml".to_owned() };
    let findings = client.plan(&document).await.unwrap_err();
    assert_eq!(findings.diagnostics()[0].file.as_deref(), Some("x.yaml"));
    document.text = "nothing".to_owned();
    assert!(client.plan(&document).await.unwrap()[0].plan.is_empty());
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_wrong_token_and_no_engine_are_told_apart() {
    let (_database, _, running) = start().await;
    let endpoint = Endpoint { endpoint: running.url(), token: "wrong".to_owned() };
    let error = Client::new(endpoint.clone(), "ann").unwrap().deployments().await.unwrap_err();
    assert_eq!((error.status(), error.code()), (Some(401), "unauthorized"));
    running.stop().await.unwrap();
    let error = Client::new(endpoint, "ann").unwrap().deployments().await.unwrap_err();
    assert_eq!((error.status(), error.code()), (None, "no-engine"));
    assert!(error.to_string().contains("plinth serve"), "{error}");
}

/// What holds for all deployments: bundles, profiles, policies and rules; and labels.
#[tokio::test]
async fn what_is_asked_of_all_reaches_the_engine() {
    let (_database, recorder, running) = start().await;
    let client = running.client();
    let document = Document { text: "policy: machines\n".to_owned(), file: "p.yaml".to_owned() };
    assert_eq!(client.roles().await.unwrap()[0].name, "app");
    assert_eq!(client.role("app").await.unwrap().role.name, "app");
    assert_eq!(client.role("nobody").await.unwrap_err().code(), "unknown-role");
    assert_eq!(client.workload("w").await.unwrap().workload.name, "w");
    client.bundles().await.unwrap();
    let bundle = BundleFiles { path: "./shop".to_owned(), files: [("bundle.yaml".to_owned(), String::new())].into() };
    assert_eq!(client.push_bundles(vec![bundle.clone()]).await.unwrap().bundles, ["test"]);
    assert_eq!(client.diff_bundles(vec![bundle]).await.unwrap().up_to_date, 1);
    let unknown = client.remove_bundle("shop").await.unwrap_err();
    assert_eq!((unknown.status(), unknown.code()), (Some(404), "unknown-bundle"));
    client.settings(SettingKind::Profile).await.unwrap();
    assert_eq!(client.set(&document).await.unwrap().concerns, ["blue"]);
    assert_eq!(client.remove_setting(SettingKind::Rule, "big").await.unwrap_err().code(), "unknown-setting");
    client.test_rules(None).await.unwrap();
    client.test_rules(Some(document)).await.unwrap();
    let set = serde_json::Map::from_iter([("rack".to_owned(), serde_json::json!(7))]);
    client.label_node("g-1", &LabelRequest { set, remove: vec!["pool".to_owned()] }).await.unwrap();
    client.hooks().await.unwrap();
    let hook = HookRequest { name: "chat".to_owned(), url: "https://chat/in".to_owned(), ..HookRequest::default() };
    assert_eq!(client.add_hook(&hook).await.unwrap_err().code(), "duplicate-hook");
    assert_eq!(client.test_hook("chat").await.unwrap().status, Some(200));
    assert_eq!(client.skip_hook("chat").await.unwrap(), 7);
    client.remove_hook("chat").await.unwrap();
    let asked = [
        "bundles",
        "push ./shop by ann",
        "diff 1 bundles",
        "remove bundle shop by ann",
        "settings profile",
        "set p.yaml by ann",
        "remove rule big by ann",
        "test rules of nothing",
        "test rules of p.yaml",
        "label g-1 {\"rack\":7} [\"pool\"] by ann",
        "hooks",
        "add hook chat to https://chat/in by ann",
        "test hook chat by ann",
        "skip hook chat",
        "remove hook chat by ann",
    ];
    assert_eq!(recorder.taken(), asked);
    running.stop().await.unwrap();
}
