//! Runs programs so that they can be stopped: each in a process group of its own, marked in its environment.
//!
//! The mark is `PLINTH_STEP=JOB:INDEX`. When the process that ran a job is gone, its successor finds by the mark what
//! is still running of the unfinished step, however it was detached, and ends it before anything else.

use std::fs;
use std::io::{self, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

use crate::error::{Result, StepError};

/// Environment variable that marks the processes of a step.
pub(crate) const MARK: &str = "PLINTH_STEP";

/// Between TERM and KILL.
const GRACE: Duration = Duration::from_secs(3);

/// How long output of a program that ended is waited for when something it left behind holds the pipe.
const LINGER: Duration = Duration::from_millis(200);

/// Longer than any job: the clock can not count without end.
const FAR: Duration = Duration::from_hours(366 * 24);

/// Longer lines are cut.
const LONGEST_LINE: usize = 16 << 10;

/// Bytes of output that are kept for the caller.
const KEPT: usize = 1 << 20;

/// Time and the wish to stop, for all of a job.
pub(crate) struct Supervisor {
    seconds: u64,
    inner: Mutex<Watch>,
    changed: Condvar,
}

struct Watch {
    deadline: Instant,
    cancelled: bool,
    running: Option<Sender<Message>>,
}

enum Message {
    Output(&'static str, Vec<u8>),
    Closed,
    Exited(io::Result<ExitStatus>),
    Stop,
}

/// A program to run.
pub(crate) struct Program {
    command: Command,
    title: String,
    limit: Option<Duration>,
}

/// How a program ended.
pub(crate) struct Ended {
    pub status: ExitStatus,
    /// Standard output, at most [`KEPT`] bytes of it.
    pub stdout: String,
    /// The last lines of standard error, or of standard output if there was none.
    pub last: String,
}

impl Supervisor {
    /// For a job with `limit` seconds, of which `used` are gone.
    pub(crate) fn new(limit: u64, used: Duration) -> Arc<Self> {
        let left = Duration::from_secs(limit).saturating_sub(used).min(FAR);
        let watch = Watch { deadline: Instant::now() + left, cancelled: false, running: None };
        Arc::new(Self { seconds: limit, inner: Mutex::new(watch), changed: Condvar::new() })
    }

    /// Stops what runs and lets nothing else begin.
    pub(crate) fn cancel(&self) {
        let mut watch = self.inner();
        watch.cancelled = true;
        if let Some(running) = &watch.running {
            // It may have ended this very moment.
            let _ = running.send(Message::Stop);
        }
        self.changed.notify_all();
    }

    /// An error once the time is over or somebody asked to stop.
    pub(crate) fn check(&self) -> Result<()> {
        let watch = self.inner();
        if watch.cancelled {
            return Err(StepError::Cancelled);
        }
        if Instant::now() >= watch.deadline { Err(StepError::Timeout(self.seconds)) } else { Ok(()) }
    }

    /// Adds time that does not count, such as that of a reboot.
    pub(crate) fn extend(&self, span: Duration) {
        self.inner().deadline += span.min(FAR);
    }

    fn deadline(&self) -> Instant {
        self.inner().deadline
    }

    /// Between two looks at a condition that nothing announces: waits, unless it is time to stop.
    pub(crate) fn pause(&self, span: Duration) -> Result<()> {
        let until = (Instant::now() + span.min(FAR)).min(self.deadline());
        let mut watch = self.inner();
        while !watch.cancelled {
            let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) else { break };
            watch = self.changed.wait_timeout(watch, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(watch);
        self.check()
    }

    fn inner(&self) -> MutexGuard<'_, Watch> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Program {
    /// A program by name and arguments. Secrets never go into arguments: give them as environment.
    pub(crate) fn new(name: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new(name);
        command.args(arguments);
        let title = format!("`{}`", [&[name], arguments].concat().join(" "));
        Self { command, title, limit: None }
    }

    pub(crate) fn titled(mut self, title: impl Into<String>) -> Self {
        self.title = title.into();
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    pub(crate) fn dir(mut self, dir: &std::path::Path) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// Its own limit, besides the job's.
    pub(crate) fn within(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Runs it; `sink` gets its lines as they come. A failure of the program is no error.
    pub(crate) fn run(mut self, supervisor: &Supervisor, sink: &mut dyn FnMut(&str, &[String])) -> Result<Ended> {
        supervisor.check()?;
        self.command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = self.command.spawn().map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => {
                StepError::ProgramMissing { what: self.command.get_program().to_string_lossy().into_owned() }
            }
            _ => StepError::Io { doing: "starting", path: self.command.get_program().into(), source },
        })?;
        let (send, receive) = channel();
        read_from(child.stdout.take(), "stdout", &send);
        read_from(child.stderr.take(), "stderr", &send);
        let group = Group::new(&child);
        wait_for(child, group.clone(), &send);
        supervisor.inner().running = Some(send);
        let result = self.follow(supervisor, &receive, &group, sink);
        supervisor.inner().running = None;
        result
    }

    fn follow(
        &self,
        supervisor: &Supervisor,
        receive: &Receiver<Message>,
        group: &Group,
        sink: &mut dyn FnMut(&str, &[String]),
    ) -> Result<Ended> {
        let own = self.limit.map(|limit| Instant::now() + limit.min(FAR));
        let deadline = supervisor.deadline();
        let mut until = own.map_or(deadline, |own| own.min(deadline));
        let mut lines = Lines::default();
        let mut open = 2;
        let (mut exited, mut stopped): (Option<io::Result<ExitStatus>>, Option<StepError>) = (None, None);
        // What asked to stop before we began to listen has sent nothing.
        if let Err(error) = supervisor.check() {
            group.signal(Signal::SIGTERM);
            (until, stopped) = (Instant::now() + GRACE, Some(error));
        }
        while exited.is_none() || open > 0 {
            match receive.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(Message::Output(stream, bytes)) => lines.add(stream, &bytes, sink),
                Ok(Message::Closed) => open -= 1,
                Ok(Message::Exited(status)) => {
                    exited = Some(status);
                    until = Instant::now() + LINGER;
                }
                Ok(Message::Stop) if stopped.is_none() && exited.is_none() => {
                    group.signal(Signal::SIGTERM);
                    (until, stopped) = (Instant::now() + GRACE, Some(StepError::Cancelled));
                }
                Ok(Message::Stop) => {}
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) if exited.is_some() => break,
                Err(RecvTimeoutError::Timeout) if stopped.is_some() => {
                    group.signal(Signal::SIGKILL);
                    until = Instant::now() + GRACE;
                }
                Err(RecvTimeoutError::Timeout) => {
                    group.signal(Signal::SIGTERM);
                    (until, stopped) = (Instant::now() + GRACE, Some(self.out_of_time(supervisor)));
                }
            }
        }
        lines.finish(sink);
        if let Some(error) = stopped {
            group.signal(Signal::SIGKILL);
            return Err(error);
        }
        let status = exited.unwrap_or_else(|| Err(io::Error::other("its status was lost")));
        let status = status.map_err(|source| StepError::Io {
            doing: "waiting for",
            path: self.command.get_program().into(),
            source,
        })?;
        Ok(Ended { status, last: lines.last(), stdout: lines.stdout })
    }

    fn out_of_time(&self, supervisor: &Supervisor) -> StepError {
        match (supervisor.check(), self.limit) {
            (Err(error), _) => error,
            (Ok(()), limit) => StepError::WaitTimeout {
                what: self.title.clone(),
                within: format!("{} s", limit.unwrap_or_default().as_secs()),
                last: String::new(),
            },
        }
    }

    /// Runs it quietly; a status other than 0 is an error.
    pub(crate) fn quiet(self, supervisor: &Supervisor) -> Result<String> {
        let title = self.title.clone();
        self.run(supervisor, &mut |_, _| {})?.success(&title)
    }
}

impl Ended {
    /// Standard output, or an error that says how it ended.
    pub(crate) fn success(self, title: &str) -> Result<String> {
        if self.status.success() {
            return Ok(self.stdout);
        }
        Err(StepError::Command { what: title.to_owned(), how: how(self.status), last: self.last })
    }
}

/// "ended with 2", "was killed by signal 9".
pub(crate) fn how(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

/// The process group of a child, as long as the child is not reaped: then its number may be another's.
#[derive(Clone)]
struct Group(Arc<Mutex<Option<Pid>>>);

impl Group {
    fn new(child: &Child) -> Self {
        let pid = i32::try_from(child.id()).ok().map(Pid::from_raw);
        Self(Arc::new(Mutex::new(pid)))
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = killpg(pid, signal);
        }
    }
}

fn wait_for(mut child: Child, group: Group, send: &Sender<Message>) {
    let send = send.clone();
    thread::spawn(move || {
        let pid = i32::try_from(child.id()).map(Pid::from_raw);
        if let Ok(pid) = pid {
            let _ = waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT);
        }
        let mut number = group.0.lock().unwrap_or_else(PoisonError::into_inner);
        *number = None;
        let status = child.wait();
        drop(number);
        send.send(Message::Exited(status))
    });
}

