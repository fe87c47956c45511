//! Connections come back, and listeners say when they were away.

use std::time::Duration;

use engine_store::{
    connect::{self, Hint, Target},
    testing::Database,
};
use futures::StreamExt;
use sqlx::Executor;

use crate::support::DataDir;

async fn next(hints: &mut (impl futures::Stream<Item = Hint> + Unpin)) -> Hint {
    tokio::time::timeout(Duration::from_secs(30), hints.next()).await.expect("a hint within 30 s").unwrap()
}

#[tokio::test]
async fn a_listener_hears_and_says_when_it_did_not() {
    let database = Database::fresh().await;
    let mut hints = connect::listen(database.target(), &["one", "two"]);
    assert_eq!(next(&mut hints).await, Hint::Connected);
    database.pool().execute("notify two, 'hello'").await.unwrap();
    assert_eq!(next(&mut hints).await, Hint::Notified { channel: "two".to_owned(), payload: "hello".to_owned() });
    database
        .pool()
        .execute(
            "select pg_terminate_backend(pid) from pg_stat_activity
              where datname = current_database() and pid <> pg_backend_pid() and query ilike 'listen%'",
        )
        .await
        .unwrap();
    assert_eq!(next(&mut hints).await, Hint::Lost);
    assert_eq!(next(&mut hints).await, Hint::Connected);
    database.pool().execute("notify one").await.unwrap();
    assert_eq!(next(&mut hints).await, Hint::Notified { channel: "one".to_owned(), payload: String::new() });
}

#[tokio::test]
async fn a_listener_outlives_the_server() {
    let data = DataDir::new();
    let embedded = data.start().await;
    let mut hints = connect::listen(&embedded.target(), &["one"]);
    assert_eq!(next(&mut hints).await, Hint::Connected);
    crate::support::send(data.postmaster(), nix::sys::signal::Signal::SIGQUIT);
    assert_eq!(next(&mut hints).await, Hint::Lost);
    embedded.ensure().await.unwrap();
    assert_eq!(next(&mut hints).await, Hint::Connected);
    drop(hints);
    embedded.stop().await.unwrap();
}

#[tokio::test]
async fn waiting_ends_when_it_is_up_and_when_it_cannot_help() {
    let database = Database::fresh().await;
    connect::wait_until_up(database.target(), Duration::from_secs(5)).await.unwrap();
    let error = connect::wait_until_up(&database.target().database("no_such"), Duration::from_secs(5)).await;
    assert_eq!(error.unwrap_err().code(), "database-missing");
    let nowhere = Target::url("postgres://me@localhost/db?host=/nowhere").unwrap();
    let error = connect::wait_until_up(&nowhere, Duration::from_millis(300)).await.unwrap_err();
    assert_eq!((error.code(), error.is_transient()), ("database-unreachable", true));
    assert_eq!(error.to_string(), "no answer from the database db at /nowhere within 300 ms");
}

#[tokio::test]
async fn a_transaction_that_waits_for_something_else_is_ended_by_the_server() {
    let database = Database::fresh().await;
    let mut transaction = database.pool().begin().await.unwrap();
    let limit: String = sqlx::query_scalar("select current_setting('idle_in_transaction_session_timeout')")
        .fetch_one(&mut *transaction)
        .await
        .unwrap();
    assert_eq!(limit, "1min");
    transaction.execute("set local idle_in_transaction_session_timeout = '50ms'").await.unwrap();
    let error = loop {
        // Longer than the limit, for an answer in time would begin it anew.
        tokio::time::sleep(Duration::from_millis(200)).await;
        if let Err(error) = transaction.execute("select 1").await {
            break error;
        }
    };
    assert!(connect::is_transient(&error), "{error:?}");
}
