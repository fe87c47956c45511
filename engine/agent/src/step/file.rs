//! `file`: content, owner and mode of one file, replaced in one step.

use std::fs::{self, File as OsFile, Metadata, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use engine_core::template::{self, Syntax};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use similar::TextDiff;

use crate::args::{AbsPath, ModeBits, yes};
use crate::context::{Context, Report};
use crate::error::{Result, StepError};
use crate::passwd;

/// A larger original is not kept for the day of removal.
const LARGEST_ORIGINAL: u64 = 1 << 20;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    path: AbsPath,
    #[serde(default)]
    content: Option<Value>,
    #[serde(default)]
    template: Option<String>,
    #[serde(default)]
    source: Option<String>,
    #[serde(flatten)]
    access: Access,
    /// Show differences of content; off for what is secret in a way that the inputs do not tell.
    #[serde(default = "yes")]
    diff: bool,
}

/// Who may do what with a path. What is not said stays as it is.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Access {
    #[serde(default)]
    pub owner: Option<String>,
    #[serde(default)]
    pub group: Option<String>,
    #[serde(default)]
    pub mode: Option<ModeBits>,
}

/// Numbers for an [`Access`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Numbers {
    pub uid: u32,
    pub gid: u32,
    pub mode: u32,
}

pub(super) fn apply(args: &File, cx: &mut Context<'_>) -> Result<Report> {
    let body = body(args, cx)?;
    let report = put(&args.path, &body, &args.access, args.diff, cx)?;
    Ok(report)
}

pub(super) fn undo(args: &File, cx: &mut Context<'_>) -> Result<Report> {
    take(&args.path, cx)
}

fn body(args: &File, cx: &Context<'_>) -> Result<Vec<u8>> {
    match (&args.content, &args.template, &args.source) {
        (Some(Value::String(text)), None, None) => Ok(text.clone().into_bytes()),
        (Some(Value::Number(number)), None, None) => Ok(number.to_string().into_bytes()),
        (Some(_), None, None) => Err(StepError::argument("file", "`content` is no text; `| tojson` makes it one")),
        (None, Some(name), None) => {
            let source = String::from_utf8(cx.file("templates", name)?)
                .map_err(|_| StepError::argument("file", format!("template `{name}` is not UTF-8")))?;
            Ok(template::text(&source, &cx.variables(), Syntax::Plain)?.into_bytes())
        }
        (None, None, Some(name)) => cx.file("files", name),
        _ => Err(StepError::argument("file", "it takes one of `content`, `template` and `source`")),
    }
}

/// Brings a file about; also for the steps that write files of their own.
pub(super) fn put(path: &Path, body: &[u8], access: &Access, show: bool, cx: &mut Context<'_>) -> Result<Report> {
    let mut report = Report::unchanged();
    report.set("path", path.to_string_lossy());
    report.set("digest", format!("sha256:{}", hex::encode(Sha256::digest(body))));
    let old = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => {
            return Err(StepError::InTheWay { path: path.to_owned(), found: "a directory".to_owned() });
        }
        Ok(meta) => Some(meta),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(StepError::io("reading", path)(error)),
    };
    let regular = old.as_ref().filter(|meta| meta.is_file());
    let current = match regular {
        Some(_) => Some(fs::read(path).map_err(StepError::io("reading", path))?),
        None => None,
    };
    let Some(numbers) = numbers(access, regular, 0o644, cx)? else {
        report.diff(path.to_string_lossy(), "its owner is not there yet");
        return Ok(report);
    };
    let before = regular.map(Numbers::of);
    if current.as_deref() == Some(body) && before == Some(numbers) {
        return Ok(report);
    }
    // What was there may hold an older secret, which nobody knows any more.
    let redactor = cx.journal.redactor();
    let text = if redactor.finds(body) || current.as_deref().is_some_and(|current| redactor.finds(current)) {
        "content differs, and holds a secret".to_owned()
    } else if show {
        difference(path, current.as_deref(), body)
    } else {
        "content differs".to_owned()
    };
    let text = if current.as_deref() == Some(body) { String::new() } else { text };
    report.diff(path.to_string_lossy(), join(&text, &access_difference(before, numbers)));
    if !cx.dry {
        remember(path, old.as_ref(), current, cx)?;
        write(path, body, numbers, cx)?;
        cx.touched(path);
    }
    Ok(report)
}

/// Takes a file away if we made it, or gives back what was there before.
pub(super) fn take(path: &Path, cx: &mut Context<'_>) -> Result<Report> {
    let thing = thing(path);
    let mut report = Report::unchanged();
    if cx.is_spared(&thing) || cx.is_spared(&format!("path:{}", path.display())) {
        cx.ledger.hand_over(&thing)?;
        return Ok(report);
    }
    if let Some(original) = cx.ledger.original(&thing).cloned() {
        restore(path, &original, cx)?;
        report.diff(path.to_string_lossy(), "given back as it was");
    } else if cx.ledger.made(&thing) && fs::symlink_metadata(path).is_ok() {
        fs::remove_file(path).map_err(StepError::io("removing", path))?;
        report.diff(path.to_string_lossy(), "removed");
        cx.touched(path);
    }
    cx.ledger.note_gone(&thing)?;
    Ok(report)
}

pub(super) fn thing(path: &Path) -> String {
    format!("file:{}", path.display())
}

