//! A real sshd of our own on a high port, ended with the test.

use std::fs::{self, File, Permissions};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use engine_core::id::NodeId;
use engine_remote::{AgentBinary, DeployKey, Keys, Pool, Settings, Target};

/// A running sshd with its own folder, host key and one key that may come in.
pub(crate) struct Sshd {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) port: u16,
    pub(crate) key: DeployKey,
    child: Child,
}

impl Sshd {
    pub(crate) fn start() -> Self {
        Self::with("")
    }

    /// With more lines in its configuration. The home is ours, for what a person's own shell does at its start is not
    /// what is tested.
    pub(crate) fn with(more: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("plinth-sshd-").tempdir().unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        let key = DeployKey::load_or_create(&dir.path().join("deploy")).unwrap();
        fs::write(dir.path().join("authorized_keys"), key.public_line() + "\n").unwrap();
        keygen(&dir.path().join("host"), "ed25519");
        fs::create_dir_all("/run/sshd").unwrap();
        let port = free_port();
        let config = format!(
            "Port {port}\nListenAddress 0.0.0.0\nAllowUsers *@127.0.0.0/8\nHostKey {dir}/host\nPidFile none\n\
             AuthorizedKeysFile {dir}/authorized_keys {dir}/.ssh/authorized_keys\nStrictModes no\nUsePAM no\nPermitRootLogin yes\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nMaxStartups 500\nUseDNS no\n\
             LogLevel VERBOSE\n\
             SetEnv HOME={dir}\n{more}\n",
            dir = dir.path().display()
        );
        fs::write(dir.path().join("config"), config).unwrap();
        let child = serve(dir.path());
        let mut sshd = Self { dir, port, key, child };
        sshd.wait();
        sshd
    }

    /// Another host key, as after a re-installation.
    pub(crate) fn new_host_key(&mut self) {
        self.stop();
        fs::remove_file(self.dir.path().join("host")).unwrap();
        keygen(&self.dir.path().join("host"), "ed25519");
        self.start_again();
    }

    pub(crate) fn stop(&mut self) {
        for session in self.sessions() {
            kill(session);
        }
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn start_again(&mut self) {
        self.child = serve(self.dir.path());
        self.wait();
    }

    /// Cuts every connection by killing the processes that serve them; returns how many.
    pub(crate) fn cut(&self) -> usize {
        let sessions = self.sessions();
        for session in &sessions {
            kill(*session);
        }
        sessions.len()
    }

    /// Processes of sshd that serve a connection: its children, and theirs that are sshd too.
    pub(crate) fn sessions(&self) -> Vec<u32> {
        let mut found = Vec::new();
        let mut parents = vec![self.child.id()];
        while let Some(parent) = parents.pop() {
            for child in children(parent).into_iter().filter(|child| name(*child) == "sshd") {
                found.push(child);
                parents.push(child);
            }
        }
        found
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap()
    }

    /// A node at this address of the loopback net.
    pub(crate) fn target(&self, name: &str, address: &str) -> Target {
        Target {
            node: uuid(),
            name: name.to_owned(),
            address: address.to_owned(),
            port: self.port,
            user: "root".to_owned(),
            host_keys: Vec::new(),
            keys: Arc::new(Keys { deploy: Some(self.key.clone()), ..Keys::default() }),
        }
    }

    /// Where agents go instead of their usual place.
    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().join("agents")
    }

    pub(crate) fn settings(&self) -> Settings {
        Settings { root: self.root().display().to_string(), ..Settings::default() }
    }

    pub(crate) fn pool(&self, agent: AgentBinary) -> Pool {
        Pool::new(self.settings(), agent)
    }

    fn wait(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(self.child.try_wait().unwrap().is_none(), "sshd ended: {}", self.log());
            assert!(Instant::now() < deadline, "sshd does not answer: {}", self.log());
            std::thread::yield_now();
        }
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
        self.stop();
    }
}

/// A fresh id without a dependency on randomness in the interface under test.
pub(crate) fn uuid() -> NodeId {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let text =
        format!("00000000-0000-4000-8000-{:08x}{:04x}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    text.parse().unwrap()
}

fn serve(dir: &Path) -> Child {
    let log = File::options().create(true).append(true).open(dir.join("log")).unwrap();
    Command::new("/usr/sbin/sshd")
        .arg("-D")
        .arg("-e")
        .arg("-f")
        .arg(dir.join("config"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("package openssh-server is installed")
}

pub(crate) fn keygen(path: &Path, kind: &str) {
    let done = Command::new("ssh-keygen").args(["-q", "-t", kind, "-N", "", "-f"]).arg(path).status().unwrap();
    assert!(done.success());
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn kill(pid: u32) {
    // Gone already is as good.
    let _ = Command::new("kill").args(["-9", &pid.to_string()]).stderr(Stdio::null()).status();
}

fn children(parent: u32) -> Vec<u32> {
    let Ok(text) = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")) else { return Vec::new() };
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

fn name(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
}
