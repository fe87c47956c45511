//! Steps: applied, applied again, planned, checked and taken away, on folders of the test.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use engine_agent::protocol::{Mode, Outcome, Status};
use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::support::{Agent, encode, said, told};

/// Applies, plans, checks and applies again (nothing may change), then removes; gives what was told of the first and
/// of the last.
fn round(agent: &Agent, steps: Value) -> (String, String) {
    let plan = agent.run(&agent.job(Mode::Plan, steps.clone())).outcome;
    let first = agent.apply(steps.clone());
    assert_eq!(first.status, Status::Succeeded, "{}", said(&first));
    let changed = |outcome: &Outcome| outcome.steps.iter().map(|step| step.changed).collect::<Vec<_>>();
    assert_eq!(changed(&plan), changed(&first), "the plan said something else: {}", told(&plan, agent));
    let check = agent.run(&agent.job(Mode::Check, steps.clone())).outcome;
    assert_eq!(check.status, Status::Succeeded, "{}", told(&check, agent));
    let again = agent.apply(steps.clone());
    assert!(!again.changed, "{}", told(&again, agent));
    let gone = agent.run(&agent.job(Mode::Remove, steps)).outcome;
    assert!(gone.residue.is_empty(), "{}", told(&gone, agent));
    (told(&first, agent), told(&gone, agent))
}

