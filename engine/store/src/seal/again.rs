//! Everything that is sealed, sealed again by the newest key.

use engine_core::view::Resealed;
use sqlx::PgPool;

use super::{Place, Sealed, Sealer};
use crate::StoreError;
use crate::error::doing;

/// Rows of one statement.
const ROWS: i64 = 500;

/// Seals by the newest key what an older one sealed, and forgets the keys that seal nothing any more. May be interrupted, and done again.
pub async fn reseal(pool: &PgPool, sealer: &Sealer) -> Result<Resealed, StoreError> {
    let failed = doing("sealing again");
    let newest = sealer.newest().id;
    let mut values = 0;
    loop {
        let mut tx = pool.begin().await.map_err(&failed)?;
        let rows = sqlx::query!(
            r#"(select 'authority' as "table!", authority_id::text as "row!", 'key' as "column!", key as "sealed!" from authority
                where key is not null and substring(key from 2 for 8) <> $1 limit $2)
               union all
               (select 'authority_request', vertex_id::text, 'key', key from authority_request
                where substring(key from 2 for 8) <> $1 limit $2)
               union all
               (select 'digest_key', 'one', 'key', key from digest_key where substring(key from 2 for 8) <> $1)
               union all
               (select 'hook', hook_id::text, 'secret', secret from hook where substring(secret from 2 for 8) <> $1 limit $2)
               union all
               (select 'secret', digest, 'value', value from secret where substring(value from 2 for 8) <> $1 limit $2)"#,
            newest.as_slice(),
            ROWS
        )
        .fetch_all(&mut *tx)
        .await
        .map_err(&failed)?;
        if rows.is_empty() {
            break;
        }
        for row in rows {
            let place = Place { table: &row.table, row: &row.row, column: &row.column };
            let before = Sealed::stored(row.sealed);
            let clear = sealer.open(&place, &before)?;
            let sealed = sealer.seal(&place, &clear);
            // Another one may have been sealed there meanwhile, by the newest key.
            let done = match row.table.as_str() {
                "authority" => {
                    sqlx::query!(
                        "update authority set key = $2 where authority_id::text = $1 and key = $3",
                        row.row,
                        sealed.bytes(),
                        before.bytes()
                    )
                    .execute(&mut *tx)
                    .await
                }
                "hook" => {
                    sqlx::query!(
                        "update hook set secret = $2 where hook_id::text = $1 and secret = $3",
                        row.row,
                        sealed.bytes(),
                        before.bytes()
                    )
                    .execute(&mut *tx)
                    .await
                }
                "authority_request" => {
                    sqlx::query!(
                        "update authority_request set key = $2 where vertex_id::text = $1 and key = $3",
                        row.row,
                        sealed.bytes(),
                        before.bytes()
                    )
                    .execute(&mut *tx)
                    .await
                }
                "digest_key" => {
                    sqlx::query!("update digest_key set key = $1 where key = $2", sealed.bytes(), before.bytes())
                        .execute(&mut *tx)
                        .await
                }
                _ => {
                    sqlx::query!(
                        "update secret set value = $2 where digest = $1 and value = $3",
                        row.row,
                        sealed.bytes(),
                        before.bytes()
                    )
                    .execute(&mut *tx)
                    .await
                }
            };
            done.map_err(&failed)?;
            values += 1;
        }
        tx.commit().await.map_err(&failed)?;
    }
    let unused = sqlx::query_scalar!("delete from seal where key_id <> $1 returning key_id", hex::encode(newest))
        .fetch_all(pool)
        .await
        .map_err(&failed)?;
    Ok(Resealed { values, unused })
}
