//! The server process: is one there, is it really ours, and how to end it.
//!
//! `postmaster.pid` in the data names a process, but after a crash it may name one that is gone, one that is a zombie
//! because nobody waits for it, or a stranger that got the same number. Postgres itself refuses to start over the
//! latter two for ever. So we ask `/proc`: ours is a live process that runs `postgres` with the data directory as its
//! working directory. Two postmasters over one directory would destroy the data; hence its pid file is removed only
//! when no process at all works in the directory.

use std::{
    fs,
    os::unix::{fs::MetadataExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::EmbeddedError;

/// The pause between two looks at a process that is to change.
pub(super) const LOOK: Duration = Duration::from_millis(10);
/// How long a fast shutdown may take; it writes a checkpoint.
const FAST: Duration = Duration::from_mins(1);
/// How long the orphans of a dead postmaster get to notice, and an immediate shutdown to work.
const IMMEDIATE: Duration = Duration::from_secs(5);

/// What `postmaster.pid` says, and what the process table says about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    /// No pid file.
    Nothing,
    /// A pid file left behind: its process is gone, a zombie, or a stranger.
    Leftover,
    /// The server of these data.
    Running(Running),
}

/// A live server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Running {
    pub(crate) pid: i32,
    /// Where its socket is.
    pub(crate) socket: PathBuf,
    pub(crate) phase: Phase,
}

/// What the server says about itself in its pid file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Starting,
    Ready,
    Stopping,
}

/// Looks for the server of the data in `cluster`.
pub(crate) fn find(cluster: &Path) -> Found {
    let Ok(text) = fs::read_to_string(cluster.join("postmaster.pid")) else {
        return Found::Nothing;
    };
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let line = |number: usize| lines.get(number - 1).copied().unwrap_or_default();
    match line(1).parse() {
        Ok(pid) if works_in(pid, cluster) => {
            let phase = match line(8) {
                "ready" | "standby" => Phase::Ready,
                "stopping" => Phase::Stopping,
                _ => Phase::Starting,
            };
            Found::Running(Running { pid, socket: PathBuf::from(line(5)), phase })
        }
        _ => Found::Leftover,
    }
}

/// Is this a live process of Postgres in this data directory?
pub(crate) fn works_in(pid: i32, cluster: &Path) -> bool {
    let Ok(data) = fs::metadata(cluster) else { return false };
    // Whose directory is it? No other account's process can have its data open.
    if !fs::metadata(format!("/proc/{pid}")).is_ok_and(|process| process.uid() == data.uid()) || is_zombie(pid) {
        return false;
    }
    let is_postgres = |program: &Path| {
        // "postgres", or "postgres (deleted)" after an upgrade of the package.
        program.file_name().is_some_and(|name| name.to_string_lossy().starts_with("postgres"))
    };
    match (fs::metadata(format!("/proc/{pid}/cwd")), fs::read_link(format!("/proc/{pid}/exe"))) {
        (Ok(place), Ok(program)) => (place.dev(), place.ino()) == (data.dev(), data.ino()) && is_postgres(&program),
        (Err(error), _) | (_, Err(error)) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            // In a container root may not look at another account's processes; the account itself may.
            let Some([place, program]) = links_as(pid, data.uid(), data.gid()) else { return false };
            Path::new(&place) == cluster && is_postgres(Path::new(&program))
        }
        // It ended at this moment.
        _ => false,
    }
}

/// The working directory and the program of a process, as its own account sees them.
fn links_as(pid: i32, uid: u32, gid: u32) -> Option<[String; 2]> {
    let output = Command::new("readlink")
        .args([format!("/proc/{pid}/cwd"), format!("/proc/{pid}/exe")])
        .current_dir("/")
        .uid(uid)
        .gid(gid)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let mut lines = text.lines().map(str::to_owned);
    Some([lines.next()?, lines.next()?])
}

/// Has it ended without anybody having waited for it?
fn is_zombie(pid: i32) -> bool {
    // The name in brackets may itself hold brackets and spaces: the state follows the last one.
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z')))
}

/// Every live process of Postgres in this data directory.
fn workers(cluster: &Path) -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| works_in(*pid, cluster))
        .collect()
}

/// Removes what a dead server left behind, once its last worker has noticed that it is dead.
pub(crate) async fn clean(cluster: &Path, socket: &Path) -> Result<(), EmbeddedError> {
    if !wait(IMMEDIATE, || workers(cluster).is_empty()).await {
        for pid in workers(cluster) {
            tracing::warn!(pid, "ending a Postgres process whose server is dead");
            signal(pid, Signal::SIGKILL);
        }
        if !wait(IMMEDIATE, || workers(cluster).is_empty()).await {
            return Err(EmbeddedError::Damaged {
                directory: cluster.to_owned(),
                reason: "processes of a dead server still work in it and cannot be ended".to_owned(),
            });
        }
    }
    for file in [cluster.join("postmaster.pid"), socket.join(".s.PGSQL.5432"), socket.join(".s.PGSQL.5432.lock")] {
        match fs::remove_file(&file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(EmbeddedError::io("remove", file, error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Ends a server: open transactions are rolled back and everything is on disk. If it does not end in time, harder.
pub(crate) async fn stop(running: &Running, cluster: &Path, mut reap: impl FnMut()) {
    let mut gone = || {
        reap();
        !works_in(running.pid, cluster)
    };
    for (how, limit) in [(Signal::SIGINT, FAST), (Signal::SIGQUIT, IMMEDIATE), (Signal::SIGKILL, IMMEDIATE)] {
        signal(running.pid, how);
        if wait(limit, &mut gone).await {
            return;
        }
        tracing::warn!(pid = running.pid, signal = %how, "Postgres did not end; trying harder");
    }
}

/// Ends a server that does not answer. The next start recovers from its log, as after a power cut.
pub(crate) async fn stop_hard(running: &Running, cluster: &Path, mut reap: impl FnMut()) {
    for how in [Signal::SIGQUIT, Signal::SIGKILL] {
        signal(running.pid, how);
        let gone = || {
            reap();
            !works_in(running.pid, cluster)
        };
        if wait(IMMEDIATE, gone).await {
            return;
        }
    }
}

/// Asks a process to end; that it is gone already is fine.
pub(super) fn signal(pid: i32, signal: Signal) {
    if let Err(error) = kill(Pid::from_raw(pid), signal)
        && error != nix::Error::ESRCH
    {
        tracing::warn!(pid, %signal, %error, "cannot signal Postgres");
    }
}

/// Waits until it is so, at most `limit`.
pub(super) async fn wait(limit: Duration, mut so: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    while !so() {
        if Instant::now() >= deadline {
            return false;
        }
        tokio::time::sleep(LOOK).await;
    }
    true
}
