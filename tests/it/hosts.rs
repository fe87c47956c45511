//! Hosts that exist: adopted by SSH, used, and left as they were found.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::site::Site;
use crate::sshd::{Sshd, keygen};

const MARKING: [(&str, &str); 4] = [
    (
        "roles/mark/role.yaml",
        "role: mark
version: 1.0.0
about: Leaves a mark.
runs: node
milestone: true
inputs:
  folder: {schema: {type: string}}
  name: {schema: {type: string}, from: node.name}
  text: {schema: {type: string}, default: one}
apply:
  - file: {path: '{{ folder }}/{{ name }}', content: \"{{ text }}\\n\"}
remove:
  - absent: {path: '{{ folder }}/{{ name }}'}
",
    ),
    (
        "roles/ends/role.yaml",
        "role: ends
version: 1.0.0
about: Ends in one of many ways.
runs: node
milestone: true
timeout: 3s
inputs:
  how: {schema: {type: string}}
outputs:
  port: {schema: {type: integer, maximum: 10}}
apply:
  - run: {text: 'sleep 100', unless: 'false'}
    when: how == 'late'
  - run: {text: 'echo it is broken >&2; exit 3', unless: 'false'}
    when: how == 'badly'
  - package: {names: [no-such-package-of-plinth], within: 1s}
    when: how == 'locked'
  - output: {port: 11}
    when: how == 'invalid'
  - output: {port: 10}
    when: how == 'well'
",
    ),
    (
        "workloads/ends/workload.yaml",
        "workload: ends\nversion: 1.0.0\nabout: Ends.\n\
         parameters: {type: object, additionalProperties: false, required: [how], properties: {how: {type: string}}}\n\
         groups: {all: {count: {default: 1, minimum: 1}}}\n\
         roles: {all: [{ends: {with: {how: '{{ parameters.how }}'}}}]}\n",
    ),
    (
        "workloads/marks/workload.yaml",
        "workload: marks\nversion: 1.0.0\nabout: Marks.\n\
         parameters: {type: object, additionalProperties: false, required: [folder], properties: {folder: {type: string}, text: {type: string, default: one}}}\n\
         groups: {all: {count: {default: 1, minimum: 1}}}\n\
         roles: {all: [{mark: {with: {folder: '{{ parameters.folder }}', text: '{{ parameters.text }}'}}}]}\n",
    ),
];

/// Holds the lock of the package database until its input ends.
const HOLD: &str = "use Fcntl; open F, '>', '/var/lib/dpkg/lock-frontend' or die; \
    my $l = pack('s s x4 q q i x4', F_WRLCK, 0, 0, 0, 0); fcntl(F, F_SETLKW, $l) or die; $| = 1; print '.'; <STDIN>";

fn marks(site: &Site, nodes: &str, text: &str) -> String {
    let folder = site.folder().join("marks");
    std::fs::create_dir_all(&folder).expect("a folder");
    format!(
        "deployment: marks\nworkload: marks\nnodes: {{all: {nodes}}}\nparameters: {{folder: {}, text: {text}}}\n",
        folder.display()
    )
}

/// The document of a node at this address of the sshd.
fn host(sshd: &Sshd, name: &str, address: &str, key: &Path) -> String {
    format!("---\nnode: {name}\naddress: {address}\nport: {}\nuser: root\nkey: {}\n", sshd.port, key.display())
}

/// The private key that may come in from the start.
fn key(sshd: &Sshd) -> PathBuf {
    sshd.dir.path().join("deploy")
}

/// The keys that were let in since then.
fn let_in(sshd: &Sshd) -> String {
    std::fs::read_to_string(sshd.dir.path().join(".ssh/authorized_keys")).unwrap_or_default()
}

fn until_node(site: &Site, name: &str, state: &str, code: Option<&str>) -> serde_json::Value {
    site.until_so(&format!("{name} {state} {code:?}"), || {
        let node = site.json(&["node", "show", name])["node"].clone();
        if node["state"] == state && node["code"].as_str() == code { Ok(node) } else { Err(format!("{node:#}")) }
    })
}

#[test]
fn hosts_are_adopted_used_and_left_as_they_were() {
    let mut site = Site::new(&MARKING);
    let sshd = Sshd::start();
    site.start();
    let hosts: String = [("a", "127.0.0.11"), ("b", "127.0.0.12"), ("c", "127.0.0.13")]
        .map(|(name, address)| host(&sshd, name, address, &key(&sshd)))
        .concat();
    let hosts = site.write("hosts.yaml", &hosts);
    assert_eq!(site.ok(&["node", "add", &hosts, "-o", "name"]), "a\nb\nc\n");
    // They are one machine, and it is said.
    let ids = ["a", "b", "c"].map(|name| until_node(&site, name, "up", Some("node-twin"))["id"].clone());
    assert!(let_in(&sshd).starts_with("ssh-ed25519 "), "the engine's own key: {}", let_in(&sshd));
    assert!(!site.data().join("keys").join("a").exists(), "the person's key is not kept");

    site.apply(&marks(&site, "[a, b, c]", "one"));
    site.until_active("marks");
    let read = |name: &str| std::fs::read_to_string(site.folder().join("marks").join(name)).ok();
    assert_eq!(["a", "b", "c"].map(read), ["one\n", "one\n", "one\n"].map(|text| Some(text.to_owned())));
    assert!(site.fails(&["node", "remove", "a"]).contains("[node-in-use]"));
    assert!(site.fails(&["node", "add", &hosts]).contains("[duplicate-node]"));

    site.ok(&["destroy", "marks", "--yes", "--wait"]);
    assert_eq!(["a", "b", "c"].map(read), [None, None, None]);
    for name in ["a", "b", "c"] {
        site.ok(&["node", "remove", name]);
    }
    site.until_so("gone", || match site.ok(&["node", "list", "-o", "name"]) {
        left if left.is_empty() => Ok(()),
        left => Err(left),
    });
    assert_eq!(let_in(&sshd), "", "the engine's key");
    for id in ids {
        let state = Path::new("/var/lib/plinth/nodes").join(id.as_str().expect("an id"));
        assert!(!state.exists(), "{} is left", state.display());
    }
}

#[test]
fn hosts_that_can_not_be_used_say_why() {
    let mut site = Site::new(&MARKING);
    let mut sshd = Sshd::start();
    sshd.stop();
    site.start();
    let add = |site: &Site, text: &str| {
        let file = site.write("host.yaml", text);
        site.ok(&["node", "add", &file]);
    };
    // Nobody listens there yet; when somebody does, it goes on by itself.
    add(&site, &host(&sshd, "late", "127.0.0.21", &key(&sshd)));
    until_node(&site, "late", "joining", Some("ssh-unreachable"));
    sshd.start_again();
    until_node(&site, "late", "up", None);
    // The same address and port is the same host.
    let twin = site.write("twin.yaml", &host(&sshd, "twin", "127.0.0.21", &key(&sshd)));
    assert!(site.fails(&["node", "add", &twin]).contains("[duplicate-node]"));
    // A key that is not let in.
    let wrong = site.folder().join("wrong");
    keygen(&wrong, "ed25519");
    let stranger = Sshd::start();
    add(&site, &host(&stranger, "locked", "127.0.0.22", &wrong));
    let node = until_node(&site, "locked", "failed", Some("ssh-auth-failed"));
    assert!(node["reason"].as_str().is_some_and(|reason| reason.contains("root@127.0.0.22")), "{node:#}");
    // Another host key than the one that the document pins.
    let pinned = std::fs::read_to_string(site.folder().join("wrong.pub")).expect("a key");
    let pinned = format!("{}host_key: {}\n", host(&stranger, "swapped", "127.0.0.23", &key(&stranger)), pinned.trim());
    add(&site, &pinned);
    until_node(&site, "swapped", "failed", Some("host-key-changed"));
    // And one that changes later: nothing is sent there.
    site.apply(&marks(&site, "[late]", "one"));
    site.until_active("marks");
    sshd.new_host_key();
    site.apply(&marks(&site, "[late]", "two"));
    let status = site.until("marks", "held up", |status| status["node_roles"][0]["code"] == "host-key-changed");
    assert_eq!(status["node_roles"][0]["state"], "failed", "{status:#}");
    let mark = std::fs::read_to_string(site.folder().join("marks/late")).expect("a mark");
    assert_eq!(mark, "one\n");
    // What can not be reached any more is forgotten only on request.
    site.ok(&["node", "remove", "swapped", "--force"]);
    assert!(!site.ok(&["node", "list", "-o", "name"]).contains("swapped"));
    // Nothing is sent to a host that may be another, so what is on it stays. It is this machine: we tidy up.
    let id = site.json(&["node", "show", "late"])["node"]["id"].clone();
    let left = Path::new("/var/lib/plinth/nodes").join(id.as_str().expect("an id"));
    std::fs::remove_dir_all(&left).expect("what the job of before left");
}

#[test]
fn jobs_that_end_badly_say_how_and_are_mended_by_a_change() {
    let mut site = Site::new(&MARKING);
    let sshd = Sshd::start();
    site.start();
    let host = site.write("host.yaml", &host(&sshd, "only", "127.0.0.31", &key(&sshd)));
    site.ok(&["node", "add", &host]);
    let ends = |site: &Site, how: &str| {
        site.apply(&format!("deployment: ends\nworkload: ends\nnodes: {{all: [only]}}\nparameters: {{how: {how}}}\n"));
    };
    for (how, code, says) in [
        ("late", "timeout", "3"),
        ("badly", "step-failed", "it is broken"),
        ("invalid", "output-invalid", "port"),
        ("silent", "output-missing", "port"),
    ] {
        ends(&site, how);
        let status = site.until("ends", how, |status| status["node_roles"][0]["code"] == code);
        let row = &status["node_roles"][0];
        assert_eq!(row["state"], "failed", "{row:#}");
        assert!(row["message"].as_str().is_some_and(|message| message.contains(says)), "{row:#}");
        let why = site.ok(&["why", "ends", "only/ends"]);
        assert!(why.contains(code), "{why}");
    }
    // Somebody else installs packages there. (The host is this machine.)
    let mut other = Command::new("perl")
        .args(["-e", HOLD])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("perl, which every Debian has");
    let mut ready = [0; 1];
    other.stdout.as_mut().expect("piped").read_exact(&mut ready).expect("it holds the lock");
    ends(&site, "locked");
    let status = site.until("ends", "locked", |status| status["node_roles"][0]["code"] == "apt-locked");
    drop(other.stdin.take());
    other.wait().expect("an end");
    let message = status["node_roles"][0]["message"].as_str().unwrap_or_default().to_owned();
    assert!(message.contains("perl"), "who holds it: {message}");
    ends(&site, "well");
    site.until_active("ends");
    site.ok(&["destroy", "ends", "--yes", "--wait"]);
}

/// A host that is ours to use and not to make again: what stands on it is removed, and made again.
#[test]
fn a_host_is_made_anew_by_removing_what_stands_on_it() {
    let mut site = Site::new(&MARKING);
    let sshd = Sshd::start();
    site.start();
    let hosts: String = [("m", "127.0.0.41"), ("n", "127.0.0.42")]
        .map(|(name, address)| host(&sshd, name, address, &key(&sshd)))
        .concat();
    let hosts = site.write("hosts.yaml", &hosts);
    site.ok(&["node", "add", &hosts]);
    site.apply(&marks(&site, "[m, n]", "one"));
    site.until_active("marks");
    let path = |name: &str| site.folder().join("marks").join(name);
    let inode = |name: &str| std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(path(name)).expect("a mark"));
    let other = inode("n");
    // A hard link keeps the first inode from being used again.
    let kept = site.folder().join("kept");
    std::fs::hard_link(path("m"), &kept).expect("a link");
    let before = inode("m");
    for generation in [1, 2] {
        site.ok(&["redeploy", "marks", "--node", "m", "--yes", "--wait"]);
        let node = site.json(&["node", "show", "m"])["node"].clone();
        assert_eq!((&node["state"], &node["facts"]["generation"]), (&"up".into(), &generation.into()), "{node:#}");
        assert_eq!(std::fs::read_to_string(path("m")).expect("a mark"), "one\n");
        assert_ne!(inode("m"), before, "removed and made again");
        assert_eq!(inode("n"), other, "the other host was left alone");
        let jobs = site.json(&["why", "marks", "m/mark"])["jobs"].clone();
        let actions: Vec<&str> =
            jobs.as_array().expect("jobs").iter().filter_map(|job| job["action"].as_str()).collect();
        assert_eq!(actions[..2], ["apply", "remove"], "newest first: {jobs:#}");
    }
    assert!(site.ok(&["residue", "marks"]).contains("no residue"));
    site.ok(&["destroy", "marks", "--yes", "--wait"]);
    assert!(!path("m").exists() && !path("n").exists());
    for name in ["m", "n"] {
        site.ok(&["node", "remove", name]);
    }
    site.until_so("gone", || match site.ok(&["node", "list", "-o", "name"]) {
        left if left.is_empty() => Ok(()),
        left => Err(left),
    });
}

