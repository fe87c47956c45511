//! An agent in a folder of its own, and conversations with it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use engine_agent::protocol::{
    Event, JobSpec, Limits, Mode, Outcome, PROTOCOL, Reply, Request, read_frame, write_frame,
};
use engine_core::document::Step;
use engine_core::id::{JobId, NodeId};
use serde::Serialize;
use serde_json::{Value, json};
use tempfile::TempDir;

/// An agent and a folder for its jobs to work in.
pub(crate) struct Agent {
    dir: TempDir,
}

/// One conversation; the process is ended with it.
pub(crate) struct Talk {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
    pub hello: Reply,
}

/// What came on a job's channel until it ended.
pub(crate) struct Heard {
    pub events: Vec<(u64, Event)>,
    pub outcome: Outcome,
}

impl Agent {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a folder") }
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// A path for a job to work on.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    pub(crate) fn talk(&self) -> Talk {
        self.talk_in(PROTOCOL)
    }

    /// A conversation with an engine whose newest protocol is this.
    pub(crate) fn talk_in(&self, protocol: u32) -> Talk {
        Talk::begin(Command::new(env!("CARGO_BIN_EXE_plinth-agent")), &self.state(), protocol)
    }

    /// A conversation with another `PATH`.
    pub(crate) fn talk_with_path(&self, path: &str) -> Talk {
        let mut command = Command::new(env!("CARGO_BIN_EXE_plinth-agent"));
        command.env("PATH", path);
        self.talk_by(command)
    }

    /// A conversation with an agent that is started so.
    pub(crate) fn talk_by(&self, command: Command) -> Talk {
        Talk::begin(command, &self.state(), PROTOCOL)
    }

    /// A job of some steps; `DIR` in them is this agent's folder.
    pub(crate) fn job(&self, mode: Mode, steps: Value) -> JobSpec {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let id = |number: u64| format!("00000000-0000-7000-8000-{number:012}");
        JobSpec {
            job: id(number).parse::<JobId>().expect("a job"),
            fence: 1,
            title: "a/test".to_owned(),
            owner: "owner".to_owned(),
            node: id(0).parse::<NodeId>().expect("a node"),
            mode,
            steps: self.steps(steps),
            then: Vec::new(),
            inputs: serde_json::Map::new(),
            secret: Vec::new(),
            changed: Vec::new(),
            files: BTreeMap::new(),
            outputs: Vec::new(),
            spare: Vec::new(),
            destroys: Vec::new(),
            limits: Limits { seconds: 20, ..Limits::default() },
        }
    }

    pub(crate) fn steps(&self, steps: Value) -> Vec<Step> {
        let dir = self.dir.path().to_str().expect("UTF-8");
        let text = steps.to_string().replace("DIR", dir);
        serde_json::from_str(&text).expect("JSON")
    }

    pub(crate) fn run(&self, job: &JobSpec) -> Heard {
        self.talk().run(job)
    }

    /// Runs steps and gives the outcome.
    pub(crate) fn apply(&self, steps: Value) -> Outcome {
        self.run(&self.job(Mode::Apply, steps)).outcome
    }

    pub(crate) fn job_dir(&self, job: &JobSpec) -> PathBuf {
        self.state().join("jobs").join(job.job.to_string())
    }

    /// The process that runs a job: the holder of the lock on its folder.
    pub(crate) fn job_process(&self, job: &JobSpec) -> i32 {
        let needle = self.job_dir(job).into_os_string().into_string().expect("UTF-8");
        let mut found = None;
        until("the job's process runs", || {
            found = processes().into_iter().find(|(_, line)| line.contains("\0job\0") && line.contains(&needle));
            found.is_some()
        });
        found.expect("its process").0
    }

    /// Kills the process that runs a job, and waits until it is gone.
    pub(crate) fn kill_job(&self, job: &JobSpec) {
        let pid = self.job_process(job);
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).expect("it runs");
        until("it is gone", || !processes().iter().any(|(other, _)| *other == pid));
    }
}

impl Talk {
    fn begin(mut command: Command, state: &Path, protocol: u32) -> Self {
        let mut child = command
            .args(["serve", "--state"])
            .arg(state)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut stdin = child.stdin.take().expect("piped");
        let mut stdout = child.stdout.take().expect("piped");
        write_frame(&mut stdin, &Request::Hello { protocol }).expect("it listens");
        let hello = read_frame(&mut stdout).expect("a frame").expect("a greeting");
        Self { child, stdin: Some(stdin), stdout, hello }
    }

