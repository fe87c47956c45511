//! Bundles that were pushed. They are the catalog of all engines; deployments have contents of their own and never look here.

use std::collections::BTreeMap;

use engine_core::catalog::CatalogRole;
use engine_core::graph::RoleName;
use serde_json::json;
use sqlx::PgPool;
use sqlx::types::Json;
use time::OffsetDateTime;

use crate::StoreError;
use crate::error::doing;
use crate::events;

/// A bundle that was pushed.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Digest of all its files.
    pub hash: String,
    /// Base64 of its files by path.
    pub files: Json<BTreeMap<String, String>>,
    /// Who pushed it.
    pub by: String,
    /// When.
    pub at: OffsetDateTime,
}

/// A bundle to be kept in place of the one of its name.
#[derive(Clone, Debug)]
pub struct Fresh {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Digest of all its files.
    pub hash: String,
    /// Base64 of its files by path.
    pub files: BTreeMap<String, String>,
}

/// Which catalog holds: it grows with every change.
pub async fn generation(pool: &PgPool) -> Result<i64, StoreError> {
    sqlx::query_scalar!("select generation from catalog")
        .fetch_one(pool)
        .await
        .map_err(doing("asking whether the catalog has changed"))
}

/// All bundles that were pushed, by name, with a generation that they are at least.
pub async fn all(pool: &PgPool) -> Result<(i64, Vec<Stored>), StoreError> {
    // What comes in between is newer than the generation says: it is read once more, and nothing is kept for it.
    let generation = generation(pool).await?;
    let bundles = sqlx::query_as!(
        Stored,
        r#"select name, version, hash, files as "files: Json<BTreeMap<String, String>>", pushed_by as "by", pushed_at as "at"
           from bundle order by name"#
    )
    .fetch_all(pool)
    .await
    .map_err(doing("reading the bundles"))?;
    Ok((generation, bundles))
}

/// Takes bundles in and others out, if the catalog still is the one that this was checked with; returns the new generation.
pub async fn put(
    pool: &PgPool,
    seen: i64,
    fresh: &[Fresh],
    removed: &[String],
    by: &str,
) -> Result<Option<i64>, StoreError> {
    let failed = doing("keeping bundles");
    let mut tx = pool.begin().await.map_err(&failed)?;
    let generation = sqlx::query_scalar!(
        "update catalog set generation = generation + 1 where generation = $1 returning generation",
        seen
    )
    .fetch_optional(&mut *tx)
    .await
    .map_err(&failed)?;
    let Some(generation) = generation else { return Ok(None) };
    for one in fresh {
        sqlx::query!(
            "insert into bundle (name, version, hash, files, pushed_by, pushed_at) values ($1, $2, $3, $4, $5, now())
             on conflict (name) do update set version = excluded.version, hash = excluded.hash, files = excluded.files,
                 pushed_by = excluded.pushed_by, pushed_at = excluded.pushed_at",
            one.name,
            one.version,
            one.hash,
            json!(one.files),
            by
        )
        .execute(&mut *tx)
        .await
        .map_err(&failed)?;
    }
    sqlx::query!("delete from bundle where name = any($1)", removed).execute(&mut *tx).await.map_err(&failed)?;
    let pushed = fresh
        .iter()
        .map(|one| ("bundle.pushed", json!({"bundle": one.name, "version": one.version, "hash": one.hash})));
    let removed = removed.iter().map(|name| ("bundle.removed", json!({"bundle": name})));
    for (kind, detail) in pushed.chain(removed) {
        events::write(&mut tx, kind, by, detail).await?;
    }
    tx.commit().await.map_err(&failed)?;
    Ok(Some(generation))
}

/// What deployments are committed with.
#[derive(Clone, Debug)]
pub struct Committed {
    /// The deployment.
    pub deployment: String,
    /// Its workload.
    pub workload: String,
    /// Deployment role to hash of its role.
    pub contents: BTreeMap<RoleName, String>,
}

/// What all deployments that are not gone are committed with, by name.
pub async fn committed(pool: &PgPool) -> Result<Vec<Committed>, StoreError> {
    let rows = sqlx::query!(
        r#"select d.name, d.workload, r.contents as "contents: Json<BTreeMap<RoleName, String>>"
           from deployment d join revision r on r.deployment_id = d.deployment_id and r.number = d.revision
           where d.state = 'active' order by d.name"#
    )
    .fetch_all(pool)
    .await
    .map_err(doing("reading what deployments are committed with"))?;
    let committed = rows.into_iter().map(|row| Committed {
        deployment: row.name,
        workload: row.workload,
        contents: row.contents.0,
    });
    Ok(committed.collect())
}

/// Roles as they were committed, by hash.
pub async fn roles(pool: &PgPool, hashes: &[String]) -> Result<BTreeMap<String, CatalogRole>, StoreError> {
    if hashes.is_empty() {
        return Ok(BTreeMap::new());
    }
    let rows =
        sqlx::query!(r#"select hash, body as "body: Json<CatalogRole>" from content where hash = any($1)"#, hashes)
            .fetch_all(pool)
            .await
            .map_err(doing("reading roles as they were committed"))?;
    Ok(rows.into_iter().map(|row| (row.hash, row.body.0)).collect())
}
