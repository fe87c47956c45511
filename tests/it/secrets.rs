//! Secrets: they reach those who read them, and are seen nowhere else.

mod credential;

use std::process::Command;

use engine_core::plan::{Action, Cause};
use engine_core::view::{SecretView, StatusView};
use engine_store::read;
use serde_json::Value;

use crate::site::Site;
use crate::support::{World, find};

/// What nobody may see.
const PLANTED: &str = "hunter2-correct-horse";
/// How it looks when something has it in base64.
const CODED: &str = "aHVudGVyMi1jb3JyZWN0LWhvcnNl";

/// Parameters that are write-only, a secret that is made, and one that follows from a secret.
const BUNDLE: [(&str, &str); 4] = [
    (
        "roles/app/role.yaml",
        "role: app\nversion: 1.0.0\nabout: A service with a password and a key.\nruns: node\nmilestone: true\n\
         inputs:\n  dsn: {schema: {type: string}, secret: true}\n  token: {schema: {type: string}, secret: true}\n\
         \x20 key: {schema: {type: string}, from: random-secret.value, secret: true}\n\
         \x20 port: {schema: {type: integer}, default: 80}\n\
         outputs:\n  session: {schema: {type: string}, value: '{{ token }}@{{ port }}', secret: true}\n\
         \x20 port: {schema: {type: integer}, value: '{{ port }}'}\n\
         apply:\n  - file: {path: /etc/app.conf, content: \"dsn={{ dsn }}\\nkey={{ key }}\\n\", mode: '0600'}\n\
         \x20 - run: {script: start.sh}\n",
    ),
    (
        "roles/app/scripts/start.sh",
        "echo \"the token is $token, or $(printf %s \"$token\" | base64 -w0)\"\n\
         cat \"$PLINTH_INPUTS\"\nps -ef >/var/lib/processes\n\
         until [ ! -e /var/lib/wait ]; do sleep 0.1; done\n\
         if [ \"$port\" = 99 ]; then echo \"no port for $token\" >&2; exit 3; fi\n",
    ),
    (
        "roles/sessions/role.yaml",
        "role: sessions\nversion: 1.0.0\nabout: Knows the sessions of all.\nruns: deployment\nat: one app\nmilestone: true\n\
         inputs: {all: {schema: {type: object, additionalProperties: {type: string}}, from: map app.session, secret: true}}\n\
         apply:\n  - file: {path: /etc/sessions, content: '{{ all | tojson }}', mode: '0600'}\n",
    ),
    (
        "workloads/app/workload.yaml",
        "workload: app\nversion: 1.0.0\nabout: A service.\ngroups: {all: {count: {default: 2}}}\n\
         parameters:\n  type: object\n  additionalProperties: false\n  required: [password]\n  properties:\n\
         \x20   password: {type: string, minLength: 8, writeOnly: true}\n    port: {type: integer, default: 80}\n\
         roles:\n  all: [{app: {with: {dsn: 'db://u:{{ parameters.password }}@h', token: '{{ parameters.password }}', port: '{{ parameters.port }}'}}}]\n\
         \x20 deployment: [sessions]\n",
    ),
];

fn app(provider: &str, password: &str, port: u32) -> String {
    format!(
        "deployment: blue\nworkload: app\nnodes: {{all: {{provider: {provider}, count: 2}}}}\nparameters: {{password: {password}, port: {port}}}\n"
    )
}

async fn secrets(world: &World) -> Vec<SecretView> {
    read::secrets(world.database.pool(), "blue").await.expect("readable").expect("a deployment")
}

