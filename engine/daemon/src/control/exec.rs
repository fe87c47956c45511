//! A command on nodes, side by side.

use std::sync::Arc;
use std::time::Duration;

use engine_agent::protocol::{Event, Status};
use engine_core::view::{ExecEvent, Refusal, RefusalKind};
use engine_remote::{Ended, Note};
use engine_store::nodes::{self, Node};
use tokio::sync::mpsc;

use super::{Control, store, unknown_node};
use crate::shared::Shared;

/// Events between the nodes and whoever reads them.
const EVENTS: usize = 256;

impl Control {
    /// Runs a command on nodes; the receiver ends when it has ended on all of them. Dropping it stops the command.
    ///
    /// # Errors
    /// A node that is not there, or a command without words.
    pub async fn exec(
        &self,
        names: &[String],
        command: Vec<String>,
        seconds: u64,
    ) -> Result<mpsc::Receiver<ExecEvent>, Refusal> {
        if command.is_empty() {
            return Err(Refusal::new(RefusalKind::Invalid, "command-empty", "there is no command to run"));
        }
        let found = nodes::named(&self.shared.pool, names).await.map_err(store)?;
        if let Some(name) = names.iter().find(|name| !found.iter().any(|node| node.name == **name)) {
            return Err(unknown_node(name));
        }
        let (sender, receiver) = mpsc::channel(EVENTS);
        for node in found {
            let (shared, sender, command) = (Arc::clone(&self.shared), sender.clone(), command.clone());
            tokio::spawn(async move {
                tokio::select! {
                    () = sender.closed() => {}
                    () = one(&shared, &node, command, seconds, &sender) => {}
                }
            });
        }
        Ok(receiver)
    }
}

async fn one(shared: &Shared, node: &Node, command: Vec<String>, seconds: u64, to: &mpsc::Sender<ExecEvent>) {
    let failed = |code: &str, message: String| ExecEvent::Ended {
        node: node.name.clone(),
        exit: None,
        code: Some(code.to_owned()),
        message: Some(message),
    };
    let target = shared.target(node).filter(|_| node.provider != "simulated");
    let ended = match target {
        None => failed("node-unreachable", format!("node {} can not be reached", node.name)),
        Some(target) => {
            let (sink, mut notes) = mpsc::channel(EVENTS);
            let running = async {
                let ended = shared.remote.exec(&target, command, Duration::from_secs(seconds), &sink).await;
                drop(sink);
                ended
            };
            let passing = async {
                while let Some(note) = notes.recv().await {
                    if let Note::Event { event: Event::Log { stream, line }, .. } = note {
                        // Nobody reads any more: the command is stopped with us.
                        let _ = to.send(ExecEvent::Line { node: node.name.clone(), stream, line }).await;
                    }
                }
            };
            match tokio::join!(running, passing).0 {
                Ended::Done(outcome) if outcome.exit.is_some() || outcome.status == Status::Succeeded => {
                    ExecEvent::Ended {
                        node: node.name.clone(),
                        exit: outcome.exit.or(Some(0)),
                        code: outcome.code,
                        message: outcome.message,
                    }
                }
                Ended::Done(outcome) => failed(
                    outcome.code.as_deref().unwrap_or("step-failed"),
                    outcome.message.unwrap_or_else(|| "the command could not be run".to_owned()),
                ),
                Ended::Lost(error) => failed(error.code(), error.to_string()),
                Ended::Rebooting { .. } | Ended::UnknownJob { .. } => {
                    failed("agent-protocol", "the agent answered something else".to_owned())
                }
            }
        }
    };
    let _ = to.send(ended).await;
}