#[test]
fn files_folders_and_links() {
    let agent = Agent::new();
    let (first, gone) = round(
        &agent,
        json!([
            {"directory": {"path": "DIR/etc/app", "mode": "0750"}},
            {"file": {"path": "DIR/etc/app/conf", "content": "a\nb\n", "mode": "0640"}},
            {"link": {"path": "DIR/etc/current", "to": "app"}},
            {"file": {"path": "DIR/etc/app/{{ name }}", "content": "{{ name }}"}, "for": "name in ['x', 'y']", "when": "name != 'x'"},
            {"absent": {"path": "DIR/etc/old"}, "when": "false"},
        ]),
    );
    assert_snapshot!(first, @r"
    succeeded
    changed directory DIR/etc/app
      DIR/etc/app: new, root:root 0750
    changed file DIR/etc/app/conf
      DIR/etc/app/conf: --- /dev/null
        +++ DIR/etc/app/conf
        @@ -0,0 +1,2 @@
        +a
        +b
        new, root:root 0640
    changed link DIR/etc/current
      DIR/etc/current: nothing -> app
    changed file DIR/etc/app/y
      DIR/etc/app/y: --- /dev/null
        +++ DIR/etc/app/y
        @@ -0,0 +1 @@
        +y
        \ No newline at end of file
        new, root:root 0644
    skipped absent DIR/etc/old
    ");
    assert_snapshot!(gone, @r"
    succeeded
    skipped absent DIR/etc/old
    changed file DIR/etc/app/y
      DIR/etc/app/y: removed
    changed link DIR/etc/current
      DIR/etc/current: removed
    changed file DIR/etc/app/conf
      DIR/etc/app/conf: removed
    changed directory DIR/etc/app
      DIR/etc/app: removed
    changed what was left
      DIR/etc: removed
    ");
    assert!(!agent.path("etc").exists());
}

#[test]
fn what_was_there_before_is_given_back() {
    let agent = Agent::new();
    fs::write(agent.path("hosts"), "old\n").unwrap();
    fs::set_permissions(agent.path("hosts"), fs::Permissions::from_mode(0o604)).unwrap();
    fs::create_dir(agent.path("kept")).unwrap();
    std::os::unix::fs::symlink("here", agent.path("link")).unwrap();
    let (first, gone) = round(
        &agent,
        json!([
            {"directory": {"path": "DIR/kept"}},
            {"file": {"path": "DIR/hosts", "content": "new\n", "mode": "0644"}},
            {"link": {"path": "DIR/link", "to": "there"}},
        ]),
    );
    assert_snapshot!(first, @r"
    succeeded
    same directory DIR/kept
    changed file DIR/hosts
      DIR/hosts: --- DIR/hosts
        +++ DIR/hosts
        @@ -1 +1 @@
        -old
        +new
        mode 0604 -> 0644
    changed link DIR/link
      DIR/link: here -> there
    ");
    assert_snapshot!(gone, @r"
    succeeded
    changed link DIR/link
      DIR/link: given back, -> here
    changed file DIR/hosts
      DIR/hosts: given back as it was
    same directory DIR/kept
    ");
    assert_eq!(agent.text("hosts"), "old\n");
    assert_eq!(fs::metadata(agent.path("hosts")).unwrap().mode() & 0o777, 0o604);
    assert!(agent.path("kept").is_dir());
    assert_eq!(fs::read_link(agent.path("link")).unwrap().to_str(), Some("here"));
}

#[test]
fn removing_spares_what_a_neighbour_claims_and_tells_what_stays() {
    let agent = Agent::new();
    let steps = json!([
        {"directory": {"path": "DIR/shared"}},
        {"file": {"path": "DIR/shared/a", "content": "a"}},
        {"directory": {"path": "DIR/own"}},
    ]);
    agent.apply(steps.clone());
    fs::write(agent.path("own/stranger"), "").unwrap();
    fs::create_dir_all(agent.path("data/deep")).unwrap();
    let mut job = agent.job(Mode::Remove, steps.clone());
    job.spare = vec![format!("file:{}", agent.path("shared/a").display())];
    job.destroys = vec![agent.path("data").display().to_string()];
    assert_snapshot!(told(&agent.run(&job).outcome, &agent), @r"
    succeeded
    same directory DIR/own
    same file DIR/shared/a
    same directory DIR/shared
    changed what was left
      DIR/data: destroyed
    residue directory:DIR/own
    ");
    assert!(agent.path("shared/a").exists() && !agent.path("data").exists());

    // The neighbour leaves too, and takes along what was spared for it.
    let mut job = agent.job(
        Mode::Remove,
        json!([
            {"directory": {"path": "DIR/shared"}},
            {"file": {"path": "DIR/shared/a", "content": "a"}},
        ]),
    );
    job.owner = "neighbour".to_owned();
    agent.run(&job);
    assert!(!agent.path("shared").exists());
}

#[test]
fn what_an_earlier_version_made_goes_too() {
    let agent = Agent::new();
    agent.apply(json!([{"file": {"path": "DIR/first", "content": "a"}}]));
    agent.apply(json!([{"file": {"path": "DIR/second", "content": "a"}}]));
    let outcome =
        agent.run(&agent.job(Mode::Remove, json!([{"file": {"path": "DIR/second", "content": "a"}}]))).outcome;
    assert_snapshot!(told(&outcome, &agent), @r"
    succeeded
    changed file DIR/second
      DIR/second: removed
    changed what was left
      DIR/first: removed
    ");
    assert!(!agent.path("first").exists());
}

#[test]
fn places_of_the_system_are_protected() {
    let agent = Agent::new();
    let mut job = agent.job(Mode::Remove, json!([]));
    job.destroys = vec!["/etc/".to_owned()];
    assert_snapshot!(said(&agent.run(&job).outcome), @"failed path-protected: /etc is a place that no role may take away");
    let outcome = agent.apply(json!([{"absent": {"path": "/usr", "recursive": true}}]));
    assert_eq!(outcome.code.as_deref(), Some("path-protected"));
}

#[test]
fn checks_tell_drift_and_probes_fail() {
    let agent = Agent::new();
    let steps = json!([{"file": {"path": "DIR/conf", "content": "a\n"}}, {"run": {"text": "touch DIR/ran"}}]);
    agent.apply(steps.clone());
    fs::remove_file(agent.path("ran")).unwrap();
    let mut check = agent.job(Mode::Check, steps.clone());
    check.then = agent.steps(json!([{"run": {"text": "test -e DIR/conf"}}]));
    assert_snapshot!(told(&agent.run(&check).outcome, &agent), @r"
    succeeded
    same file DIR/conf
    skipped run touch DIR/ran
    same run test -e DIR/conf
    ");
    fs::write(agent.path("conf"), "b\n").unwrap();
    let mut check = agent.job(Mode::Check, steps.clone());
    check.then = agent.steps(json!([{"run": {"text": "test -e DIR/conf"}}]));
    assert_snapshot!(told(&agent.run(&check).outcome, &agent), @r"
    drifted
    changed file DIR/conf
      DIR/conf: --- DIR/conf
        +++ DIR/conf
        @@ -1 +1 @@
        -b
        +a
    skipped run touch DIR/ran
    same run test -e DIR/conf
    ");
    let mut check = agent.job(Mode::Check, steps);
    check.then = agent.steps(json!([{"run": {"text": "echo sick; exit 1"}}]));
    assert_snapshot!(said(&agent.run(&check).outcome), @"failed step-failed: the script ended with 1: sick");
    assert_eq!(agent.text("conf"), "b\n", "a check changes nothing");
    assert!(!agent.path("ran").exists());
}

#[test]
fn plans_tell_what_can_not_be_told() {
    let agent = Agent::new();
    let mut job = agent.job(
        Mode::Plan,
        json!([
            {"run": {"text": "echo '{\"n\": 1}' > $PLINTH_OUTPUT", "as": "made"}},
            {"file": {"path": "DIR/{{ made.n }}", "content": "x"}},
            {"run": {"text": "echo '\"seen\"' > $PLINTH_OUTPUT", "asks": true, "as": "asked"}},
            {"directory": {"path": "DIR/{{ asked }}"}},
            {"run": {"text": "touch DIR/x", "creates": "DIR/x"}},
            {"wait": {"path": "DIR/x"}},
            {"reboot": {}},
            {"output": {"n": "{{ made.n }}"}},
        ]),
    );
    job.outputs = vec!["n".to_owned()];
    assert_snapshot!(told(&agent.run(&job).outcome, &agent), @r#"
    succeeded
    skipped run echo '{"n": 1}' > $PLINTH_OUTPUT
    skipped file DIR/{{ made.n }}
    same run echo '"seen"' > $PLINTH_OUTPUT
    changed directory DIR/seen
      DIR/seen: new, root:root 0755
    changed run touch DIR/x
      run: would run
    skipped wait DIR/x
    changed reboot
      reboot: would reboot
    skipped output n
    "#);
    assert!(!agent.path("x").exists());
}

#[test]
fn templates_sources_and_scripts_come_with_the_job() {
    let agent = Agent::new();
    let mut job = agent.job(
        Mode::Apply,
        json!([
            {"file": {"path": "DIR/hosts", "template": "hosts"}},
            {"file": {"path": "DIR/raw", "source": "raw"}},
            {"run": {"script": "it.sh"}},
        ]),
    );
    job.inputs = json!({"hosts": {"b": "10.0.0.2", "a": "10.0.0.1"}, "name": "it's"}).as_object().unwrap().clone();
    let template = "{% for name, address in hosts | dictsort %}\n{{ address }} {{ name }}\n{% endfor %}\n";
    job.files.insert("templates/hosts".to_owned(), encode(template));
    job.files.insert("files/raw".to_owned(), encode("{{ raw }}"));
    job.files.insert("scripts/it.sh".to_owned(), encode("echo \"$name ${#name}\"; [ -n \"$PLINTH_INPUTS\" ]"));
    let heard = agent.run(&job);
    assert_eq!(said(&heard.outcome), "succeeded");
    assert_eq!(agent.text("hosts"), "10.0.0.1 a\n10.0.0.2 b\n");
    assert_eq!(agent.text("raw"), "{{ raw }}");
    assert_eq!(heard.log(), "it's 4");
    job.job = "00000000-0000-7000-8000-00000000ffff".parse().unwrap();
    job.files.clear();
    assert_snapshot!(said(&agent.run(&job).outcome), @"failed role-file-missing: the role carries no file `templates/hosts`");
}

#[test]
fn errors_are_clear() {
    let agent = Agent::new();
    let check = |step: Value| {
        let text = said(&agent.apply(json!([step])));
        text.replace(agent.path("").to_str().unwrap(), "DIR/")
    };
    fs::create_dir(agent.path("folder")).unwrap();
    assert_snapshot!(check(json!({"file": {"path": "DIR/x", "contents": "a"}})), @"failed step-argument: `file`: unknown field `contents`");
    assert_snapshot!(check(json!({"file": {"path": "DIR/x"}})), @"failed step-argument: `file`: it takes one of `content`, `template` and `source`");
    assert_snapshot!(check(json!({"file": {"path": "x", "content": "a"}})), @"failed step-argument: `file`: `x` is no absolute path without `..`");
    assert_snapshot!(check(json!({"file": {"path": "DIR/x", "content": "a", "mode": 640}})), @r#"failed step-argument: `file`: mode 640 is no octal text such as "0640""#);
    assert_snapshot!(check(json!({"file": {"path": "DIR/x", "content": "{{ nobody }}"}})), @"failed template-undefined: template reads something undefined: nobody");
    assert_snapshot!(check(json!({"file": {"path": "DIR/x", "content": "a", "owner": "nobody-here"}})), @"failed account-unknown: there is no user `nobody-here` on this machine");
    assert_snapshot!(check(json!({"file": {"path": "DIR/no/x", "content": "a"}})), @"failed io-failed: writing DIR/no/x: No such file or directory (os error 2)");
    assert_snapshot!(check(json!({"file": {"path": "DIR/folder", "content": "a"}})), @"failed path-in-the-way: DIR/folder is a directory, and stays so");
    assert_snapshot!(check(json!({"frobnicate": {}})), @"failed step-unknown: there is no step called `frobnicate`");
    assert_snapshot!(check(json!({"run": {"text": "a", "script": "b"}})), @"failed step-argument: `run`: it takes either `text` or `script`");
    assert_snapshot!(check(json!({"run": {"text": "echo [1 > $PLINTH_OUTPUT"}})), @"failed output-invalid: what the script wrote to $PLINTH_OUTPUT is not JSON: EOF while parsing a list at line 2 column 0");
    assert_snapshot!(check(json!({"run": {"text": "echo '[1]' > $PLINTH_OUTPUT"}})), @"failed output-invalid: what the script wrote to $PLINTH_OUTPUT is not an object; `as` takes other values");
    assert_snapshot!(check(json!({"run": {"text": "echo '{\"a\": 1}' > $PLINTH_OUTPUT", "output": {"schema": {"required": ["b"]}}, "as": "x"}})), @r#"failed output-invalid: what the script wrote to $PLINTH_OUTPUT is not what `output.schema` says: `b` is missing"#);
    assert_snapshot!(check(json!({"wait": {"tcp": "a:1", "path": "/x"}})), @"failed step-argument: `wait`: it takes one of `tcp`, `http`, `unix`, `path`, `unit`, `command`, `name`");
    assert_snapshot!(check(json!({"wait": {"name": "a"}})), @"failed step-argument: `wait`: `name` and `addresses` go together");
    assert_snapshot!(check(json!({"wait": {"name": "a", "addresses": [], "within": 1}})), @"failed step-argument: `wait`: with `name` it waits as long as the role's `timeout` says");
    assert_snapshot!(check(json!({"wait": {"name": "a", "addresses": ["b"]}})), @"failed step-argument: `wait`: invalid IP address syntax");
    assert_snapshot!(check(json!({"link": {"path": "DIR/folder", "to": "x"}})), @"failed path-in-the-way: DIR/folder is no symbolic link, and stays so");
    assert_snapshot!(check(json!({"sysctl": {"name": "../etc", "value": 1}})), @"failed step-argument: `sysctl`: `../etc` is no name such as `net.ipv4.ip_forward`");
    assert_snapshot!(check(json!({"user": {"name": "-r"}})), @"failed step-argument: `user`: `-r` is no name for an account");
}

#[test]
fn run_has_unless_and_creates() {
    let agent = Agent::new();
    let steps = json!([
        {"run": {"text": "echo u >> DIR/count; touch DIR/u", "unless": "test -e DIR/u"}},
        {"run": {"text": "echo c >> DIR/count; touch DIR/c", "creates": "DIR/c"}},
    ]);
    agent.apply(steps.clone());
    let again = agent.apply(steps);
    assert!(!again.changed);
    assert_eq!(agent.text("count"), "u\nc\n");
}

/// Reads a request to its end: what is closed with something unread takes its answer with it.
fn request(stream: &mut TcpStream) {
    let mut read = Vec::new();
    while !read.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("more of a request");
        read.extend(byte);
    }
}

#[test]
fn downloads_are_known_by_their_sum() {
    let agent = Agent::new();
    let body = "hello\n";
    let sum = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().unwrap();
            request(&mut stream);
            write!(stream, "HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
        }
    });
    let step = |sum: &str| json!([{"download": {"url": format!("http://127.0.0.1:{port}/x"), "path": "DIR/got", "sha256": sum, "mode": "0755"}}]);
    let (first, gone) = round(&agent, step(sum));
    assert_snapshot!(first, @r"
    succeeded
    changed download DIR/got
      DIR/got: sha256 none -> 5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03
    ");
    assert_snapshot!(gone, @r"
    succeeded
    changed download DIR/got
      DIR/got: removed
    ");
    let wrong = agent.apply(step(&sum.replace('5', "6")));
    assert!(said(&wrong).contains("checksum-mismatch"), "{}", said(&wrong));
    assert!(!agent.path("got").exists());
    server.join().unwrap();

    fs::write(agent.path("source"), body).unwrap();
    round(&agent, json!([{"download": {"url": "file://DIR/source", "path": "DIR/got", "sha256": sum}}]));
}

#[test]
fn archives_are_unpacked_once() {
    let agent = Agent::new();
    fs::create_dir_all(agent.path("src/top/bin")).unwrap();
    fs::write(agent.path("src/top/bin/tool"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(agent.path("src/top/bin/tool"), fs::Permissions::from_mode(0o755)).unwrap();
    let status = std::process::Command::new("tar")
        .args(["-C", agent.path("src").to_str().unwrap(), "-czf", agent.path("a.tgz").to_str().unwrap(), "top"])
        .status()
        .unwrap();
    assert!(status.success());
    let (first, gone) = round(&agent, json!([{"unpack": {"archive": "DIR/a.tgz", "into": "DIR/into", "strip": 1}}]));
    assert_snapshot!(first, @r"
    succeeded
    changed unpack DIR/a.tgz
      DIR/into: unpacked from DIR/a.tgz
    ");
    assert_snapshot!(gone, @r"
    succeeded
    changed unpack DIR/a.tgz
      DIR/into/bin: removed
      DIR/into: removed
    ");
    agent.apply(json!([{"unpack": {"archive": "DIR/a.tgz", "into": "DIR/into", "creates": "DIR/into/top/bin/tool"}}]));
    assert_eq!(fs::metadata(agent.path("into/top/bin/tool")).unwrap().mode() & 0o777, 0o755);
}

#[test]
fn an_archive_can_not_lead_out_of_its_folder() {
    let agent = Agent::new();
    let mut builder = tar::Builder::new(fs::File::create(agent.path("evil.tar")).unwrap());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    builder.append_link(&mut header, "out", "/tmp").unwrap();
    let mut header = tar::Header::new_gnu();
    header.set_size(1);
    header.set_mode(0o644);
    builder.append_data(&mut header, "out/plinth-evil", &b"x"[..]).unwrap();
    builder.finish().unwrap();
    let outcome = agent.apply(json!([{"unpack": {"archive": "DIR/evil.tar", "into": "DIR/into"}}]));
    assert!(said(&outcome).contains("leads through a link"), "{}", said(&outcome));
    assert!(!fs::exists("/tmp/plinth-evil").unwrap());
}

#[test]
fn waits_end_when_it_has_come() {
    let agent = Agent::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        // The first try is only of TCP; then an answer that is not ready, then one that is.
        drop(listener.accept().unwrap());
        for (status, body) in [("503 No", "not yet"), ("200 OK", "{\"health\": true}")] {
            let (mut stream, _) = listener.accept().unwrap();
            request(&mut stream);
            write!(stream, "HTTP/1.1 {status}\r\n\r\n{body}").unwrap();
        }
    });
    let socket = std::os::unix::net::UnixListener::bind(agent.path("socket")).unwrap();
    let outcome = agent.apply(json!([
        {"wait": {"tcp": format!("127.0.0.1:{port}")}},
        {"wait": {"http": format!("http://127.0.0.1:{port}/health"), "body": "true", "every": "10ms", "within": "10s"}},
        {"wait": {"unix": "DIR/socket"}},
        {"wait": {"path": "DIR/socket"}},
        {"wait": {"command": "[ -S DIR/socket ]"}},
    ]));
    assert_eq!(said(&outcome), "succeeded");
    assert!(!outcome.changed);
    server.join().unwrap();
    drop(socket);
    let outcome = agent.apply(json!([{"wait": {"unix": "DIR/socket", "within": "100ms", "every": "10ms"}}]));
    assert_snapshot!(said(&outcome).replace(agent.path("").to_str().unwrap(), "DIR/"), @"failed wait-timeout: unix DIR/socket did not come about within 100 ms: Connection refused (os error 111)");
}

#[test]
fn as_and_for_hand_on_results() {
    let agent = Agent::new();
    let mut job = agent.job(
        Mode::Apply,
        json!([
            {"file": {"path": "DIR/{{ n }}", "content": "{{ n }}"}, "for": "n in names", "as": "files"},
            {"output": {"digests": "{{ files | map(attribute='digest') | list }}"}},
            {"run": {"text": "cat $PLINTH_INPUTS > DIR/seen; echo $n"}, "for": "n in names", "when": "n != 'a'"},
        ]),
    );
    job.inputs = json!({"names": ["a", "b"]}).as_object().unwrap().clone();
    job.outputs = vec!["digests".to_owned()];
    let heard = agent.run(&job);
    assert_eq!(said(&heard.outcome), "succeeded");
    assert_eq!(heard.outcome.outputs["digests"].as_array().unwrap().len(), 2);
    assert_eq!(heard.log(), "b");
    let seen: Value = serde_json::from_str(&agent.text("seen")).unwrap();
    assert_eq!(seen["n"], "b");
}

/// What a step with `as: made` told, by an output.
fn outputs(agent: &Agent, steps: Value) -> Value {
    let mut job = agent.job(Mode::Apply, steps);
    job.outputs = vec!["told".to_owned()];
    let outcome = agent.run(&job).outcome;
    assert_eq!(outcome.status, Status::Succeeded, "{}", said(&outcome));
    outcome.outputs["told"].clone()
}

fn key(generation: i64, names: &[&str]) -> Value {
    json!([
        {"key": {"path": "DIR/tls/key.pem", "generation": generation, "subject": "n", "names": names}, "as": "made"},
        {"output": {"told": "{{ made }}"}},
    ])
}

#[test]
fn a_key_stays_until_another_generation_is_wanted_and_is_never_told() {
    let agent = Agent::new();
    fs::create_dir(agent.path("tls")).expect("a folder");
    round(&agent, json!([{"key": {"path": "DIR/tls/other.pem", "subject": "n", "names": ["n"]}}]));
    let first = outputs(&agent, key(0, &["n", "10.0.0.1"]));
    let private = agent.text("tls/key.pem");
    assert_eq!(fs::metadata(agent.path("tls/key.pem")).expect("a key").permissions().mode() & 0o777, 0o600);
    assert!(first["csr"].as_str().is_some_and(|csr| csr.starts_with("-----BEGIN CERTIFICATE REQUEST-----")), "{first}");
    assert_eq!(outputs(&agent, key(0, &["n", "10.0.0.1"])), first, "a request that fits is kept");
    let renamed = outputs(&agent, key(0, &["n", "10.0.0.2"]));
    assert_eq!(
        (&renamed["key"], renamed["csr"] != first["csr"]),
        (&first["key"], true),
        "the same key, for other names"
    );
    assert_eq!(agent.text("tls/key.pem"), private);
    let second = outputs(&agent, key(1, &["n", "10.0.0.2"]));
    assert_ne!(second["key"]["digest"], first["key"]["digest"], "another generation is another key");
    // The key is nowhere but in its file: not in the journal, not in the ledger.
    let line = private.lines().nth(1).expect("a line of the key").to_owned();
    let found = std::process::Command::new("grep").arg("-rlF").arg(&line).arg(agent.state()).output().expect("grep");
    assert_eq!(String::from_utf8_lossy(&found.stdout), "");
    // A key that lost its request is not taken for one of ours.
    fs::remove_file(agent.path("tls/key.csr")).expect("a request");
    let third = outputs(&agent, key(1, &["n", "10.0.0.2"]));
    assert_ne!(third["key"]["digest"], second["key"]["digest"]);
}

/// Runs openssl in the folder of an agent.
fn openssl(agent: &Agent, line: &str) {
    let done = std::process::Command::new("openssl").args(line.split(' ')).current_dir(agent.path("tls")).output();
    let done = done.expect("openssl");
    assert!(done.status.success(), "openssl {line}: {}", String::from_utf8_lossy(&done.stderr));
}

#[test]
fn a_certificate_fits_its_key_and_those_who_signed_it_or_says_why_not() {
    let agent = Agent::new();
    fs::create_dir(agent.path("tls")).expect("a folder");
    outputs(&agent, key(0, &["n", "10.0.0.1"]));
    let authority = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN";
    openssl(&agent, &format!("{authority}=ca -keyout ca.key -out ca.pem"));
    openssl(&agent, &format!("{authority}=ca -keyout other.key -out other.pem"));
    openssl(&agent, "x509 -req -in key.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 1 -out cert.pem");
    let step = |cert: &str, key: &str, ca: &str| {
        json!([
            {"certificate": {"cert": format!("DIR/tls/{cert}"), "key": format!("DIR/tls/{key}"),
                             "ca": format!("DIR/tls/{ca}"), "generation": 3}, "as": "pair"},
            {"output": {"told": "{{ pair }}"}},
        ])
    };
    let told = outputs(&agent, step("cert.pem", "key.pem", "ca.pem"));
    let fingerprint = std::process::Command::new("openssl")
        .args(["x509", "-noout", "-fingerprint", "-sha256", "-in"])
        .arg(agent.path("tls/cert.pem"))
        .output()
        .expect("openssl");
    let fingerprint = String::from_utf8_lossy(&fingerprint.stdout)
        .trim()
        .rsplit('=')
        .next()
        .map(|hex| hex.replace(':', "").to_lowercase());
    assert_eq!(told["fingerprint"].as_str(), fingerprint.map(|hex| format!("sha256:{hex}")).as_deref());
    assert_eq!(told["trust_generation"], 3);
    let refused = |cert: &str, key: &str, ca: &str| said(&agent.apply(step(cert, key, ca)));
    for (told, says) in [
        (refused("cert.pem", "other.key", "ca.pem"), "is not for the key"),
        (refused("cert.pem", "key.pem", "other.pem"), "has signed it"),
        (refused("ca.key", "key.pem", "ca.pem"), "something else than certificates"),
        (refused("none", "key.pem", "ca.pem"), "can not be read"),
        (refused("cert.pem", "cert.pem", "ca.pem"), "no private key"),
    ] {
        assert!(told.starts_with("failed certificate-invalid: ") && told.contains(says), "{told}");
    }
    let signer = rcgen::KeyPair::from_pem(&agent.text("tls/ca.key")).expect("a key");
    let signer = rcgen::Issuer::from_ca_cert_pem(&agent.text("tls/ca.pem"), signer).expect("an authority");
    let request = agent.text("tls/key.csr");
    let request = request.split_once('\n').expect("a first line").1;
    let mut request = rcgen::CertificateSigningRequestParams::from_pem(request).expect("a request");
    request.params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    request.params.not_after = rcgen::date_time_ymd(2020, 1, 2);
    fs::write(agent.path("tls/old.pem"), request.signed_by(&signer).expect("signed").pem()).expect("a file");
    let told = refused("old.pem", "key.pem", "ca.pem");
    assert!(told.contains("holds from"), "{told}");
    let mut check = agent.job(Mode::Check, step("old.pem", "key.pem", "ca.pem"));
    check.steps.truncate(1);
    let check = agent.run(&check).outcome;
    assert_eq!(check.status, Status::Drifted, "{}", said(&check));
}
