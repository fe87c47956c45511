//! Backups are complete or not there; restores are all or nothing.

use std::{fs, os::unix::fs::PermissionsExt};

use engine_store::{backup, connect::Target, migrate, testing::Database};
use sqlx::{Executor, Row};

use crate::support::DataDir;

async fn with_rows() -> Database {
    let database = Database::fresh().await;
    database.pool().execute("create table kept (number int primary key, word text)").await.unwrap();
    database.pool().execute("insert into kept select n, 'word ' || n from generate_series(1, 1000) n").await.unwrap();
    database
}

async fn digest(database: &Database) -> String {
    let row = database.pool().fetch_one("select md5(string_agg(kept::text, ',' order by number)) from kept").await;
    row.unwrap().get(0)
}

#[tokio::test]
async fn a_backup_comes_back_as_it_was() {
    let (source, target) = (with_rows().await, Database::empty().await);
    // One of this server's own transaction, one of a server that had counted further.
    let events = "insert into event (tx, at, kind, principal, detail)
        values (default, now(), 'near', 'test', '{}'), ('4000000000', now(), 'far', 'test', '{}')";
    source.pool().execute(events).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("plinth.backup");
    fs::write(&file, "an older backup").unwrap();
    let written = backup::backup(source.target(), &file, None).await.unwrap();
    assert_eq!(written.schema, migrate::known());
    assert_eq!(written.bytes, fs::metadata(&file).unwrap().len());
    let mode = fs::metadata(&file).unwrap().permissions().mode() & 0o777;
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "no partial file is left");
    assert_eq!(mode, 0o600);

    let read = backup::restore(target.target(), &file, None).await.unwrap();
    assert_eq!(read, written);
    assert_eq!(digest(&target).await, digest(&source).await);
    let events = "select count(*) from event where tx < pg_snapshot_xmin(pg_current_snapshot())";
    let visible: i64 = sqlx::query_scalar(events).fetch_one(target.pool()).await.unwrap();
    assert_eq!(visible, 2, "no event waits for a transaction of another server");
    let migrated = migrate::run(target.target()).await.unwrap();
    assert_eq!(migrated.from, migrated.to, "nothing is left to migrate");

    let error = backup::restore(target.target(), &file, None).await.unwrap_err();
    assert_eq!(error.code(), "restore-not-empty");
}

#[tokio::test]
async fn a_damaged_file_is_refused_and_the_database_stays_empty() {
    let (source, target) = (with_rows().await, Database::empty().await);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("plinth.backup");
    backup::backup(source.target(), &file, None).await.unwrap();
    let whole = fs::read(&file).unwrap();
    fs::write(&file, "not a backup at all").unwrap();
    assert_eq!(backup::restore(target.target(), &file, None).await.unwrap_err().code(), "backup-unreadable");
    fs::write(&file, &whole[..whole.len() - whole.len() / 4]).unwrap();
    let error = backup::restore(target.target(), &file, None).await.unwrap_err();
    assert!(["backup-unreadable", "backup-failed"].contains(&error.code()), "{error:?}");
    fs::write(&file, whole).unwrap();
    backup::restore(target.target(), &file, None).await.unwrap();
    assert_eq!(digest(&target).await, digest(&source).await);
    let missing = directory.path().join("no-such-file");
    assert_eq!(backup::restore(target.target(), &missing, None).await.unwrap_err().code(), "backup-io");
}

#[tokio::test]
async fn a_backup_of_a_newer_plinth_is_refused_before_anything_is_written() {
    let (source, target) = (with_rows().await, Database::empty().await);
    source
        .pool()
        .execute("insert into _sqlx_migrations values (9000, 'from the future', now(), true, '', 0)")
        .await
        .unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("plinth.backup");
    backup::backup(source.target(), &file, None).await.unwrap();
    assert_eq!(backup::restore(target.target(), &file, None).await.unwrap_err().code(), "schema-newer");
    let row = target.pool().fetch_one("select count(*) from pg_tables where schemaname = 'public'").await.unwrap();
    assert_eq!(row.get::<i64, _>(0), 0);
}

#[tokio::test]
async fn a_move_waits_for_engines_to_stop_and_takes_everything_along() {
    let (source, data) = (with_rows().await, DataDir::new());
    let embedded = data.start().await;
    let scratch = tempfile::tempdir().unwrap();
    let error = backup::move_between(source.target(), &embedded.target(), None, scratch.path()).await.unwrap_err();
    assert_eq!(error.code(), "database-in-use", "the pool of the test is an engine to it");
    source.pool().close().await;
    backup::move_between(source.target(), &embedded.target(), None, scratch.path()).await.unwrap();
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0);
    let moved = Target::url(&embedded.url()).unwrap();
    let mut connection = engine_store::connect::connect_one(&moved).await.unwrap();
    let rows: i64 = sqlx::query_scalar("select count(*) from kept").fetch_one(&mut connection).await.unwrap();
    assert_eq!(rows, 1000);
    drop(connection);
    embedded.stop().await.unwrap();
}
