//! The kept connections of all nodes.
//!
//! One connection a node, made when it is first needed, shared by everything that goes on there, dropped when idle.
//! Whoever comes while it is being made waits for it and shares its failure. The pool never tries again by itself:
//! when and how often is for the caller to say.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use engine_agent::protocol::{Facts, JobSpec, Left, Reply, Request};
use engine_core::id::{JobId, NodeId};
use tokio::sync::{OnceCell, Semaphore, mpsc};

use crate::connection::Connection;
use crate::install::{self, Installed};
use crate::talk::{Begun, Ended, Greeting, Note, Progress, Talk};
use crate::target::Places;
use crate::{AgentBinary, RemoteError, Target};

/// Times and limits of a pool.
#[derive(Clone, Debug)]
pub struct Settings {
    /// For connecting, and then for key exchange and login together; waiting for a turn between them does not count.
    pub connect_timeout: Duration,
    /// Key exchanges and logins at once. They cost processor time: hundreds at once would all be too late.
    pub handshakes: usize,
    /// Silence after which the other side is asked whether it is there; three times without an answer end it.
    pub keepalive: Duration,
    /// A connection that nothing used for this long is dropped by [`Pool::sweep`].
    pub idle: Duration,
    /// The agent's folder on nodes.
    pub root: String,
    /// Sessions on one connection; sshd allows ten unless it is told otherwise.
    pub channels: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(15),
            handshakes: 16,
            keepalive: Duration::from_secs(10),
            idle: Duration::from_mins(10),
            root: "/var/lib/plinth".to_owned(),
            channels: 8,
        }
    }
}

/// What is known of a node after the first contact.
#[derive(Clone, Debug, PartialEq)]
pub struct Joined {
    /// What machine it is.
    pub facts: Facts,
    /// The incarnation of its agent's state.
    pub incarnation: String,
    /// The host key it showed, to be pinned, in OpenSSH one-line form.
    pub host_key: String,
}

/// The kept connections.
#[derive(Clone)]
pub struct Pool {
    inner: Arc<Inner>,
}

struct Inner {
    settings: Settings,
    agent: AgentBinary,
    /// For key exchanges and logins.
    turns: Semaphore,
    lines: Mutex<HashMap<NodeId, Arc<Line>>>,
    /// Host keys seen on first use. They stay pinned even before the caller has recorded them.
    learnt: Mutex<HashMap<NodeId, String>>,
}

/// One attempt to connect, and what came of it.
struct Line {
    target: Target,
    made: OnceCell<Result<Arc<Connection>, RemoteError>>,
    installing: tokio::sync::Mutex<()>,
}

impl Line {
    /// Can it be used for this target, now or when it is made?
    fn serves(&self, target: &Target) -> bool {
        let alive = match self.made.get() {
            None => true,
            Some(Ok(connection)) => !connection.is_closed(),
            Some(Err(_)) => false,
        };
        alive && self.target.leads_where(target)
    }
}

impl Pool {
    /// An empty pool that puts `agent` on nodes.
    pub fn new(settings: Settings, agent: AgentBinary) -> Self {
        let turns = Semaphore::new(settings.handshakes);
        let (lines, learnt) = (Mutex::default(), Mutex::default());
        Self { inner: Arc::new(Inner { settings, agent, turns, lines, learnt }) }
    }

    /// Makes first contact, or asks again what machine this is.
    pub async fn facts(&self, target: &Target) -> Result<Joined, RemoteError> {
        let (mut talk, greeting, host_key) = self.talk(target, &Request::Facts).await?;
        match talk.answer().await? {
            Reply::Facts { facts } => Ok(Joined { facts, incarnation: greeting.incarnation, host_key }),
            other => Err(talk.unexpected(&other)),
        }
    }

    /// Starts a job and follows it; the same job again is followed from its beginning.
    pub async fn run(&self, target: &Target, job: JobSpec, sink: &mpsc::Sender<Note>) -> Ended {
        self.run_from(target, job, sink, &mut Progress::default()).await
    }

