//! A real sshd of our own on loopback: hosts that exist before we come.

use std::fs::{self, OpenOptions};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A server for all addresses of loopback, with a home of its own and one key that may come in.
pub(crate) struct Sshd {
    folder: PathBuf,
    pub(crate) port: u16,
    child: Option<Child>,
}

impl Sshd {
    /// Everything that it needs, but not running.
    pub(crate) fn prepared(folder: PathBuf) -> Self {
        fs::create_dir_all(&folder).expect("a folder");
        keygen(&folder.join("person"));
        keygen(&folder.join("host"));
        fs::copy(folder.join("person.pub"), folder.join("authorized_keys")).expect("a key");
        fs::create_dir_all("/run/sshd").expect("the folder that sshd wants");
        let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
        let config = format!(
            "Port {port}\nListenAddress 0.0.0.0\nAllowUsers *@127.0.0.0/8\nHostKey {dir}/host\nPidFile none\n\
             AuthorizedKeysFile {dir}/authorized_keys {dir}/.ssh/authorized_keys\nStrictModes no\nUsePAM no\n\
             PermitRootLogin yes\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nMaxStartups 500\n\
             UseDNS no\nSetEnv HOME={dir}\n",
            dir = folder.display()
        );
        fs::write(folder.join("config"), config).expect("a file");
        Self { folder, port, child: None }
    }

    pub(crate) fn start(&mut self) {
        let log = OpenOptions::new().create(true).append(true).open(self.folder.join("log")).expect("a log");
        let mut sshd = Command::new("/usr/sbin/sshd");
        sshd.args(["-D", "-e", "-f"]).arg(self.folder.join("config"));
        let child = sshd.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        self.child = Some(child.expect("package openssh-server"));
        let end = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < end, "sshd does not answer");
            std::thread::yield_now();
        }
    }

    /// Ends it with all its sessions.
    pub(crate) fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let mut sessions = vec![child.id()];
        while let Some(parent) = sessions.pop() {
            let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
            let of_sshd =
                |pid: &u32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "sshd");
            sessions.extend(children.split_whitespace().filter_map(|pid| pid.parse().ok()).filter(of_sshd));
            if parent != child.id() {
                // Gone already is as good.
                let _ = Command::new("kill").args(["-9", &parent.to_string()]).stderr(Stdio::null()).status();
            }
        }
        child.kill().expect("a signal");
        child.wait().expect("an end");
    }

    /// As after a re-installation.
    pub(crate) fn new_host_key(&mut self) {
        self.stop();
        fs::remove_file(self.folder.join("host")).expect("a host key");
        keygen(&self.folder.join("host"));
        self.start();
    }

    /// The private key of the person who may come in.
    pub(crate) fn key(&self) -> PathBuf {
        self.folder.join("person")
    }

    /// Those whom nodes let in since then.
    pub(crate) fn let_in(&self) -> String {
        fs::read_to_string(self.folder.join(".ssh/authorized_keys")).unwrap_or_default()
    }

    /// The document of a node at this address.
    pub(crate) fn node(&self, name: &str, address: &str, key: &Path) -> String {
        format!("---\nnode: {name}\naddress: {address}\nport: {}\nuser: root\nkey: {}\n", self.port, key.display())
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.stop();
    }
}

pub(crate) fn keygen(path: &Path) {
    let done = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path).status();
    assert!(done.expect("package openssh-client").success());
}
