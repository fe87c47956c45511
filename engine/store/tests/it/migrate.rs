//! The schema is exactly the one that this binary knows, or it does not work with it.

use engine_store::{
    connect,
    migrate::{self, Migrated},
    testing::Database,
};
use sqlx::Executor;

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
            "the database has schema 9000, written by plinth 7.2.0, but this is plinth {ours}, which knows schema \
             {known} and older"
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