    /// Follows a job that was started before, from after the event `seen`.
    pub async fn attach(&self, target: &Target, job: JobId, fence: i64, seen: u64, sink: &mpsc::Sender<Note>) -> Ended {
        self.attach_from(target, job, fence, sink, &mut Progress { seen, incarnation: None }).await
    }

    pub(crate) async fn run_from(
        &self,
        target: &Target,
        job: JobSpec,
        sink: &mpsc::Sender<Note>,
        progress: &mut Progress,
    ) -> Ended {
        self.events(target, &Request::Run { job: Box::new(job) }, sink, progress).await
    }

    pub(crate) async fn attach_from(
        &self,
        target: &Target,
        job: JobId,
        fence: i64,
        sink: &mpsc::Sender<Note>,
        progress: &mut Progress,
    ) -> Ended {
        let request = Request::Attach { job, fence, seen: progress.seen };
        self.events(target, &request, sink, progress).await
    }

    /// Stops a job and waits until it has stopped; how it ended is told here and to whoever follows it.
    pub async fn cancel(&self, target: &Target, job: JobId, fence: i64) -> Ended {
        let (nobody, _) = mpsc::channel(1);
        self.events(target, &Request::Cancel { job, fence }, &nobody, &mut Progress::default()).await
    }

    /// Lets the agent drop the journal of a job whose outcome is recorded.
    pub async fn forget(&self, target: &Target, job: JobId) -> Result<(), RemoteError> {
        let (mut talk, ..) = self.talk(target, &Request::Forget { job }).await?;
        match talk.answer().await? {
            Reply::Ok | Reply::UnknownJob { .. } => Ok(()),
            other => Err(talk.unexpected(&other)),
        }
    }

    /// What removes promised to take away and is on the node: still, or again.
    pub async fn residue(&self, target: &Target) -> Result<Vec<Left>, RemoteError> {
        let (mut talk, ..) = self.talk(target, &Request::Residue).await?;
        match talk.answer().await? {
            Reply::Residue { left } => Ok(left),
            other => Err(talk.unexpected(&other)),
        }
    }

    /// Runs a command as root in the foreground; it is stopped with the conversation.
    pub async fn exec(
        &self,
        target: &Target,
        command: Vec<String>,
        timeout: Duration,
        sink: &mpsc::Sender<Note>,
    ) -> Ended {
        let request = Request::Exec { command, timeout: timeout.as_secs().max(1) };
        self.events(target, &request, sink, &mut Progress::default()).await
    }

    /// Takes the agent off the node: state, and the binary if no other node's state is on this machine.
    pub async fn uninstall(&self, target: &Target) -> Result<(), RemoteError> {
        let (mut talk, ..) = self.talk(target, &Request::Uninstall).await?;
        match talk.answer().await? {
            Reply::Ok => {}
            other => return Err(talk.unexpected(&other)),
        }
        drop(talk);
        let line = self.line(target);
        install::sweep(self.connection(&line).await?.as_ref(), target, &self.places(target)).await
    }

    /// Lets the deploy key log in from now on (`may`), or not any more. Once is as good as often.
    ///
    /// # Errors
    /// The node can not be reached, or does not let its user write the file.
    pub async fn admit(&self, target: &Target, may: bool) -> Result<(), RemoteError> {
        let Some(key) = &target.keys.deploy else { return Ok(()) };
        let line = self.line(target);
        install::admit(self.connection(&line).await?.as_ref(), target, &key.public_line(), may).await
    }

    /// Forgets the host key seen on first use: the machine behind this node is another one now.
    pub fn forget_host_key(&self, node: &NodeId) {
        lock(&self.inner.learnt).remove(node);
    }

