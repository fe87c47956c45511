//! What a lab remembers, as files in its folder.
//!
//! `lab.json` holds the lab's own facts, `nodes/NAME/node.json` those of a node. Both are replaced by rename, so a crash
//! leaves the old or the new one. Locks are `flock`s: they end with the process that holds them.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::lab::command::{Doing, Trouble};
use crate::lab::image::private;
use crate::lab::subnet::Subnet;

/// `lab.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct LabRecord {
    /// The subnet, once one is taken.
    pub(crate) subnet: Option<Subnet>,
    /// Where to look for the next free node index. Indexes go round, so that an address is not used again at once: others
    /// may still know the old machine behind it.
    #[serde(default)]
    pub(crate) next: u32,
}

/// `node.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct NodeRecord {
    /// Decides the address and the name of the machine.
    pub(crate) index: u32,
    /// Its address on the lab's bridge.
    pub(crate) address: Ipv4Addr,
    /// Identity of the machine.
    pub(crate) uuid: uuid::Uuid,
    /// Its files are complete; until then it is made anew by the next create.
    #[serde(default)]
    pub(crate) ready: Option<Ready>,
}

/// What is known once a node's files are complete.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ready {
    /// Its public SSH host keys.
    pub(crate) host_keys: Vec<String>,
    /// The read-only layers under it, uppermost first.
    pub(crate) layers: Vec<PathBuf>,
}

/// The folder of a lab.
#[derive(Clone, Debug)]
pub(crate) struct Folder {
    /// Absolute, without symbolic links.
    pub(crate) path: PathBuf,
    /// Six hex digits of the path's hash: what the bridge, the rules and the machines of this lab are named by.
    pub(crate) id: String,
}

impl Folder {
    /// Makes the folder if it is not there.
    pub(crate) fn open(path: &Path) -> Result<Self, Trouble> {
        fs::create_dir_all(path).doing("creating", path)?;
        let path = path.canonicalize().doing("finding", path)?;
        let text = path.to_string_lossy();
        if path.to_str().is_none() || text.contains([':', ',', '\\', '\'', '\n']) {
            return Err(Trouble::Refused(format!(
                "the lab's folder `{text}` has a character in its name that a mount option can not hold"
            )));
        }
        for name in ["nodes", "layers"] {
            private(&path.join(name))?;
        }
        let id = hex::encode(&Sha256::digest(text.as_bytes())[..3]);
        Ok(Self { path, id })
    }

    /// Waits for the lab's own lock, which is held for moments only.
    pub(crate) fn lock(&self) -> Result<File, Trouble> {
        lock_file(&self.path.join("lab.lock"))
    }

    pub(crate) fn record(&self) -> Result<LabRecord, Trouble> {
        Ok(read(&self.path.join("lab.json"))?.unwrap_or_default())
    }

    pub(crate) fn save(&self, record: &LabRecord) -> Result<(), Trouble> {
        write(&self.path.join("lab.json"), record)
    }

    /// Where a node's files are.
    pub(crate) fn node(&self, name: &str) -> PathBuf {
        self.path.join("nodes").join(name)
    }

    pub(crate) fn node_record(&self, name: &str) -> Result<Option<NodeRecord>, Trouble> {
        read(&self.node(name).join("node.json"))
    }

    pub(crate) fn save_node(&self, name: &str, record: &NodeRecord) -> Result<(), Trouble> {
        write(&self.node(name).join("node.json"), record)
    }

    /// Names of all nodes that have a record.
    pub(crate) fn nodes(&self) -> Result<Vec<String>, Trouble> {
        let folder = self.path.join("nodes");
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).doing("reading", &folder),
        };
        let mut names: Vec<String> = entries
            .flatten()
            .filter(|entry| entry.path().join("node.json").exists())
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| !name.starts_with('.'))
            .collect();
        names.sort();
        Ok(names)
    }

    /// The node's record, made with a free address if there is none yet.
    pub(crate) fn allocate(&self, name: &str, uuid: uuid::Uuid) -> Result<NodeRecord, Trouble> {
        let _lock = self.lock()?;
        if let Some(record) = self.node_record(name)? {
            return Ok(record);
        }
        let mut lab = self.record()?;
        let subnet = lab.subnet.ok_or_else(|| Trouble::Refused("the lab has no subnet yet".to_owned()))?;
        let mut taken = BTreeSet::new();
        for other in self.nodes()? {
            taken.extend(self.node_record(&other)?.map(|record| record.index));
        }
        let capacity = subnet.capacity();
        let index = (0..capacity)
            .map(|step| (lab.next + step) % capacity)
            .find(|index| !taken.contains(index))
            .ok_or_else(|| Trouble::Refused(format!("the lab's subnet {subnet} has no free address")))?;
        lab.next = (index + 1) % capacity;
        self.save(&lab)?;
        let record = NodeRecord { index, address: subnet.node(index), uuid, ready: None };
        fs::create_dir_all(self.node(name)).doing("creating", &self.node(name))?;
        self.save_node(name, &record)?;
        Ok(record)
    }

    /// Waits until nobody else works on this node. `None` if the node is not there.
    pub(crate) fn lock_node(&self, name: &str) -> Result<Option<File>, Trouble> {
        let path = self.node(name);
        loop {
            let folder = match File::open(&path) {
                Ok(folder) => folder,
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(error).doing("opening", &path),
            };
            folder.lock().doing("locking", &path)?;
            // While we waited the folder may have been destroyed, and one of the same name made.
            if is_at(&folder, &path)? {
                return Ok(Some(folder));
            }
        }
    }
}

