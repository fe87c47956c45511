//! The step `haproxy` with a real HAProxy: servers come and go under a process that is loaded anew only once.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use engine_agent::protocol::{Mode, NOT_YET, Outcome, Reply, Request, Status};
use serde_json::{Value, json};

use crate::support::{Agent, said, told, until};

/// Says its name to whoever connects, and hangs up when the other one does.
struct Server {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    task: Option<JoinHandle<()>>,
}

impl Server {
    fn start(name: &'static str, address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).expect("a port");
        let (address, stop) = (listener.local_addr().expect("an address"), Arc::new(AtomicBool::new(false)));
        let until = Arc::clone(&stop);
        let task = std::thread::spawn(move || {
            for stream in listener.incoming().take_while(|_| !until.load(Ordering::Relaxed)) {
                let Ok(mut stream) = stream else { continue };
                std::thread::spawn(move || {
                    let _ = stream.write_all(name.as_bytes());
                    let _ = stream.read(&mut [0; 64]);
                });
            }
        });
        Self { address, stop, task: Some(task) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
        let _ = self.task.take().map(JoinHandle::join);
    }
}

/// A HAProxy that runs, and its services.
struct Balancer<'a> {
    agent: &'a Agent,
    child: Child,
}

impl<'a> Balancer<'a> {
    fn start(agent: &'a Agent) -> Self {
        let text = |path: &str| agent.path(path).display().to_string();
        std::fs::create_dir_all(agent.path("services")).expect("a folder");
        let base = format!(
            "global\n    stats socket {} mode 600 level admin expose-fd listeners\n\
             defaults\n    timeout connect 2s\n    timeout client 1m\n    timeout server 1m\n",
            text("socket")
        );
        std::fs::write(agent.path("base.cfg"), base).expect("a file");
        // A signal that comes before it is ready is lost.
        let notify = UnixDatagram::bind(agent.path("notify")).expect("a socket");
        notify.set_read_timeout(Some(Duration::from_mins(1))).expect("a socket");
        let mut command = Command::new("/usr/sbin/haproxy");
        let child = command
            .env("NOTIFY_SOCKET", agent.path("notify"))
            .args(["-Ws", "-f", &text("base.cfg"), "-f", &text("services")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("tests/packages.sh installs it");
        let mut told = [0; 4096];
        while notify.recv(&mut told).map(|length| !told[..length].starts_with(b"READY=1")).expect("it comes up") {}
        Self { agent, child }
    }

    /// The configuration, and the step that brings it to the process.
    fn steps(&self, servers: &[(&str, SocketAddr)]) -> Value {
        let all = servers.iter().map(|(name, at)| ((*name).to_owned(), json!(at.to_string())));
        let all = Value::Object(all.collect());
        let lines =
            servers.iter().map(|(name, at)| format!("    server {name} {at} check inter 100ms fall 2 rise 1\n"));
        let text = format!(
            "global\n    set-var proc.plinth_web str(\"one\")\nfrontend in\n    bind unix@{}\n    default_backend web\n\
             backend web\n    balance roundrobin\n{}",
            self.agent.path("in").display(),
            lines.collect::<String>()
        );
        json!([
            {"file": {"path": "DIR/services/web.cfg", "content": text}},
            {"haproxy": {
                "socket": "DIR/socket", "reload": format!("kill -USR2 {}", self.child.id()), "backend": "web",
                "loaded": "one", "servers": all, "options": "check inter 100ms fall 2 rise 1", "drain": "500ms",
            }, "as": "seen"},
            {"output": {"up": "{{ seen.up }}"}},
        ])
    }

    fn apply(&self, servers: &[(&str, SocketAddr)]) -> Outcome {
        let mut job = self.agent.job(Mode::Apply, self.steps(servers));
        job.outputs = vec!["up".to_owned()];
        self.agent.run(&job).outcome
    }

    /// The process that has the connections: another one once it was loaded anew.
    fn worker(&self) -> String {
        let mut stream = UnixStream::connect(self.agent.path("socket")).expect("it listens");
        stream.write_all(b"show info\n").expect("sent");
        let mut said = String::new();
        stream.read_to_string(&mut said).expect("an answer");
        said.lines().find(|line| line.starts_with("Pid:")).expect("its id").to_owned()
    }

    fn connect(&self) -> (UnixStream, String) {
        let mut stream = UnixStream::connect(self.agent.path("in")).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a socket");
        let mut name = [0; 16];
        let length = stream.read(&mut name).expect("somebody answers");
        (stream, String::from_utf8_lossy(&name[..length]).into_owned())
    }

    /// Who answers, of so many connections.
    fn answers(&self, count: usize) -> Vec<String> {
        let mut all: Vec<String> = (0..count).map(|_| self.connect().1).collect();
        all.sort();
        all.dedup();
        all
    }
}

impl Drop for Balancer<'_> {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).expect("a pid"));
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = self.child.wait();
    }
}

