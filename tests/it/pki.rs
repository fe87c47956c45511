//! Authorities and certificates. Nodes are simulated where requests are planted; the engine signs as it always does.

use engine_core::request::Ask;
use engine_core::state::State;
use engine_core::view::{Health, JobView, StatusView};
use engine_store::pass::Revisions;
use engine_store::pki::{self, Certificate};
use engine_store::{read, rotation};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use serde_json::json;

use crate::support::{World, find, openssl};

/// A service with a certificate, and its own authority.
pub(crate) const WEB: [(&str, &str); 3] = [
    (
        "roles/web-ca/role.yaml",
        "role: web-ca\nversion: 1.0.0\nabout: The authority of the service.\nis: certificate-authority\nwith: {common_name: web}\n",
    ),
    (
        "roles/web/role.yaml",
        "role: web\nversion: 1.0.0\nabout: A service.\nruns: node\nmilestone: true\n\
         uses:\n  tls: {role: tls-certificate, from: {issuer: web-ca.issuer, trust: web-ca.trust}, \
         with: {directory: /etc/web, usages: [server], lifetime: '{{ lifetime }}'}}\n\
         inputs:\n  lifetime: {schema: {type: string, pattern: '^([0-9]+(s|m|h|d))+$'}}\n  tls: {schema: {$ref: types/tls-files}, from: tls.files}\n\
         apply:\n  - run: {text: 'echo {{ tls.fingerprint }} >>/var/lib/web.log', creates: /var/lib/never-there}\n",
    ),
    (
        "workloads/web/workload.yaml",
        "workload: web\nversion: 1.0.0\nabout: A service.\ngroups: {all: {count: {default: 1}}}\n\
         parameters: {type: object, properties: {lifetime: {type: string, default: 30d}}}\n\
         roles: {all: [{web: {with: {lifetime: '{{ parameters.lifetime }}'}}}]}\n",
    ),
];

/// What a node asks for: a request in PEM.
pub(crate) fn request(subject: &str, names: &[&str]) -> String {
    let key = KeyPair::generate().expect("a key");
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("names");
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, subject);
    params.serialize_request(&key).expect("a request").pem().expect("PEM")
}

/// The service on one simulated node, whose request is this.
pub(crate) fn web(lifetime: &str, csr: &str) -> String {
    let digest = format!("sha256:{}", "0".repeat(64));
    let files = json!({"key": "/k", "cert": "/c", "ca": "/a", "fingerprint": digest, "not_after": "2027-01-01T00:00:00Z",
                       "trust_generation": 1});
    let script = json!({
        "web-tls-key": {"outputs": {"key": {"path": "/etc/web/key.pem", "digest": digest}, "csr": csr}},
        "web-tls": {"outputs": {"files": files}},
    });
    format!(
        "deployment: blue\nworkload: web\nparameters: {{lifetime: {lifetime}}}\n\
         nodes: {{all: {{provider: simulated, count: 1, with: {{address: 10.9.8.7, script: {script}}}}}}}\n"
    )
}

pub(crate) const NAMES: [&str; 2] = ["blue-all-1.blue.plinth.internal", "10.9.8.7"];

/// The applies of a node role that succeeded, oldest first.
async fn applies(world: &World, status: &StatusView, of: &str) -> Vec<JobView> {
    let mut jobs = read::jobs(world.database.pool(), find(status, of).id, 100).await.expect("jobs");
    jobs.retain(|job| job.action == "apply" && job.outcome.as_deref() == Some("succeeded"));
    jobs.reverse();
    jobs
}

