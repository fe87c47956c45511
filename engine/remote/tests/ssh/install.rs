//! The agent gets onto the node, once, or it is clear why not.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use engine_remote::{AgentBinary, RemoteError};

use crate::scripted;
use crate::sshd::Sshd;

#[tokio::test]
async fn the_agent_is_copied_once_and_found_again() {
    let sshd = Sshd::start();
    let target = sshd.target("a", "127.0.0.1");
    let pool = sshd.pool(scripted::with_facts("m"));
    pool.facts(&target).await.unwrap();
    let copied = only_file(&sshd.root().join("agent"));
    let before = copied.metadata().unwrap();
    assert_eq!(sessions(&sshd), 3, "one that found nothing, one that copied, one that ran");
    pool.facts(&target).await.unwrap();
    assert_eq!(sessions(&sshd), 4, "one that ran");
    sshd.pool(scripted::with_facts("m")).facts(&sshd.target("again", "127.0.0.1")).await.unwrap();
    assert_eq!(sessions(&sshd), 5, "another engine, another node, the same machine");
    let after = copied.metadata().unwrap();
    assert_eq!(before.modified().unwrap(), after.modified().unwrap());
    assert_eq!(inode(&before), inode(&after));
}

#[tokio::test]
async fn a_damaged_agent_is_replaced() {
    let sshd = Sshd::start();
    let target = sshd.target("a", "127.0.0.1");
    sshd.pool(scripted::with_facts("m")).facts(&target).await.unwrap();
    let copied = only_file(&sshd.root().join("agent"));
    fs::write(&copied, "").unwrap();
    sshd.pool(scripted::with_facts("m")).facts(&target).await.unwrap();
    assert!(copied.metadata().unwrap().len() > 0);
}

#[tokio::test]
async fn many_jobs_on_a_new_node_copy_it_once() {
    let sshd = Sshd::start();
    let target = sshd.target("a", "127.0.0.1");
    let pool = sshd.pool(scripted::with_facts("m"));
    let all = (0..6).map(|_| pool.facts(&target));
    for joined in futures::future::join_all(all).await {
        joined.unwrap();
    }
    assert_eq!(pool.connections(), 1);
    assert_eq!(sshd.log().matches("Accepted publickey").count(), 1);
    only_file(&sshd.root().join("agent"));
}

#[tokio::test]
async fn a_foreign_machine_gets_nothing() {
    let sshd = Sshd::start();
    let agent = AgentBinary::new("riscv64", b"#!/bin/sh\n".to_vec());
    let error = sshd.pool(agent).facts(&sshd.target("a", "127.0.0.1")).await.unwrap_err();
    assert_eq!(error.code(), "agent-foreign-architecture");
    assert!(error.to_string().contains(std::env::consts::ARCH), "{error}");
    assert_eq!(files(&sshd.root()), Vec::<String>::new());
}

#[tokio::test]
async fn a_full_disk_is_told_and_cleaned_up_after() {
    let sshd = Sshd::start();
    let _mounted = Tmpfs::mount(sshd.root(), "size=64k");
    let agent = AgentBinary::new(std::env::consts::ARCH, vec![b'#'; 1 << 20]);
    let error = sshd.pool(agent).facts(&sshd.target("a", "127.0.0.1")).await.unwrap_err();
    assert_eq!(error.code(), "disk-full", "{error}");
    assert_eq!(files(&sshd.root()), Vec::<String>::new());
}

#[tokio::test]
async fn a_file_system_that_runs_nothing_is_told() {
    let sshd = Sshd::start();
    let _mounted = Tmpfs::mount(sshd.root(), "noexec");
    let error = sshd.pool(scripted::with_facts("m")).facts(&sshd.target("a", "127.0.0.1")).await.unwrap_err();
    assert_eq!(error.code(), "agent-start-failed");
    assert!(error.to_string().contains("Permission denied"), "{error}");
}

