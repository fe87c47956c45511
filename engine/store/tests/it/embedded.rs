//! Whatever was killed, the next start works, and what was committed is there.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    time::{Duration, Instant},
};

use engine_store::{
    connect,
    embedded::{self, Embedded, EmbeddedConfig, Ensured, Stopped, binaries},
};
use nix::{sys::signal::Signal, unistd::Uid};
use sqlx::{Connection, Executor, PgConnection, Row};

use crate::support::{DataDir, Other, eventually, send, state};

async fn connection(embedded: &Embedded) -> PgConnection {
    connect::connect_one(&embedded.target()).await.unwrap()
}

async fn remember(embedded: &Embedded, number: i32) {
    let mut connection = connection(embedded).await;
    connection.execute("create table if not exists remembered (number int)").await.unwrap();
    sqlx::query("insert into remembered values ($1)").bind(number).execute(&mut connection).await.unwrap();
    // Dropped without a good-bye, as by a process that dies.
}

async fn remembered(embedded: &Embedded) -> Vec<i32> {
    let mut connection = connection(embedded).await;
    let rows = connection.fetch_all("select number from remembered order by number").await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

async fn code(config: EmbeddedConfig) -> (&'static str, String) {
    let error = Embedded::start(config).await.unwrap_err();
    (error.code(), error.to_string())
}

#[tokio::test]
async fn a_new_one_is_durable_private_and_stops_and_starts_again_fast() {
    let data = DataDir::new();
    let first = data.start().await;
    let mut connection = connection(&first).await;
    for (name, value) in [
        ("fsync", "on"),
        ("synchronous_commit", "on"),
        ("full_page_writes", "on"),
        ("data_checksums", "on"),
        ("listen_addresses", ""),
        ("server_encoding", "UTF8"),
        ("lc_collate", "C"),
        ("TimeZone", "UTC"),
    ] {
        let row = sqlx::query("select current_setting($1)").bind(name).fetch_one(&mut connection).await.unwrap();
        assert_eq!(row.get::<String, _>(0), value, "{name}");
    }
    drop(connection);
    let socket = first.target().options().get_socket().unwrap().clone();
    assert_eq!(fs::metadata(&socket).unwrap().mode() & 0o777, 0o700);
    assert_eq!(fs::metadata(data.cluster()).unwrap().mode() & 0o777, 0o700);
    let process = fs::metadata(format!("/proc/{}", data.postmaster())).unwrap();
    assert_ne!(process.uid(), 0, "Postgres must not run as root");
    remember(&first, 1).await;
    assert_eq!(first.stop().await.unwrap(), Stopped::Ended);
    assert_eq!(first.stop().await.unwrap(), Stopped::Ended);
    assert!(!data.cluster().join("postmaster.pid").exists());
    assert_eq!(first.ensure().await.unwrap_err().code(), "postgres-stopped");

    let start = Instant::now();
    let second = data.start().await;
    let took = start.elapsed();
    println!("start with existing data: {} ms", took.as_millis());
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_eq!(remembered(&second).await, [1]);
    let status = second.status().unwrap();
    assert_eq!((status.state, status.pid), ("ready", Some(data.postmaster())));
    drop(second);
    assert_eq!(embedded::status(&data.config()).unwrap().state, "stopped", "a drop ends it too");
}

#[tokio::test]
async fn a_killed_server_is_started_again_and_the_pool_heals() {
    let data = DataDir::new();
    let embedded = data.start().await;
    let pool = connect::connect(&embedded.target(), 4).await.unwrap();
    remember(&embedded, 1).await;
    assert_eq!(embedded.ensure().await.unwrap(), Ensured::Running);
    let killed = data.postmaster();
    send(killed, Signal::SIGKILL);
    assert_eq!(embedded.ensure().await.unwrap(), Ensured::Started);
    assert_ne!(data.postmaster(), killed);
    assert_eq!(state(killed), None, "our own child was waited for");
    // At most the connections that were open fail, each once and transiently.
    let mut failures = 0;
    while let Err(error) = connect::ping(&pool).await {
        assert!(error.is_transient(), "{error:?}");
        failures += 1;
        assert!(failures <= 4);
    }
    assert_eq!(remembered(&embedded).await, [1]);
    pool.close().await;
    embedded.stop().await.unwrap();
}

#[tokio::test]
async fn an_orphan_is_adopted() {
    let data = DataDir::new();
    let engine = Other::start(&data);
    let orphan = data.postmaster();
    engine.kill();
    let next = data.start().await;
    assert_eq!(data.postmaster(), orphan, "the same process goes on");
    remember(&next, 1).await;
    assert_eq!(next.stop().await.unwrap(), Stopped::Ended);
    eventually("the adopted server ends", || matches!(state(orphan), None | Some('Z')));
    assert_eq!(embedded::status(&data.config()).unwrap().state, "stopped");
}

#[tokio::test]
async fn an_orphan_that_hangs_is_replaced() {
    let data = DataDir::new();
    let engine = Other::start(&data);
    let orphan = data.postmaster();
    engine.kill();
    send(orphan, Signal::SIGSTOP);
    let config = EmbeddedConfig { start_within: Duration::from_secs(15), ..data.config() };
    let next = Embedded::start(config).await.unwrap();
    assert_ne!(data.postmaster(), orphan);
    remember(&next, 1).await;
    next.stop().await.unwrap();
}

#[tokio::test]
async fn a_zombie_does_not_block_the_start() {
    let data = DataDir::new();
    let engine = Other::start(&data);
    let dead = data.postmaster();
    // Its parent cannot wait for it: a zombie, as real as it gets.
    engine.signal(Signal::SIGSTOP);
    send(dead, Signal::SIGKILL);
    eventually("the server is a zombie", || state(dead) == Some('Z'));
    assert_eq!(data.postmaster(), dead, "its pid file is still there");
    let status = embedded::status(&data.config()).unwrap();
    assert_eq!(status.state, "crashed");

    let next = data.start().await;
    assert_eq!(state(dead), Some('Z'), "it was still there while we started");
    assert_ne!(data.postmaster(), dead);
    remember(&next, 1).await;
    engine.signal(Signal::SIGCONT);
    engine.kill();
    assert_eq!(next.stop().await.unwrap(), Stopped::Ended);
}

#[tokio::test]
async fn a_pid_file_that_names_a_stranger_does_not_block_the_start() {
    let data = DataDir::new();
    let first = data.start().await;
    remember(&first, 1).await;
    first.stop().await.unwrap();
    // A process of the same account, for Postgres itself would take that for a running server.
    let owner = fs::metadata(data.cluster()).unwrap();
    let mut stranger = std::process::Command::new("sleep");
    std::os::unix::process::CommandExt::uid(&mut stranger, owner.uid());
    let mut stranger = stranger.arg("600").spawn().unwrap();
    let pid_file = data.cluster().join("postmaster.pid");
    fs::write(&pid_file, format!("{}\n{}\n0\n5432\n\n\n\nready\n", stranger.id(), data.cluster().display())).unwrap();
    let next = data.start().await;
    assert_eq!(remembered(&next).await, [1]);
    assert!(stranger.try_wait().unwrap().is_none(), "the stranger was left alone");
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    next.stop().await.unwrap();
}

#[tokio::test]
async fn two_engines_share_it_and_the_last_one_ends_it() {
    let data = DataDir::new();
    let first = Other::start(&data);
    let server = data.postmaster();
    let second = data.start().await;
    assert_eq!(data.postmaster(), server);
    assert_eq!(first.stop(), Stopped::LeftToOthers);
    assert_eq!(second.ensure().await.unwrap(), Ensured::Running);
    remember(&second, 1).await;
    assert_eq!(second.stop().await.unwrap(), Stopped::Ended);
    assert_eq!(embedded::status(&data.config()).unwrap().state, "stopped");
}

#[tokio::test]
async fn when_the_server_dies_with_its_engine_the_other_engine_starts_it() {
    let data = DataDir::new();
    let first = Other::start(&data);
    let second = data.start().await;
    remember(&second, 1).await;
    let server = data.postmaster();
    first.kill();
    send(server, Signal::SIGKILL);
    assert_eq!(second.ensure().await.unwrap(), Ensured::Started);
    assert_eq!(remembered(&second).await, [1]);
    assert_eq!(second.stop().await.unwrap(), Stopped::Ended);
}

#[tokio::test]
async fn two_starts_at_once_make_one_server() {
    let data = DataDir::new();
    let (first, second) = tokio::join!(data.start(), data.start());
    assert_eq!(first.url(), second.url());
    assert_eq!(first.stop().await.unwrap(), Stopped::LeftToOthers);
    assert_eq!(second.stop().await.unwrap(), Stopped::Ended);
}

#[tokio::test]
async fn data_of_another_major_version_are_refused_and_left_alone() {
    let data = DataDir::new();
    let first = data.start().await;
    remember(&first, 1).await;
    first.stop().await.unwrap();
    let version = data.cluster().join("PG_VERSION");
    let real = fs::read_to_string(&version).unwrap();
    fs::write(&version, "99\n").unwrap();
    let (newer, message) = code(data.config()).await;
    assert_eq!(newer, "postgres-newer");
    assert!(message.contains("postgresql-99"), "{message}");
    fs::write(&version, "9\n").unwrap();
    let (older, message) = code(data.config()).await;
    assert_eq!(older, "postgres-older");
    assert!(message.contains("plinth database move"), "{message}");
    fs::write(&version, "what\n").unwrap();
    assert_eq!(code(data.config()).await.0, "data-dir-damaged");
    fs::write(&version, real).unwrap();
    let again = data.start().await;
    assert_eq!(remembered(&again).await, [1]);
    again.stop().await.unwrap();
}

#[tokio::test]
async fn a_move_that_was_interrupted_is_finished_or_forgotten() {
    let data = DataDir::new();
    let first = data.start().await;
    remember(&first, 1).await;
    first.stop().await.unwrap();
    let moved = data.path().join("cluster.moved");
    fs::rename(data.cluster(), &moved).unwrap();
    let again = data.start().await;
    assert_eq!(remembered(&again).await, [1]);
    assert!(!moved.exists());
    again.stop().await.unwrap();
    fs::create_dir(&moved).unwrap();
    let again = data.start().await;
    assert_eq!(remembered(&again).await, [1], "data that never stepped aside win");
    assert!(!moved.exists());
    again.stop().await.unwrap();
}

#[tokio::test]
async fn what_is_missing_is_named() {
    let data = DataDir::new();
    let empty = tempfile::tempdir().unwrap();
    let config = EmbeddedConfig { binaries: Some(empty.path().to_owned()), ..data.config() };
    let (missing, message) = code(config.clone()).await;
    assert_eq!(missing, "postgres-missing");
    assert!(message.contains("Debian package `postgresql`"), "{message}");
    assert_eq!(embedded::status(&config).unwrap().installed, Vec::<u32>::new());

    let config = EmbeddedConfig { run_as: Some("no-such-user".to_owned()), ..data.config() };
    assert_eq!(code(config).await.0, "postgres-account");
}

#[tokio::test]
async fn a_directory_that_postgres_cannot_enter_is_named() {
    if !Uid::effective().is_root() {
        return;
    }
    let data = DataDir::new();
    fs::create_dir_all(data.path()).unwrap();
    let home = data.path().join("home");
    fs::create_dir(&home).unwrap();
    fs::set_permissions(&home, fs::Permissions::from_mode(0o700)).unwrap();
    let (closed, message) = code(EmbeddedConfig::new(home.join("plinth"))).await;
    assert_eq!(closed, "data-dir-closed");
    assert!(message.contains(&format!("chmod o+x {}", home.display())), "{message}");
}

#[tokio::test]
async fn a_long_path_gets_a_short_socket() {
    let data = DataDir::new();
    let config = EmbeddedConfig::new(data.path().join("deep/".repeat(20)));
    let embedded = Embedded::start(config).await.unwrap();
    let socket = embedded.target().options().get_socket().unwrap().clone();
    assert!(socket.as_os_str().len() < 40, "{}", socket.display());
    remember(&embedded, 1).await;
    embedded.stop().await.unwrap();
    fs::remove_dir(&socket).unwrap();
}

#[tokio::test]
async fn a_server_that_cannot_start_says_why() {
    let data = DataDir::new();
    let first = data.start().await;
    first.stop().await.unwrap();
    fs::write(data.cluster().join("local.conf"), "shared_buffers = 'a lot'\n").unwrap();
    let (failed, message) = code(data.config()).await;
    assert_eq!(failed, "postgres-start-failed");
    assert!(message.contains("shared_buffers"), "{message}");
}

#[tokio::test]
async fn the_log_stays_small() {
    let data = DataDir::new();
    let embedded = data.start().await;
    let log = data.path().join("postgres.log");
    fs::OpenOptions::new().write(true).open(&log).unwrap().set_len(9 << 20).unwrap();
    embedded.housekeep().unwrap();
    assert_eq!(fs::metadata(&log).unwrap().len(), 0);
    assert_eq!(fs::metadata(data.path().join("postgres.log.1")).unwrap().len(), 9 << 20);
    // The server writes on at the beginning.
    let mut connection = connection(&embedded).await;
    connection.execute("no such statement").await.unwrap_err();
    eventually("a line in the log", || fs::read_to_string(&log).unwrap().contains("no such statement"));
    connection.close().await.unwrap();
    embedded.stop().await.unwrap();
}

#[test]
fn the_newest_binaries_are_found_here() {
    let found = binaries::all(None).unwrap();
    assert!(found.iter().all(|binaries| binaries.program("initdb").is_file()));
    assert!(found.is_sorted_by_key(|binaries| binaries.major));
}

#[tokio::test]
async fn errors_of_the_embedded_one_keep_their_codes() {
    let error = connect::connect_one(&connect::Target::socket("/nowhere".as_ref(), "plinth", "plinth")).await;
    let error = error.unwrap_err();
    assert_eq!((error.code(), error.is_transient()), ("database-unreachable", true));
}