/// Jobs of applying by node role.
async fn counts(world: &World, status: &StatusView) -> Vec<usize> {
    let counts = world.applies(status).await;
    let of = |place: &str| counts.iter().find(|(at, _)| at == place).map_or(0, |(_, count)| *count);
    vec![of("deployment/random-secret"), of("blue-all-1/app"), of("blue-all-2/app"), of("deployment/sessions")]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_runs_again_who_reads_it_and_is_kept_by_its_digest_only() {
    let world = World::new(&BUNDLE).await;
    let engine = world.engine().await;
    let control = engine.control();
    let document = app("simulated", PLANTED, 80);
    control.apply(&document, "f", &[], "test").await.expect("applied");
    let status = world.until_active("blue").await;
    assert_eq!(counts(&world, &status).await, [1, 1, 1, 1]);
    // The same again is nothing, in clear, as the engine keeps it, and sealed for a file.
    let kept = read::deployment(world.database.pool(), "blue").await.expect("readable").expect("there").document;
    let sealed = control.seal_document(&document, "f").await.expect("sealed");
    assert!(kept["parameters"]["password"]["$secret"].is_string(), "{kept}");
    assert!(sealed.contains("$sealed") && !sealed.contains(PLANTED), "{sealed}");
    for text in [document.clone(), kept.to_string(), sealed.clone()] {
        assert!(!control.plan(&text, "f").await.expect("a plan")[0].changed, "{text}");
    }
    // What was sealed for one deployment opens for no other, and neither does what stands for it.
    for text in [sealed.replace("deployment: blue", "deployment: red"), kept.to_string().replace("\"blue\"", "\"red\"")]
    {
        let refused = control.plan(&text, "f").await.expect_err("another deployment");
        assert_eq!(refused.diagnostics.iter().map(|one| one.code.as_str()).collect::<Vec<_>>(), ["secret-unknown"]);
    }
    // Another password is told as a change and as nothing else; who reads it runs again.
    let other = app("simulated", "another-password", 80);
    let plan = control.plan(&other, "f").await.expect("a plan");
    let text = serde_json::to_string(&plan).expect("JSON");
    assert!(!text.contains("another-password") && !text.contains(PLANTED), "{text}");
    let item = plan[0].plan.items.iter().find(|item| item.node == "blue-all-1" && item.role == "app").expect("planned");
    assert_eq!(item.action, Action::ReRun);
    let told = item
        .causes
        .iter()
        .any(|cause| matches!(cause, Cause::Input { input, from: None, to: None, .. } if input == "token"));
    assert!(told, "{:?}", item.causes);
    control.apply(&other, "f", &[], "test").await.expect("applied");
    let status = world.until_active("blue").await;
    assert_eq!(counts(&world, &status).await, [1, 2, 2, 2]);
    // A secret that is made stays what it is until somebody wants another one, also when what makes it runs again.
    control.renew_secret("blue", "random-secret").await.expect("asked for");
    let status = world.until("blue", |s| find(s, "blue-all-2/app").attempts == 3).await;
    let status =
        if find(&status, "deployment/sessions").cause.is_none() { status } else { world.until_active("blue").await };
    let status = if status.node_roles.iter().all(|role| role.cause.is_none()) {
        world.until_active("blue").await
    } else {
        status
    };
    assert_eq!(counts(&world, &status).await, [2, 3, 3, 2], "sessions do not follow from the key");
    let refused = control.renew_secret("blue", "sessions").await.expect_err("it makes none");
    assert_eq!(refused.code, "unknown-secret");
    // Where they went.
    let all = secrets(&world).await;
    let names: Vec<(&str, Vec<String>)> = all
        .iter()
        .map(|one| {
            let readers = one.readers.iter().map(|reader| format!("{}/{}.{}", reader.node, reader.role, reader.input));
            (one.name.as_str(), readers.collect())
        })
        .collect();
    let apps = |input: &str| vec![format!("blue-all-1/app.{input}"), format!("blue-all-2/app.{input}")];
    assert_eq!(
        names,
        [
            ("app.session", vec!["deployment/sessions.all".to_owned()]),
            ("parameters.password", [apps("dsn"), apps("token")].concat()),
            ("random-secret.value", apps("key")),
        ]
    );
    assert!(all.iter().flat_map(|one| &one.readers).all(|reader| reader.given_at.is_some()));
    // The database has nothing of it, and when the deployment is gone not even what was sealed.
    let text = world.database.everything().await;
    assert!(text.contains("$secret") && text.contains("secret: "));
    for hidden in [PLANTED, CODED, "another-password"] {
        assert!(!text.contains(hidden), "`{hidden}` is in the database");
    }
    control.destroy("blue", "test").await.expect("destroyed");
    world.until("blue", |status| status.deployment.health == engine_core::view::Health::Gone).await;
    assert!(!world.database.everything().await.contains("secret: "));
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_would_show_a_secret_is_refused_with_the_place() {
    for (from, to, place) in [
        ("token: {schema: {type: string}, secret: true}", "token: {schema: {type: string}}", "roles/app/role.yaml"),
        ("from: random-secret.value, secret: true", "from: random-secret.value", "roles/app/role.yaml"),
        ("from: map app.session, secret: true", "from: map app.session", "roles/sessions/role.yaml"),
    ] {
        let mut files = BUNDLE.map(|(path, text)| (path, text.replace(from, to)));
        // What a role itself gives away is found when it is loaded; here it is the wiring.
        files[0].1 = files[0].1.replace("value: '{{ token }}@{{ port }}'", "value: 'session of {{ port }}'");
        let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();
        let world = World::new(&files).await;
        let engine = world.engine().await;
        let refused = engine.control().plan(&app("simulated", PLANTED, 80), "f").await.expect_err("exposed");
        let found = refused.diagnostics.iter().find(|one| one.code == "secret-exposed").expect("told");
        assert!(found.file.as_deref().is_some_and(|file| file.ends_with(place)), "{found:?}");
        assert!(!format!("{refused:?}").contains(PLANTED));
        engine.stop().await;
    }
}

#[test]
fn a_planted_secret_is_found_nowhere_in_clear() {
    let mut site = Site::new(&BUNDLE);
    let engine = site.start();
    let document = site.write("blue.yaml", &app("lab", PLANTED, 80));
    let mut seen = String::new();
    let plan = site.folder().join("plan.json").display().to_string();
    seen.push_str(&site.ok(&["plan", &document, "--out", &plan]));
    seen.push_str(&std::fs::read_to_string(&plan).expect("a plan"));
    seen.push_str(&site.ok(&["apply", "--plan", &plan, "--yes", "--wait"]));
    site.until_active("blue");
    for node in ["blue-all-1", "blue-all-2"] {
        let conf = site.ok(&["exec", node, "--", "cat", "/etc/app.conf"]);
        assert!(conf.contains(&format!("dsn=db://u:{PLANTED}@h")), "it reaches the node: {conf}");
        let log = site.ok(&["logs", "blue", &format!("{node}/app")]);
        assert!(log.contains("the token is [secret], or [secret]"), "{log}");
        seen.push_str(&log);
        seen.push_str(&site.ok(&["exec", node, "--", "cat", "/var/lib/processes"]));
        let left = site.ok(&[
            "exec",
            node,
            "--",
            "bash",
            "-c",
            &format!("grep -rlF {PLANTED} /var/lib/plinth /run/plinth /var/log || true"),
        ]);
        assert_eq!(left, "", "left on the node");
    }
    let sessions = site.ok(&["exec", "blue-all-1", "--", "bash", "-c", "cat /etc/sessions || true"]);
    assert!(sessions.is_empty() || sessions.contains(PLANTED));
    // A failure that has it in its mouth, a dry run, drift with a diff, and an engine that is killed by SIGABRT in the middle of a job.
    let failing = site.write("failing.yaml", &app("lab", PLANTED, 99));
    seen.push_str(&site.ok(&["plan", &failing, "--dry-run"]));
    site.ok(&["apply", &failing, "--yes"]);
    let status = site.until("blue", "failed", |status| status["deployment"]["health"] == "failed");
    assert!(status.to_string().contains("no port for [secret]"), "{status}");
    seen.push_str(&status.to_string());
    seen.push_str(&site.ok(&["why", "blue", "blue-all-1/app", "-o", "json"]));
    for node in ["blue-all-1", "blue-all-2"] {
        site.ok(&["exec", node, "--", "touch", "/var/lib/wait"]);
    }
    let mended = site.write("mended.yaml", &app("lab", PLANTED, 81));
    site.ok(&["apply", &mended, "--yes"]);
    site.until("blue", "running", |status| {
        status["node_roles"]
            .as_array()
            .is_some_and(|all| all.iter().any(|one| one["role"] == "app" && one["state"] == "running"))
    });
    // All that runs on this machine, with the engine and its children in the middle of a job.
    let processes = Command::new("ps").args(["-ef", "-ww"]).output().expect("ps").stdout;
    let processes = String::from_utf8_lossy(&processes).into_owned();
    assert!(processes.contains("plinth serve") || processes.contains("serve --listen"), "{processes}");
    seen.push_str(&processes);
    site.signal(engine, "-ABRT");
    seen.push_str(&site.log());
    let engine = site.start();
    for node in ["blue-all-1", "blue-all-2"] {
        site.ok(&["exec", node, "--", "rm", "/var/lib/wait"]);
    }
    site.until_active("blue");
    site.ok(&["exec", "blue-all-1", "--", "bash", "-c", "echo more >>/etc/app.conf"]);
    let drift = site.run(&["drift", "blue", "-o", "json"]);
    let drift = String::from_utf8_lossy(&drift.stdout).into_owned();
    assert!(drift.contains("content differs, and holds a secret"), "{drift}");
    seen.push_str(&drift);
    for words in [
        &["events", "--limit", "1000", "-o", "json"][..],
        &["deployment", "show", "blue", "-o", "json"],
        &["status", "blue", "-o", "json"],
        &["history", "blue", "-o", "json"],
        &["secret", "list", "blue", "-o", "json"],
        &["secret", "where", "blue", "parameters.password"],
        &["graph", "blue", "-o", "json"],
        &["why", "blue", "-o", "json"],
    ] {
        seen.push_str(&site.ok(words));
    }
    seen.push_str(&site.database());
    seen.push_str(&site.log());
    // What was made by itself is as hidden as what was planted.
    let conf = site.ok(&["exec", "blue-all-2", "--", "cat", "/etc/app.conf"]);
    let made = conf.split("key=").nth(1).and_then(|rest| rest.split_whitespace().next()).expect(&conf).to_owned();
    assert_eq!(made.len(), 32);
    for hidden in [PLANTED, CODED, made.as_str()] {
        assert!(!seen.contains(hidden), "`{hidden}` was seen: {}", around(&seen, hidden));
    }
    let where_it_went: Value =
        serde_json::from_str(&site.ok(&["secret", "where", "blue", "parameters.password", "-o", "json"]))
            .expect("JSON");
    assert_eq!(where_it_went["readers"].as_array().map(Vec::len), Some(4));
    another_seal_key(&mut site, engine);
    site.ok(&["destroy", "blue", "--yes", "--wait"]);
}

/// Everything is sealed by another key, and the one before may go.
fn another_seal_key(site: &mut Site, engine: usize) {
    let file = site.data().join("seal.key");
    let before = std::fs::read_to_string(&file).expect("the seal key");
    let another = "00112233aabbccdd AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n";
    std::fs::write(&file, format!("{before}{another}")).expect("another key");
    site.kill(engine);
    let engine = site.start();
    let done: Value = serde_json::from_str(&site.ok(&["secret", "reseal", "-o", "json"])).expect("JSON");
    assert!(done["values"].as_u64().is_some_and(|values| values >= 4), "{done}");
    assert_eq!(done["unused"].as_array().map(Vec::len), Some(1), "{done}");
    std::fs::write(&file, another).expect("the other key alone");
    site.kill(engine);
    site.start();
    let last = site.write("last.yaml", &app("lab", PLANTED, 82));
    site.ok(&["apply", &last, "--yes", "--wait"]);
    let conf = site.ok(&["exec", "blue-all-1", "--", "cat", "/etc/app.conf"]);
    assert!(conf.contains(PLANTED) && !conf.contains("more"), "{conf}");
}

fn around<'t>(text: &'t str, needle: &str) -> &'t str {
    let at = text.find(needle).unwrap_or_default();
    let begin = (at.saturating_sub(200)..=at).find(|place| text.is_char_boundary(*place)).unwrap_or(at);
    &text[begin..at]
}
