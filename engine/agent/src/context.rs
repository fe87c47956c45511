//! What a step works with.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use engine_core::document::Object;
use serde_json::{Map, Value};

use crate::child::{MARK, Program, Supervisor};
use crate::error::{Result, StepError};
use crate::journal::{Journal, Keep, Reboot};
use crate::ledger::Ledger;
use crate::protocol::{Diff, JobSpec};
use crate::state::{JobDir, sync_dir};

/// Lines of a diff that are kept; a longer one is cut.
const DIFF_LINES: usize = 400;

/// Everything that is the same for all steps of a job.
pub(crate) struct Context<'a> {
    pub spec: &'a JobSpec,
    pub dir: &'a JobDir,
    pub journal: &'a Journal,
    pub supervisor: &'a Supervisor,
    pub ledger: Ledger,
    /// What steps left to each other.
    pub keep: Keep,
    /// Change nothing, only say what would change.
    pub dry: bool,
    /// This is a check: what can not be said without running is passed over, and probes probe.
    pub check: bool,
    /// Name and value of the loop's item.
    pub item: Option<(String, Value)>,
    /// Index of the running step in the action.
    pub index: u32,
    /// Mark of the running step.
    pub mark: String,
    /// Folders whose entries are to be made durable before the job ends.
    pub dirs: BTreeSet<PathBuf>,
    /// A reboot that was asked for before this process began.
    pub reboot: Option<Reboot>,
}

/// What a step did, or would do.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub changed: bool,
    /// It can not be told without doing it.
    pub undecided: bool,
    pub diffs: Vec<Diff>,
    pub effects: Vec<String>,
    /// Under the `as` name.
    pub value: Value,
}

impl Context<'_> {
    /// What templates see: inputs, results of earlier steps, and the item of a loop.
    pub(crate) fn variables(&self) -> Object {
        let mut variables = self.spec.inputs.clone();
        variables.extend(self.keep.vars.clone());
        variables.extend(self.item.clone());
        variables
    }

    /// A program that belongs to the running step and speaks plain English.
    pub(crate) fn program(&self, name: &str, arguments: &[&str]) -> Program {
        let program = Program::new(name, arguments).env(MARK, &self.mark).env("LC_ALL", "C.UTF-8");
        match std::env::var_os("PATH") {
            Some(_) => program,
            None => program.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        }
    }

    /// Runs a program quietly; a status other than 0 is an error.
    pub(crate) fn quiet(&self, name: &str, arguments: &[&str]) -> Result<String> {
        self.program(name, arguments).quiet(self.supervisor)
    }

    /// Runs a program with its output in the log; a status other than 0 is an error.
    pub(crate) fn logged(&self, program: Program, title: &str) -> Result<String> {
        // A log that can not be written fails the job at the next event; here it must not stop the reading.
        let mut sink = |stream: &str, lines: &[String]| drop(self.journal.log(stream, lines));
        program.run(self.supervisor, &mut sink)?.success(title)
    }

    /// Does a command (an `unless`) succeed?
    pub(crate) fn holds(&self, command: &str) -> Result<bool> {
        let program = self.program("bash", &["-e", "-u", "-o", "pipefail", "-c", command]);
        Ok(program.run(self.supervisor, &mut |_, _| {})?.status.success())
    }

    /// Makes durable what steps wrote: before the end of the job, and before a reboot.
    pub(crate) fn settle(&mut self) -> Result<()> {
        for dir in std::mem::take(&mut self.dirs) {
            match sync_dir(&dir) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(StepError::io("writing", dir)(error));
                }
                _ => {}
            }
        }
        self.ledger.sync()
    }

    /// A word of our own in the log.
    pub(crate) fn say(&self, text: impl Into<String>) {
        drop(self.journal.log("agent", &[text.into()]));
    }

    /// A file of the role, such as `templates/hosts`.
    pub(crate) fn file(&self, folder: &str, name: &str) -> Result<Vec<u8>> {
        let name = format!("{folder}/{name}");
        let body = self.spec.files.get(&name).ok_or_else(|| StepError::FileMissing(name.clone()))?;
        STANDARD.decode(body).map_err(|_| StepError::FileMissing(name))
    }

    /// A scratch folder of the job, for scripts and downloads.
    pub(crate) fn work(&self) -> Result<PathBuf> {
        let work = self.dir.file("work");
        fs::create_dir_all(&work).map_err(StepError::io("creating", &work))?;
        Ok(work)
    }

    /// A path was changed: for `unit.files`, and to be made durable.
    pub(crate) fn touched(&mut self, path: &Path) {
        self.keep.touched.insert(path.to_owned());
        if let Some(parent) = path.parent() {
            self.dirs.insert(parent.to_owned());
        }
    }

    /// Does another node role of this node claim it?
    pub(crate) fn is_spared(&self, thing: &str) -> bool {
        self.spec.spare.iter().any(|spared| spared == thing)
    }

    /// Does another node role of this node claim it, or something in it?
    pub(crate) fn claims_in(&self, path: &Path) -> bool {
        let named = self.spec.spare.iter().filter_map(|thing| Some(thing.split_once(':')?.1));
        named.map(Path::new).filter(|other| other.is_absolute()).any(|other| other.starts_with(path))
    }

    /// Adds outputs, if they are declared and not too large.
    pub(crate) fn output(&mut self, outputs: Object) -> Result<()> {
        for (name, value) in outputs {
            if !self.spec.outputs.contains(&name) {
                return Err(StepError::OutputUndeclared(name));
            }
            self.keep.outputs.insert(name, value);
        }
        let bytes = Value::Object(self.keep.outputs.clone()).to_string().len() as u64;
        let limit = self.spec.limits.output_bytes;
        if bytes > limit { Err(StepError::OutputTooLarge { bytes, limit }) } else { Ok(()) }
    }
}

impl Report {
    /// Nothing to do.
    pub(crate) fn unchanged() -> Self {
        Self::default()
    }

    /// Not to be told in a dry run.
    pub(crate) fn undecided() -> Self {
        Self { undecided: true, ..Self::default() }
    }

    /// One thing changed.
    pub(crate) fn diff(&mut self, what: impl Into<String>, text: impl Into<String>) {
        self.changed = true;
        self.diffs.push(Diff { what: what.into(), text: cut(&text.into()) });
    }

    /// Adds a value under the `as` name.
    pub(crate) fn set(&mut self, name: &str, value: impl Into<Value>) {
        if !self.value.is_object() {
            self.value = Value::Object(Map::new());
        }
        self.value[name] = value.into();
    }

    /// Adds what another part did; its value is dropped.
    pub(crate) fn add(&mut self, other: Self) {
        self.changed |= other.changed;
        self.undecided |= other.undecided;
        self.diffs.extend(other.diffs);
        self.effects.extend(other.effects);
    }
}

fn cut(text: &str) -> String {
    let mut lines = text.lines();
    let kept: Vec<&str> = lines.by_ref().take(DIFF_LINES).collect();
    match lines.count() {
        0 => kept.join("\n"),
        more => format!("{}\n… {more} more lines", kept.join("\n")),
    }
}
