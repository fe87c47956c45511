//! The throw-away Postgres of tests leaves nothing behind.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
};

use engine_store::testing::Database;
use nix::sys::signal::Signal;
use sqlx::{Executor, Row};

use crate::support::{eventually, send, state};

const ROLE: &str = "PLINTH_TEST_RUN";

#[tokio::test]
async fn fresh_databases_are_strangers_and_are_dropped() {
    let (first, second) = tokio::join!(Database::fresh(), Database::fresh());
    first.pool().execute("create table mine (number int)").await.unwrap();
    second.pool().execute("create table mine (other text)").await.unwrap();
    let name: String = first.pool().fetch_one("select current_database()").await.unwrap().get(0);
    drop(first);
    let query = sqlx::query_scalar("select exists (select from pg_database where datname = $1)").bind(name);
    let there: bool = query.fetch_one(second.pool()).await.unwrap();
    assert!(!there);
}

/// Not a test of its own: a test run that is killed.
#[tokio::test]
async fn as_a_run() {
    if std::env::var_os(ROLE).is_none() {
        return;
    }
    let database = Database::fresh().await;
    println!("\nup {}", database.url());
    std::io::stdin().read_line(&mut String::new()).unwrap();
    drop(database);
}

fn directories(temporary: &Path) -> usize {
    fs::read_dir(temporary).unwrap().count()
}

#[test]
fn a_run_that_is_killed_leaves_nothing() {
    let temporary = tempfile::Builder::new().prefix("plinth-runs-").tempdir().unwrap();
    fs::set_permissions(temporary.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let mut run = Command::new(std::env::current_exe().unwrap())
        .args(["testing::as_a_run", "--exact", "--nocapture", "--test-threads=1"])
        .env(ROLE, "1")
        .env("TMPDIR", temporary.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(run.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("up postgres://") {
        line.clear();
        assert!(output.read_line(&mut line).unwrap() > 0, "the run ended before it was up");
    }
    assert_eq!(directories(temporary.path()), 1);
    let base = fs::read_dir(temporary.path()).unwrap().next().unwrap().unwrap().path();
    let pid_file = fs::read_to_string(base.join("cluster/postmaster.pid")).unwrap();
    let server: i32 = pid_file.lines().next().unwrap().parse().unwrap();
    assert!(state(server).is_some_and(|state| state != 'Z'));
    send(i32::try_from(run.id()).unwrap(), Signal::SIGKILL);
    run.wait().unwrap();
    eventually("the server ends by itself", || matches!(state(server), None | Some('Z')));
    eventually("its directory is gone", || directories(temporary.path()) == 0);
}
