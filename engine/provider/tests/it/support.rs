//! What the tests share: a lab of one's own, an SSH client, an SSH server.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use engine_core::document::Object;
use engine_provider::lab::{Lab, LabConfig};
use engine_provider::{Access, NodeRequest};
use tempfile::TempDir;

/// A key pair made for one test.
pub(crate) struct Key {
    pub(crate) private: PathBuf,
    pub(crate) public: String,
    _folder: TempDir,
}

impl Key {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let private = folder.path().join("key");
        run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&private));
        let public = fs::read_to_string(private.with_extension("pub")).expect("a public key").trim().to_owned();
        Self { private, public, _folder: folder }
    }

    pub(crate) fn request(&self, name: &str) -> NodeRequest {
        NodeRequest { name: name.to_owned(), authorized_keys: vec![self.public.clone()], with: Object::new() }
    }

    /// Runs a command by SSH, trusting nothing but the host keys that the provider gave.
    pub(crate) fn ssh(&self, access: &Access, command: &str) -> Result<String, String> {
        self.ssh_with(access, command, &[]).map(|said| String::from_utf8_lossy(&said).trim().to_owned())
    }

    /// The same for bytes, with something for the command to read.
    pub(crate) fn ssh_with(&self, access: &Access, command: &str, input: &[u8]) -> Result<Vec<u8>, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let fed = folder.path().join("input");
        fs::write(&fed, input).expect("written");
        let known = folder.path().join("known_hosts");
        // OpenSSH writes the usual port without brackets.
        let host = match access.port {
            22 => access.address.clone(),
            port => format!("[{}]:{port}", access.address),
        };
        let lines: Vec<String> = access.host_keys.iter().map(|key| format!("{host} {key}\n")).collect();
        fs::write(&known, lines.concat()).expect("written");
        let output = Command::new("ssh")
            .args(["-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", "ConnectTimeout=20"])
            .args(["-o", &format!("UserKnownHostsFile={}", known.display()), "-o", "IdentitiesOnly=yes"])
            .args(["-o", "GlobalKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"])
            .arg("-i")
            .arg(&self.private)
            .args(["-p", &access.port.to_string(), &format!("{}@{}", access.user, access.address), command])
            .stdin(File::open(&fed).expect("what was written"))
            .output()
            .expect("ssh starts");
        if output.status.success() {
            Ok(output.stdout)
        } else {
            Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
        }
    }
}

/// A lab in a folder of its own. The base image is the machine's, built by the first test that needs it.
pub(crate) struct TestLab {
    pub(crate) lab: Lab,
    pub(crate) config: LabConfig,
    /// Kept where a real file system is: overlays do not stack.
    folder: Option<TempDir>,
}

impl TestLab {
    pub(crate) fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("plinth-lab-").tempdir_in("/var/tmp").expect("a folder");
        let config = LabConfig { ready_within: Duration::from_mins(3), ..LabConfig::new(folder.path().join("lab")) };
        let missing = Lab::doctor(&config);
        assert!(missing.is_empty(), "this test makes real machines and can not: {}", missing.join("; "));
        let lab = Lab::with_progress(config.clone(), |line| eprintln!("lab: {line}"));
        Self { lab, config, folder: Some(folder) }
    }

    /// Takes everything away and shows that nothing is left.
    pub(crate) async fn end(mut self) {
        let id = self.id();
        self.lab.teardown(false).await.expect("torn down");
        assert_eq!(traces(&id, &self.config.dir), Vec::<String>::new(), "traces of the lab");
        drop(self.folder.take());
    }

    /// What its interfaces and rules are named by, as the kernel shows it.
    pub(crate) fn id(&self) -> String {
        use sha2::Digest;
        let path = self.config.dir.canonicalize().expect("the lab's folder");
        hex::encode(&sha2::Sha256::digest(path.to_string_lossy().as_bytes())[..3])
    }
}

impl Drop for TestLab {
    /// After a test that failed: no machine may be left. The panic is the news, so what this says does not matter.
    fn drop(&mut self) {
        if self.folder.is_some() {
            let lab = self.lab.clone();
            let end = std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
                runtime.block_on(lab.teardown(false))
            });
            eprintln!("lab of a failed test torn down: {:?}", end.join());
        }
    }
}

/// Everything of a lab or a node that can be found on this machine, as sentences.
pub(crate) fn traces(mark: &str, dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut look = |what: &str, text: String, needle: &str| {
        found.extend(text.lines().filter(|line| line.contains(needle)).map(|line| format!("{what}: {line}")));
    };
    let folder = dir.to_string_lossy().into_owned();
    look("interface", output("ip", &["-o", "link"]), mark);
    look("rule", output("iptables-save", &[]), mark);
    look("mount", fs::read_to_string("/proc/mounts").expect("mounts"), &folder);
    look("control group", output("find", &["/sys/fs/cgroup", "-name", "plinth-lab-*"]), mark);
    for entry in fs::read_dir("/proc").expect("proc").flatten() {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        look("process", String::from_utf8_lossy(&line).replace('\0', " "), &folder);
    }
    if dir.exists() {
        found.push(format!("folder: {}", dir.display()));
    }
    found
}

/// A real sshd on loopback that lets one key in.
pub(crate) struct Sshd {
    child: Child,
    pub(crate) port: u16,
    pub(crate) host_key: String,
    _folder: TempDir,
}

impl Sshd {
    pub(crate) fn start(key: &Key) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path("host")));
        fs::write(path("authorized"), &key.public).expect("written");
        // sshd as root wants its empty folder, which only its service makes.
        fs::create_dir_all("/run/sshd").expect("sshd's folder");
        let port =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port").local_addr().expect("an address").port();
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nPidFile none\n\
             UsePAM no\nPasswordAuthentication no\nPermitRootLogin prohibit-password\n",
            path("host").display(),
            path("authorized").display()
        );
        fs::write(path("config"), config).expect("written");
        let child = Command::new("/usr/sbin/sshd")
            .args(["-D", "-e", "-f"])
            .arg(path("config"))
            .stdin(Stdio::null())
            .spawn()
            .expect("sshd starts; this test needs the package openssh-server");
        let host_key = fs::read_to_string(path("host.pub")).expect("a host key").trim().to_owned();
        Self { child, port, host_key, _folder: folder }
    }

    pub(crate) fn stop(mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("ended");
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks until the answer comes; for what the kernel or a machine does in its own time.
pub(crate) fn eventually<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "not within {}s: {what}", limit.as_secs());
        std::thread::yield_now();
    }
}

pub(crate) fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().expect(program);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn run(command: &mut Command) {
    assert!(command.stdin(Stdio::null()).status().expect("it starts").success(), "{command:?}");
}
