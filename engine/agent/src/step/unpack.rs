//! `unpack`: a tar archive (plain or gzip) into a folder. What is done is known by `creates`, or else by the digest of
//! the archive, which is kept in the ledger.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Seek as _};
use std::path::{Component, Path, PathBuf};

use flate2::read::MultiGzDecoder;
use serde::Deserialize;
use serde_json::json;
use tar::Archive;

use super::directory::make;
use super::download::digest;
use crate::args::AbsPath;
use crate::context::{Context, Report};
use crate::error::{Result, StepError};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Unpack {
    archive: AbsPath,
    into: AbsPath,
    /// A path that is there once it is unpacked.
    #[serde(default)]
    creates: Option<AbsPath>,
    /// Leading folders of the names in the archive that are dropped.
    #[serde(default)]
    strip: usize,
}

pub(super) fn apply(args: &Unpack, cx: &mut Context<'_>) -> Result<Report> {
    let mut report = Report::unchanged();
    report.set("path", args.into.to_string_lossy());
    let archive = &args.archive.0;
    if cx.dry && !archive.exists() {
        report.diff(args.into.to_string_lossy(), format!("would be unpacked from {}", archive.display()));
        return Ok(report);
    }
    let state = format!("unpacked:{}", args.into.display());
    let sum = json!(digest(archive)?);
    let same = cx.ledger.note(&state) == Some(&sum);
    let there = args.creates.as_ref().map(|path| path.symlink_metadata().is_ok());
    // With `creates` alone it counts, but another archive than the last is unpacked again.
    let done = match there {
        Some(there) => there && (same || cx.ledger.note(&state).is_none()),
        None => same,
    };
    if done {
        return Ok(report);
    }
    report.diff(args.into.to_string_lossy(), format!("unpacked from {}", archive.display()));
    if cx.dry {
        return Ok(report);
    }
    make(&args.into, cx)?;
    unpack(args, cx)?;
    cx.ledger.set_note(&state, sum)?;
    cx.touched(&args.into.join("x"));
    Ok(report)
}

fn unpack(args: &Unpack, cx: &mut Context<'_>) -> Result<()> {
    let path = &args.archive.0;
    let fail = || StepError::io("unpacking", path);
    // What comes to lie directly in the folder is ours if it was not there: found out and noted before it is made.
    let tops = open(path).and_then(|archive| tops(archive, args.strip)).map_err(fail())?;
    for top in tops {
        let target = args.into.join(&top);
        if target.symlink_metadata().is_err() {
            cx.ledger.note_made(format!("tree:{}", target.display()))?;
        }
    }
    let mut archive = open(path).map_err(fail())?;
    for entry in archive.entries().map_err(fail())? {
        cx.supervisor.check()?;
        let mut entry = entry.map_err(fail())?;
        let name = entry.path().map_err(fail())?.into_owned();
        let Some(name) = stripped(&name, args.strip) else { continue };
        extract(&mut entry, &args.into, &name, args.strip).map_err(fail())?;
    }
    Ok(())
}

fn extract(entry: &mut tar::Entry<'_, Box<dyn Read>>, into: &Path, name: &Path, strip: usize) -> io::Result<()> {
    let target = into.join(name);
    // A link on the way could lead out of the folder.
    let inside = name.ancestors().skip(1).all(|above| {
        into.join(above).symlink_metadata().map_or(true, |meta| above.as_os_str().is_empty() || !meta.is_symlink())
    });
    if !inside {
        return Err(io::Error::other(format!("`{}` leads through a link", name.display())));
    }
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)?;
    }
    let kind = entry.header().entry_type();
    if kind.is_hard_link() {
        let linked = entry.link_name()?.and_then(|linked| stripped(&linked, strip));
        let linked = linked.ok_or_else(|| io::Error::other("a hard link leads out of the archive"))?;
        let _ = fs::remove_file(&target);
        return fs::hard_link(into.join(linked), &target);
    }
    if kind.is_file() || kind.is_symlink() {
        // A running program can not be written to, but it can be replaced.
        let _ = fs::remove_file(&target);
    }
    if kind.is_file() || kind.is_symlink() || kind.is_dir() {
        entry.set_preserve_permissions(true);
        entry.set_preserve_mtime(true);
        entry.unpack(&target)?;
    }
    Ok(())
}

fn open(path: &Path) -> io::Result<Archive<Box<dyn Read>>> {
    let mut file = File::open(path)?;
    let mut magic = [0; 6];
    let count = file.read(&mut magic)?;
    file.rewind()?;
    let reader: Box<dyn Read> = match &magic[..count] {
        [0x1f, 0x8b, ..] => Box::new(MultiGzDecoder::new(io::BufReader::new(file))),
        [0xfd, b'7', b'z', b'X', b'Z', 0] | [0x28, 0xb5, 0x2f, 0xfd, ..] | [b'B', b'Z', b'h', ..] => {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "only tar and tar.gz can be unpacked"));
        }
        _ => Box::new(io::BufReader::new(file)),
    };
    Ok(Archive::new(reader))
}

fn tops(mut archive: Archive<Box<dyn Read>>, strip: usize) -> io::Result<BTreeSet<PathBuf>> {
    let mut tops = BTreeSet::new();
    for entry in archive.entries()? {
        let name = entry?.path()?.into_owned();
        tops.extend(stripped(&name, strip).and_then(|name| name.components().next().map(|top| PathBuf::from(&top))));
    }
    Ok(tops)
}

/// The name without its leading folders; `None` if nothing is left or it leads out of the folder.
fn stripped(name: &Path, strip: usize) -> Option<PathBuf> {
    let parts: Vec<Component<'_>> = name.components().filter(|part| *part != Component::CurDir).collect();
    if !parts.iter().all(|part| matches!(part, Component::Normal(_))) {
        return None;
    }
    let rest: PathBuf = parts.into_iter().skip(strip).collect();
    (!rest.as_os_str().is_empty()).then_some(rest)
}

pub(super) fn undo(args: &Unpack, cx: &mut Context<'_>) -> Result<Report> {
    let mut report = Report::unchanged();
    let prefix = format!("tree:{}/", args.into.display());
    let ours: Vec<String> = cx.ledger.all_made().iter().filter(|thing| thing.starts_with(&prefix)).cloned().collect();
    for thing in ours {
        report.add(take(&thing, cx)?);
    }
    report.add(super::directory::take(&args.into, cx)?);
    Ok(report)
}

/// Takes away what came out of an archive.
pub(super) fn take(thing: &str, cx: &mut Context<'_>) -> Result<Report> {
    let mut report = Report::unchanged();
    let path = Path::new(thing.strip_prefix("tree:").unwrap_or(thing));
    if cx.claims_in(path) {
        cx.ledger.hand_over(thing)?;
        return Ok(report);
    }
    let gone = match path.symlink_metadata() {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match gone {
        Ok(()) => report.diff(path.to_string_lossy(), "removed"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(StepError::io("removing", path)(error)),
    }
    cx.ledger.note_gone(thing)?;
    Ok(report)
}
