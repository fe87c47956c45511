//! The catalog: what is compiled in, and what was pushed to the database. It is looked up at each use, so that all engines
//! have the same one at all times and none has to be told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use engine_catalog::{Folder, Loaded, load_folders};
use engine_core::catalog::Catalog;
use engine_core::diagnostic::Diagnostic;
use engine_core::digest;
use engine_store::bundles::{self, Fresh, Stored};
use engine_store::{PgPool, StoreError};
use serde_json::json;
use tokio::sync::Mutex;

/// The catalog as it was read last.
#[derive(Default)]
pub(crate) struct Bundles {
    known: Mutex<Option<(i64, Arc<Catalog>)>>,
}

impl Bundles {
    /// The catalog as it is now.
    pub(crate) async fn catalog(&self, pool: &PgPool) -> Result<Arc<Catalog>, StoreError> {
        let mut known = self.known.lock().await;
        let generation = bundles::generation(pool).await?;
        if let Some((_, catalog)) = known.as_ref().filter(|(read, _)| *read == generation) {
            return Ok(Arc::clone(catalog));
        }
        let (generation, stored) = bundles::all(pool).await?;
        let loaded = load(stored.iter().map(folder).collect()).await;
        // They were checked when they were pushed, by an engine whose built-in bundle may have been another one.
        for diagnostic in loaded.diagnostics.iter().filter(|one| one.is_error()) {
            tracing::warn!(%diagnostic, "a pushed bundle does not fit this engine; what has errors is left out");
        }
        let catalog = Arc::new(loaded.catalog);
        *known = Some((generation, Arc::clone(&catalog)));
        Ok(catalog)
    }

    /// What was just checked and put.
    async fn keep(&self, generation: i64, catalog: Arc<Catalog>) {
        *self.known.lock().await = Some((generation, catalog));
    }
}

/// Reads and checks bundles, which takes a while.
async fn load(folders: Vec<Folder>) -> Loaded {
    tokio::task::spawn_blocking(move || load_folders(folders)).await.expect("loading bundles does not panic")
}

/// How a bundle of the catalog is called in messages, wherever it came from.
fn place(name: &str) -> String {
    format!("{name}:")
}

fn folder(stored: &Stored) -> Folder {
    Folder::unpacked(&place(&stored.name), &stored.files).unwrap_or_else(|error| {
        tracing::warn!(%error, bundle = stored.name, "a pushed bundle can not be read");
        Folder { name: place(&stored.name), files: BTreeMap::new() }
    })
}

/// Digest of all files of a bundle.
pub(crate) fn hash(files: &BTreeMap<String, String>) -> String {
    digest::of(&json!(files))
}

/// A catalog with bundles taken in and others taken out, not kept anywhere yet.
pub(crate) struct Draft {
    /// What it was made from.
    seen: i64,
    /// Bundles that are new, or other than those of their names.
    fresh: Vec<Fresh>,
    removed: Vec<String>,
    pub(crate) catalog: Arc<Catalog>,
    /// What is wrong with it, or worth a look.
    pub(crate) diagnostics: Vec<Diagnostic>,
}

/// Is all of this in the catalog already, as it is?
pub(crate) async fn are_there(pool: &PgPool, pushed: &[Folder]) -> Result<bool, StoreError> {
    let (_, stored) = bundles::all(pool).await?;
    let is_there = |folder: &Folder| {
        let name = folder.manifest().map(|manifest| manifest.bundle);
        let hash = hash(&folder.packed());
        stored.iter().any(|one| Some(&one.name) == name.as_ref() && one.hash == hash)
    };
    let hashes: BTreeSet<String> = pushed.iter().map(|folder| hash(&folder.packed())).collect();
    // One that is given twice is refused as ever.
    Ok(hashes.len() == pushed.len() && pushed.iter().all(is_there))
}

impl Draft {
    /// What the catalog would be with these bundles in place of those of their names, and without the removed ones.
    pub(crate) async fn new(pool: &PgPool, pushed: &[Folder], removed: &[String]) -> Result<Self, StoreError> {
        let (seen, stored) = bundles::all(pool).await?;
        let manifests: Vec<_> = pushed.iter().map(Folder::manifest).collect();
        let names: Vec<Option<&str>> =
            manifests.iter().map(|manifest| manifest.as_ref().map(|manifest| manifest.bundle.as_str())).collect();
        let stays = |one: &&Stored| !names.contains(&Some(one.name.as_str())) && !removed.contains(&one.name);
        let mut folders: Vec<Folder> = stored.iter().filter(stays).map(folder).collect();
        let mut called = Vec::new();
        for (given, name) in pushed.iter().zip(&names) {
            let mut folder = given.clone();
            // Two of one name are told apart by where they came from.
            if let Some(name) = name.filter(|name| names.iter().filter(|other| **other == Some(name)).count() == 1) {
                folder.name = place(name);
                called.push((format!("{}/", folder.name), given));
            }
            folders.push(folder);
        }
        let Loaded { catalog, mut diagnostics } = load(folders).await;
        for diagnostic in &mut diagnostics {
            let file = diagnostic.file.as_mut();
            if let Some((file, (prefix, given))) = file
                .and_then(|file| called.iter().find(|(prefix, _)| file.starts_with(prefix)).map(|found| (file, found)))
            {
                *file = given.display(&file[prefix.len()..]);
            }
        }
        let fresh = pushed.iter().zip(&manifests).filter_map(|(folder, manifest)| {
            let manifest = manifest.as_ref()?;
            let files = folder.packed();
            let hash = hash(&files);
            let is_there = stored.iter().any(|one| one.name == manifest.bundle && one.hash == hash);
            let (name, version) = (manifest.bundle.clone(), manifest.version.clone());
            (!is_there).then_some(Fresh { name, version, hash, files })
        });
        Ok(Self { seen, fresh: fresh.collect(), removed: removed.to_vec(), catalog: Arc::new(catalog), diagnostics })
    }

    /// Is it what there is already?
    pub(crate) fn is_same(&self) -> bool {
        self.fresh.is_empty() && self.removed.is_empty()
    }

    /// Names of the bundles that differ.
    pub(crate) fn names(&self) -> Vec<String> {
        self.fresh.iter().map(|one| one.name.clone()).chain(self.removed.iter().cloned()).collect()
    }

    /// Makes it the catalog, if that has not changed meanwhile.
    pub(crate) async fn put(&self, pool: &PgPool, kept: &Bundles, by: &str) -> Result<bool, StoreError> {
        let Some(generation) = bundles::put(pool, self.seen, &self.fresh, &self.removed, by).await? else {
            return Ok(false);
        };
        kept.keep(generation, Arc::clone(&self.catalog)).await;
        Ok(true)
    }
}
