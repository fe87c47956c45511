//! The seal key as a credential of systemd: the engine as a service on a machine of its own, with its private Postgres there.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::PathBuf;

use serde_json::Value;

use crate::dns::lab::Address;
use crate::site::Site;

/// A machine on which an engine can run.
const BUNDLE: [(&str, &str); 2] = [
    (
        "roles/engine-host/role.yaml",
        "role: engine-host\nversion: 1.0.0\nabout: What an engine needs.\nruns: node\nmilestone: true\nrequires: [node-base]\n\
         supports: {os: [debian-12], arch: [amd64]}\napply:\n  - package: {names: [postgresql-15], start: false}\n",
    ),
    (
        "workloads/engine/workload.yaml",
        "workload: engine\nversion: 1.0.0\nabout: A machine for an engine.\ngroups: {all: {count: {default: 1}}}\nroles: {all: [engine-host]}\n",
    ),
];

/// What the engine on the machine is to do: something that is sealed, and needs no nodes.
const INSIDE: &str = "mkdir -p /root/bundle/workloads/sealed /root/bundle/roles/token
echo '{bundle: sealed, version: 1.0.0}' >/root/bundle/bundle.yaml
echo '{workload: sealed, version: 1.0.0, about: A secret., groups: {none: {}}, roles: {deployment: [token]}}' >/root/bundle/workloads/sealed/workload.yaml
echo '{role: token, version: 1.0.0, about: A secret., is: random-secret, milestone: true}' >/root/bundle/roles/token/role.yaml
echo '{deployment: blue, workload: sealed, nodes: {}}' >/root/blue.yaml
umask 077
for key in one two; do echo \"$(openssl rand -hex 8) $(openssl rand -base64 32)\" >/root/$key; done";

/// Gives these files to whoever asks for them by name, one after the other, and ends.
fn give(listener: TcpListener, files: Vec<PathBuf>) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        for file in files {
            let (mut stream, _) = listener.accept().expect("somebody asks");
            let _ = stream.read(&mut [0; 4096]).expect("a request");
            stream.write_all(b"HTTP/1.0 200 OK\r\n\r\n").expect("sent");
            stream.write_all(&std::fs::read(&file).expect("it was built")).expect("sent");
        }
    })
}

/// Without the name of the machine that stands before each line.
fn plain(said: &[u8]) -> String {
    let text = String::from_utf8_lossy(said);
    text.lines().map(|line| format!("{}\n", line.strip_prefix("it-all-1: ").unwrap_or(line))).collect()
}

#[test]
fn an_engine_under_systemd_opens_what_is_sealed_by_its_credential_and_by_no_other() {
    let at = Address::new(59);
    let mut site = Site::new(&BUNDLE);
    site.start();
    site.apply("deployment: it\nworkload: engine\nnodes: {all: {provider: lab, count: 1}}\n");
    site.until_active("it");
    let run = |script: &str| plain(site.ok(&["exec", "it-all-1", "--", "bash", "-c", script]).as_bytes());
    let listener = TcpListener::bind((at.to_string().as_str(), 0)).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let task = give(listener, site.programs().to_vec());
    run(&format!(
        "cd /usr/local/bin; for it in plinth plinth-agent; do curl -sS http://{at}:{port}/ -o $it; chmod 755 $it; done"
    ));
    task.join().expect("both were given");
    run(INSIDE);

    let serve = |how: &str, credential: &str| {
        format!(
            "systemd-run --collect {how} {credential} -E NO_COLOR=1 -E PLINTH_DATA=/srv/plinth -E PLINTH_AGENT=/usr/local/bin/plinth-agent \
             /usr/local/bin/plinth serve --listen 127.0.0.1:0 --bundle /root/bundle 2>&1"
        )
    };
    let with = |key: &str| format!("-p LoadCredential=plinth-seal-key:/root/{key}");
    let inside = |words: &str| {
        site.run(&["exec", "it-all-1", "--", "bash", "-c", &format!("PLINTH_DATA=/srv/plinth plinth {words}")])
    };
    let starts = |key: &str| {
        run(&serve("--unit=plinth", &with(key)));
        site.until_so("served", || {
            let said = inside("deployment list");
            let unit =
                run("systemctl is-active plinth.service || journalctl --unit plinth.service --no-pager | tail -n 20");
            assert_eq!(unit.trim(), "active");
            if said.status.success() { Ok(()) } else { Err(unit) }
        });
    };
    starts("one");
    let said = inside("apply /root/blue.yaml --yes --wait");
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    // The key is where systemd put it for this service, and nowhere in the engine's own folder.
    let found = run(
        "ls /run/credentials/plinth.service; find /srv/plinth -name seal.key; pid=$(systemctl show -P MainPID plinth.service); \
                     tr '\\0' '\\n' </proc/$pid/environ | grep CREDENTIALS_DIRECTORY",
    );
    assert_eq!(
        found.split_whitespace().collect::<Vec<_>>(),
        ["plinth-seal-key", "CREDENTIALS_DIRECTORY=/run/credentials/plinth.service"]
    );
    run("systemctl stop plinth.service");

    for (credential, code) in [(with("two"), "seal-key-missing"), (String::new(), "seal-key-missing")] {
        let said = site.run(&["exec", "it-all-1", "--", "bash", "-c", &serve("--wait --pipe", &credential)]);
        let text = plain(&said.stdout);
        assert!(!said.status.success() && text.contains(code), "`{credential}`: {text}");
    }
    assert_eq!(run("find /srv/plinth -name seal.key"), "", "no other key was made");
    // The same id, and not the same key.
    run("umask 077; echo \"$(cut -d ' ' -f 1 /root/one) $(openssl rand -base64 32)\" >/root/three");
    let said = site.run(&["exec", "it-all-1", "--", "bash", "-c", &serve("--wait --pipe", &with("three"))]);
    assert!(String::from_utf8_lossy(&said.stdout).contains("seal-key-wrong"), "{said:?}");

    // The file with another line behind it opens everything, and then that line alone does.
    run("umask 077; cat /root/one /root/two >/root/both");
    starts("both");
    let said = inside("secret reseal -o json");
    let done: Value = serde_json::from_str(&plain(&said.stdout)).unwrap_or_else(|error| panic!("{error}: {said:?}"));
    assert!(done["values"].as_u64().is_some_and(|values| values >= 1), "everything was opened: {done}");
    run("systemctl stop plinth.service");
    starts("two");
    run("systemctl stop plinth.service");
}