/// Over real connections: a host that a rule labels joins by itself, and one that falls silent is put aside until it answers.
#[test]
fn a_host_joins_by_its_label_and_is_aside_while_it_does_not_answer() {
    let mut site = Site::new(&MARKING);
    let (mut fragile, steady) = (Sshd::start(), Sshd::start());
    site.start();
    let rule = site.write("rule.yaml", "rule: marked\nwhen: os is defined and cpus >= 1\nset: {pool: marks}\n");
    site.ok(&["rule", "set", &rule]);
    let add = |site: &Site, text: &str| {
        let file = site.write("host.yaml", text);
        site.ok(&["node", "add", &file]);
    };
    add(&site, &host(&steady, "e", "127.0.0.51", &key(&steady)));
    until_node(&site, "e", "up", None);
    site.until_so("labelled", || match site.json(&["node", "show", "e"])["node"]["facts"]["pool"].as_str() {
        Some("marks") => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let marks = marks(&site, "{select: \"pool = 'marks'\", join: true}", "one") + "policy: {silent: {aside: 3s}}\n";
    site.apply(&marks);
    site.until_active("marks");
    let read = |name: &str| std::fs::read_to_string(site.folder().join("marks").join(name)).ok();
    assert_eq!(read("e").as_deref(), Some("one\n"));
    let more = [host(&steady, "f", "127.0.0.52", &key(&steady)), host(&fragile, "g", "127.0.0.53", &key(&fragile))];
    add(&site, &more.concat());
    let on = |status: &serde_json::Value| status["nodes"].as_array().map_or(0, Vec::len);
    let joined = |status: &serde_json::Value| on(status) == 3 && status["deployment"]["health"] == "active";
    site.until("marks", "joined by both", joined);
    assert_eq!(["f", "g"].map(read), ["one\n", "one\n"].map(|text| Some(text.to_owned())), "and they are worked on");
    assert!(site.ok(&["history", "marks"]).contains("selection"));

    // Nothing runs anywhere: somebody looks all the same.
    fragile.stop();
    let standing = |status: &serde_json::Value, wanted: &str| {
        let nodes = status["nodes"].as_array().expect("nodes");
        nodes.iter().any(|node| node["name"] == "g" && node["standing"] == wanted)
    };
    site.until("marks", "aside", |status| standing(status, "aside"));
    let text = site.ok(&["status", "marks"]);
    assert!(text.contains("g stands aside by the policy of the deployment, has not answered since 20"), "{text}");
    assert!(text.contains("unreachable, aside: ssh-unreachable"), "{text}");
    fragile.start_again();
    site.until("marks", "in again", |status| standing(status, "in") && status["deployment"]["health"] == "active");
    let text = site.ok(&["status", "marks"]);
    assert!(!text.contains("aside"), "{text}");

    site.ok(&["destroy", "marks", "--yes", "--wait"]);
    assert_eq!(["e", "f", "g"].map(read), [None, None, None]);
    for name in ["e", "f", "g"] {
        site.ok(&["node", "remove", name]);
    }
    site.until_so("gone", || match site.ok(&["node", "list", "-o", "name"]) {
        left if left.is_empty() => Ok(()),
        left => Err(left),
    });
}
