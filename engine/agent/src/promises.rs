//! What removes promised to take away, kept until the agent leaves: only then it is known whether it stayed away.
//!
//! One file per owner beside the ledgers. A remove writes it before it takes anything; an apply of the same owner
//! deletes it, for what comes back is no residue.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::protocol::Left;
use crate::step;

/// Files of promises begin with this.
const PREFIX: &str = "gone-";

#[derive(Default, Serialize, Deserialize)]
struct Promised {
    owner: String,
    things: BTreeSet<String>,
}

/// Notes what the remove of an owner promises. What it promised before stays promised.
pub(crate) fn note(root: &Path, owner: &str, things: impl Iterator<Item = String>) -> io::Result<()> {
    let path = path(root, owner);
    let mut promised = read(&path)?.unwrap_or_default();
    owner.clone_into(&mut promised.owner);
    promised.things.extend(things);
    if promised.things.is_empty() {
        return Ok(());
    }
    let fresh = path.with_extension("new");
    fs::write(&fresh, serde_json::to_vec(&promised)?)?;
    fs::rename(&fresh, &path)
}

/// Forgets the promises of an owner that is there again.
pub(crate) fn forget(root: &Path, owner: &str) -> io::Result<()> {
    match fs::remove_file(path(root, owner)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// What of all promises is on this machine.
pub(crate) fn broken(root: &Path) -> io::Result<Vec<Left>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(root.join("owners"))? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if !name.starts_with(PREFIX) || name.ends_with(".new") {
            continue;
        }
        let Some(promised) = read(&path)? else { continue };
        let things: Vec<String> = promised.things.into_iter().filter(|thing| step::is_there(thing)).collect();
        if !things.is_empty() {
            all.push(Left { owner: promised.owner, things });
        }
    }
    all.sort_by(|a, b| a.owner.cmp(&b.owner));
    Ok(all)
}

fn read(path: &Path) -> io::Result<Option<Promised>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn path(root: &Path, owner: &str) -> PathBuf {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_');
    let safe: String = owner.chars().map(|letter| if plain(letter) { letter } else { '+' }).collect();
    root.join("owners").join(format!("{PREFIX}{safe}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_back_is_found_until_its_owner_does() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("owners")).unwrap();
        let planted = dir.path().join("planted");
        let things = [format!("path:{}", planted.display()), "file:/nowhere/at-all".to_owned()];
        note(dir.path(), "a/b", things.clone().into_iter()).unwrap();
        assert_eq!(broken(dir.path()).unwrap(), []);
        fs::write(&planted, "").unwrap();
        note(dir.path(), "a/b", std::iter::empty()).unwrap();
        let left = Left { owner: "a/b".to_owned(), things: things[..1].to_vec() };
        assert_eq!(broken(dir.path()).unwrap(), [left]);
        forget(dir.path(), "a/b").unwrap();
        forget(dir.path(), "a/b").unwrap();
        assert_eq!(broken(dir.path()).unwrap(), []);
    }
}
