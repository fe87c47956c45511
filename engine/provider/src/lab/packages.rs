//! Packages that nodes have downloaded, kept for the next ones.
//!
//! What apt downloaded in one node is collected into a pool when the node goes or another one is made. A new node gets the
//! pool as a read-only layer under its own: apt finds the files in its archive folder and downloads nothing. Nodes share no
//! writable folder, so there is no lock between them and none can spoil a file for another; what apt finds is checked by
//! size and hash against the signed lists before it is used, as always.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::lab::command::{Doing, Trouble};
use crate::lab::image::remove_tree;

/// apt's own folder, in every root.
const ARCHIVES: &str = "var/cache/apt/archives";

/// The pool forgets its oldest files beyond this many bytes.
const POOL_MAX: u64 = 4 << 30;

/// The pool of a cache.
pub(crate) fn pool(cache: &Path) -> PathBuf {
    cache.join("packages")
}

/// Copies new packages from a node's layer into the pool.
pub(crate) fn collect(upper: &Path, pool: &Path) -> Result<(), Trouble> {
    let found = packages(&upper.join(ARCHIVES));
    if found.is_empty() {
        return Ok(());
    }
    fs::create_dir_all(pool).doing("creating", pool)?;
    for package in found {
        let place = pool.join(&package.name);
        if !place.exists() {
            // A name of our own: two labs may bring the same package at once, and either copy will do.
            let fresh = pool.join(format!("{}.{}-{:?}", package.name, std::process::id(), std::thread::current().id()));
            fs::copy(&package.path, &fresh).doing("copying", &package.path)?;
            fs::rename(&fresh, &place).doing("renaming", &fresh)?;
        }
    }
    trim(pool, POOL_MAX)
}

/// The pool as a layer for a node, in the lab's folder; none if the pool is empty. Layers are never changed, only replaced.
pub(crate) fn layer(pool: &Path, layers: &Path) -> Result<Option<PathBuf>, Trouble> {
    let found = packages(pool);
    if found.is_empty() {
        return Ok(None);
    }
    let mut hash = Sha256::new();
    for package in &found {
        hash.update(format!("{} {}\n", package.name, package.size));
    }
    let layer = layers.join(&hex::encode(hash.finalize())[..12]);
    if layer.exists() {
        return Ok(Some(layer));
    }
    let fresh = layers.join("new");
    remove_tree(&fresh)?;
    let archives = fresh.join(ARCHIVES);
    fs::DirBuilder::new().recursive(true).mode(0o755).create(&archives).doing("creating", &archives)?;
    for package in found {
        let place = archives.join(&package.name);
        // On another file system a link is not possible. Gone meanwhile: then it is downloaded again, that is all.
        if fs::hard_link(&package.path, &place).is_err() && package.path.exists() {
            fs::copy(&package.path, &place).doing("copying", &package.path)?;
        }
    }
    fs::rename(&fresh, &layer).doing("renaming", &fresh)?;
    Ok(Some(layer))
}

/// Removes the layers that no node uses.
pub(crate) fn remove_unused(layers: &Path, used: &[PathBuf]) -> Result<(), Trouble> {
    for entry in fs::read_dir(layers).into_iter().flatten().flatten() {
        if !used.contains(&entry.path()) {
            remove_tree(&entry.path())?;
        }
    }
    Ok(())
}

struct Package {
    name: String,
    path: PathBuf,
    size: u64,
    written: std::time::SystemTime,
}

/// The complete packages of a folder, by name. apt downloads under `partial/` and moves a file here when it is whole.
fn packages(folder: &Path) -> Vec<Package> {
    let mut found: Vec<Package> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            if entry.path().extension().is_none_or(|kind| kind != "deb") {
                return None;
            }
            // Of the entry itself, not of what a link in a node may point to.
            let data = entry.metadata().ok().filter(fs::Metadata::is_file)?;
            Some(Package { name, path: entry.path(), size: data.len(), written: data.modified().ok()? })
        })
        .collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

fn trim(pool: &Path, max: u64) -> Result<(), Trouble> {
    let mut found = packages(pool);
    let mut total: u64 = found.iter().map(|package| package.size).sum();
    found.sort_by_key(|package| package.written);
    for package in found {
        if total <= max {
            break;
        }
        fs::remove_file(&package.path).doing("removing", &package.path)?;
        total -= package.size;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(path: PathBuf, text: &str) {
        fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        fs::write(path, text).expect("written");
    }

    #[test]
    fn what_one_node_downloaded_lies_under_the_next() {
        let home = tempfile::tempdir().expect("a folder");
        let (upper, pool, layers) = (home.path().join("upper"), home.path().join("pool"), home.path().join("layers"));
        assert_eq!(layer(&pool, &layers).expect("no error"), None);
        put(upper.join(ARCHIVES).join("etcd_1_amd64.deb"), "whole");
        put(upper.join(ARCHIVES).join("partial/curl_1_amd64.deb"), "half");
        put(upper.join(ARCHIVES).join("lock"), "");
        std::os::unix::fs::symlink("/etc/passwd", upper.join(ARCHIVES).join("evil_1_all.deb")).expect("linked");
        collect(&upper, &pool).expect("collected");
        collect(&upper, &pool).expect("collected again");
        let names: Vec<String> = packages(&pool).into_iter().map(|package| package.name).collect();
        assert_eq!(names, ["etcd_1_amd64.deb"]);
        let first = layer(&pool, &layers).expect("made").expect("not empty");
        assert_eq!(fs::read_to_string(first.join(ARCHIVES).join("etcd_1_amd64.deb")).expect("there"), "whole");
        assert_eq!(layer(&pool, &layers).expect("found"), Some(first.clone()), "the same pool is the same layer");
        put(pool.join("zip_1_amd64.deb"), "more");
        let second = layer(&pool, &layers).expect("made").expect("not empty");
        assert_ne!(first, second);
        remove_unused(&layers, std::slice::from_ref(&second)).expect("removed");
        assert!(!first.exists() && second.exists());
    }

    #[test]
    fn the_pool_forgets_its_oldest() {
        let pool = tempfile::tempdir().expect("a folder");
        for (name, age) in [("a.deb", 1), ("b.deb", 3), ("c.deb", 2)] {
            put(pool.path().join(name), "12345");
            let file = fs::File::options().write(true).open(pool.path().join(name)).expect("opened");
            file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1000 - age)).expect("set");
        }
        trim(pool.path(), 10).expect("trimmed");
        let names: Vec<String> = packages(pool.path()).into_iter().map(|package| package.name).collect();
        assert_eq!(names, ["a.deb", "c.deb"]);
    }
}
