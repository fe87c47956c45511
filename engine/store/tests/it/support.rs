//! Directories that Postgres can enter, and other processes that use the same one.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use engine_store::embedded::{Embedded, EmbeddedConfig, Stopped};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// The variable that turns [`as_another_process`] into an engine.
const ROLE: &str = "PLINTH_TEST_ENGINE_IN";

/// A data directory that is removed at the end, after its Postgres was ended.
pub(crate) struct DataDir {
    directory: tempfile::TempDir,
}

impl DataDir {
    pub(crate) fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("plinth-store-").tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Self { directory }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("db")
    }

    pub(crate) fn cluster(&self) -> PathBuf {
        self.path().join("cluster")
    }

    pub(crate) fn config(&self) -> EmbeddedConfig {
        EmbeddedConfig::new(self.path())
    }

    pub(crate) async fn start(&self) -> Embedded {
        Embedded::start(self.config()).await.unwrap()
    }

    /// What its pid file says.
    pub(crate) fn postmaster(&self) -> i32 {
        first_line(&self.cluster().join("postmaster.pid")).parse().unwrap()
    }
}

impl Drop for DataDir {
    fn drop(&mut self) {
        // A failed test may leave a server; it works in our directory, so it is ours.
        let pid = first_line(&self.cluster().join("postmaster.pid"));
        if fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|place| place == self.cluster()) {
            send(pid.parse().unwrap(), Signal::SIGKILL);
        }
    }
}

fn first_line(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_default().lines().next().unwrap_or_default().trim().to_owned()
}

pub(crate) fn send(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).unwrap();
}

/// The letter of the state in the process table; `None` if there is no such process.
pub(crate) fn state(pid: i32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(')').next()?.trim().chars().next()
}

/// Waits until it is so.
pub(crate) fn eventually(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !so() {
        assert!(Instant::now() < deadline, "not within 30 s: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Another process that uses the Postgres of a directory until it is told to stop or killed.
pub(crate) struct Other {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Other {
    pub(crate) fn start(data: &DataDir) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["support::as_another_process", "--exact", "--nocapture", "--test-threads=1"])
            .env(ROLE, data.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut other = Self { child, input, output };
        other.expect("up");
        other
    }

    fn expect(&mut self, word: &str) {
        let mut line = String::new();
        while !line.contains(word) {
            line.clear();
            assert!(self.output.read_line(&mut line).unwrap() > 0, "the other process ended before it said {word}");
        }
    }

    /// Stops in order.
    pub(crate) fn stop(mut self) -> Stopped {
        self.input.write_all(b"stop\n").unwrap();
        let mut line = String::new();
        while !line.contains("stopped") {
            line.clear();
            assert!(self.output.read_line(&mut line).unwrap() > 0, "the other process ended before it stopped");
        }
        self.child.wait().unwrap();
        if line.contains("LeftToOthers") { Stopped::LeftToOthers } else { Stopped::Ended }
    }

    /// Dies at once.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn signal(&self, signal: Signal) {
        send(i32::try_from(self.child.id()).unwrap(), signal);
    }
}

/// Not a test of its own: the body of [`Other`].
#[tokio::test]
async fn as_another_process() {
    let Some(directory) = std::env::var_os(ROLE) else { return };
    let embedded = Embedded::start(EmbeddedConfig::new(directory)).await.unwrap();
    println!("up");
    let mut line = String::new();
    if std::io::stdin().read_line(&mut line).unwrap() > 0 {
        println!("stopped {:?}", embedded.stop().await.unwrap());
    }
}
