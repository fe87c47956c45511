//! Bundles taken into the catalog and out of it, and compared with it.

use std::collections::{BTreeMap, BTreeSet};

use engine_catalog::{Folder, core_bundle};
use engine_core::catalog::diff::{self, Upgrade};
use engine_core::catalog::{Catalog, CatalogRole};
use engine_core::diagnostic::Diagnostic;
use engine_core::graph::RoleName;
use engine_core::view::{Behind, BundleDiff, BundleFiles, BundleView, Pushed, Refusal, RefusalKind};
use engine_store::bundles;

use super::{ATTEMPTS, Control, store};
use crate::bundles::{Draft, are_there, hash};
use crate::shared::Shared;

impl Control {
    /// The catalog as it is now.
    ///
    /// # Errors
    /// The database can not be read.
    pub async fn catalog(&self) -> Result<std::sync::Arc<Catalog>, Refusal> {
        self.shared.catalog().await.map_err(store)
    }

    /// The bundles of the catalog, by name.
    ///
    /// # Errors
    /// The database can not be read.
    pub async fn bundles(&self) -> Result<Vec<BundleView>, Refusal> {
        let (_, stored) = bundles::all(&self.shared.pool).await.map_err(store)?;
        let mut views = Vec::new();
        if stored.iter().all(|one| one.name != "core") {
            let core = core_bundle();
            let hash = hash(&core.packed());
            views.push(BundleView { hash, built_in: true, ..view(&core) });
        }
        for one in stored {
            let folder = Folder::unpacked(&one.name, &one.files).map_err(|error| Refusal::findings(vec![*error]))?;
            let (pushed_by, pushed_at) = (Some(one.by), Some(one.at));
            views.push(BundleView { name: one.name, hash: one.hash, pushed_by, pushed_at, ..view(&folder) });
        }
        views.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(views)
    }

    /// Takes bundles into the catalog, in place of those of their names: all of them or none. Deployments stay with what
    /// they are committed with.
    ///
    /// # Errors
    /// Everything that is wrong with them, or with others because of them.
    pub async fn push_bundles(&self, pushed: &[BundleFiles], by: &str) -> Result<Pushed, Refusal> {
        self.push_folders(&folders(pushed)?, &[], by).await
    }

    /// Takes a bundle out of the catalog. Without a pushed one of its name, `core` is what is compiled in.
    ///
    /// # Errors
    /// There is no such bundle, or others need what is in it.
    pub async fn remove_bundle(&self, name: &str, by: &str) -> Result<Pushed, Refusal> {
        let (_, stored) = bundles::all(&self.shared.pool).await.map_err(store)?;
        if stored.iter().all(|one| one.name != name) {
            let message = format!("no bundle `{name}` was pushed");
            return Err(Refusal::new(RefusalKind::NotFound, "unknown-bundle", message));
        }
        self.push_folders(&[], &[name.to_owned()], by).await
    }

    pub(crate) async fn push_folders(
        &self,
        pushed: &[Folder],
        removed: &[String],
        by: &str,
    ) -> Result<Pushed, Refusal> {
        // An engine that starts with what others have pushed checks nothing again.
        if removed.is_empty() && are_there(&self.shared.pool, pushed).await.map_err(store)? {
            return Ok(Pushed::default());
        }
        for _ in 0..ATTEMPTS {
            let before = self.catalog().await?;
            let draft = Draft::new(&self.shared.pool, pushed, removed).await.map_err(store)?;
            if draft.diagnostics.iter().any(Diagnostic::is_error) {
                return Err(Refusal::findings(draft.diagnostics));
            }
            if draft.is_same() || draft.put(&self.shared.pool, &self.shared.bundles, by).await.map_err(store)? {
                let changes = diff::changes(&before, &draft.catalog);
                return Ok(Pushed { bundles: draft.names(), changes, warnings: draft.diagnostics });
            }
        }
        let message = "others keep changing the catalog; nothing was changed";
        Err(Refusal::new(RefusalKind::Conflict, "catalog-moved", message))
    }