/// What the applies of the leaf signed.
pub(crate) async fn signed(world: &World, status: &StatusView) -> Vec<Certificate> {
    let mut all = Vec::new();
    for job in applies(world, status, "blue-all-1/web-tls-leaf").await {
        all.extend(pki::signed_by(world.database.pool(), job.id).await.expect("readable"));
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_asks_for_is_signed_and_openssl_takes_it() {
    let world = World::new(&WEB).await;
    let engine = world.engine().await;
    let csr = request("blue-all-1", &NAMES);
    engine.control().apply(&web("30d", &csr), "f", &[], "test").await.expect("applied");
    let status = world.until_active("blue").await;
    let authority = pki::of_vertex(world.database.pool(), find(&status, "deployment/web-ca").id).await;
    let authority = authority.expect("readable").expect("an authority");
    let signed = signed(&world, &status).await;
    let [signed] = signed.as_slice() else { panic!("one certificate: {signed:#?}") };
    let folder = tempfile::tempdir().expect("a folder");
    let ca = folder.path().join("ca.pem").display().to_string();
    std::fs::write(&ca, &authority.certificate).expect("a file");
    let verified = openssl(&["verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", &ca], &signed.body);
    assert_eq!(verified.trim(), "stdin: OK");
    let other = openssl(&["verify", "-purpose", "sslclient", "-CAfile", &ca], &signed.body);
    assert!(other.contains("unsuitable certificate purpose"), "{other}");
    let text = openssl(&["x509", "-noout", "-text"], &signed.body);
    let san = "DNS:blue-all-1.blue.plinth.internal, IP Address:10.9.8.7";
    for wanted in ["Subject: CN = blue-all-1", "Issuer: CN = web", san, "CA:FALSE", "TLS Web Server Authentication"] {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
    let text = openssl(&["x509", "-noout", "-text"], &authority.certificate);
    for wanted in
        ["CA:TRUE, pathlen:0", "Name Constraints: critical", "DNS:blue.plinth.internal", "Certificate Sign, CRL Sign"]
    {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
    // Nothing is due, and a second look changes nothing.
    let again = engine.control().plan(&web("30d", &csr), "f").await.expect("a plan");
    assert!(!again[0].changed, "{again:#?}");
    engine.control().destroy("blue", "test").await.expect("destroyed");
    world.until("blue", |status| status.deployment.health == Health::Gone).await;
    assert!(pki::authority(world.database.pool(), authority.id).await.expect("readable").is_none(), "its key is gone");
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_the_names_of_others_gets_nothing() {
    for (csr, code) in [
        (request("blue-all-1", &[NAMES[0], NAMES[1], "blue-all-2.blue.plinth.internal"]), "csr-name-foreign"),
        (request("blue-all-2", &NAMES), "csr-name-foreign"),
        (request("blue-all-1", &[NAMES[0], NAMES[1], "*.blue.plinth.internal"]), "csr-name-wildcard"),
        (request("blue-all-1", &NAMES[..1]), "csr-name-missing"),
    ] {
        let world = World::new(&WEB).await;
        let engine = world.engine().await;
        engine.control().apply(&web("30d", &csr), "f", &[], "test").await.expect("applied");
        let failed = |status: &StatusView| status.node_roles.iter().any(|role| role.code.is_some());
        let status = world.until("blue", failed).await;
        let leaf = find(&status, "blue-all-1/web-tls-leaf");
        assert_eq!((leaf.state, leaf.code.as_deref()), (State::Failed, Some(code)), "{:?}", leaf.message);
        assert_eq!(find(&status, "blue-all-1/web").state, State::Blocked);
        assert_eq!(signed(&world, &status).await, []);
        engine.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_renewed_at_two_thirds_of_its_life_also_by_another_engine() {
    let world = World::new(&WEB).await;
    let engine = world.engine().await;
    let csr = request("blue-all-1", &NAMES);
    engine.control().apply(&web("9s", &csr), "f", &[], "test").await.expect("applied");
    let status = world.until_active("blue").await;
    let first = signed(&world, &status).await;
    assert_eq!((first[0].not_after - first[0].renew_at).whole_seconds(), 3);
    // The time is in its row and not in an engine.
    engine.stop().await;
    let engine = world.engine().await;
    let leaf = "blue-all-1/web-tls-leaf";
    let status = world.until("blue", |s| find(s, leaf).attempts >= 3 && find(s, leaf).state == State::Active).await;
    let all = signed(&world, &status).await;
    for pair in all.windows(2) {
        assert_ne!(pair[0].serial, pair[1].serial);
        assert!(pair[1].renew_at > pair[0].renew_at && pair[1].not_after > pair[0].not_after);
    }
    for pair in applies(&world, &status, leaf).await.windows(2) {
        let earlier = all.iter().find(|one| one.renew_at > pair[0].claimed_at).expect("signed then");
        assert!(pair[1].claimed_at >= earlier.renew_at, "not before its time");
        assert!(pair[1].claimed_at < earlier.not_after, "before its end");
    }
    // Only what reads it ran again: the key stayed, and the service reads a fingerprint that the script never changes.
    let counts = world.applies(&status).await;
    let count = |of: &str| counts.iter().find(|(place, _)| place == of).map(|(_, count)| *count).expect("there");
    assert_eq!((count("deployment/web-ca"), count("blue-all-1/web-tls-key"), count("blue-all-1/web")), (1, 1, 1));
    engine.stop().await;
}

/// Generation, state and what is waited for, of each that is trusted.
pub(crate) async fn authorities(world: &World) -> Vec<(i32, String, Vec<String>)> {
    let all = read::authorities(world.database.pool(), "blue").await.expect("readable").expect("a deployment");
    all.into_iter().map(|one| (one.generation, one.state, one.waits_for)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_waits_for_whoever_has_not_absorbed_its_stage_also_over_engines() {
    let world = World::new(&WEB).await;
    let engine = world.engine().await;
    let csr = request("blue-all-1", &NAMES);
    engine.control().apply(&web("30d", &csr), "f", &[], "test").await.expect("applied");
    let status = world.until_active("blue").await;
    let first = signed(&world, &status).await;
    let refused = engine.control().rotate("blue", "web", "test").await.expect_err("no authority");
    assert_eq!(refused.code, "unknown-authority");
    let held = "blue-all-1/web-tls";
    engine.control().ask(Ask::Pause, "blue", Some(held), "test").await.expect("paused");
    engine.control().rotate("blue", "web-ca", "test").await.expect("begun");
    let refused = engine.control().rotate("blue", "web-ca", "test").await.expect_err("it moves");
    assert_eq!(refused.code, "authority-moves");
    world.until("blue", |status| find(status, held).state == State::Blocked).await;
    let introduced = |waits: &[&str]| {
        let waits: Vec<String> = waits.iter().map(|place| (*place).to_owned()).collect();
        vec![(1, "active".to_owned(), Vec::new()), (2, "introduced".to_owned(), waits)]
    };
    world.until("blue", |status| find(status, "deployment/web-ca").state == State::Active).await;
    engine.stop().await;
    // What holds it is named, and no time ends that.
    rotation::advance(world.database.pool(), &Revisions::default()).await.expect("nothing to do");
    assert_eq!(authorities(&world).await, introduced(&[held]));
    let engine = world.engine().await;
    assert_eq!(signed(&world, &status).await, first, "the old one signs still");
    engine.control().ask(Ask::Resume, "blue", Some(held), "test").await.expect("resumed");
    let end = tokio::time::Instant::now() + std::time::Duration::from_mins(1);
    while authorities(&world).await != [(2, "active".to_owned(), Vec::new())] {
        assert!(tokio::time::Instant::now() < end, "never ended: {:?}", authorities(&world).await);
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let status = world.until_active("blue").await;
    let all = signed(&world, &status).await;
    assert_eq!(all.len(), 2, "signed again, once");
    let vertex = find(&status, "deployment/web-ca").id;
    let now = pki::of_vertex(world.database.pool(), vertex).await.expect("readable").expect("an authority");
    let folder = tempfile::tempdir().expect("a folder");
    let ca = folder.path().join("ca.pem").display().to_string();
    std::fs::write(&ca, &now.certificate).expect("a file");
    assert_eq!(openssl(&["verify", "-CAfile", &ca], &all[1].body).trim(), "stdin: OK");
    assert!(openssl(&["verify", "-CAfile", &ca], &all[0].body).contains("verification failed"));
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_dies_between_signing_and_telling_has_signed_once() {
    let world = World::new(&WEB).await;
    let engine = world.engine().await;
    let csr = request("blue-all-1", &NAMES);
    engine.control().apply(&web("30d", &csr), "f", &[], "test").await.expect("applied");
    let status = world.until_active("blue").await;
    let before = signed(&world, &status).await;
    engine.stop().await;
    // The rows as they were when the certificate was written, and nothing was reported.
    let leaf = find(&status, "blue-all-1/web-tls-leaf").id;
    let job = applies(&world, &status, "blue-all-1/web-tls-leaf").await[0].id;
    let rows = format!(
        "update job set finished_at = null, outcome = null, engine_id = null where job_id = '{job}';
         update vertex set state = 'running', since = 1, job_id = '{job}', applying = true, armed = true, applied = null,
                frozen = (select digest from job where job_id = '{job}'), outputs = '{{}}', serving = false, renew_at = null
         where vertex_id = '{leaf}';
         update tally set stale = stale + 1, active = active - 1 where role = 'web-tls-leaf';"
    );
    world.database.run(&rows).await;
    let engine = world.engine().await;
    let status = world.until_active("blue").await;
    assert_eq!(find(&status, "blue-all-1/web-tls-leaf").attempts, 1);
    assert_eq!(signed(&world, &status).await, before);
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_with_another_seal_key_does_not_start() {
    let world = World::new(&WEB).await;
    let engine = world.engine().await;
    engine.stop().await;
    let mine = std::fs::read_to_string(&world.config().seal_key.path).expect("it was made");
    let folder = tempfile::tempdir().expect("a folder");
    let refused = async |text: Option<String>| {
        let mut config = world.config();
        config.seal_key.path = folder.path().join("seal.key");
        if let Some(text) = text {
            std::fs::write(&config.seal_key.path, text).expect("a file");
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            std::fs::set_permissions(&config.seal_key.path, mode).expect("a mode");
        }
        match engine_daemon::Engine::start(config).await {
            Ok(engine) => {
                engine.stop().await;
                "started"
            }
            Err(error) => error.code(),
        }
    };
    assert_eq!(refused(None).await, "seal-key-missing", "no second key is made");
    let (id, _) = mine.lines().last().and_then(|line| line.split_once(' ')).expect("a key");
    let key = |byte: u8| base64::Engine::encode(&base64::engine::general_purpose::STANDARD, [byte; 32]);
    assert_eq!(refused(Some(format!("{id} {}\n", key(7)))).await, "seal-key-wrong");
    assert_eq!(refused(Some(format!("00112233aabbccdd {}\n", key(7)))).await, "seal-key-missing");
    assert_eq!(refused(Some(format!("{mine}00112233aabbccdd {}\n", key(7)))).await, "started", "a newer one beside it");
    assert_eq!(refused(Some(mine)).await, "seal-key-missing", "which has sealed since");
}
