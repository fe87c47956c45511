//! Moves the data to a newer major version of Postgres, by dump and restore; the old data stay beside the new.
//!
//! The new cluster is made in `moving/`, and named `cluster.moved` once it is complete and closed. Only then the old
//! one steps aside as `cluster-VERSION` and the new one takes its place. If we die between the two renames, the next
//! start finishes the second; if we die before them, the old data are used and the half-made new ones are thrown away.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::{
    Embedded, EmbeddedConfig, EmbeddedError, Stopped,
    binaries::{self, Binaries},
    cluster::{self, Layout},
};
use crate::{StoreError, backup};

/// What [`upgrade`] did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Upgraded {
    /// The major version before.
    pub from: u32,
    /// The major version now.
    pub to: u32,
    /// Where the old data are; to be removed by a person who has seen that all is well.
    pub old_data: PathBuf,
}

/// Moves the data of a directory to the newest installed version, or to the one in `to`. No engine may use them.
///
/// Nothing is done, and `None` returned, if they are of that version already.
pub async fn upgrade(config: EmbeddedConfig, to: Option<&Path>) -> Result<Option<Upgraded>, StoreError> {
    let named = to.or(config.binaries.as_deref());
    let newest = binaries::all(named)?.pop().expect("a list of binaries is never empty");
    rebuild(config, &newest, false).await
}

/// Makes the data anew with these programs, `always` or only if they are newer than the data.
async fn rebuild(config: EmbeddedConfig, newest: &Binaries, always: bool) -> Result<Option<Upgraded>, StoreError> {
    let old = Embedded::start(config.clone()).await?;
    let base = old.layout.base.clone();
    let outcome = fill(&old, &config, newest, always).await;
    let stopped = old.stop().await?;
    let Some(from) = outcome? else { return Ok(None) };
    if stopped == Stopped::LeftToOthers {
        return Err(backup::BackupError::InUse { target: format!("the database in {}", base.display()) }.into());
    }
    let layout = Layout::open(&base)?;
    let old_data = free_name(&base, from);
    cluster::move_into(&base.join("moving/cluster"), &moved(&layout))?;
    cluster::move_into(&layout.cluster, &old_data)?;
    cluster::move_into(&moved(&layout), &layout.cluster)?;
    remove(&base.join("moving"))?;
    Ok(Some(Upgraded { from, to: newest.major, old_data }))
}

/// Makes a complete copy in `moving/`, by the programs of the newer version. Returns the version of the old data.
async fn fill(
    old: &Embedded,
    config: &EmbeddedConfig,
    newest: &Binaries,
    always: bool,
) -> Result<Option<u32>, StoreError> {
    let from = old.binaries.major;
    if from == newest.major && !always {
        return Ok(None);
    }
    if from > newest.major {
        let directory = old.layout.cluster.clone();
        return Err(EmbeddedError::Newer { directory, data: from, newest: newest.major }.into());
    }
    let moving = old.layout.base.join("moving");
    remove(&moving)?;
    let new = EmbeddedConfig {
        data_dir: moving.clone(),
        run_as: Some(old.account.name.clone()),
        binaries: Some(newest.directory.clone()),
        ..config.clone()
    };
    let new = Embedded::start(new).await?;
    let copied = backup::copy(&old.target(), &new.target(), &newest.directory, &moving).await;
    new.stop().await?;
    copied?;
    Ok(Some(from))
}

/// Ends a move that was interrupted. To be called in one's turn, before the data are looked at.
pub(super) fn finish(layout: &Layout) -> Result<(), EmbeddedError> {
    let moved = moved(layout);
    if !moved.exists() {
        return Ok(());
    }
    if layout.cluster.exists() {
        // The old data never stepped aside and may have changed since.
        return remove(&moved);
    }
    tracing::warn!(directory = %layout.cluster.display(), "finishing a move to a newer Postgres that was interrupted");
    cluster::move_into(&moved, &layout.cluster)
}

fn moved(layout: &Layout) -> PathBuf {
    layout.cluster.with_extension("moved")
}

/// `cluster-15`, or `cluster-15.2` if a move was done before.
fn free_name(base: &Path, version: u32) -> PathBuf {
    let first = base.join(format!("cluster-{version}"));
    let more = (2..).map(|number| base.join(format!("cluster-{version}.{number}")));
    std::iter::once(first).chain(more).find(|path| !path.exists()).expect("there are endless names")
}

fn remove(directory: &Path) -> Result<(), EmbeddedError> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(EmbeddedError::io("remove", directory, error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use sqlx::Executor;

    use super::*;
    use crate::connect;

    /// Dump, restore and exchange are the same whatever the two versions are.
    #[tokio::test]
    async fn the_data_are_the_same_after_a_move_and_the_old_ones_are_kept() {
        let place = tempfile::tempdir().unwrap();
        fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let config = EmbeddedConfig::new(place.path().join("db"));
        let first = Embedded::start(config.clone()).await.unwrap();
        let mut connection = connect::connect_one(&first.target()).await.unwrap();
        connection.execute("create table kept as select generate_series(1, 100) as number").await.unwrap();
        connect::close(connection).await;
        let programs = first.binaries.clone();
        first.stop().await.unwrap();

        assert_eq!(upgrade(config.clone(), Some(&programs.directory)).await.unwrap(), None, "it is up to date");
        for name in ["cluster-15", "cluster-15.2"].map(|name| name.replace("15", &programs.major.to_string())) {
            let done = rebuild(config.clone(), &programs, true).await.unwrap().unwrap();
            assert_eq!(done.old_data, config.data_dir.join(name));
            assert_eq!(cluster::version_of(&done.old_data).unwrap(), Some(programs.major));
            assert!(!config.data_dir.join("moving").exists());
            let again = Embedded::start(config.clone()).await.unwrap();
            let mut connection = connect::connect_one(&again.target()).await.unwrap();
            let sum: i64 = sqlx::query_scalar("select sum(number) from kept").fetch_one(&mut connection).await.unwrap();
            assert_eq!(sum, 5050);
            connect::close(connection).await;
            again.stop().await.unwrap();
        }
    }

    /// With one version installed there is nothing to do; with two, such as in PATH, this is the real thing.
    #[tokio::test]
    async fn the_newest_installed_version_gets_the_data() {
        let place = tempfile::tempdir().unwrap();
        fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let installed = binaries::all(None).unwrap();
        let (oldest, newest) = (&installed[0], &installed[installed.len() - 1]);
        let mut config = EmbeddedConfig::new(place.path().join("db"));
        config.binaries = Some(oldest.directory.clone());
        let first = Embedded::start(config.clone()).await.unwrap();
        crate::migrate::run(&first.target()).await.unwrap();
        first.stop().await.unwrap();

        config.binaries = None;
        let done = upgrade(config.clone(), None).await.unwrap();
        assert_eq!(done.map(|done| done.to), (newest.major > oldest.major).then_some(newest.major));
        let again = Embedded::start(config.clone()).await.unwrap();
        let mut connection = connect::connect_one(&again.target()).await.unwrap();
        let number = connect::check_server(&again.target(), &mut connection).await.unwrap();
        assert_eq!(number / 10_000, newest.major);
        crate::migrate::check(&mut connection).await.unwrap();
        connect::close(connection).await;
        again.stop().await.unwrap();
    }
}
