//! The end of a removal: what the role said it destroys, what earlier versions of it made, and what is still there.

use std::fs;
use std::io;
use std::path::Path;

use crate::args::absolute;
use crate::context::Context;
use crate::error::{Result, StepError};
use crate::protocol::{Diff, Outcome, StepResult};
use crate::step;

/// Takes away the rest and says what stayed.
pub(super) fn finish(cx: &mut Context<'_>, outcome: &mut Outcome, results: &mut Vec<StepResult>) -> Result<()> {
    let mut diffs = Vec::new();
    let mut destroyed = Vec::new();
    for text in &cx.spec.destroys {
        let path = absolute(text).ok_or_else(|| StepError::argument("destroys", format!("`{text}` is no path")))?;
        destroyed.push(path);
    }
    for path in &destroyed {
        if destroy(path, cx)? {
            diffs.push(Diff { what: path.to_string_lossy().into_owned(), text: "destroyed".to_owned() });
        }
    }
    // By steps of an earlier version of the role, or folders that were not empty when their turn came. The longest
    // names first: what is in a folder before the folder.
    let mut left: Vec<String> = cx.ledger.all_made().iter().cloned().collect();
    left.sort_by_key(|thing| std::cmp::Reverse(thing.len()));
    for thing in left {
        let report = step::take(&thing, cx)?;
        diffs.extend(report.diffs);
    }
    if cx.keep.touched.iter().any(|path| path.starts_with("/etc/systemd")) {
        // A unit whose file is gone stays known until then.
        drop(cx.quiet("systemctl", &["daemon-reload"]));
    }
    let mut residue: Vec<String> = cx.ledger.all_made().iter().filter(|thing| step::is_there(thing)).cloned().collect();
    let stays = destroyed.iter().filter(|path| exists(path) && !cx.claims_in(path));
    residue.extend(stays.map(|path| format!("path:{}", path.display())));
    if !diffs.is_empty() {
        let title = "what was left".to_owned();
        results.push(cx.journal.redactor().result(StepResult { title, changed: true, diffs, ..StepResult::default() }));
    }
    if residue.is_empty() {
        std::mem::take(&mut cx.ledger).close()?;
    }
    outcome.residue = residue;
    Ok(())
}

fn destroy(path: &Path, cx: &mut Context<'_>) -> Result<bool> {
    if step::is_protected(path) {
        return Err(StepError::Protected { path: path.to_owned() });
    }
    if cx.claims_in(path) || !exists(path) {
        return Ok(false);
    }
    let meta = fs::symlink_metadata(path).map_err(StepError::io("reading", path))?;
    let gone = if meta.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match gone {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(StepError::io("removing", path)(error)),
        _ => cx.touched(path),
    }
    Ok(true)
}

fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}
