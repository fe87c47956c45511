//! Commands that ask an engine, as people run them: exit codes and what is printed. Behind the API stands a recorder.

#[path = "../../server/tests/it/support.rs"]
#[allow(dead_code, reason = "the tests of the server use the rest")]
mod support;

use std::process::Stdio;

use engine_store::testing::Database;
use support::{Recorder, Running, TOKEN, start};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Command;

struct Said {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

fn command(running: Option<&Running>, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_plinth"));
    command.args(args).stdin(Stdio::null()).kill_on_drop(true);
    for name in ["PLINTH_ENDPOINT", "PLINTH_TOKEN", "PLINTH_OUTPUT_FORMAT", "SUDO_USER"] {
        command.env_remove(name);
    }
    command.env("PLINTH_DATA", "/nonexistent").env("USER", "ann");
    if let Some(running) = running {
        command.env("PLINTH_ENDPOINT", running.url()).env("PLINTH_TOKEN", TOKEN);
    }
    command
}

async fn plinth(running: Option<&Running>, args: &[&str]) -> Said {
    let output = command(running, args).output().await.expect("plinth runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    Said { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// A file with a deployment document; what it says decides what the recorder answers.
fn file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), text).expect("written");
    file
}

async fn blue() -> (Database, Recorder, Running) {
    start().await
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_codes_say_what_went_wrong() {
    let (_database, _, running) = blue().await;
    let bad = file("bad");
    let table: [(&[&str], i32, &str); 10] = [
        (&["status", "red"], 3, "[unknown-deployment]"),
        (&["why", "blue", "g-1/none"], 3, "[unknown-node-role]"),
        (&["why", "blue", "none"], 2, "NODE/ROLE"),
        (&["node", "remove", "g-1"], 4, "[node-in-use]"),
        (&["plan", bad.path().to_str().expect("text")], 1, "error[unknown-key]"),
        (&["plan", "/no/such/file"], 3, "[no-such-path]"),
        (&["status", "blue", "--token", "wrong"], 6, "[unauthorized]"),
        (&["status", "blue", "-o", "svg"], 2, "plinth graph"),
        (&["wait", "blue", "--for", "gone", "--timeout", "1s"], 1, "[deployment-failed]"),
        (&["wait", "blue", "--timeout", "1d"], 2, "90s or 5m"),
    ];
    for (args, code, said) in table {
        let output = plinth(Some(&running), args).await;
        assert_eq!(output.code, Some(code), "{args:?}: {}", output.stderr);
        assert!(output.stderr.contains(said), "{args:?}: {}", output.stderr);
        assert!(output.stdout.is_empty(), "{args:?}: {}", output.stdout);
    }
    running.stop().await.expect("stops");
    let output = plinth(None, &["status", "blue"]).await;
    assert_eq!(output.code, Some(1));
    assert!(output.stderr.contains("[no-engine]") && output.stderr.contains("plinth serve"), "{}", output.stderr);
    let output = plinth(None, &["status", "blue", "--endpoint", "http://127.0.0.1:9"]).await;
    assert_eq!(output.code, Some(6), "an endpoint without a token: {}", output.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_has_three_exit_codes_and_apply_asks() {
    let (_database, recorder, running) = blue().await;
    let (some, nothing) = (file("some"), file("nothing"));
    let (some, nothing) = (some.path().to_str().expect("text"), nothing.path().to_str().expect("text"));
    let plan = plinth(Some(&running), &["plan", some]).await;
    assert_eq!(plan.code, Some(0));
    insta::assert_snapshot!(plan.stdout, @r"
    Plan for blue: 1 to create, 0 to re-run, 0 to leave, 0 outdated, 0 untouched.

      + create    g-1/app  new
    ");
    assert_eq!(plinth(Some(&running), &["plan", some, "--detailed-exitcode"]).await.code, Some(2));
    assert_eq!(plinth(Some(&running), &["plan", nothing, "--detailed-exitcode"]).await.code, Some(0));
    recorder.taken();

    let asked = plinth(Some(&running), &["apply", some]).await;
    assert_eq!(asked.code, Some(1));
    assert!(asked.stderr.contains("[not-confirmed]") && asked.stdout.contains("1 to create"), "{}", asked.stderr);
    assert!(recorder.taken().iter().all(|asked| asked.starts_with("plan")), "nothing is applied without an answer");

    let applied = plinth(Some(&running), &["apply", some, "--yes"]).await;
    assert_eq!(applied.code, Some(0), "{}", applied.stderr);
    assert!(applied.stdout.ends_with("blue: committed as revision 1\n"), "{}", applied.stdout);
    assert_eq!(recorder.taken().pop().expect("asked"), format!("apply {some} [\"blue 1 false\"] by ann"));
    let json = plinth(Some(&running), &["apply", nothing, "-o", "json"]).await;
    let value: serde_json::Value = serde_json::from_str(&json.stdout).expect("one JSON value");
    assert_eq!((json.code, &value[0]["changed"]), (Some(0), &serde_json::json!(false)));

    let request = plinth(Some(&running), &["plan", some, "-o", "markdown"]).await;
    insta::assert_snapshot!(request.stdout, @r"
    ### Plan for `blue`

    1 to create, 0 to re-run (0 may be spared), 0 to leave, 0 outdated, 0 untouched.

    | | node role | why, and what the machine feels |
    | --- | --- | --- |
    | `+` create | `g-1/app` | new |
    ");
    assert_eq!(plinth(Some(&running), &["status", "blue", "-o", "markdown"]).await.code, Some(2));
    // A plan that was kept is applied exactly.
    let folder = tempfile::tempdir().expect("a folder");
    let kept = folder.path().join("kept");
    let kept = kept.to_str().expect("text");
    assert_eq!(plinth(Some(&running), &["plan", some, "--out", kept]).await.code, Some(0));
    recorder.taken();
    let exactly = plinth(Some(&running), &["apply", "--plan", kept, "--yes"]).await;
    assert_eq!(exactly.code, Some(0), "{}", exactly.stderr);
    assert!(exactly.stdout.contains("1 to create"), "{}", exactly.stdout);
    assert_eq!(recorder.taken(), [format!("apply {some} [\"blue 1 true\"] by ann")]);
    std::fs::write(kept, "{\"plan_file\": 1, \"plans\": []}").expect("written");
    let bad = plinth(Some(&running), &["apply", "--plan", kept, "--yes"]).await;
    assert!(bad.code == Some(1) && bad.stderr.contains("[bad-plan-file]"), "{}", bad.stderr);
    assert_eq!(plinth(Some(&running), &["apply", some, "--plan", kept]).await.code, Some(2));
    recorder.taken();
    plinth(Some(&running), &["apply", nothing, "--yes"]).await;

    let mut child = command(Some(&running), &["plan", "-"]).stdin(Stdio::piped()).spawn().expect("plinth runs");
    child.stdin.take().expect("a pipe").write_all(b"some").await.expect("written");
    assert!(child.wait().await.expect("ends").success());
    // What would change nothing is not applied at all.
    assert_eq!(recorder.taken(), [format!("plan {nothing}"), "plan standard input".to_owned()]);
    running.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_scaled_by_its_committed_document() {
    let (database, recorder, running) = blue().await;
    database
        .run(
            r#"update revision set document = '{"deployment": "blue", "workload": "w",
               "nodes": {"g": {"provider": "lab"}, "h": ["x", "y"]}}'"#,
        )
        .await;
    let plan = plinth(Some(&running), &["scale", "blue", "g", "5", "--plan-only"]).await;
    assert_eq!(plan.code, Some(0), "{}", plan.stderr);
    assert!(plan.stdout.starts_with("Plan for blue: 1 to create"), "{}", plan.stdout);
    let file = "blue at revision 1 with 5 in g";
    assert_eq!(recorder.taken(), [format!("plan {file}")]);

    let asked = plinth(Some(&running), &["scale", "blue", "g", "5"]).await;
    assert!(asked.code == Some(1) && asked.stderr.contains("[not-confirmed]"), "{}", asked.stderr);
    let scaled = plinth(Some(&running), &["scale", "blue", "g", "5", "--yes"]).await;
    assert_eq!(scaled.code, Some(0), "{}", scaled.stderr);
    assert!(scaled.stdout.ends_with("blue: committed as revision 1\n"), "{}", scaled.stdout);
    assert_eq!(recorder.taken().pop().expect("asked"), format!("apply {file} [\"blue 1 false\"] by ann"));

    let table: [(&[&str], i32, &str); 5] = [
        (
            &["scale", "blue", "h", "5", "--yes"],
            1,
            "[not-scalable] cannot change how many nodes group `h` of blue has: the document names its nodes: x, y",
        ),
        (&["scale", "blue", "none", "5", "--yes"], 1, "it binds nodes to: g, h"),
        (&["scale", "red", "g", "5", "--yes"], 3, "[unknown-deployment]"),
        (&["scale", "blue", "g", "-1"], 2, "-1"),
        (&["scale", "blue", "g", "5", "--plan-only", "--yes"], 2, "--yes"),
    ];
    for (args, code, said) in table {
        let output = plinth(Some(&running), args).await;
        assert_eq!(output.code, Some(code), "{args:?}: {}", output.stderr);
        assert!(output.stderr.contains(said), "{args:?}: {}", output.stderr);
    }
    database.run("update deployment set state = 'destroying'").await;
    let late = plinth(Some(&running), &["scale", "blue", "g", "5", "--yes"]).await;
    assert!(late.code == Some(1) && late.stderr.contains("it is being destroyed"), "{}", late.stderr);
    assert!(recorder.taken().is_empty(), "nothing was asked for");
    running.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_ends_with_what_happened() {
    let (database, _, running) = blue().await;
    let wait = ["wait", "blue", "--for", "active", "--timeout", "1s"];
    assert_eq!(plinth(Some(&running), &wait).await.code, Some(0));
    database.set("g-1/base", "state = 'ready', since = 1").await;
    let late = plinth(Some(&running), &wait).await;
    assert_eq!(late.code, Some(5), "{}", late.stderr);
    assert!(late.stderr.contains("[wait-timeout] blue is converging"), "{}", late.stderr);

    let some = file("some");
    let apply = ["apply", some.path().to_str().expect("text"), "--yes", "--wait"];
    let mut following = command(Some(&running), &apply).stdout(Stdio::piped()).spawn().expect("plinth runs");
    let mut lines = BufReader::new(following.stdout.take().expect("a pipe")).lines();
    let mut until = async |wanted: &str| {
        while lines.next_line().await.expect("text").expect("more is said") != wanted {}
    };
    until("g-1/base ready").await;
    database.set("g-1/base", "state = 'failed', code = 'step-failed'").await;
    database.event("g-1/base", "node-role.fail").await;
    until("g-1/base failed: step-failed").await;
    until("blue failed").await;
    assert_eq!(following.wait().await.expect("ends").code(), Some(1));
    running.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_shown_to_people_and_to_scripts() {
    let (database, recorder, running) = blue().await;
    database.run("update vertex set changed_at = now() - interval '3 hours 5 minutes'; update node set changed_at = now() - interval '3 days'").await;
    database.set("g-1/base", "state = 'failed', since = 1, code = 'step-failed'").await;
    database.set("deployment/ready", "state = 'blocked', since = 1, cause = 'r:base'").await;
    database.event("g-1/base", "node-role.fail").await;
    database.all_settled().await;
    let said = async |args: &[&str]| {
        let said = plinth(Some(&running), args).await;
        assert_eq!(said.code, Some(0), "{args:?}: {}", said.stderr);
        said.stdout
    };
    insta::assert_snapshot!(said(&["status", "blue"]).await, @r"
    blue (w) is failed: 3 active, 1 blocked, 1 failed; revision 1.

    NODE ROLE         STATE    SINCE  SAYS
    g-1/base          failed   3h     step-failed
    g-2/base          active   3h
    g-1/app           active   3h
    g-2/app           active   3h
    deployment/ready  blocked  3h     held back by g-1/base failed: step-failed
    ");
    insta::assert_snapshot!(said(&["status", "blue", "-o", "name"]).await, @r"
    g-1/base
    g-2/base
    g-1/app
    g-2/app
    deployment/ready
    ");
    insta::assert_snapshot!(said(&["why", "blue", "deployment/ready"]).await, @r"
    deployment/ready is blocked since 3h; bound by the workload on deployment.
    held back by g-1/base failed: step-failed

    Chain:
      deployment/ready: blocked, needs every base at rest
        g-1/base: failed: step-failed
    ");
    insta::assert_snapshot!(said(&["node", "list"]).await, @r"
    NODE  STATE  PROVIDER   ADDRESS  USED BY  AGE
    g-1   up     simulated  g-1      blue/g   3d
    g-2   up     simulated  g-2      blue/g   3d
    ");
    insta::assert_snapshot!(said(&["graph", "blue"]).await, @r"
    ROLE          KIND    STATES              NEEDS
    base          work    1 active, 1 failed
    map base.url  gather  1 active            base
    app           work    2 active            base, map base.url
    ready         work    1 blocked           app
    ");
    assert!(said(&["graph", "blue", "-o", "svg"]).await.starts_with("<svg"));
    assert_eq!(said(&["deployment", "list", "-o", "name"]).await, "blue\n");
    assert!(said(&["deployment", "show", "blue"]).await.contains("workload: w"));
    assert!(said(&["role", "list"]).await.contains("app"));
    assert!(said(&["workload", "show", "w", "-o", "yaml"]).await.contains("workload: w"));
    assert!(said(&["node", "show", "g-1"]).await.contains("g-1/base"));
    assert!(said(&["events"]).await.contains("node-role.fail"));
    let events = said(&["events", "--deployment", "blue", "-o", "json"]).await;
    assert_eq!(serde_json::from_str::<serde_json::Value>(&events).expect("JSON")[0]["role"], "base");
    assert_eq!(said(&["retry", "blue"]).await, "nothing has failed\n");
    assert_eq!(said(&["pause", "blue", "g-1/app"]).await, "g-1/app paused\n");
    recorder.taken();
    let exec = plinth(Some(&running), &["exec", "a", "b", "--", "id", "-u"]).await;
    assert_eq!(
        (exec.code, exec.stdout.as_str(), exec.stderr.as_str()),
        (Some(1), "a: id -u\nb: id -u\n", "b: exit 1\n")
    );
    assert_eq!(recorder.taken(), [r#"exec ["id", "-u"] on ["a", "b"] for 60 s"#]);
    running.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_nodes_are_read_here() {
    let (_database, recorder, running) = blue().await;
    let key = file("secret");
    let nodes = file(&format!(
        "node: n1\naddress: 192.0.2.1\nkey: {}\n---\nnode: n2\naddress: 192.0.2.2\n",
        key.path().display()
    ));
    let path = nodes.path().to_str().expect("text");
    let added = plinth(Some(&running), &["node", "add", path]).await;
    assert_eq!((added.code, added.stdout.as_str()), (Some(0), "n1 added\n"), "{}", added.stderr);
    assert_eq!(recorder.taken(), [format!("add nodes of {path} with keys for [\"n1\"] by ann")]);
    drop(key);
    let gone = plinth(Some(&running), &["node", "add", path]).await;
    assert_eq!(gone.code, Some(1));
    assert!(gone.stderr.contains("[cannot-read]"), "{}", gone.stderr);
    running.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_says_what_is_missing() {
    let (database, _, running) = blue().await;
    let ill = plinth(Some(&running), &["doctor"]).await;
    assert_eq!(ill.code, Some(1));
    assert!(ill.stdout.contains("[no-engine-alive]"), "{}", ill.stdout);
    database
        .run("insert into engine values (gen_random_uuid(), '0.1.0', 1, 'here', 7, now(), now() + interval '1 h')")
        .await;
    let well = plinth(Some(&running), &["doctor", "-o", "json"]).await;
    assert_eq!(well.code, Some(0), "{}", well.stdout);
    running.stop().await.expect("stops");
    let none = plinth(None, &["doctor", "-o", "name"]).await;
    // Before it may stand what this machine lacks for an engine and a lab.
    assert_eq!(none.code, Some(1));
    assert!(none.stdout.ends_with("endpoint\n"), "{}", none.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_ends_a_watch_and_nothing_else() {
    let (database, recorder, running) = blue().await;
    let mut watching =
        command(Some(&running), &["status", "blue", "--watch"]).stdout(Stdio::piped()).spawn().expect("runs");
    let mut lines = BufReader::new(watching.stdout.take().expect("a pipe")).lines();
    let mut until = async |wanted: &str| {
        while lines.next_line().await.expect("text").expect("more is said") != wanted {}
    };
    until("blue active").await;
    database.set("g-1/app", "state = 'ready', since = 1").await;
    database.event("g-1/app", "node-role.go").await;
    until("g-1/app ready").await;
    until("blue converging").await;
    let pid = libc::pid_t::try_from(watching.id().expect("it runs")).expect("a pid");
    interrupt(pid);
    let status = watching.wait().await.expect("ends");
    assert!(!status.success());
    assert_eq!(recorder.taken(), [""; 0]);
    running.stop().await.expect("stops");
}

#[allow(unsafe_code)]
fn interrupt(pid: libc::pid_t) {
    // SAFETY: a signal to a child that has not been waited for.
    unsafe {
        libc::kill(pid, libc::SIGINT);
    }
}
