//! `plinth-agent job DIR`: the process that runs one job.
//!
//! It holds the lock on the job's folder for as long as it lives, so it and a successor never run both. If it dies,
//! whoever attaches next starts it again, and it goes on from its journal:
//!
//! - A step that ended is not repeated.
//! - A step that began and did not end is repeated if it may be; else the outcome is unknown, and says so.
//! - What is still running of that step is ended first.
//! - After a reboot that a step asked for, a new boot id means the step is done.

mod remove;
mod run;

use std::error::Error;
use std::fs::File;
use std::io::{self, Read as _, Write};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};

use crate::child::Supervisor;
use crate::error::StepError;
use crate::facts;
use crate::journal::{History, Journal, Record};
use crate::protocol::{Event, Outcome, Status};
use crate::redact::Redactor;
use crate::state::JobDir;

/// Runs the job in `dir`, or returns at once if another process does.
pub(crate) fn main(dir: &Path) -> Result<(), Box<dyn Error>> {
    let dir = JobDir::at(dir);
    let Some(_lock) = dir.lock()? else { return Ok(()) };
    // Out of the session of whoever started us: it may end.
    let _ = nix::unistd::setsid();
    let history = History::recover(&dir.file("journal"))?;
    if history.outcome.is_some() {
        dir.sweep()?;
        return Ok(());
    }
    let spec = match dir.spec() {
        Ok(spec) => spec,
        Err(error) => return refuse(&dir, &history, &StepError::JournalDamaged(error.to_string())),
    };
    let redactor = Redactor::new(&spec.inputs, &spec.secret);
    let journal = Journal::open(dir.path(), &history, spec.limits.log_bytes, redactor, wake())?;
    let supervisor = Supervisor::new(spec.limits.seconds, Duration::from_millis(history.keep.millis));
    listen(&dir, &supervisor)?;
    journal.event(Event::Started { boot_id: facts::boot_id() }, None)?;
    let outcome = run::run(&spec, &dir, &journal, &supervisor, history);
    finish(&dir, &journal, outcome)
}

fn finish(dir: &JobDir, journal: &Journal, outcome: Outcome) -> Result<(), Box<dyn Error>> {
    let outcome = Outcome { message: outcome.message.map(|text| journal.redactor().text(&text)), ..outcome };
    journal.record(&Record::Done { outcome })?;
    dir.sweep()?;
    Ok(())
}

/// Ends a job that can not even be read.
fn refuse(dir: &JobDir, history: &History, error: &StepError) -> Result<(), Box<dyn Error>> {
    let journal = Journal::open(dir.path(), history, 0, Redactor::default(), wake())?;
    journal.record(&Record::Done { outcome: failed(error, None, Instant::now()) })?;
    Ok(())
}

/// The outcome of an error.
fn failed(error: &StepError, step: Option<u32>, began: Instant) -> Outcome {
    let status = match error {
        StepError::Cancelled => Status::Cancelled,
        StepError::OutcomeUnknown => Status::Unknown,
        _ => Status::Failed,
    };
    Outcome { code: Some(error.code().to_owned()), message: Some(error.to_string()), step, ..ended(status, began) }
}

/// An outcome with nothing in it.
fn ended(status: Status, began: Instant) -> Outcome {
    Outcome {
        status,
        code: None,
        message: None,
        step: None,
        outputs: serde_json::Map::new(),
        changed: false,
        steps: Vec::new(),
        residue: Vec::new(),
        millis: millis(began.elapsed()),
        exit: None,
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// Standard output is the pipe of the conversation that started us: a byte there says that there is news. Nobody may
/// be reading it, so it must never make us wait.
fn wake() -> Box<dyn Write + Send> {
    let duplicate = io::stdout().as_fd().try_clone_to_owned();
    match duplicate {
        Ok(pipe) if fcntl(&pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).is_ok() => Box::new(File::from(pipe)),
        _ => Box::new(io::sink()),
    }
}

/// Waits for the wish to stop, for as long as the process lives.
fn listen(dir: &JobDir, supervisor: &Arc<Supervisor>) -> io::Result<()> {
    // Open for writing too, or reading would end with the first writer.
    let mut control = File::options().read(true).write(true).open(dir.file("control"))?;
    if dir.file("cancel").exists() {
        supervisor.cancel();
    }
    let supervisor = Arc::clone(supervisor);
    thread::spawn(move || {
        let mut byte = [0];
        while let Ok(1) = control.read(&mut byte) {
            supervisor.cancel();
        }
    });
    Ok(())
}
