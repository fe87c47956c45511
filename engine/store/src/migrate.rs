//! Brings the tables to what this binary knows, and refuses to work with tables that it can not work with.
//!
//! Migrations are the files `migrations/NNNN_name.sql`: append-only, each in a transaction of its own, each with rows
//! to try it on in `migrations/data/NNNN.sql`. If we die in one of them, the database is as it was before it, and the
//! next start goes on from there. Engines that start at the same moment take turns by an advisory lock.
//!
//! A migration expands, and engines that do not know it go on working; or it contracts, and says in its first line
//! which migration an engine must know to go on (`-- contract 7: …`). It is not applied while an engine that does not
//! know that one works on the database, and such an engine does not start afterwards.

use std::collections::BTreeMap;

use sqlx::migrate::{Migration, Migrator};
use sqlx::{PgConnection, migrate::MigrateError};

use crate::{
    StoreError,
    connect::{self, Target},
    error::doing,
};

/// Every migration that this binary knows.
pub static MIGRATOR: Migrator = sqlx::migrate!("../../migrations");

/// The version of this binary.
const OURS: &str = env!("CARGO_PKG_VERSION");

/// What [`run`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migrated {
    /// The newest migration before, 0 for an empty database.
    pub from: i64,
    /// The newest migration now.
    pub to: i64,
}

/// Held by who brings tables up to date, and shared by engines while they register: so none comes in between.
const UPGRADE: i64 = 0x706c_696e_7468;

/// The newest migration of this binary.
pub fn known() -> i64 {
    newest(&MIGRATOR)
}

fn newest(migrator: &Migrator) -> i64 {
    migrator.iter().map(|migration| migration.version).max().unwrap_or_default()
}

/// Applies the migrations that the database does not have yet; a few milliseconds if there are none.
///
/// # Errors
/// Also [`StoreError::EngineOlder`], if an engine works on it that could not go on; nothing was changed then.
pub async fn run(target: &Target) -> Result<Migrated, StoreError> {
    run_these(target, &MIGRATOR).await
}

/// The same for a binary that knows these migrations.
pub async fn run_these(target: &Target, migrator: &Migrator) -> Result<Migrated, StoreError> {
    // A connection of its own: the migrator keeps its lock when it fails, and the lock goes with the connection.
    let mut connection = connect::connect_one(target).await?;
    let before = match check_these(&mut connection, migrator).await {
        Ok(found) => return Ok(Migrated { from: found, to: found }),
        Err(StoreError::SchemaOlder { found, .. }) => found,
        Err(error) => return Err(error),
    };
    sqlx::query("select pg_advisory_lock($1)")
        .bind(UPGRADE)
        .execute(&mut connection)
        .await
        .map_err(doing("waiting for engines that start"))?;
    if let Some(least) = migrator.iter().filter(|one| one.version > before).filter_map(contracts).max()
        && before > 0
    {
        no_engine_below(&mut connection, least).await?;
    }
    migrator.run(&mut connection).await.map_err(refused)?;
    sign(&mut connection).await?;
    connect::close(connection).await;
    Ok(Migrated { from: before, to: newest(migrator) })
}

/// What an engine must know after this migration, if it contracts: the number in its first line `-- contract N: …`.
pub fn contracts(migration: &Migration) -> Option<i64> {
    let first = migration.sql.as_str().lines().next()?;
    first.strip_prefix("-- contract ")?.split(':').next()?.parse().ok()
}

/// Can a binary with our migrations work with these tables? Cheap enough to be asked now and then by a running engine.
/// Says which is the newest that was applied; it may be newer than what we know.
pub async fn check(connection: &mut PgConnection) -> Result<i64, StoreError> {
    check_these(connection, &MIGRATOR).await
}

/// The same for a binary that knows these migrations.
pub async fn check_these(connection: &mut PgConnection, migrator: &Migrator) -> Result<i64, StoreError> {
    let applied = applied(connection).await?;
    let known: BTreeMap<i64, &[u8]> =
        migrator.iter().map(|migration| (migration.version, migration.checksum.as_ref())).collect();
    let found = applied.keys().next_back().copied().unwrap_or_default();
    if applied.keys().any(|version| !known.contains_key(version)) {
        let least = least(connection).await?;
        if least > newest(migrator) {
            let writer = writer(connection).await?;
            return Err(newer(found, writer, least));
        }
    }
    let other = |(version, sum): &(&i64, &&[u8])| applied.get(version).is_some_and(|applied| applied != *sum);
    if let Some((version, _)) = known.iter().find(other) {
        return Err(StoreError::SchemaChanged { version: *version });
    }
    if known.keys().any(|version| !applied.contains_key(version)) {
        return Err(StoreError::SchemaOlder { found, known: newest(migrator) });
    }
    Ok(found)
}

