//! What happens to a node, from its record to its last file.

use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use engine_core::document::Object;
use serde_json::Value;

use crate::lab::apt::Mirror;
use crate::lab::command::{Doing, Trouble};
use crate::lab::image::{self, Progress, remove_tree};
use crate::lab::machine::{self, Machine};
use crate::lab::state::{Folder, NodeRecord, Ready};
use crate::lab::subnet::Subnet;
use crate::lab::{LabConfig, doctor, files, network, packages, state};
use crate::{Access, NodeStatus};

/// From asking a machine for a reboot to its going down. systemd gives its services 90 seconds to stop.
const GO_DOWN: Duration = Duration::from_mins(2);

/// Pause between two looks at a machine that is going down.
const LOOK: Duration = Duration::from_millis(10);

/// A lab, synchronously.
pub(crate) struct Inner {
    pub(crate) config: LabConfig,
    progress: Box<Progress>,
    folder: OnceLock<Folder>,
    /// Set once the doctor found nothing missing. Locked while it looks: it tries things out.
    healthy: Mutex<bool>,
}

impl Inner {
    pub(crate) fn new(config: LabConfig, progress: Box<Progress>) -> Self {
        Self { config, progress, folder: OnceLock::new(), healthy: Mutex::new(false) }
    }

    /// The image and the network, both there.
    pub(crate) fn prepare(&self) -> Result<(PathBuf, Subnet), Trouble> {
        self.examine()?;
        let mirror = self.config.mirror.as_deref();
        let image = image::ensure(&self.config.cache, &self.config.suite, mirror, &*self.progress)?;
        Ok((image, self.network()?))
    }

    /// The node's machine, made if need be, and started.
    pub(crate) fn create(&self, name: &str, keys: &[String]) -> Result<Access, Trouble> {
        let (image, subnet) = self.prepare()?;
        let folder = self.folder()?;
        loop {
            let record = folder.allocate(name, uuid::Uuid::new_v4())?;
            let Some(_lock) = folder.lock_node(name)? else { continue };
            let ready = match record.ready.clone() {
                Some(ready) => {
                    Self::authorize(folder, name, keys)?;
                    ready
                }
                None => self.furnish(name, &record, &image, subnet, keys)?,
            };
            machine_of(folder, name, &record, &ready.layers).start()?;
            return Ok(access(&record, &ready));
        }
    }

    pub(crate) fn status(&self, name: &str) -> Result<NodeStatus, Trouble> {
        let Some((folder, record, ready)) = self.find(name)? else { return Ok(NodeStatus::Absent) };
        Ok(match machine::process(&folder.node(name)) {
            Some(_) => NodeStatus::Running { access: access(&record, &ready) },
            None => NodeStatus::Stopped,
        })
    }

    pub(crate) fn on(&self, name: &str) -> Result<Access, Trouble> {
        self.examine()?;
        self.network()?;
        let (folder, record, ready) = self.held(name)?;
        let _lock = folder.lock_node(name)?;
        machine_of(folder, name, &record, &ready.layers).start()?;
        Ok(access(&record, &ready))
    }

    pub(crate) fn off(&self, name: &str) -> Result<(), Trouble> {
        let (folder, record, ready) = self.held(name)?;
        let _lock = folder.lock_node(name)?;
        machine_of(folder, name, &record, &ready.layers).stop()
    }

    /// Returns when the machine has gone down and its supervisor lives to start it again.
    pub(crate) fn reboot(&self, name: &str) -> Result<Access, Trouble> {
        let (folder, record, ready) = self.held(name)?;
        let path = folder.node(name);
        let _lock = folder.lock_node(name)?;
        let boot = machine::ask_for_reboot(&path)?;
        let deadline = Instant::now() + GO_DOWN;
        while !boot.is_gone() {
            if Instant::now() > deadline {
                return Err(Trouble::Refused(format!(
                    "it did not go down within {}s; the end of its console:\n{}",
                    GO_DOWN.as_secs(),
                    machine::console(&path, 12)
                )));
            }
            std::thread::sleep(LOOK);
        }
        Ok(access(&record, &ready))
    }

    pub(crate) fn console(&self, name: &str, lines: usize) -> String {
        self.folder().map(|folder| machine::console(&folder.node(name), lines)).unwrap_or_default()
    }

    /// Does the machine of this node run?
    pub(crate) fn lives(&self, name: &str) -> bool {
        self.folder().is_ok_and(|folder| machine::process(&folder.node(name)).is_some())
    }

    pub(crate) fn destroy(&self, name: &str) -> Result<(), Trouble> {
        if !self.config.dir.exists() {
            return Ok(());
        }
        let folder = self.folder()?;
        let Some(_lock) = folder.lock_node(name)? else { return Ok(()) };
        let path = folder.node(name);
        if let Some(record) = folder.node_record(name)? {
            machine_of(folder, name, &record, &[]).stop()?;
        }
        packages::collect(&path.join("upper"), &packages::pool(&self.config.cache))?;
        // At one blow it is no node any more; the name is free while the files go.
        let gone = folder.path.join("nodes").join(format!(".{name}-{}", uuid::Uuid::new_v4().simple()));
        fs::rename(&path, &gone).doing("renaming", &path)?;
        remove_tree(&gone)?;
        Self::forget_layers(folder)
    }

    pub(crate) fn list(&self) -> Result<Vec<String>, Trouble> {
        if self.config.dir.exists() { self.folder()?.nodes() } else { Ok(Vec::new()) }
    }