#[tokio::test]
async fn a_place_that_can_not_be_made_is_told() {
    let sshd = Sshd::start();
    fs::write(sshd.root(), "in the way").unwrap();
    let error = sshd.pool(scripted::with_facts("m")).facts(&sshd.target("a", "127.0.0.1")).await.unwrap_err();
    let RemoteError::InstallFailed { reason, .. } = &error else { panic!("{error}") };
    assert!(reason.contains("Not a directory"), "{reason}");
}

#[tokio::test]
async fn a_talkative_login_shell_does_no_harm_and_another_program_is_shown() {
    let sshd = Sshd::start();
    let target = sshd.target("a", "127.0.0.1");
    let talkative =
        format!("#!/bin/sh\necho Welcome!\n{}\n", scripted::say(&[scripted::hello("one"), scripted::facts("m"),]));
    let agent = AgentBinary::new(std::env::consts::ARCH, talkative.into_bytes());
    assert_eq!(sshd.pool(agent).facts(&target).await.unwrap().facts.hostname, "m");
    let other = AgentBinary::new(std::env::consts::ARCH, b"#!/bin/sh\necho Nobody here; exit 3\n".to_vec());
    let error = sshd.pool(other).facts(&target).await.unwrap_err();
    assert_eq!(error.code(), "agent-start-failed");
    assert!(error.to_string().contains("Nobody here; status 3"), "{error}");
}

#[tokio::test]
async fn sudo_without_a_password_is_enough_and_less_is_told() {
    // Made first and so removed last, when the server has let go of it.
    let user = User::make("plinth-remote");
    let sshd = Sshd::start();
    let mut target = sshd.target("a", "127.0.0.1");
    target.user.clone_from(&user.name);
    let error = sshd.pool(scripted::with_facts("m")).facts(&target).await.unwrap_err();
    assert_eq!(error.code(), "sudo-needs-password", "{error}");
    assert!(!sshd.root().exists());
    user.let_sudo();
    let said = scripted::say(&[scripted::hello("one"), scripted::facts("m")]);
    let whoami = format!("id -u > {}/uid; {said}", sshd.dir.path().display());
    let agent = AgentBinary::new(std::env::consts::ARCH, format!("#!/bin/sh\n{whoami}\n").into_bytes());
    sshd.pool(agent).facts(&target).await.unwrap();
    assert_eq!(fs::read_to_string(sshd.dir.path().join("uid")).unwrap(), "0\n");
}

/// How many commands the server was asked to run.
fn sessions(sshd: &Sshd) -> usize {
    sshd.log().matches("Starting session: command").count()
}

fn files(dir: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut found = Vec::new();
    for entry in entries.map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path().display().to_string());
        }
    }
    found
}

fn only_file(dir: &Path) -> PathBuf {
    let found = files(dir);
    assert_eq!(found.len(), 1, "{found:?}");
    found[0].clone().into()
}

fn inode(metadata: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

/// A small file system of its own, unmounted with the test.
struct Tmpfs(PathBuf);

impl Tmpfs {
    fn mount(at: PathBuf, options: &str) -> Self {
        fs::create_dir(&at).unwrap();
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", options, "plinth-test"]).arg(&at).status();
        assert!(done.unwrap().success());
        Self(at)
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// A login of this machine, gone with the test.
struct User {
    name: String,
}

impl User {
    fn make(name: &str) -> Self {
        let name = format!("{name}-{}", std::process::id());
        let made = Command::new("useradd")
            .args(["--system", "--no-create-home", "--home-dir", "/", "--shell", "/bin/bash"])
            .args(["--password", "*"])
            .arg(&name)
            .status();
        assert!(made.unwrap().success());
        Self { name }
    }

    fn let_sudo(&self) {
        fs::write(self.sudoers(), format!("{} ALL=(root) NOPASSWD: ALL\n", self.name)).unwrap();
    }

    fn sudoers(&self) -> String {
        format!("/etc/sudoers.d/{}", self.name)
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.sudoers());
        // By force: the server may not have let go of the session yet.
        let _ = Command::new("userdel").arg("--force").arg(&self.name).status();
    }
}
