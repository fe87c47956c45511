//! A full disk: said clearly, and nothing is lost.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use engine_store::{
    backup, connect,
    embedded::{Embedded, EmbeddedConfig},
    testing::Database,
};
use nix::unistd::Uid;
use sqlx::Executor;

/// A tiny file system of its own.
struct Disk(tempfile::TempDir);

impl Disk {
    fn new(size: &str) -> Self {
        let place = tempfile::Builder::new().prefix("plinth-disk-").tempdir().unwrap();
        run(Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("mode=0755,size={size}"), "tmpfs"])
            .arg(place.path()));
        Self(place)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Leaves no room at all.
    fn fill(&self) -> PathBuf {
        let path = self.path().join("filler");
        let mut file = fs::File::create(&path).unwrap();
        let block = vec![0; 1 << 16];
        while file.write(&block).is_ok_and(|written| written > 0) {}
        path
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        run(Command::new("umount").arg("--lazy").arg(self.path()));
    }
}

fn run(command: &mut Command) {
    assert!(command.status().unwrap().success(), "{command:?}");
}

#[tokio::test]
async fn no_room_for_a_new_database() {
    if !Uid::effective().is_root() {
        return;
    }
    let disk = Disk::new("20m");
    let error = Embedded::start(EmbeddedConfig::new(disk.path().join("db"))).await.unwrap_err();
    assert_eq!(error.code(), "no-space", "{error}");
    assert!(error.to_string().contains("needs 128 MB"), "{error}");
    assert!(!disk.path().join("db/cluster").exists());
}

#[tokio::test]
async fn a_disk_that_fills_up_loses_nothing() {
    if !Uid::effective().is_root() {
        return;
    }
    let disk = Disk::new("256m");
    let config = EmbeddedConfig::new(disk.path().join("db"));
    let embedded = Embedded::start(config.clone()).await.unwrap();
    let pool = connect::connect(&embedded.target(), 2).await.unwrap();
    pool.execute("create table filling as select 1 as number").await.unwrap();
    let filler = disk.fill();
    let error = pool
        .execute("insert into filling select generate_series(1, 1000000)")
        .await
        .expect_err("there is no room for a million rows");
    assert_eq!(connect::code(&error), "no-space", "{error}");
    assert!(connect::is_transient(&error));
    pool.close().await;
    embedded.stop().await.unwrap();

    let error = Embedded::start(config.clone()).await.unwrap_err();
    assert_eq!((error.code(), error.is_transient()), ("no-space", true), "{error}");
    fs::remove_file(filler).unwrap();
    let again = Embedded::start(config).await.unwrap();
    let mut connection = connect::connect_one(&again.target()).await.unwrap();
    let rows: i64 = sqlx::query_scalar("select count(*) from filling").fetch_one(&mut connection).await.unwrap();
    assert_eq!(rows, 1);
    drop(connection);
    again.stop().await.unwrap();
}

#[tokio::test]
async fn a_backup_without_room_leaves_no_file() {
    if !Uid::effective().is_root() {
        return;
    }
    let database = Database::fresh().await;
    let disk = Disk::new("64k");
    disk.fill();
    let error = backup::backup(database.target(), &disk.path().join("full.dump"), None).await.unwrap_err();
    assert_eq!(error.code(), "no-space", "{error}");
    let names: Vec<_> = fs::read_dir(disk.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["filler"]);
}
