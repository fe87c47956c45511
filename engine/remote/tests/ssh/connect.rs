//! Getting in, and not getting in.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use engine_remote::{DeployKey, Keys, Pool, RemoteError, Settings};

use crate::scripted;
use crate::sshd::{Sshd, keygen};

#[tokio::test]
async fn first_contact_gives_facts_incarnation_and_host_key() {
    let sshd = Sshd::start();
    let target = sshd.target("a", "127.0.0.1");
    let joined = sshd.pool(scripted::with_facts("machine")).facts(&target).await.unwrap();
    assert_eq!(joined.facts.hostname, "machine");
    assert_eq!(joined.incarnation, "one");
    let host_key = std::fs::read_to_string(sshd.dir.path().join("host.pub")).unwrap();
    assert!(host_key.starts_with(&joined.host_key), "{host_key} is not {}", joined.host_key);
}

#[tokio::test]
async fn an_agent_of_another_version_is_talked_to_in_a_protocol_that_both_know() {
    let sshd = Sshd::start();
    let target = sshd.target("a", "127.0.0.1");
    let hello = |protocol: u32| {
        let said = r#""version":"7.2.0","incarnation":"one","boot_id":"b","later":1"#;
        format!(r#"{{"reply":"hello","protocol":{protocol},{said}}}"#)
    };
    let os = r#"{"id":"x-1","family":"x","version":"1","later":1}"#;
    let said = r#""arch":"amd64","cpus":1,"memory":1,"kernel":"k","machine_id":"i","boot_id":"b","later":{}"#;
    let facts = format!(r#"{{"reply":"facts","later":true,"facts":{{"hostname":"m","os":{os},{said}}}}}"#);
    let newer = scripted::speaking(&[hello(1), facts.clone()]);
    assert_eq!(sshd.pool(newer).facts(&target).await.unwrap().facts.hostname, "m");
    for stranger in [0, 2] {
        let agent = scripted::speaking(&[hello(stranger), facts.clone()]);
        let error = sshd.pool(agent).facts(&target).await.unwrap_err();
        assert_eq!(error.code(), "agent-declined");
        let says = format!("agent 7.2.0 speaks protocol {stranger}, we speak 1 to 1");
        assert!(error.to_string().contains(&says), "{error}");
    }
}

#[tokio::test]
async fn a_key_that_is_not_let_in_is_named() {
    let sshd = Sshd::start();
    let stranger = DeployKey::load_or_create(&sshd.dir.path().join("stranger")).unwrap();
    let mut target = sshd.target("a", "127.0.0.1");
    target.keys = Arc::new(Keys { deploy: Some(stranger), ..Keys::default() });
    let error = sshd.pool(scripted::with_facts("m")).facts(&target).await.unwrap_err();
    assert_eq!(error.code(), "ssh-auth-failed");
    assert!(!error.is_transient());
    assert!(error.to_string().contains("stranger (SHA256:"), "{error}");
}

#[tokio::test]
async fn keys_are_tried_in_turn_from_engine_files_and_agent() {
    let sshd = Sshd::start();
    let stranger = DeployKey::load_or_create(&sshd.dir.path().join("stranger")).unwrap();
    let file = sshd.dir.path().join("person");
    keygen(&file, "ecdsa");
    let mut authorized = std::fs::read_to_string(sshd.dir.path().join("person.pub")).unwrap();
    let mut target = sshd.target("a", "127.0.0.1");
    std::fs::write(sshd.dir.path().join("authorized_keys"), &authorized).unwrap();
    target.keys = Arc::new(Keys { deploy: Some(stranger.clone()), files: vec![file], agent: None });
    sshd.pool(scripted::with_facts("m")).facts(&target).await.unwrap();

    let held = sshd.dir.path().join("held");
    keygen(&held, "ed25519");
    authorized = std::fs::read_to_string(sshd.dir.path().join("held.pub")).unwrap();
    std::fs::write(sshd.dir.path().join("authorized_keys"), &authorized).unwrap();
    let agent = SshAgent::start(&sshd.dir.path().join("socket"), &held);
    target.keys = Arc::new(Keys { deploy: Some(stranger), files: Vec::new(), agent: Some(agent.socket.clone()) });
    sshd.pool(scripted::with_facts("m")).facts(&target).await.unwrap();
}

#[tokio::test]
async fn a_changed_host_key_is_refused_with_both_keys() {
    let mut sshd = Sshd::start();
    let mut target = sshd.target("a", "127.0.0.1");
    let pool = sshd.pool(scripted::with_facts("m"));
    let joined = pool.facts(&target).await.unwrap();
    sshd.new_host_key();
    pool.hang_up(&target.node).await;
    let unrecorded = pool.facts(&target).await.unwrap_err();
    assert_eq!(unrecorded.code(), "host-key-changed", "a key seen once is pinned before it is recorded");
    target.host_keys = vec![joined.host_key.clone()];
    let error = sshd.pool(scripted::with_facts("m")).facts(&target).await.unwrap_err();
    let RemoteError::HostKeyChanged { offered, pinned, .. } = &error else { panic!("{error}") };
    assert!(offered.starts_with("ssh-ed25519 ") && *offered != joined.host_key);
    assert_eq!(*pinned, [joined.host_key]);
    assert!(!error.is_transient());
    target.host_keys.clear();
    pool.forget_host_key(&target.node);
    pool.facts(&target).await.unwrap();
}

#[tokio::test]
async fn the_pinned_type_of_key_is_asked_for() {
    let mut sshd = Sshd::start();
    let ecdsa = sshd.dir.path().join("host-ecdsa");
    keygen(&ecdsa, "ecdsa");
    sshd.stop();
    let config = sshd.dir.path().join("config");
    let text = std::fs::read_to_string(&config).unwrap() + &format!("HostKey {}\n", ecdsa.display());
    std::fs::write(&config, text).unwrap();
    sshd.start_again();
    let mut target = sshd.target("a", "127.0.0.1");
    target.host_keys = vec![std::fs::read_to_string(sshd.dir.path().join("host-ecdsa.pub")).unwrap()];
    let joined = sshd.pool(scripted::with_facts("m")).facts(&target).await.unwrap();
    assert!(joined.host_key.starts_with("ecdsa-sha2-nistp256 "));
}

#[tokio::test]
async fn nobody_there_and_nobody_speaking_are_told_apart() {
    let sshd = Sshd::start();
    let settings = Settings { connect_timeout: Duration::from_millis(500), ..sshd.settings() };
    let pool = Pool::new(settings, scripted::with_facts("m"));
    let mut target = sshd.target("a", "127.0.0.1");
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    target.port = silent.local_addr().unwrap().port();
    let error = pool.facts(&target).await.unwrap_err();
    assert_eq!(error.code(), "ssh-unreachable");
    assert!(error.is_transient());
    drop(silent);
    let error = pool.facts(&target).await.unwrap_err();
    assert_eq!(error.code(), "ssh-unreachable");
    assert!(error.to_string().contains("refused"), "{error}");
}

#[tokio::test]
async fn one_that_hangs_up_at_once_refuses() {
    let sshd = Sshd::start();
    let mut target = sshd.target("a", "127.0.0.1");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    target.port = listener.local_addr().unwrap().port();
    let rude = std::thread::spawn(move || drop(listener.accept()));
    let error = sshd.pool(scripted::with_facts("m")).facts(&target).await.unwrap_err();
    rude.join().unwrap();
    assert_eq!(error.code(), "ssh-refused");
    assert!(error.is_transient());
}

#[tokio::test]
async fn a_deploy_key_is_made_once_and_only_its_owner_reads_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    let made: Vec<_> = std::thread::scope(|scope| {
        let engines: Vec<_> = (0..2).map(|_| scope.spawn(|| DeployKey::load_or_create(&path))).collect();
        engines.into_iter().map(|engine| engine.join().unwrap().unwrap().public_line()).collect()
    });
    assert_eq!(made[0], made[1]);
    assert!(made[0].starts_with("ssh-ed25519 ") && made[0].ends_with(" plinth"));
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    std::fs::write(&path, "scribble").unwrap();
    assert_eq!(DeployKey::load_or_create(&path).unwrap_err().code(), "ssh-key-unusable");
}

/// A real ssh-agent with one key.
struct SshAgent {
    socket: std::path::PathBuf,
    child: std::process::Child,
}

impl SshAgent {
    fn start(socket: &std::path::Path, key: &std::path::Path) -> Self {
        let child = std::process::Command::new("ssh-agent")
            .arg("-D")
            .arg("-a")
            .arg(socket)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        while !socket.exists() {
            std::thread::yield_now();
        }
        let added = std::process::Command::new("ssh-add").arg("-q").arg(key).env("SSH_AUTH_SOCK", socket).status();
        assert!(added.unwrap().success());
        Self { socket: socket.to_owned(), child }
    }
}

impl Drop for SshAgent {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}
