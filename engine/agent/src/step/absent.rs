//! `absent`: a path that must not be there.

use std::fs;
use std::io;

use serde::Deserialize;

use crate::args::AbsPath;
use crate::context::{Context, Report};
use crate::error::{Result, StepError};
use crate::step::is_protected;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Absent {
    path: AbsPath,
    /// Take a folder with all that is in it.
    #[serde(default)]
    recursive: bool,
}

pub(super) fn apply(args: &Absent, cx: &mut Context<'_>) -> Result<Report> {
    let path = &args.path.0;
    let mut report = Report::unchanged();
    let meta = match fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(report),
        Err(error) => return Err(StepError::io("reading", path)(error)),
    };
    if is_protected(path) {
        return Err(StepError::Protected { path: path.clone() });
    }
    report.diff(path.to_string_lossy(), if cx.dry { "would go" } else { "removed" });
    if cx.dry {
        return Ok(report);
    }
    let gone = match (meta.is_dir(), args.recursive) {
        (true, true) => fs::remove_dir_all(path),
        (true, false) => fs::remove_dir(path),
        (false, _) => fs::remove_file(path),
    };
    gone.map_err(StepError::io("removing", path))?;
    cx.touched(path);
    Ok(report)
}