fn anywhere() -> SocketAddr {
    "127.0.0.1:0".parse().expect("an address")
}

#[test]
fn servers_come_when_haproxy_sees_them_up_and_go_when_they_are_drained() {
    let agent = Agent::new();
    let (a, b) = (Server::start("a", anywhere()), Server::start("b", anywhere()));
    let balancer = Balancer::start(&agent);
    let first = balancer.apply(&[("a", a.address), ("b", b.address)]);
    assert_eq!((first.status, first.changed), (Status::Succeeded, true), "{}", said(&first));
    assert_eq!(first.outputs["up"], json!(["a", "b"]));
    assert!(told(&first, &agent).contains("haproxy:web: loads its configuration anew"), "{}", told(&first, &agent));
    assert_eq!(balancer.answers(6), ["a", "b"]);
    let worker = balancer.worker();
    for mode in [Mode::Apply, Mode::Check, Mode::Plan] {
        let mut job = agent.job(mode, balancer.steps(&[("a", a.address), ("b", b.address)]));
        job.outputs = vec!["up".to_owned()];
        let again = agent.run(&job).outcome;
        assert_eq!((again.status, again.changed), (Status::Succeeded, false), "{mode:?}: {}", told(&again, &agent));
    }

    // One that does not answer yet: the job ends, takes it up again by the same id, and nobody is sent there before.
    let c = Server::start("c", anywhere());
    let at = c.address;
    drop(c);
    let three = [("a", a.address), ("b", b.address), ("c", at)];
    let mut job = agent.job(Mode::Apply, balancer.steps(&three));
    job.outputs = vec!["up".to_owned()];
    let waits = agent.run(&job).outcome;
    assert_eq!(waits.code.as_deref(), Some(NOT_YET), "{}", said(&waits));
    assert_eq!(waits.message.as_deref(), Some("haproxy says DOWN (L4CON) of web/c"));
    assert_eq!(balancer.answers(6), ["a", "b"]);
    let c = Server::start("c", at);
    assert!(matches!(agent.talk().ask(&Request::Forget { job: job.job }), Reply::Ok));
    job.fence += 1;
    let done = agent.run(&job).outcome;
    assert_eq!(done.status, Status::Succeeded, "{}", told(&done, &agent));
    assert_eq!(balancer.answers(9), ["a", "b", "c"]);

    // One goes, with a connection that does not end by itself: it may last a little, and nobody else comes to it.
    let mut held = balancer.connect();
    while held.1 != "a" {
        held = balancer.connect();
    }
    let began = Instant::now();
    let gone = balancer.apply(&[("b", b.address), ("c", c.address)]);
    assert_eq!(gone.status, Status::Succeeded, "{}", said(&gone));
    assert!(began.elapsed() >= Duration::from_millis(500), "it was cut after {:?}", began.elapsed());
    assert_eq!(held.0.read(&mut [0; 1]).ok(), Some(0), "it is cut");
    assert_eq!(balancer.answers(6), ["b", "c"]);
    assert_eq!(balancer.worker(), worker, "nothing was loaded anew");

    // What is not well is found by a check, and what another hand took out is put in again.
    let two = [("b", b.address), ("c", c.address)];
    let check = || {
        let mut job = agent.job(Mode::Check, balancer.steps(&two));
        job.outputs = vec!["up".to_owned()];
        agent.run(&job).outcome
    };
    drop(b);
    until("it is seen", || check().status == Status::Drifted);
    let b = Server::start("b", two[0].1);
    until("it is well again", || check().status == Status::Succeeded);
    let mut stream = UnixStream::connect(agent.path("socket")).expect("it listens");
    stream.write_all(b"set server web/b state maint\n").expect("sent");
    stream.read_to_end(&mut Vec::new()).expect("an answer");
    assert_eq!(check().status, Status::Drifted);
    assert_eq!(balancer.apply(&two).status, Status::Succeeded);
    assert_eq!(balancer.answers(6), ["b", "c"]);
    drop(b);
}
