//! `download`: a file from somewhere else, known by its sha256. `http` and `https` by curl, `file` by reading.

use std::fs::{self, File as OsFile};
use std::io::{self, Read as _};
use std::path::Path;

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::file::{Access, Numbers, access_difference, beside, numbers, set_access, take, thing};
use crate::args::AbsPath;
use crate::context::{Context, Report};
use crate::error::{Result, StepError};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Download {
    url: String,
    path: AbsPath,
    sha256: String,
    /// A file with the certificates that the server's must come from.
    #[serde(default)]
    ca: Option<AbsPath>,
    #[serde(flatten)]
    access: Access,
}

pub(super) fn apply(args: &Download, cx: &mut Context<'_>) -> Result<Report> {
    let path = &args.path.0;
    let expected = args.sha256.strip_prefix("sha256:").unwrap_or(&args.sha256).to_lowercase();
    if expected.len() != 64 || !expected.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(StepError::argument("download", format!("`{expected}` is no sha256: that has 64 hex digits")));
    }
    let mut report = Report::unchanged();
    report.set("path", path.to_string_lossy());
    report.set("digest", format!("sha256:{expected}"));
    let old = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_file() => Some(meta),
        Ok(_) => return Err(StepError::InTheWay { path: path.clone(), found: "no file".to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(StepError::io("reading", path)(error)),
    };
    let Some(numbers) = numbers(&args.access, old.as_ref(), 0o644, cx)? else {
        report.diff(path.to_string_lossy(), "its owner is not there yet");
        return Ok(report);
    };
    let before = old.as_ref().map(Numbers::of);
    let current = if old.is_some() { Some(digest(path)?) } else { None };
    if current.as_deref() == Some(&expected) {
        if before == Some(numbers) {
            return Ok(report);
        }
        report.diff(path.to_string_lossy(), access_difference(before, numbers));
        if !cx.dry {
            let set = OsFile::open(path).and_then(|file| set_access(&file, numbers));
            set.map_err(StepError::io("setting owner and mode of", path))?;
        }
        return Ok(report);
    }
    let text = format!("sha256 {} -> {expected}", current.as_deref().unwrap_or("none"));
    report.diff(path.to_string_lossy(), text);
    if cx.dry {
        return Ok(report);
    }
    if old.is_none() {
        cx.ledger.note_made(thing(path))?;
    }
    let part = beside(path, cx);
    let result = fetch(args, &part, &expected, cx).and_then(|()| {
        let finish = || {
            let file = OsFile::open(&part)?;
            set_access(&file, numbers)?;
            file.sync_all()?;
            fs::rename(&part, path)
        };
        finish().map_err(StepError::io("writing", path))
    });
    if result.is_err() {
        // The error counts, not what could not be cleaned up after it.
        let _ = fs::remove_file(&part);
    }
    result?;
    cx.touched(path);
    Ok(report)
}

pub(super) fn undo(args: &Download, cx: &mut Context<'_>) -> Result<Report> {
    take(&args.path, cx)
}

fn fetch(args: &Download, part: &Path, expected: &str, cx: &Context<'_>) -> Result<()> {
    if let Some(source) = args.url.strip_prefix("file://") {
        fs::copy(source, part).map_err(StepError::io("reading", source))?;
    } else if args.url.starts_with("https://") || args.url.starts_with("http://") {
        let part = part.to_string_lossy();
        let ca = args.ca.as_ref().map(|path| path.display().to_string());
        let mut words = vec!["--fail", "--silent", "--show-error", "--location", "--max-redirs", "5"];
        words.extend(["--proto", "=http,https", "--connect-timeout", "20", "--speed-limit", "1", "--speed-time", "60"]);
        words.extend(ca.as_deref().map(|ca| ["--cacert", ca]).into_iter().flatten());
        words.extend(["--output", &part, "--url", &args.url]);
        cx.program("curl", &words).titled(format!("the download of {}", args.url)).quiet(cx.supervisor)?;
    } else {
        return Err(StepError::argument("download", format!("`{}` is neither http, https nor file", args.url)));
    }
    let actual = digest(part)?;
    if actual == expected {
        return Ok(());
    }
    Err(StepError::ChecksumMismatch { url: args.url.clone(), actual, expected: expected.to_owned() })
}

/// The sha256 of a file, in hex.
pub(super) fn digest(path: &Path) -> Result<String> {
    let read = || {
        let mut file = OsFile::open(path)?;
        let (mut hash, mut buffer) = (Sha256::new(), vec![0; 256 << 10]);
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(hex::encode(hash.finalize())),
                count => hash.update(&buffer[..count]),
            }
        }
    };
    read().map_err(StepError::io("reading", path))
}