    /// Drops the connection of a node, cutting off everything that uses it.
    pub async fn hang_up(&self, node: &NodeId) {
        let line = self.lines().remove(node);
        if let Some(Ok(connection)) = line.as_ref().and_then(|line| line.made.get()) {
            connection.hang_up().await;
        }
    }

    /// Drops connections that are idle or broken. To be called now and then.
    pub async fn sweep(&self) {
        let over = |line: &Line| match line.made.get() {
            None => false,
            Some(Err(_)) => true,
            Some(Ok(connection)) => {
                connection.is_closed() || connection.idle().is_some_and(|idle| idle > self.inner.settings.idle)
            }
        };
        let dropped: Vec<_> = self.lines().extract_if(|_, line| over(line)).collect();
        for (_, line) in dropped {
            if let Some(Ok(connection)) = line.made.get() {
                connection.hang_up().await;
            }
        }
    }

    /// How many connections are open.
    pub fn connections(&self) -> usize {
        let open = |line: &&Arc<Line>| matches!(line.made.get(), Some(Ok(connection)) if !connection.is_closed());
        self.lines().values().filter(open).count()
    }

    async fn events(
        &self,
        target: &Target,
        request: &Request,
        sink: &mpsc::Sender<Note>,
        progress: &mut Progress,
    ) -> Ended {
        match self.talk(target, request).await {
            Ok((talk, Greeting { incarnation, boot_id, .. }, _)) => {
                progress.incarnation = Some(incarnation.clone());
                // Nobody listening is the caller's choice; the outcome still counts.
                let _ = sink.send(Note::Greeting { incarnation: incarnation.clone(), boot_id }).await;
                talk.events(incarnation, sink, progress).await
            }
            Err(error) => Ended::Lost(error),
        }
    }

    /// A conversation that has begun with this request, the agent being installed first if need be.
    async fn talk(&self, target: &Target, request: &Request) -> Result<(Talk, Greeting, String), RemoteError> {
        let line = self.line(target);
        let connection = self.connection(&line).await?;
        let places = self.places(target);
        let mut tried = None;
        loop {
            match Talk::begin(&connection, target, &places, request).await? {
                Begun::Greeted(talk, greeting) => return Ok((*talk, greeting, connection.host_key.clone())),
                Begun::Silent(reason) if tried == Some(Installed::Copied) || tried == Some(Installed::Present) => {
                    return Err(RemoteError::AgentStart { at: target.at(), reason });
                }
                // Nothing was asked of anybody yet: a request is read only after the hello.
                Begun::Silent(_) => {
                    let _one_at_a_time = line.installing.lock().await;
                    tried = Some(install::install(&connection, target, &self.inner.agent, &places).await?);
                }
            }
        }
    }

    fn places(&self, target: &Target) -> Places {
        Places::new(&self.inner.settings.root, target, &self.inner.agent)
    }

    fn line(&self, target: &Target) -> Arc<Line> {
        let mut lines = self.lines();
        match lines.get(&target.node) {
            Some(line) if line.serves(target) => Arc::clone(line),
            _ => {
                let mut target = target.clone();
                if target.host_keys.is_empty() {
                    target.host_keys.extend(lock(&self.inner.learnt).get(&target.node).cloned());
                }
                let line = Line { made: OnceCell::new(), installing: tokio::sync::Mutex::default(), target };
                let line = Arc::new(line);
                lines.insert(line.target.node, Arc::clone(&line));
                line
            }
        }
    }

    async fn connection(&self, line: &Line) -> Result<Arc<Connection>, RemoteError> {
        let open = async || {
            let connection = Connection::open(&line.target, &self.inner.settings, &self.inner.turns).await?;
            lock(&self.inner.learnt).insert(line.target.node, connection.host_key.clone());
            Ok(Arc::new(connection))
        };
        line.made.get_or_init(open).await.clone()
    }

    fn lines(&self) -> MutexGuard<'_, HashMap<NodeId, Arc<Line>>> {
        lock(&self.inner.lines)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
