//! `link`: a symbolic link.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::args::AbsPath;
use crate::context::{Context, Report};
use crate::error::{Result, StepError};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Link {
    path: AbsPath,
    /// What it points to; may be relative to the link's folder.
    to: PathBuf,
}

pub(super) fn apply(args: &Link, cx: &mut Context<'_>) -> Result<Report> {
    let path = &args.path;
    let mut report = Report::unchanged();
    report.set("path", path.to_string_lossy());
    let current = match fs::symlink_metadata(&path.0) {
        Ok(meta) if meta.is_symlink() => Some(fs::read_link(&path.0).map_err(StepError::io("reading", &path.0))?),
        Ok(_) => {
            let found = "no symbolic link".to_owned();
            return Err(StepError::InTheWay { path: path.to_path_buf(), found });
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(StepError::io("reading", &path.0)(error)),
    };
    if current.as_ref() == Some(&args.to) {
        return Ok(report);
    }
    let before = current.as_ref().map_or("nothing".to_owned(), |target| target.display().to_string());
    report.diff(path.to_string_lossy(), format!("{before} -> {}", args.to.display()));
    if cx.dry {
        return Ok(report);
    }
    match &current {
        None => cx.ledger.note_made(thing(path))?,
        Some(target) => cx.ledger.note_original(&thing(path), target.to_string_lossy().into())?,
    }
    point(path, &args.to)?;
    cx.touched(path);
    Ok(report)
}

pub(super) fn undo(args: &Link, cx: &mut Context<'_>) -> Result<Report> {
    // A link that somebody turned is theirs.
    if fs::read_link(&args.path.0).is_ok_and(|target| target != args.to) {
        cx.ledger.note_gone(&thing(&args.path))?;
        return Ok(Report::unchanged());
    }
    take(&args.path, cx)
}

/// Takes a link away if we made it, or turns it back to where it pointed.
pub(super) fn take(path: &Path, cx: &mut Context<'_>) -> Result<Report> {
    let mut report = Report::unchanged();
    let thing = thing(path);
    if cx.is_spared(&thing) || cx.is_spared(&format!("path:{}", path.display())) {
        cx.ledger.hand_over(&thing)?;
        return Ok(report);
    }
    if fs::read_link(path).is_ok() {
        let original = cx.ledger.original(&thing).and_then(|value| value.as_str()).map(PathBuf::from);
        if let Some(target) = original {
            point(path, &target)?;
            report.diff(path.to_string_lossy(), format!("given back, -> {}", target.display()));
            cx.touched(path);
        } else if cx.ledger.made(&thing) {
            fs::remove_file(path).map_err(StepError::io("removing", path))?;
            report.diff(path.to_string_lossy(), "removed");
            cx.touched(path);
        }
    }
    cx.ledger.note_gone(&thing)?;
    Ok(report)
}

/// Makes or turns a link in one step.
pub(super) fn point(path: &Path, target: &Path) -> Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let beside = path.with_file_name(format!(".{name}.{}", std::process::id()));
    let make = || {
        symlink(target, &beside)?;
        fs::rename(&beside, path)
    };
    make().map_err(|error| {
        let _ = fs::remove_file(&beside);
        StepError::io("linking", path)(error)
    })
}

fn thing(path: &Path) -> String {
    format!("link:{}", path.display())
}
