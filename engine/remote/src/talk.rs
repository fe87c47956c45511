//! One conversation with the agent: a channel, a greeting, a request, replies.

use std::collections::VecDeque;
use std::sync::Arc;

use engine_agent::protocol::{Event, OLDEST, Outcome, PROTOCOL, Reply, Request, common, encode};
use tokio::sync::mpsc;

use crate::channel::{Channel, Piece};
use crate::connection::Connection;
use crate::frames::Frames;
use crate::target::Places;
use crate::{RemoteError, Target};

/// Bytes of events that may wait for whoever takes them. The journal on the node has them all, so past this the
/// conversation is given up rather than the connection held up, which other jobs share.
const BACKLOG: usize = 16 << 20;

/// What a job says while it goes on.
#[derive(Clone, Debug, PartialEq)]
pub enum Note {
    /// The agent has answered; what it says of itself.
    Greeting {
        /// The incarnation of its state directory.
        incarnation: String,
        /// The kernel's boot id.
        boot_id: String,
    },
    /// A numbered event of the job.
    Event {
        /// Counts from 1 within the job, without gaps.
        seq: u64,
        /// What happened.
        event: Event,
    },
}

/// How following a job ended. Only `Done` says something about the job itself.
#[derive(Clone, Debug, PartialEq)]
pub enum Ended {
    /// The job is over.
    Done(Outcome),
    /// The machine reboots, and the job goes on afterwards: attach when it answers again.
    Rebooting {
        /// Boot id before.
        boot_id: String,
        /// Seconds the node may take to come back.
        within: u64,
    },
    /// The agent knows no such job in this incarnation.
    UnknownJob {
        /// The incarnation that does not know it.
        incarnation: String,
    },
    /// The conversation broke off or never began; the job may go on.
    Lost(RemoteError),
}

/// What an agent says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// The incarnation of its state directory.
    pub incarnation: String,
    /// The kernel's boot id.
    pub boot_id: String,
    /// Version of its package.
    pub version: String,
}

/// How far a job was followed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    /// Sequence number of the last event that was handed on.
    pub(crate) seen: u64,
    /// The incarnation of the agent that last answered.
    pub(crate) incarnation: Option<String>,
}

/// How a conversation began.
pub(crate) enum Begun {
    Greeted(Box<Talk>, Greeting),
    /// Nothing that speaks the protocol started.
    Silent(String),
}

/// A conversation in progress.
pub(crate) struct Talk {
    connection: Arc<Connection>,
    channel: Channel,
    frames: Frames,
    err: Vec<u8>,
    exit: Option<String>,
}

impl Talk {
    /// Starts the agent, sends hello and request in one go, and waits for its hello.
    pub(crate) async fn begin(
        connection: &Arc<Connection>,
        target: &Target,
        places: &Places,
        request: &Request,
    ) -> Result<Begun, RemoteError> {
        let command = format!("{} serve --state {}", places.binary, places.state);
        let mut bytes = frame(connection, &Request::Hello { protocol: PROTOCOL })?;
        bytes.extend(frame(connection, request)?);
        let mut channel = connection.exec(&target.as_root(&command)).await?;
        channel.send(bytes).await.map_err(|_| connection.lost())?;
        let frames = Frames::default();
        let mut talk = Self { connection: Arc::clone(connection), channel, frames, err: Vec::new(), exit: None };
        match talk.reply().await? {
            Some(Reply::Hello { protocol, version, .. }) if common(protocol) != Some(protocol) => {
                let message = format!("agent {version} speaks protocol {protocol}, we speak {OLDEST} to {PROTOCOL}");
                Err(talk.declined("protocol-unknown".to_owned(), message))
            }
            Some(Reply::Hello { version, incarnation, boot_id, .. }) => {
                Ok(Begun::Greeted(Box::new(talk), Greeting { incarnation, boot_id, version }))
            }
            Some(Reply::Refused { code, message }) => Err(talk.declined(code, message)),
            Some(other) => Err(talk.unexpected(&other)),
            None if connection.is_closed() => Err(connection.lost()),
            None => Ok(Begun::Silent(talk.last_words())),
        }
    }

    /// The next reply; `None` when the channel is over. Cancel-safe.
    async fn reply(&mut self) -> Result<Option<Reply>, RemoteError> {
        loop {
            if let Some(reply) = self.frames.next().map_err(|reason| self.protocol(reason))? {
                return Ok(Some(reply));
            }
            match self.channel.next().await {
                Some(Piece::Out(bytes)) => self.frames.push(&bytes),
                Some(Piece::Err(bytes)) => self.err.extend_from_slice(&bytes[..bytes.len().min(4096)]),
                Some(Piece::Exit(status)) => self.exit = Some(format!("status {status}")),
                Some(Piece::Signal(name)) => self.exit = Some(format!("signal {name}")),
                Some(Piece::Refused) => self.exit = Some("a refusal by the server".to_owned()),
                None => return Ok(None),
            }
        }
    }