fn remember(path: &Path, old: Option<&Metadata>, current: Option<Vec<u8>>, cx: &mut Context<'_>) -> Result<()> {
    let thing = thing(path);
    match (old, current) {
        (None, _) => cx.ledger.note_made(thing),
        (Some(meta), Some(body)) if meta.len() <= LARGEST_ORIGINAL => {
            let numbers = Numbers::of(meta);
            let body = STANDARD.encode(body);
            let value = json!({"body": body, "uid": numbers.uid, "gid": numbers.gid, "mode": numbers.mode});
            cx.ledger.note_original(&thing, value)
        }
        (Some(meta), _) if meta.is_symlink() => {
            let target = fs::read_link(path).map_err(StepError::io("reading", path))?;
            cx.ledger.note_original(&thing, json!({"link": target}))
        }
        _ => Ok(()),
    }
}

fn restore(path: &Path, original: &Value, cx: &mut Context<'_>) -> Result<()> {
    let number = |key: &str| original[key].as_u64().and_then(|number| u32::try_from(number).ok()).unwrap_or(0);
    if let Some(target) = original["link"].as_str() {
        super::link::point(path, Path::new(target))?;
    } else {
        let body = STANDARD.decode(original["body"].as_str().unwrap_or_default()).unwrap_or_default();
        let numbers = Numbers { uid: number("uid"), gid: number("gid"), mode: number("mode") };
        write(path, &body, numbers, cx)?;
    }
    cx.touched(path);
    Ok(())
}

impl Numbers {
    pub(super) fn of(meta: &Metadata) -> Self {
        Self { uid: meta.uid(), gid: meta.gid(), mode: meta.mode() & 0o7777 }
    }
}

/// What the access comes to; `None` in a dry run when an account is not there yet.
pub(super) fn numbers(access: &Access, old: Option<&Metadata>, mode: u32, cx: &Context<'_>) -> Result<Option<Numbers>> {
    let old = old.map(Numbers::of);
    let own = Numbers { uid: nix::unistd::geteuid().as_raw(), gid: nix::unistd::getegid().as_raw(), mode };
    let base = old.unwrap_or(own);
    let uid = access.owner.as_deref().map(passwd::uid).transpose();
    let gid = access.group.as_deref().map(passwd::gid).transpose();
    match (uid, gid) {
        (Ok(uid), Ok(gid)) => Ok(Some(Numbers {
            uid: uid.unwrap_or(base.uid),
            gid: gid.unwrap_or(base.gid),
            mode: access.mode.map_or(base.mode, |mode| mode.0),
        })),
        // The step that makes the account would come first.
        (Err(StepError::AccountUnknown { .. }), _) | (_, Err(StepError::AccountUnknown { .. })) if cx.dry => Ok(None),
        (Err(error), _) | (_, Err(error)) => Err(error),
    }
}

/// Writes beside the file and puts it in place: a reader sees the old or the new one, whole.
pub(super) fn write(path: &Path, body: &[u8], numbers: Numbers, cx: &Context<'_>) -> Result<()> {
    let beside = beside(path, cx);
    let result = write_beside(&beside, body, numbers).and_then(|()| fs::rename(&beside, path));
    result.map_err(|error| {
        let _ = fs::remove_file(&beside);
        StepError::io("writing", path)(error)
    })
}

/// A name in the same folder that only this job uses.
pub(super) fn beside(path: &Path, cx: &Context<'_>) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}", cx.spec.job))
}

fn write_beside(path: &Path, body: &[u8], numbers: Numbers) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(body)?;
    set_access(&file, numbers)?;
    file.sync_all()
}

pub(super) fn set_access(file: &OsFile, numbers: Numbers) -> io::Result<()> {
    let meta = file.metadata()?;
    if (meta.uid(), meta.gid()) != (numbers.uid, numbers.gid) {
        fchown(file, Some(numbers.uid), Some(numbers.gid))?;
    }
    // After the owner: changing that clears the set-id bits.
    file.set_permissions(fs::Permissions::from_mode(numbers.mode))
}

/// A sentence on what differs in owner, group and mode; empty if nothing does.
pub(super) fn access_difference(before: Option<Numbers>, after: Numbers) -> String {
    let Some(before) = before else {
        let (user, group) = (passwd::user_name(after.uid), passwd::group_name(after.gid));
        return format!("new, {user}:{group} {:04o}", after.mode);
    };
    let mut parts = Vec::new();
    if before.uid != after.uid {
        parts.push(format!("owner {} -> {}", passwd::user_name(before.uid), passwd::user_name(after.uid)));
    }
    if before.gid != after.gid {
        parts.push(format!("group {} -> {}", passwd::group_name(before.gid), passwd::group_name(after.gid)));
    }
    if before.mode != after.mode {
        parts.push(format!("mode {:04o} -> {:04o}", before.mode, after.mode));
    }
    parts.join(", ")
}

fn join(diff: &str, access: &str) -> String {
    match (diff.is_empty(), access.is_empty()) {
        (false, false) => format!("{}\n{access}", diff.trim_end()),
        (true, _) => access.to_owned(),
        (_, true) => diff.to_owned(),
    }
}

fn difference(path: &Path, old: Option<&[u8]>, new: &[u8]) -> String {
    let (Ok(before), Ok(after)) = (std::str::from_utf8(old.unwrap_or_default()), std::str::from_utf8(new)) else {
        return format!("binary, {} -> {} bytes", old.map_or(0, <[u8]>::len), new.len());
    };
    let name = path.to_string_lossy();
    let from = if old.is_some() { name.as_ref() } else { "/dev/null" };
    TextDiff::from_lines(before, after).unified_diff().context_radius(2).header(from, &name).to_string()
}
