//! `directory`: a folder with its owner and mode. Removing takes it away only if we made it and it is empty; what else
//! a role leaves in it is for `destroys`.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::file::{Access, Numbers, access_difference, numbers, set_access};
use crate::args::AbsPath;
use crate::context::{Context, Report};
use crate::error::{Result, StepError};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Directory {
    path: AbsPath,
    #[serde(flatten)]
    access: Access,
}

pub(super) fn apply(args: &Directory, cx: &mut Context<'_>) -> Result<Report> {
    let path = &args.path.0;
    let mut report = Report::unchanged();
    report.set("path", path.to_string_lossy());
    // A link to a folder is as good as a folder.
    let old = match fs::metadata(path) {
        Ok(meta) if meta.is_dir() => Some(meta),
        Ok(_) => return Err(StepError::InTheWay { path: path.clone(), found: "no directory".to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(StepError::io("reading", path)(error)),
    };
    let Some(numbers) = numbers(&args.access, old.as_ref(), 0o755, cx)? else {
        report.diff(path.to_string_lossy(), "its owner is not there yet");
        return Ok(report);
    };
    let before = old.as_ref().map(Numbers::of);
    if before == Some(numbers) {
        return Ok(report);
    }
    report.diff(path.to_string_lossy(), access_difference(before, numbers));
    if cx.dry {
        return Ok(report);
    }
    if old.is_none() {
        make(path, cx)?;
    }
    let set = File::open(path).and_then(|dir| set_access(&dir, numbers));
    set.map_err(StepError::io("setting owner and mode of", path))?;
    cx.touched(path);
    Ok(report)
}

/// Makes a folder and what is missing above it; all of it is ours.
pub(super) fn make(path: &Path, cx: &mut Context<'_>) -> Result<()> {
    let mut missing: Vec<PathBuf> =
        path.ancestors().take_while(|above| !above.exists()).map(Path::to_path_buf).collect();
    missing.reverse();
    for above in missing {
        cx.ledger.note_made(thing(&above))?;
        match DirBuilder::new().mode(0o755).create(&above) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(StepError::io("creating", &above)(error));
            }
            _ => cx.touched(&above),
        }
    }
    Ok(())
}

pub(super) fn undo(args: &Directory, cx: &mut Context<'_>) -> Result<Report> {
    take(&args.path, cx)
}

/// Takes a folder away if we made it and it is empty.
pub(super) fn take(path: &Path, cx: &mut Context<'_>) -> Result<Report> {
    let mut report = Report::unchanged();
    let thing = thing(path);
    if cx.claims_in(path) {
        cx.ledger.hand_over(&thing)?;
        return Ok(report);
    }
    if !cx.ledger.made(&thing) {
        return Ok(report);
    }
    match fs::remove_dir(path) {
        Ok(()) => {
            report.diff(path.to_string_lossy(), "removed");
            cx.touched(path);
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        // Its turn comes once more at the very end; what is left then is residue.
        Err(error) if matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::ResourceBusy) => {
            return Ok(report);
        }
        Err(error) => return Err(StepError::io("removing", path)(error)),
    }
    cx.ledger.note_gone(&thing)?;
    Ok(report)
}

fn thing(path: &Path) -> String {
    format!("directory:{}", path.display())
}
