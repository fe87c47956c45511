//! The schema is one that this binary can work with, or it does not; and it takes nothing away from engines at work.

use std::time::Duration;

use engine_core::id::EngineId;
use engine_store::engines::{self, Registration};
use engine_store::{
    connect,
    migrate::{self, Migrated},
    testing::{Database, newer},
};
use sqlx::Executor;
use uuid::Uuid;

#[tokio::test]
async fn an_empty_database_is_brought_up_to_date_once_by_many_at_the_same_moment() {
    let database = Database::empty().await;
    let mut connection = connect::connect_one(database.target()).await.unwrap();
    if migrate::known() > 0 {
        assert_eq!(migrate::check(&mut connection).await.unwrap_err().code(), "schema-older");
    }
    let target = database.target();
    let outcomes = tokio::join!(migrate::run(target), migrate::run(target), migrate::run(target));
    for outcome in [outcomes.0, outcomes.1, outcomes.2] {
        assert_eq!(outcome.unwrap().to, migrate::known());
    }
    migrate::check(&mut connection).await.unwrap();
    let again = migrate::run(target).await.unwrap();
    assert_eq!(again, Migrated { from: migrate::known(), to: migrate::known() });
}

#[tokio::test]
async fn tables_of_a_newer_plinth_are_refused_by_name() {
    let database = Database::fresh().await;
    for statement in [
        "update compatibility set least = 8000",
        "insert into _sqlx_migrations values (9000, 'from the future', now(), true, '', 0)",
        "comment on table _sqlx_migrations is 'plinth 7.2.0'",
    ] {
        database.pool().execute(statement).await.unwrap();
    }
    let error = migrate::run(database.target()).await.unwrap_err();
    assert_eq!((error.code(), error.is_transient()), ("schema-newer", false));
    let known = migrate::known();
    let ours = env!("CARGO_PKG_VERSION");
    assert_eq!(
        error.to_string(),
        format!(
            "the database has schema 9000, written by plinth 7.2.0, which takes a plinth that knows schema 8000; this \
             is plinth {ours}, which knows schema {known} and older"
        )
    );
}

#[tokio::test]
async fn a_migration_that_was_edited_after_it_was_applied_is_refused() {
    let database = Database::fresh().await;
    database.pool().execute("update _sqlx_migrations set checksum = 'other' where version = 1").await.unwrap();
    assert_eq!(migrate::run(database.target()).await.unwrap_err().code(), "schema-changed");
}

/// Each migration has rows of its time; every later migration must keep them and find them good.
#[tokio::test]
async fn later_migrations_take_the_rows_of_each_earlier_one() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../migrations/data");
    for version in migrate::MIGRATOR.iter().map(|migration| migration.version) {
        let rows = folder.join(format!("{version:04}.sql"));
        let rows = std::fs::read_to_string(&rows).unwrap_or_else(|error| panic!("{}: {error}", rows.display()));
        let database = Database::empty().await;
        migrate::MIGRATOR.run_to(version, database.pool()).await.unwrap();
        database.pool().execute(sqlx::AssertSqlSafe(rows)).await.unwrap();
        migrate::run(database.target()).await.unwrap();
        let events: i64 = sqlx::query_scalar("select count(*) from event").fetch_one(database.pool()).await.unwrap();
        assert!(events > 0);
    }
}

/// What the next two releases of a change would bring.
const ADDS: (i64, &str) = (9001, "-- expand: pace\nalter table job add column pace text not null default 'slow';\n");
const TAKES: (i64, &str) = (
    9002,
    "-- contract 9001: progress\nalter table job drop column progress;\nupdate compatibility set least = 9001;\n",
);

fn engine(number: u128) -> Registration {
    let id = EngineId(Uuid::from_u128(number));
    Registration { id, version: "0.1.0".to_owned(), host: "here/boot".to_owned(), pid: 1, dns: Vec::new() }
}

const LEASE: Duration = Duration::from_mins(1);

#[tokio::test]
async fn what_a_newer_plinth_added_is_no_hindrance() {
    let database = Database::fresh().await;
    engines::register(database.pool(), &engine(1), LEASE).await.unwrap();
    let migrated = migrate::run_these(database.target(), &newer(&[ADDS])).await.unwrap();
    assert_eq!(migrated, Migrated { from: migrate::known(), to: 9001 });
    let mut connection = connect::connect_one(database.target()).await.unwrap();
    assert_eq!(migrate::check(&mut connection).await.unwrap(), 9001);
    assert_eq!(migrate::run(database.target()).await.unwrap(), Migrated { from: 9001, to: 9001 });
    engines::register(database.pool(), &engine(2), LEASE).await.unwrap();
    assert!(engines::renew(database.pool(), engine(1).id, LEASE).await.unwrap());
}

#[tokio::test]
async fn nothing_is_taken_away_from_an_engine_at_work_and_it_does_not_start_afterwards() {
    let database = Database::fresh().await;
    engines::register(database.pool(), &engine(1), LEASE).await.unwrap();
    let later = newer(&[ADDS, TAKES]);
    let error = migrate::run_these(database.target(), &later).await.unwrap_err();
    assert_eq!((error.code(), error.is_transient()), ("engine-too-old", false));
    let mut connection = connect::connect_one(database.target()).await.unwrap();
    assert_eq!(migrate::check(&mut connection).await.unwrap(), migrate::known(), "nothing was changed");
    // One whose lease ran out is no hindrance, and what it held is free.
    database.pool().execute("update engine set lease_until = now() - interval '1 s'").await.unwrap();
    migrate::run_these(database.target(), &later).await.unwrap();
    assert!(!engines::renew(database.pool(), engine(1).id, LEASE).await.unwrap(), "it was struck off");
    let refused = engines::register(database.pool(), &engine(1), LEASE).await.unwrap_err();
    assert_eq!(refused.code(), "schema-newer");
    assert!(refused.to_string().contains("takes a plinth that knows schema 9001"), "{refused}");
    assert_eq!(migrate::run(database.target()).await.unwrap_err().code(), "schema-newer");
    // The release between the two goes on.
    assert_eq!(migrate::check_these(&mut connection, &newer(&[ADDS])).await.unwrap(), 9002);
}
