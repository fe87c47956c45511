//! Brings the tables to what this binary knows, and refuses to work with tables that it does not know.
//!
//! Migrations are the files `migrations/NNNN_name.sql`: append-only, each in a transaction of its own, each with rows
//! to try it on in `migrations/data/NNNN.sql`. If we die in one of them, the database is as it was before it, and the
//! next start goes on from there. Engines that start at the same moment take turns by an advisory lock.

use std::collections::BTreeMap;

use sqlx::{PgConnection, migrate::MigrateError};

use crate::{
    StoreError,
    connect::{self, Target},
};

/// Every migration that this binary knows.
pub static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!("../../migrations");

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

/// The newest migration of this binary.
pub fn known() -> i64 {
    MIGRATOR.iter().map(|migration| migration.version).max().unwrap_or_default()
}

/// Applies the migrations that the database does not have yet; a few milliseconds if there are none.
pub async fn run(target: &Target) -> Result<Migrated, StoreError> {
    // A connection of its own: the migrator keeps its lock when it fails, and the lock goes with the connection.
    let mut connection = connect::connect_one(target).await?;
    let before = match check(&mut connection).await {
        Ok(()) => return Ok(Migrated { from: known(), to: known() }),
        Err(StoreError::SchemaOlder { found, .. }) => found,
        Err(error) => return Err(error),
    };
    MIGRATOR.run(&mut connection).await.map_err(refused)?;
    sign(&mut connection).await?;
    connect::close(connection).await;
    Ok(Migrated { from: before, to: known() })
}

/// Is the schema exactly the one that this binary knows? Cheap enough to be asked now and then by a running engine.
pub async fn check(connection: &mut PgConnection) -> Result<(), StoreError> {
    let applied = applied(connection).await?;
    let known_versions: BTreeMap<i64, &[u8]> =
        MIGRATOR.iter().map(|migration| (migration.version, migration.checksum.as_ref())).collect();
    let found = applied.keys().next_back().copied().unwrap_or_default();
    if applied.keys().any(|version| !known_versions.contains_key(version)) {
        let writer = writer(connection).await?;
        return Err(newer(found, writer));
    }
    if let Some((version, _)) = applied.iter().find(|(version, sum)| known_versions[*version] != sum.as_slice()) {
        return Err(StoreError::SchemaChanged { version: *version });
    }
    if applied.len() < known_versions.len() {
        return Err(StoreError::SchemaOlder { found, known: known() });
    }
    Ok(())
}

/// The error for tables that a newer plinth wrote.
pub(crate) fn newer(found: i64, writer: String) -> StoreError {
    StoreError::SchemaNewer { found, writer, known: known(), ours: OURS }
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
        MigrateError::VersionMissing(found) => newer(found, "another plinth".to_owned()),
        MigrateError::Execute(source) => StoreError::Database { doing: "migrating", source },
        other => StoreError::Database { doing: "migrating", source: sqlx::Error::Migrate(Box::new(other)) },
    }
}
