//! Bringing the server up, whatever state it was left in, and down again.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Seek, SeekFrom},
    os::unix::{fs::OpenOptionsExt, process::CommandExt},
    path::Path,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use sqlx::{ConnectOptions, Executor};

use super::{
    Embedded, EmbeddedError, State,
    error::{says_full, tail},
    postmaster::{self, Found, LOOK, Phase, Running, wait},
};
use crate::{StoreError, connect};

/// The log is cut when it is larger than this; one older part is kept.
const LOG_LIMIT: u64 = 8 << 20;
/// How long one connection may take to be answered.
const ANSWER: Duration = Duration::from_secs(5);
/// How long a drop waits for Postgres to end.
const AT_DROP: Duration = Duration::from_secs(5);
/// How often we begin again when the server changes under our hands.
const ATTEMPTS: u32 = 4;

/// How it comes that Postgres runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ensured {
    /// It ran and answered already, and we have used it before.
    Running,
    /// It ran already: another engine's, or an orphan of one that died.
    Adopted,
    /// It did not run.
    Started,
}

enum Outcome {
    Ready,
    Gone,
    Silent,
}

impl Embedded {
    /// Makes the server run. To be called in one's turn. Only a server that nobody else uses is
    /// `replaceable` when it does not answer: one that is merely slow must not be taken from others.
    pub(super) async fn bring_up(&self, state: &mut State, replaceable: bool) -> Result<Ensured, StoreError> {
        for _ in 0..ATTEMPTS {
            reap(&mut state.child);
            let Found::Running(running) = postmaster::find(&self.layout.cluster) else {
                return self.launch(state).await;
            };
            if running.phase == Phase::Stopping {
                let gone = || {
                    reap(&mut state.child);
                    !postmaster::works_in(running.pid, &self.layout.cluster)
                };
                if !wait(self.config.start_within, gone).await {
                    return Err(self.silent(running.pid).into());
                }
                continue;
            }
            if replaceable && running.socket != self.socket {
                tracing::info!(pid = running.pid, "restarting an orphaned Postgres whose socket is elsewhere");
                self.end(state).await;
                continue;
            }
            // Its settings may have been written by another version of us; those that can change do.
            postmaster::signal(running.pid, Signal::SIGHUP);
            match self.wait_ready(state, running.pid).await? {
                Outcome::Ready => return Ok(Ensured::Adopted),
                Outcome::Gone => {}
                // One that still recovers is left to it: begun again, it would never end.
                Outcome::Silent if replaceable && self.phase() == Some(Phase::Ready) => {
                    tracing::warn!(pid = running.pid, "an orphaned Postgres does not answer; restarting it");
                    postmaster::stop_hard(&running, &self.layout.cluster, || reap(&mut state.child)).await;
                }
                Outcome::Silent => return Err(self.silent(running.pid).into()),
            }
        }
        Err(self.failed(0).into())
    }

    /// Starts a server where none runs.
    async fn launch(&self, state: &mut State) -> Result<Ensured, StoreError> {
        postmaster::clean(&self.layout.cluster, &self.socket).await?;
        self.let_go(state).await?;
        trim_log(&self.layout.log)?;
        let log = open_log(&self.layout.log)?;
        let before = log.metadata().map_or(0, |data| data.len());
        let second = log.try_clone().map_err(|error| EmbeddedError::io("open", &self.layout.log, error))?;
        let program = self.binaries.program("postgres");
        let mut command = self.account.command(&program, &self.layout.base);
        command.arg("-D").arg(&self.layout.cluster).stdin(Stdio::null()).stdout(log).stderr(second);
        // A group of its own: Ctrl-C at our terminal is for us, and we then end it in order.
        command.process_group(0);
        let child = command.spawn().map_err(|error| EmbeddedError::io("run", &program, error))?;
        let pid = i32::try_from(child.id()).expect("a process id is an i32");
        state.child = Some(child);
        match self.wait_ready(state, pid).await? {
            Outcome::Ready => Ok(Ensured::Started),
            Outcome::Gone => Err(self.failed(before).into()),
            Outcome::Silent => Err(self.silent(pid).into()),
        }
    }

    /// Waits for the end of the server that we started before. One that is being killed leaves its directory before
    /// it ends, so that `find` and `clean` no longer see it; never waited for, it would stay as a zombie.
    async fn let_go(&self, state: &mut State) -> Result<(), EmbeddedError> {
        let Some(pid) = state.child.as_ref().map(Child::id) else { return Ok(()) };
        let over = || {
            reap(&mut state.child);
            state.child.is_none()
        };
        if wait(ANSWER, over).await {
            return Ok(());
        }
        Err(self.silent(i32::try_from(pid).expect("a process id is an i32")))
    }

