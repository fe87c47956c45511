//! The agent runs on what the lab makes.

use std::fs;
use std::path::{Path, PathBuf};

use engine_agent::protocol::{PROTOCOL, Reply, Request, encode, read_frame};
use engine_provider::Provider;

use crate::support::{Key, TestLab};

#[tokio::test]
async fn a_node_runs_the_agent() {
    let path = std::env::var_os("PLINTH_AGENT").map_or_else(beside_us, PathBuf::from);
    let agent = fs::read(&path).unwrap_or_else(|error| {
        panic!("{}: {error}; `cargo test --workspace` builds it", path.display());
    });
    let test = TestLab::new();
    let key = Key::new();
    test.lab.prepare().await.expect("prepared");
    let access = test.lab.create(&key.request("host")).await.expect("created");

    key.ssh_with(&access, "cat >/root/agent && chmod 755 /root/agent", &agent).expect("copied");
    let asked = [Request::Hello { protocol: PROTOCOL }, Request::Facts].map(|request| encode(&request).expect("small"));
    let said = key.ssh_with(&access, "/root/agent serve --state /root/state", &asked.concat()).expect("it ran");
    let mut said = said.as_slice();
    let hello = read_frame(&mut said).expect("a frame");
    assert!(matches!(hello, Some(Reply::Hello { protocol: PROTOCOL, .. })), "{hello:?}");
    let Some(Reply::Facts { facts }) = read_frame(&mut said).expect("a frame") else { panic!("no facts") };
    assert_eq!(facts.hostname, "host");
    assert_eq!(key.ssh(&access, "cat /etc/machine-id").expect("logged in"), facts.machine_id);
    test.end().await;
}

/// Where cargo puts the programs of the workspace: tests are in `deps` beside them.
fn beside_us() -> PathBuf {
    let deps = std::env::current_exe().expect("our own path");
    deps.parent().and_then(Path::parent).expect("a folder").join("plinth-agent")
}