/// Waits for the lock on a file that is made if need be. The holder may remove the file before it lets go.
pub(crate) fn lock_file(path: &Path) -> Result<File, Trouble> {
    loop {
        let file = File::options().create(true).append(true).open(path).doing("opening", path)?;
        file.lock().doing("locking", path)?;
        if is_at(&file, path)? {
            return Ok(file);
        }
    }
}

/// Is this open file or folder still what the path names?
fn is_at(file: &File, path: &Path) -> Result<bool, Trouble> {
    let held = file.metadata().doing("reading", path)?;
    Ok(fs::metadata(path).is_ok_and(|there| there.ino() == held.ino() && there.dev() == held.dev()))
}

/// Reads a JSON file; not there is `None`.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Trouble> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        Err(error) => return Err(error).doing("reading", path),
    };
    match serde_json::from_slice(&text) {
        Ok(value) => Ok(Some(value)),
        Err(error) => Err(Trouble::Refused(format!("{} can not be understood: {error}", path.display()))),
    }
}

/// Replaces a file as a whole.
pub(crate) fn write<T: Serialize>(path: &Path, value: &T) -> Result<(), Trouble> {
    let text = serde_json::to_vec_pretty(value).expect("records have string keys");
    let fresh = path.with_extension("new");
    fs::write(&fresh, text).doing("writing", &fresh)?;
    fs::rename(&fresh, path).doing("replacing", path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_go_round_and_are_never_shared() {
        let home = tempfile::tempdir().expect("a folder");
        let folder = Folder::open(home.path()).expect("a lab folder");
        let id = uuid::Uuid::nil();
        assert!(folder.allocate("a", id).is_err(), "no subnet yet");
        folder.save(&LabRecord { subnet: "10.9.0.0/29".parse().ok(), next: 0 }).expect("saved");
        let take = |name: &str| folder.allocate(name, id).map(|record| record.address.to_string());
        let first: Vec<String> = ["a", "b", "c", "a"].map(|name| take(name).expect("free")).to_vec();
        assert_eq!(first, ["10.9.0.2", "10.9.0.3", "10.9.0.4", "10.9.0.2"]);
        fs::remove_dir_all(folder.node("a")).expect("removed");
        assert_eq!(take("d").expect("free"), "10.9.0.5", "the address of `a` is not used again at once");
        assert_eq!(take("e").expect("free"), "10.9.0.6");
        assert_eq!(take("f").expect("free"), "10.9.0.2");
        let full = take("g").expect_err("six minus the gateway");
        assert!(full.to_string().contains("no free address"), "{full}");
        assert_eq!(folder.nodes().expect("listed"), ["b", "c", "d", "e", "f"]);
    }

    #[test]
    fn a_node_lock_follows_the_folder() {
        let home = tempfile::tempdir().expect("a folder");
        let folder = Folder::open(home.path()).expect("a lab folder");
        assert!(folder.lock_node("a").expect("no error").is_none());
        fs::create_dir(folder.node("a")).expect("made");
        let held = folder.lock_node("a").expect("no error").expect("there");
        let other = File::open(folder.node("a")).expect("opened");
        assert!(other.try_lock().is_err(), "one holder at a time");
        drop(held);
        other.try_lock().expect("free again");
    }

    #[test]
    fn folders_that_a_mount_can_not_name_are_refused() {
        let home = tempfile::tempdir().expect("a folder");
        let wrong = Folder::open(&home.path().join("a,b")).expect_err("refused");
        assert!(wrong.to_string().contains("a,b"), "{wrong}");
    }
}
