//! What a node role made on this node, so that only that is taken away again.
//!
//! One file per owner, one record a line. A record is written *before* the thing is made: if we die in between, the
//! ledger names something that is not there, which removing passes over. Things that were there before and were
//! changed have their first state kept, and get it back.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use engine_core::document::Object;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Result, StepError};

/// Name of the ledger of what was spared for a neighbour: whoever of them leaves last takes it along.
const SHARED: &str = "shared";

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Made(String),
    Original(String, Value),
    Vars(Object),
    Note(String, Value),
    Gone(String),
}

/// The ledger of one owner.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    dir: PathBuf,
    path: PathBuf,
    made: BTreeSet<String>,
    originals: BTreeMap<String, Value>,
    vars: Object,
    notes: BTreeMap<String, Value>,
    /// Notes nothing: in a dry run.
    frozen: bool,
    dirty: bool,
}

impl Ledger {
    /// Opens the ledger of an owner, which need not exist.
    pub(crate) fn open(state: &Path, owner: &str, frozen: bool) -> Result<Self> {
        let dir = state.join("owners");
        let path = dir.join(file_name(owner));
        let mut ledger = Self { dir, path, frozen, ..Self::default() };
        let text = match fs::read_to_string(&ledger.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(StepError::io("reading", &ledger.path)(error)),
        };
        // A torn last line is what was to be made next and was not.
        for line in text.lines().filter_map(|line| serde_json::from_str(line).ok()) {
            ledger.add(line);
        }
        Ok(ledger)
    }

    fn add(&mut self, line: Line) {
        match line {
            Line::Made(thing) => {
                self.made.insert(thing);
            }
            Line::Original(thing, value) => {
                self.originals.entry(thing).or_insert(value);
            }
            Line::Vars(vars) => self.vars.extend(vars),
            Line::Note(name, value) => {
                self.notes.insert(name, value);
            }
            Line::Gone(thing) => {
                self.made.remove(&thing);
                self.originals.remove(&thing);
            }
        }
    }

    fn write(&mut self, line: Line) -> Result<()> {
        if self.frozen {
            return Ok(());
        }
        append(&self.path, &line).map_err(StepError::io("writing", &self.path))?;
        self.dirty = true;
        self.add(line);
        Ok(())
    }

    /// Did we make it? Also true for what a neighbour that has left made, and that was spared for us.
    pub(crate) fn made(&self, thing: &str) -> bool {
        self.made.contains(thing) || self.shared().contains(thing)
    }

    /// Everything that we made, as `KIND:NAME`.
    pub(crate) fn all_made(&self) -> &BTreeSet<String> {
        &self.made
    }

    /// To be called before making it.
    pub(crate) fn note_made(&mut self, thing: String) -> Result<()> {
        if self.made.contains(&thing) { Ok(()) } else { self.write(Line::Made(thing)) }
    }

    /// How it was before we changed it the first time.
    pub(crate) fn original(&self, thing: &str) -> Option<&Value> {
        self.originals.get(thing)
    }

    /// To be called before changing what others made; only the first call counts.
    pub(crate) fn note_original(&mut self, thing: &str, value: Value) -> Result<()> {
        if self.originals.contains_key(thing) || self.made.contains(thing) {
            return Ok(());
        }
        self.write(Line::Original(thing.to_owned(), value))
    }

    /// Results of the last apply under their `as` names, for the templates of a remove.
    pub(crate) fn vars(&self) -> &Object {
        &self.vars
    }

    pub(crate) fn note_vars(&mut self, vars: &Object) -> Result<()> {
        let fresh = vars.iter().any(|(name, value)| self.vars.get(name) != Some(value));
        if fresh { self.write(Line::Vars(vars.clone())) } else { Ok(()) }
    }

    /// What a step wrote down for its next run.
    pub(crate) fn note(&self, name: &str) -> Option<&Value> {
        self.notes.get(name)
    }

    pub(crate) fn set_note(&mut self, name: &str, value: Value) -> Result<()> {
        if self.notes.get(name) == Some(&value) { Ok(()) } else { self.write(Line::Note(name.to_owned(), value)) }
    }

    /// It is gone, or given back.
    pub(crate) fn note_gone(&mut self, thing: &str) -> Result<()> {
        if self.shared().contains(thing) && !self.frozen {
            let line = Line::Gone(thing.to_owned());
            let path = self.dir.join(SHARED);
            append(&path, &line).map_err(StepError::io("writing", &path))?;
        }
        if self.made.contains(thing) || self.originals.contains_key(thing) {
            return self.write(Line::Gone(thing.to_owned()));
        }
        Ok(())
    }

    /// A neighbour still needs it: it stays, and the neighbour may take it away later.
    pub(crate) fn hand_over(&mut self, thing: &str) -> Result<()> {
        if !self.made.contains(thing) || self.frozen {
            return Ok(());
        }
        let path = self.dir.join(SHARED);
        append(&path, &Line::Made(thing.to_owned())).map_err(StepError::io("writing", &path))?;
        self.write(Line::Gone(thing.to_owned()))
    }

    /// Forgets the owner.
    pub(crate) fn close(self) -> Result<()> {
        match fs::remove_file(&self.path) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(StepError::io("removing", &self.path)(error)),
        }
    }

    /// Makes what was noted durable.
    pub(crate) fn sync(&mut self) -> Result<()> {
        if std::mem::take(&mut self.dirty) {
            let sync = || {
                File::open(&self.path)?.sync_data()?;
                crate::state::sync_dir(&self.dir)
            };
            sync().map_err(StepError::io("writing", &self.path))?;
        }
        Ok(())
    }

    fn shared(&self) -> BTreeSet<String> {
        let mut shared = Self::default();
        let text = fs::read_to_string(self.dir.join(SHARED)).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).for_each(|line| shared.add(line));
        shared.made
    }
}

fn append(path: &Path, line: &Line) -> io::Result<()> {
    let mut bytes = serde_json::to_vec(line)?;
    bytes.push(b'\n');
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)?.write_all(&bytes)
}

/// Owners are ids, but nothing here depends on it.
fn file_name(owner: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_');
    let safe: String = owner.chars().map(|letter| if plain(letter) { letter } else { '+' }).collect();
    format!("owner-{safe}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn open(dir: &Path, owner: &str) -> Ledger {
        fs::create_dir_all(dir.join("owners")).unwrap();
        Ledger::open(dir, owner, false).unwrap()
    }

    #[test]
    fn notes_survive_and_the_first_original_counts() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = open(dir.path(), "a/b");
        ledger.note_made("file:/x".to_owned()).unwrap();
        ledger.note_original("file:/y", json!(1)).unwrap();
        ledger.note_original("file:/y", json!(2)).unwrap();
        let ledger = open(dir.path(), "a/b");
        assert!(ledger.made("file:/x") && !ledger.made("file:/y"));
        assert_eq!(ledger.original("file:/y"), Some(&json!(1)));
        ledger.close().unwrap();
        assert!(!open(dir.path(), "a/b").made("file:/x"));
    }

    #[test]
    fn what_is_spared_goes_with_the_last_neighbour() {
        let dir = tempfile::tempdir().unwrap();
        let mut first = open(dir.path(), "first");
        first.note_made("package:curl".to_owned()).unwrap();
        first.hand_over("package:curl").unwrap();
        assert!(first.all_made().is_empty());
        let mut second = open(dir.path(), "second");
        assert!(second.made("package:curl"));
        second.note_gone("package:curl").unwrap();
        assert!(!open(dir.path(), "third").made("package:curl"));
    }
}