    /// The one reply to a request that has one.
    pub(crate) async fn answer(&mut self) -> Result<Reply, RemoteError> {
        match self.reply().await? {
            Some(Reply::Refused { code, message }) => Err(self.declined(code, message)),
            Some(reply) => Ok(reply),
            None => Err(self.cut()),
        }
    }

    /// Hands events on until the job is over or the conversation is.
    pub(crate) async fn events(
        mut self,
        incarnation: String,
        sink: &mpsc::Sender<Note>,
        progress: &mut Progress,
    ) -> Ended {
        let mut waiting = VecDeque::new();
        let mut newest = progress.seen;
        let mut size = 0;
        let ended = loop {
            let reply = tokio::select! {
                biased;
                permit = sink.reserve(), if !waiting.is_empty() => {
                    let (seq, event, bytes) = waiting.pop_front().expect("not empty");
                    size -= bytes;
                    // Without a taker the events are let go, and the outcome still counts.
                    if let Ok(permit) = permit { permit.send(Note::Event { seq, event }) }
                    progress.seen = seq;
                    continue;
                }
                reply = self.reply() => reply,
            };
            match reply {
                Ok(Some(Reply::Event { seq, .. })) if seq <= newest => {}
                Ok(Some(Reply::Event { seq, event })) => {
                    newest = seq;
                    let bytes = weight(&event);
                    size += bytes;
                    waiting.push_back((seq, event, bytes));
                    if size > BACKLOG {
                        return Ended::Lost(RemoteError::SinkStalled { at: self.connection.at.clone() });
                    }
                }
                Ok(Some(Reply::Done { outcome })) => break Ended::Done(outcome),
                Ok(Some(Reply::Rebooting { boot_id, within })) => break Ended::Rebooting { boot_id, within },
                Ok(Some(Reply::UnknownJob { .. })) => break Ended::UnknownJob { incarnation },
                Ok(Some(Reply::Refused { code, message })) => break Ended::Lost(self.declined(code, message)),
                Ok(Some(other)) => break Ended::Lost(self.unexpected(&other)),
                Ok(None) => break Ended::Lost(self.cut()),
                Err(error) => break Ended::Lost(error),
            }
        };
        drop(self);
        for (seq, event, _) in waiting {
            let _ = sink.send(Note::Event { seq, event }).await;
            progress.seen = seq;
        }
        ended
    }

    fn protocol(&self, reason: String) -> RemoteError {
        RemoteError::Protocol { at: self.connection.at.clone(), reason }
    }

    pub(crate) fn unexpected(&self, reply: &Reply) -> RemoteError {
        let text = serde_json::to_string(reply).unwrap_or_default();
        self.protocol(format!("unexpected reply {}", text.chars().take(200).collect::<String>()))
    }

    fn declined(&self, code: String, message: String) -> RemoteError {
        let at = self.connection.at.clone();
        match code.as_str() {
            "disk-full" => RemoteError::DiskFull { at, reason: message },
            _ => RemoteError::Declined { at, code, message },
        }
    }

    /// The channel ended in the middle.
    fn cut(&self) -> RemoteError {
        if self.connection.is_closed() {
            return self.connection.lost();
        }
        let reason = format!("the agent ended before its answer ({})", self.last_words());
        RemoteError::ConnectionLost { at: self.connection.at.clone(), reason }
    }

    fn last_words(&self) -> String {
        let said = String::from_utf8_lossy(&self.err).trim().to_owned();
        let noise = self.frames.noise();
        let exit = self.exit.clone().unwrap_or_else(|| "without a status".to_owned());
        [said, noise, exit].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; ")
    }
}

fn frame(connection: &Connection, request: &Request) -> Result<Vec<u8>, RemoteError> {
    encode(request)
        .map_err(|error| RemoteError::Protocol { at: connection.at.clone(), reason: format!("our request: {error}") })
}

/// Roughly how much memory an event takes.
fn weight(event: &Event) -> usize {
    match event {
        Event::Log { line, .. } => 64 + line.len(),
        Event::StepDone { result, .. } => 256 + result.diffs.iter().map(|diff| diff.text.len()).sum::<usize>(),
        Event::Started { .. } | Event::Step { .. } => 128,
    }
}