    /// Waits until the server with this process id answers.
    async fn wait_ready(&self, state: &mut State, pid: i32) -> Result<Outcome, StoreError> {
        let deadline = Instant::now() + self.config.start_within;
        loop {
            let ours = state.child.as_ref().is_some_and(|child| i64::from(child.id()) == i64::from(pid));
            if ours {
                reap(&mut state.child);
            }
            let alive = if ours { state.child.is_some() } else { postmaster::works_in(pid, &self.layout.cluster) };
            if !alive {
                return Ok(Outcome::Gone);
            }
            if self.phase() == Some(Phase::Ready) && self.greet(deadline).await? {
                return Ok(Outcome::Ready);
            }
            if Instant::now() >= deadline {
                return Ok(Outcome::Silent);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn phase(&self) -> Option<Phase> {
        match postmaster::find(&self.layout.cluster) {
            Found::Running(running) => Some(running.phase),
            Found::Nothing | Found::Leftover => None,
        }
    }

    /// Connects once; makes the database if this is a new cluster. `false` if it may answer later.
    async fn greet(&self, deadline: Instant) -> Result<bool, StoreError> {
        let target = self.target();
        let limit = ANSWER.min(deadline.saturating_duration_since(Instant::now()));
        match tokio::time::timeout(limit, target.options().connect()).await {
            Err(_) => Ok(false),
            Ok(Ok(connection)) => {
                connect::close(connection).await;
                Ok(true)
            }
            Ok(Err(error)) if connect::code(&error) == "database-missing" => {
                let mut connection = connect::connect_one(&target.database("postgres")).await?;
                connection
                    .execute("create database plinth")
                    .await
                    .map_err(|source| StoreError::Database { doing: "making the database", source })?;
                connect::close(connection).await;
                Ok(true)
            }
            // All its connections are in use, so it is up.
            Ok(Err(error)) if connect::code(&error) == "database-connections" => Ok(true),
            Ok(Err(error)) if connect::is_transient(&error) => Ok(false),
            Ok(Err(source)) => Err(StoreError::Database { doing: "connecting to the embedded Postgres", source }),
        }
    }

    /// Does it run and answer right now?
    pub(super) async fn answers(&self, state: &mut State) -> bool {
        reap(&mut state.child);
        match postmaster::find(&self.layout.cluster) {
            Found::Running(Running { phase: Phase::Ready, .. }) => {
                self.greet(Instant::now() + ANSWER).await.unwrap_or(false)
            }
            _ => false,
        }
    }

    /// Ends the server in order.
    pub(super) async fn end(&self, state: &mut State) {
        if let Found::Running(running) = postmaster::find(&self.layout.cluster) {
            postmaster::stop(&running, &self.layout.cluster, || reap(&mut state.child)).await;
        }
        reap(&mut state.child);
    }

    /// After a start that failed: a server that still recovers goes on, and the next attempt finds it.
    pub(super) async fn forsake(&self) {
        self.state.lock().await.users = None;
    }

    /// Ends the server without an executor: at drop.
    pub(super) fn end_at_drop(&mut self) {
        let state = self.state.get_mut();
        let Some(users) = state.users.take() else { return };
        let Ok(Some(_turn)) = self.sharing.try_turn() else { return };
        drop(users);
        if !self.sharing.is_unused().unwrap_or(false) {
            return;
        }
        let Found::Running(running) = postmaster::find(&self.layout.cluster) else { return };
        postmaster::signal(running.pid, Signal::SIGINT);
        let deadline = Instant::now() + AT_DROP;
        while postmaster::works_in(running.pid, &self.layout.cluster) && Instant::now() < deadline {
            std::thread::sleep(LOOK);
            reap(&mut state.child);
        }
        reap(&mut state.child);
    }

    fn silent(&self, pid: i32) -> EmbeddedError {
        EmbeddedError::Silent { pid, limit: self.config.start_within, log: self.layout.log.clone() }
    }

    /// Why it ended while it was starting, from what it wrote since.
    fn failed(&self, since: u64) -> EmbeddedError {
        let said = read_log(&self.layout.log, since);
        if says_full(&said) {
            return EmbeddedError::NoSpace { directory: self.layout.base.clone(), doing: "starting it".to_owned() };
        }
        let said = if said.trim().is_empty() { "it ended without a word".to_owned() } else { tail(&said) };
        EmbeddedError::Start { said, log: self.layout.log.clone() }
    }
}

/// Takes note of the end of our child, so that it does not stay as a zombie.
fn reap(child: &mut Option<Child>) {
    if let Some(running) = child
        && !matches!(running.try_wait(), Ok(None))
    {
        *child = None;
    }
}

fn open_log(path: &Path) -> Result<File, EmbeddedError> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| EmbeddedError::io("open", path, error))
}

fn read_log(path: &Path, since: u64) -> String {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|mut file| {
        file.seek(SeekFrom::Start(since))?;
        file.take(1 << 20).read_to_end(&mut bytes)
    });
    if let Err(error) = read {
        return format!("and its log cannot be read: {error}");
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Moves what is in a large log aside. The server goes on writing to the same file, which is opened for appending; a
/// line that it writes at this very moment is lost.
pub(super) fn trim_log(path: &Path) -> Result<(), EmbeddedError> {
    let failed = |error| EmbeddedError::io("shorten", path, error);
    if fs::metadata(path).map_or(0, |data| data.len()) <= LOG_LIMIT {
        return Ok(());
    }
    fs::copy(path, path.with_extension("log.1")).map_err(failed)?;
    OpenOptions::new().write(true).open(path).and_then(|file| file.set_len(0)).map_err(failed)
}
