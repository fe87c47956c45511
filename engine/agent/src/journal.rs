//! The journal of a job: one record a line, appended and never changed.
//!
//! A record is written before anyone hears of it. It is made durable only where doing a step twice would show: before
//! a step that must not be repeated begins, after it is done, and before a reboot. For a step that may be repeated
//! nothing is lost if the last lines go with a power cut: the step is simply done again. A torn last line is cut off.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use engine_core::document::Object;
use serde::{Deserialize, Serialize};

use crate::protocol::{Event, Outcome, StepResult};
use crate::redact::Redactor;

/// One line.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case")]
pub(crate) enum Record {
    /// Something the engine hears of.
    Event {
        seq: u64,
        event: Event,
        /// What a successor of this process must know after a step.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        keep: Option<Keep>,
    },
    /// The node is about to reboot.
    Rebooting { step: u32, boot_id: String, within: u64, since: u64 },
    /// The end.
    Done { outcome: Outcome },
}

/// What a finished step leaves to later ones, all that a successor needs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Keep {
    /// Results under their `as` names.
    #[serde(default, skip_serializing_if = "Object::is_empty")]
    pub vars: Object,
    /// Outputs so far.
    #[serde(default, skip_serializing_if = "Object::is_empty")]
    pub outputs: Object,
    /// Paths changed so far.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub touched: BTreeSet<PathBuf>,
    /// `as` names without a value, in a dry run.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub unknown: BTreeSet<String>,
    /// Milliseconds of the job's time used.
    #[serde(default)]
    pub millis: u64,
}

/// A reboot that was asked for.
#[derive(Clone, Debug)]
pub(crate) struct Reboot {
    pub step: u32,
    pub boot_id: String,
    pub within: u64,
    /// Milliseconds since boot when it was asked for.
    pub since: u64,
}

/// What a journal says when it is read again.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// Sequence number of the last event.
    pub seq: u64,
    /// A step that began and did not end.
    pub open: Option<u32>,
    /// Results of the steps that ended, in order.
    pub results: Vec<StepResult>,
    /// What they left.
    pub keep: Keep,
    /// A reboot that was asked for in the open step.
    pub reboot: Option<Reboot>,
    /// The end, if it was reached.
    pub outcome: Option<Outcome>,
    /// Bytes of log so far.
    pub log_bytes: u64,
}

impl History {
    /// Reads a journal and cuts off a torn last line. Only for the holder of the lock.
    pub(crate) fn recover(path: &Path) -> io::Result<Self> {
        let bytes = fs::read(path)?;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        if whole < bytes.len() {
            fs::OpenOptions::new().write(true).open(path)?.set_len(whole as u64)?;
        }
        let mut history = Self::default();
        for line in bytes[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            history.add(parse(line)?);
        }
        Ok(history)
    }

    fn add(&mut self, record: Record) {
        match record {
            Record::Event { seq, event, keep } => {
                self.seq = seq;
                match event {
                    Event::Step { index, .. } => self.open = Some(index),
                    Event::StepDone { result, .. } => {
                        self.open = None;
                        self.reboot = None;
                        self.results.push(result);
                    }
                    Event::Log { line, .. } => self.log_bytes += line.len() as u64,
                    Event::Started { .. } => {}
                }
                if let Some(keep) = keep {
                    self.keep = keep;
                }
            }
            Record::Rebooting { step, boot_id, within, since } => {
                self.reboot = Some(Reboot { step, boot_id, within, since });
            }
            Record::Done { outcome } => self.outcome = Some(outcome),
        }
    }
}

fn parse(line: &[u8]) -> io::Result<Record> {
    serde_json::from_slice(line).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Reads the records of a journal as they come.
pub(crate) struct Tail {
    file: File,
    at: u64,
}

impl Tail {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { file: File::open(path)?, at: 0 })
    }

    /// All whole records since the last call. Half a line is left alone: it may be cut off yet.
    pub(crate) fn read(&mut self) -> io::Result<Vec<Record>> {
        self.file.seek(SeekFrom::Start(self.at))?;
        let mut bytes = Vec::new();
        self.file.read_to_end(&mut bytes)?;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        self.at += whole as u64;
        bytes[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(parse).collect()
    }
}

/// Appends. One per running job.
pub(crate) struct Journal {
    inner: Mutex<Inner>,
    redactor: Redactor,
}

struct Inner {
    file: File,
    reserve: PathBuf,
    seq: u64,
    log_left: u64,
    log_limit: u64,
    wake: Box<dyn Write + Send>,
}

impl Journal {
    /// Opens the journal of the job in `dir` after `history`; `wake` gets a byte whenever there is something new.
    pub(crate) fn open(
        dir: &Path,
        history: &History,
        log_limit: u64,
        redactor: Redactor,
        wake: Box<dyn Write + Send>,
    ) -> io::Result<Self> {
        let file = fs::OpenOptions::new().append(true).open(dir.join("journal"))?;
        let log_left = log_limit.saturating_sub(history.log_bytes);
        let inner = Inner { file, reserve: dir.join("reserve"), seq: history.seq, log_left, log_limit, wake };
        Ok(Self { inner: Mutex::new(inner), redactor })
    }

    pub(crate) fn redactor(&self) -> &Redactor {
        &self.redactor
    }

    /// An event, with what a successor must know.
    pub(crate) fn event(&self, event: Event, keep: Option<Keep>) -> io::Result<()> {
        let mut inner = self.inner();
        let line = inner.number(event, keep)?;
        inner.append(&line)
    }

    /// Lines of output, cut where the limit is.
    pub(crate) fn log(&self, stream: &str, lines: &[String]) -> io::Result<()> {
        let mut inner = self.inner();
        let mut bytes = Vec::new();
        for line in lines {
            if inner.log_left == 0 {
                break;
            }
            let line = self.redactor.text(line);
            let size = line.len() as u64 + 1;
            let event = if size > inner.log_left {
                inner.log_left = 0;
                let line = format!("log cut: more than {} bytes", inner.log_limit);
                Event::Log { stream: "agent".to_owned(), line }
            } else {
                inner.log_left -= size;
                Event::Log { stream: stream.to_owned(), line }
            };
            bytes.extend(inner.number(event, None)?);
        }
        if bytes.is_empty() { Ok(()) } else { inner.append(&bytes) }
    }

    /// A record that is no event.
    pub(crate) fn record(&self, record: &Record) -> io::Result<()> {
        self.inner().append(&line(record)?)
    }

    /// Makes all of it durable.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.inner().file.sync_data()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn number(&mut self, event: Event, keep: Option<Keep>) -> io::Result<Vec<u8>> {
        self.seq += 1;
        line(&Record::Event { seq: self.seq, event, keep })
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let before = self.file.metadata()?.len();
        if let Err(error) = self.file.write_all(bytes) {
            // Half a line must not stay, and the space set aside is for exactly this moment.
            self.file.set_len(before)?;
            if fs::remove_file(&self.reserve).is_err() {
                return Err(error);
            }
            self.file.write_all(bytes)?;
        }
        // Nobody may be listening.
        let _ = self.wake.write(b"\n");
        Ok(())
    }
}

fn line(record: &Record) -> io::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec(record)?;
    bytes.push(b'\n');
    Ok(bytes)
}