    pub(crate) fn teardown(&self, purge: bool) -> Result<(), Trouble> {
        for name in self.list()? {
            self.destroy(&name)?;
        }
        if self.config.dir.exists() {
            let folder = self.folder()?;
            network::remove(folder)?;
            for name in ["nodes", "layers"] {
                remove_tree(&folder.path.join(name))?;
            }
            for name in ["lab.json", "lab.lock"] {
                let _ = fs::remove_file(folder.path.join(name));
            }
            // Only if nothing of the caller's is in it.
            let _ = fs::remove_dir(&folder.path);
        }
        if purge { self.purge() } else { Ok(()) }
    }

    fn purge(&self) -> Result<(), Trouble> {
        let cache = &self.config.cache;
        if !cache.exists() {
            return Ok(());
        }
        let lock = cache.join("image.lock");
        let _building = state::lock_file(&lock)?;
        image::remove_unused(cache)?;
        for name in ["packages", "building", "downloads"] {
            remove_tree(&cache.join(name))?;
        }
        for path in [cache.join("image.log"), lock] {
            let _ = fs::remove_file(path);
        }
        // Unless another lab's image is in it.
        let _ = fs::remove_dir(cache);
        Ok(())
    }

    /// Makes the node's own layer. What an interrupted attempt left is thrown away.
    fn furnish(
        &self,
        name: &str,
        record: &NodeRecord,
        image: &std::path::Path,
        subnet: Subnet,
        keys: &[String],
    ) -> Result<Ready, Trouble> {
        let folder = self.folder()?;
        let path = folder.node(name);
        for part in ["upper", "work", "root"] {
            remove_tree(&path.join(part))?;
            fs::create_dir(path.join(part)).doing("creating", &path.join(part))?;
        }
        let mirror = match &self.config.mirror {
            Some(uri) => Some(Mirror::given(uri, &self.config.suite)),
            // Without one the node has the sources of the image.
            None => Mirror::of_host(&self.config.suite).ok(),
        };
        let sources = mirror.map(|mirror| mirror.sources);
        let host_keys = files::write(&path.join("upper"), name, record, subnet, sources.as_deref())?;
        files::authorize(&path.join("upper"), keys)?;
        let pool = packages::pool(&self.config.cache);
        for other in folder.nodes()?.iter().filter(|other| *other != name) {
            packages::collect(&folder.node(other).join("upper"), &pool)?;
        }
        let layers = folder.path.join("layers");
        // Choosing a layer and recording the choice is one step for those who remove unused ones.
        let _lock = folder.lock()?;
        let layers = packages::layer(&pool, &layers)?.into_iter().chain([image.to_owned()]).collect();
        let ready = Ready { host_keys, layers };
        folder.save_node(name, &NodeRecord { ready: Some(ready.clone()), ..record.clone() })?;
        Ok(ready)
    }

    /// Lets the keys in, whether the machine runs or not.
    fn authorize(folder: &Folder, name: &str, keys: &[String]) -> Result<(), Trouble> {
        let path = folder.node(name);
        if machine::process(&path).is_some() {
            machine::authorize(&path, &files::authorized_keys(keys))
        } else {
            files::authorize(&path.join("upper"), keys)
        }
    }

    fn forget_layers(folder: &Folder) -> Result<(), Trouble> {
        let _lock = folder.lock()?;
        let mut used = Vec::new();
        for name in folder.nodes()? {
            used.extend(folder.node_record(&name)?.and_then(|record| record.ready).map(|ready| ready.layers));
        }
        packages::remove_unused(&folder.path.join("layers"), &used.concat())
    }

    fn folder(&self) -> Result<&Folder, Trouble> {
        if let Some(folder) = self.folder.get() {
            return Ok(folder);
        }
        let folder = Folder::open(&self.config.dir)?;
        Ok(self.folder.get_or_init(|| folder))
    }

    fn network(&self) -> Result<Subnet, Trouble> {
        let wanted = match &self.config.subnet {
            Some(text) => Some(text.parse().map_err(Trouble::Needs)?),
            None => None,
        };
        network::ensure(self.folder()?, wanted)
    }

    fn examine(&self) -> Result<(), Trouble> {
        let mut healthy = self.healthy.lock().unwrap_or_else(PoisonError::into_inner);
        if !*healthy {
            let missing = doctor::missing(&self.config);
            if !missing.is_empty() {
                return Err(Trouble::Needs(missing.join("; ")));
            }
            *healthy = true;
        }
        Ok(())
    }

    fn find(&self, name: &str) -> Result<Option<(&Folder, NodeRecord, Ready)>, Trouble> {
        if !self.config.dir.exists() {
            return Ok(None);
        }
        let folder = self.folder()?;
        let record = folder.node_record(name)?;
        Ok(record.and_then(|record| record.ready.clone().map(|ready| (folder, record, ready))))
    }

    fn held(&self, name: &str) -> Result<(&Folder, NodeRecord, Ready), Trouble> {
        self.find(name)?.ok_or_else(|| Trouble::Refused("it is not there any more".to_owned()))
    }
}

fn access(record: &NodeRecord, ready: &Ready) -> Access {
    let mut facts = Object::new();
    // Container runtimes have to be told where nothing may be protected from the memory killer.
    facts.insert("restrict_oom_score_adj".to_owned(), Value::Bool(doctor::oom_score_restricted()));
    Access {
        address: record.address.to_string(),
        port: 22,
        user: "root".to_owned(),
        host_keys: ready.host_keys.clone(),
        facts,
    }
}

fn machine_of<'a>(folder: &'a Folder, name: &'a str, record: &NodeRecord, layers: &'a [PathBuf]) -> Machine<'a> {
    Machine { folder: folder.node(name), name, lab: &folder.id, index: record.index, uuid: record.uuid, layers }
}
