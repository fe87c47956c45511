//! What a job says while it runs, written down in batches.

use std::time::Duration;

use engine_agent::protocol::Event;
use engine_core::id::JobId;
use engine_core::view::Progress;
use engine_remote::Note;
use engine_store::jobs::{self, Heard, Line};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use crate::shared::Shared;

/// Written at the latest after so long.
const WITHIN: Duration = Duration::from_millis(250);
/// Or with so many lines.
const LINES: usize = 500;
/// While the database does not answer.
const DOWN_PAUSE: Duration = Duration::from_millis(250);

/// Writes down notes until there are no more. `false`: the job is not ours any more.
pub(super) async fn record(shared: &Shared, job: (JobId, i64), of: u32, notes: &mut mpsc::Receiver<Note>) -> bool {
    let engine = shared.engine();
    let mut heard = Heard::default();
    let mut due: Option<Instant> = None;
    loop {
        let note = match due {
            None => notes.recv().await,
            Some(at) => match tokio::time::timeout_at(at, notes.recv()).await {
                Ok(note) => note,
                Err(_) => {
                    if !write(shared, engine, job, &mut heard).await {
                        return false;
                    }
                    due = None;
                    continue;
                }
            },
        };
        let Some(note) = note else { return due.is_none() || write(shared, engine, job, &mut heard).await };
        take(&mut heard, note, of);
        due = due.or_else(|| Some(Instant::now() + WITHIN));
        if heard.lines.len() >= LINES {
            if !write(shared, engine, job, &mut heard).await {
                return false;
            }
            due = None;
        }
    }
}

fn take(heard: &mut Heard, note: Note, of: u32) {
    let (seq, event) = match note {
        Note::Greeting { incarnation, .. } => {
            heard.incarnation = Some(incarnation);
            return;
        }
        Note::Event { seq, event } => (i64::try_from(seq).unwrap_or(i64::MAX), event),
    };
    heard.seen = heard.seen.max(seq);
    match event {
        Event::Log { stream, line } => heard.lines.push(Line { seq, stream, line }),
        Event::Step { index, title } => {
            heard.progress = Some(Progress { step: index + 1, of: of.max(index + 1), title: title.clone() });
            heard.lines.push(Line { seq, stream: "agent".to_owned(), line: title });
        }
        Event::Started { .. } | Event::StepDone { .. } => {}
    }
}

async fn write(shared: &Shared, engine: engine_core::id::EngineId, job: (JobId, i64), heard: &mut Heard) -> bool {
    loop {
        match jobs::hear(&shared.pool, engine, job, heard).await {
            Ok(ours) => {
                *heard = Heard::default();
                return ours;
            }
            Err(error) if error.is_transient() => sleep(DOWN_PAUSE).await,
            Err(error) => {
                tracing::error!(%error, job = %job.0, "cannot record what a job says");
                *heard = Heard::default();
                return true;
            }
        }
    }
}