    pub(crate) fn send(&mut self, request: &impl Serialize) {
        write_frame(self.stdin.as_mut().expect("open"), request).expect("it listens");
    }

    pub(crate) fn reply(&mut self) -> Reply {
        read_frame(&mut self.stdout).expect("a frame").expect("the agent hung up")
    }

    pub(crate) fn ask(mut self, request: &impl Serialize) -> Reply {
        self.send(request);
        self.reply()
    }

    pub(crate) fn run(mut self, job: &JobSpec) -> Heard {
        self.send(&Request::Run { job: Box::new(job.clone()) });
        self.hear()
    }

    pub(crate) fn attach(mut self, job: &JobSpec, seen: u64) -> Heard {
        self.send(&Request::Attach { job: job.job, fence: job.fence, seen });
        self.hear()
    }

    /// Everything until the end.
    pub(crate) fn hear(&mut self) -> Heard {
        let mut events = Vec::new();
        loop {
            match self.reply() {
                Reply::Event { seq, event } => events.push((seq, event)),
                Reply::Done { outcome } => return Heard { events, outcome },
                Reply::Rebooting { .. } => {}
                other => panic!("unexpected: {other:?}"),
            }
        }
    }

    /// Reads until a line of the log contains a text.
    pub(crate) fn hear_line(&mut self, text: &str) -> u64 {
        loop {
            match self.reply() {
                Reply::Event { seq, event: Event::Log { line, .. } } if line.contains(text) => return seq,
                Reply::Event { .. } => {}
                other => panic!("unexpected: {other:?}"),
            }
        }
    }

    /// Closes our end, as a lost connection does.
    pub(crate) fn hang_up(mut self) {
        drop(self.stdin.take());
        until("the conversation ends", || self.child.try_wait().expect("a child").is_some());
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Heard {
    pub(crate) fn log(&self) -> String {
        let lines = self.events.iter().filter_map(|(_, event)| match event {
            Event::Log { line, .. } => Some(line.as_str()),
            _ => None,
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}

/// `status code` and the message, for people.
pub(crate) fn said(outcome: &Outcome) -> String {
    let status = format!("{:?}", outcome.status).to_lowercase();
    match (&outcome.code, &outcome.message) {
        (Some(code), Some(message)) => format!("{status} {code}: {message}"),
        _ => status,
    }
}

/// One line a step: what it is and what it did.
pub(crate) fn told(outcome: &Outcome, dir: &Agent) -> String {
    let dir = dir.dir.path().to_str().expect("UTF-8").to_owned();
    let mut text = said(outcome);
    for step in &outcome.steps {
        let what = if step.skipped {
            "skipped"
        } else if step.changed {
            "changed"
        } else {
            "same"
        };
        text.push_str(&format!("\n{what} {}", step.title));
        for diff in &step.diffs {
            text.push_str(&format!("\n  {}: {}", diff.what, diff.text.replace('\n', "\n    ")));
        }
    }
    for thing in &outcome.residue {
        text.push_str(&format!("\nresidue {thing}"));
    }
    text.replace(&dir, "DIR")
}

/// Text of a file as a job carries it.
pub(crate) fn encode(text: &str) -> String {
    STANDARD.encode(text)
}

/// A step that counts itself in a file, and then waits until another file is there.
pub(crate) fn counting(name: &str) -> Value {
    json!({"run": {"text": format!(
        "echo {name} >> DIR/count; echo at {name}; while [ ! -e DIR/go ]; do read -t 0.01 <> <(:) || true; done"
    )}})
}

/// Waits for a condition that nothing announces.
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < Duration::from_secs(30), "waited 30 s in vain until {what}");
        std::thread::yield_now();
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

/// Pid and command line of every process that is alive.
fn processes() -> Vec<(i32, String)> {
    let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
    entries
        .filter_map(|entry| {
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            let line = std::fs::read(entry.path().join("cmdline")).ok()?;
            // A zombie has none.
            (!line.is_empty()).then(|| (pid, String::from_utf8_lossy(&line).into_owned()))
        })
        .collect()
}