    /// What pushing these bundles would change, and which deployments are committed with other contents than the catalog
    /// would have then; without bundles, than it has now.
    ///
    /// # Errors
    /// Everything that is wrong with the bundles.
    pub async fn diff_bundles(&self, pushed: &[BundleFiles]) -> Result<BundleDiff, Refusal> {
        let before = self.catalog().await?;
        let after = match pushed {
            [] => std::sync::Arc::clone(&before),
            _ => {
                let draft = Draft::new(&self.shared.pool, &folders(pushed)?, &[]).await.map_err(store)?;
                if draft.diagnostics.iter().any(Diagnostic::is_error) {
                    return Err(Refusal::findings(draft.diagnostics));
                }
                draft.catalog
            }
        };
        let (behind, up_to_date) = behind(&self.shared, &after).await?;
        Ok(BundleDiff { changes: diff::changes(&before, &after), behind, up_to_date })
    }
}

fn folders(pushed: &[BundleFiles]) -> Result<Vec<Folder>, Refusal> {
    let read = pushed.iter().map(|one| Folder::unpacked(&one.path, &one.files));
    read.collect::<Result<_, _>>().map_err(|error| Refusal::findings(vec![*error]))
}

fn view(folder: &Folder) -> BundleView {
    let manifest = folder.manifest();
    let text = |text: Option<&String>| text.cloned().unwrap_or_default();
    BundleView {
        name: text(manifest.as_ref().map(|manifest| &manifest.bundle)),
        version: text(manifest.as_ref().map(|manifest| &manifest.version)),
        about: text(manifest.as_ref().map(|manifest| &manifest.about)),
        hash: String::new(),
        roles: folder.count("roles"),
        workloads: folder.count("workloads"),
        built_in: false,
        pushed_by: None,
        pushed_at: None,
    }
}

/// Deployments that are committed with other contents than a catalog has, and how many are not.
async fn behind(shared: &Shared, catalog: &Catalog) -> Result<(Vec<Behind>, usize), Refusal> {
    let committed = bundles::committed(&shared.pool).await.map_err(store)?;
    let current: BTreeSet<String> = catalog.roles.values().map(diff::hash).collect();
    let used = committed.iter().flat_map(|one| one.contents.values()).filter(|hash| !current.contains(*hash));
    let used: BTreeSet<String> = used.cloned().collect();
    let old = bundles::roles(&shared.pool, &used.into_iter().collect::<Vec<_>>()).await.map_err(store)?;
    let all = committed.len();
    let mut behind = Vec::new();
    for one in committed {
        let others = one.contents.iter().filter_map(|(role, hash)| Some((role, old.get(hash)?)));
        let roles = diff::upgrades(others, &catalog.roles);
        if !roles.is_empty() {
            behind.push(Behind { deployment: one.deployment, workload: one.workload, roles });
        }
    }
    let up_to_date = all - behind.len();
    Ok((behind, up_to_date))
}

/// Roles of a deployment that a commit moves to other ones of the catalog.
pub(super) async fn upgrades(
    shared: &Shared,
    committed: &BTreeMap<RoleName, String>,
    wanted: &BTreeMap<RoleName, CatalogRole>,
) -> Result<Vec<Upgrade>, Refusal> {
    let moved = wanted.iter().filter_map(|(name, role)| {
        let hash = committed.get(name)?;
        (diff::hash(role) != *hash).then(|| (name, hash.clone()))
    });
    let moved: BTreeMap<&RoleName, String> = moved.collect();
    let hashes: Vec<String> = moved.values().cloned().collect();
    let old = bundles::roles(&shared.pool, &hashes).await.map_err(store)?;
    let others = moved.iter().filter_map(|(role, hash)| Some((*role, old.get(hash)?)));
    let offered = wanted.values().map(|role| (role.doc.role.clone(), role.clone())).collect();
    Ok(diff::upgrades(others, &offered))
}