fn read_from(source: Option<impl Read + Send + 'static>, stream: &'static str, send: &Sender<Message>) {
    let send = send.clone();
    thread::spawn(move || {
        let mut source = source.expect("the pipe was asked for");
        let mut buffer = vec![0; 32 << 10];
        loop {
            match source.read(&mut buffer) {
                Ok(count) if count > 0 => {
                    if send.send(Message::Output(stream, buffer[..count].to_vec())).is_err() {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                _ => break,
            }
        }
        let _ = send.send(Message::Closed);
    });
}

/// Cuts output into lines.
#[derive(Default)]
struct Lines {
    partial: [Vec<u8>; 2],
    stdout: String,
    recent: [Vec<String>; 2],
}

impl Lines {
    fn add(&mut self, stream: &'static str, bytes: &[u8], sink: &mut dyn FnMut(&str, &[String])) {
        let which = usize::from(stream == "stderr");
        if which == 0 && self.stdout.len() < KEPT {
            self.stdout.push_str(&String::from_utf8_lossy(bytes));
        }
        let partial = &mut self.partial[which];
        partial.extend_from_slice(bytes);
        let mut lines = Vec::new();
        while let Some(end) = partial.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = partial.drain(..=end).collect();
            lines.push(clean(&line[..end]));
        }
        if partial.len() > LONGEST_LINE {
            lines.push(clean(&std::mem::take(partial)));
        }
        self.note(which, stream, lines, sink);
    }

    fn finish(&mut self, sink: &mut dyn FnMut(&str, &[String])) {
        for (which, stream) in [(0, "stdout"), (1, "stderr")] {
            if !self.partial[which].is_empty() {
                let line = clean(&std::mem::take(&mut self.partial[which]));
                self.note(which, stream, vec![line], sink);
            }
        }
    }

    fn note(&mut self, which: usize, stream: &str, lines: Vec<String>, sink: &mut dyn FnMut(&str, &[String])) {
        if lines.is_empty() {
            return;
        }
        sink(stream, &lines);
        let recent = &mut self.recent[which];
        recent.extend(lines.into_iter().filter(|line| !line.trim().is_empty()));
        let old = recent.len().saturating_sub(5);
        recent.drain(..old);
    }

    fn last(&self) -> String {
        let lines = if self.recent[1].is_empty() { &self.recent[0] } else { &self.recent[1] };
        lines.join("\n")
    }
}

fn clean(line: &[u8]) -> String {
    let line = String::from_utf8_lossy(line);
    let line = line.trim_end_matches('\r');
    // A progress bar writes one line again and again: the last of it counts.
    let line = line.rsplit('\r').next().unwrap_or(line);
    let mut end = line.len().min(LONGEST_LINE);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    // Postgres can not store it, and nobody can read it.
    line[..end].replace('\0', "")
}

/// Processes that carry the mark of a step.
pub(crate) fn marked(mark: &str) -> Vec<Pid> {
    let needle = format!("{MARK}={mark}");
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|variable| variable == needle.as_bytes())
        })
        .map(Pid::from_raw)
        .collect()
}

/// Waits until nothing is left of a step that must not be cut off in the middle.
pub(crate) fn await_marked(mark: &str, supervisor: &Supervisor) -> Result<()> {
    while !marked(mark).is_empty() {
        supervisor.pause(Duration::from_millis(50))?;
    }
    Ok(())
}

/// Ends what is left of a step.
pub(crate) fn end_marked(mark: &str, supervisor: &Supervisor) -> Result<()> {
    loop {
        let left = marked(mark);
        if left.is_empty() {
            return Ok(());
        }
        for pid in left {
            let _ = kill(pid, Signal::SIGKILL);
        }
        supervisor.pause(Duration::from_millis(5))?;
    }
}