/// Waits for who brings the tables up to date, keeps them from it until the end of the transaction, and says whether we
/// can work with them.
pub(crate) async fn enter(transaction: &mut PgConnection) -> Result<(), StoreError> {
    sqlx::query("select pg_advisory_xact_lock_shared($1)")
        .bind(UPGRADE)
        .execute(&mut *transaction)
        .await
        .map_err(doing("waiting for a migration"))?;
    check(transaction).await.map(drop)
}

/// Makes sure that no engine works that does not know this migration. Those whose lease ran out are struck off: when they
/// come back, they register anew, and are refused.
///
/// What is asked here must be so in every schema that an upgrade can begin from.
async fn no_engine_below(connection: &mut PgConnection, least: i64) -> Result<(), StoreError> {
    let failed = || doing("looking for engines that are too old");
    sqlx::query("delete from engine where knows < $1 and lease_until < clock_timestamp()")
        .bind(least)
        .execute(&mut *connection)
        .await
        .map_err(failed())?;
    for free in [
        "update job set engine_id = null where finished_at is null and engine_id is not null
                and not exists (select from engine e where e.engine_id = job.engine_id)",
        "update node set engine_id = null, next_try_at = null where engine_id is not null
                and not exists (select from engine e where e.engine_id = node.engine_id)",
    ] {
        sqlx::query(free).execute(&mut *connection).await.map_err(failed())?;
    }
    let older: Option<(String, String, i64)> =
        sqlx::query_as("select version, host, knows from engine where knows < $1 order by started_at limit 1")
            .bind(least)
            .fetch_optional(&mut *connection)
            .await
            .map_err(failed())?;
    match older {
        None => Ok(()),
        Some((version, host, knows)) => Err(StoreError::EngineOlder { version, host, knows, least }),
    }
}

/// What an engine must know to work with these tables.
async fn least(connection: &mut PgConnection) -> Result<i64, StoreError> {
    sqlx::query_scalar("select least from compatibility")
        .fetch_one(connection)
        .await
        .map_err(doing("reading what the schema asks for"))
}

/// The error for tables that a newer plinth wrote.
pub(crate) fn newer(found: i64, writer: String, least: i64) -> StoreError {
    StoreError::SchemaNewer { found, writer, least, known: known(), ours: OURS }
}

/// Versions and checksums of what was applied to this database; none if it is empty.
async fn applied(connection: &mut PgConnection) -> Result<BTreeMap<i64, Vec<u8>>, StoreError> {
    let rows: Result<Vec<(i64, Vec<u8>)>, _> =
        sqlx::query_as("select version, checksum from _sqlx_migrations where success").fetch_all(connection).await;
    match rows {
        Ok(rows) => Ok(rows.into_iter().collect()),
        // undefined_table: nothing was ever applied
        Err(sqlx::Error::Database(answer)) if answer.code().as_deref() == Some("42P01") => Ok(BTreeMap::new()),
        Err(source) => Err(StoreError::Database { doing: "reading the version of the schema", source }),
    }
}

/// Leaves our name at the table of migrations, for the message of an older plinth that meets it.
async fn sign(connection: &mut PgConnection) -> Result<(), StoreError> {
    sqlx::query(concat!("comment on table _sqlx_migrations is 'plinth ", env!("CARGO_PKG_VERSION"), "'"))
        .execute(connection)
        .await
        .map_err(|source| StoreError::Database { doing: "signing the schema", source })?;
    Ok(())
}

/// Who applied the last migration.
async fn writer(connection: &mut PgConnection) -> Result<String, StoreError> {
    let signed: Option<String> = sqlx::query_scalar("select obj_description('_sqlx_migrations'::regclass, 'pg_class')")
        .fetch_one(connection)
        .await
        .map_err(|source| StoreError::Database { doing: "reading who wrote the schema", source })?;
    Ok(signed.unwrap_or_else(|| "an unknown version of plinth".to_owned()))
}

fn refused(error: MigrateError) -> StoreError {
    match error {
        MigrateError::ExecuteMigration(source, version) => StoreError::Migration { version, source },
        MigrateError::VersionMismatch(version) => StoreError::SchemaChanged { version },
        // Another plinth was faster, and newer, between our look and our lock.
        MigrateError::VersionMissing(found) => newer(found, "another plinth".to_owned(), found),
        MigrateError::Execute(source) => StoreError::Database { doing: "migrating", source },
        other => StoreError::Database { doing: "migrating", source: sqlx::Error::Migrate(Box::new(other)) },
    }
}
