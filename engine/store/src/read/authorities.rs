//! Authorities of a deployment, and how far they are in going over to another key.

use engine_core::view::{AuthorityView, Stage};
use sqlx::PgPool;

use super::rotations::{Of, rotations};
use super::{failed, moment};
use crate::StoreError;
use crate::pki::part;

/// The authorities of a deployment that are trusted, by role and generation.
pub async fn authorities(pool: &PgPool, name: &str) -> Result<Option<Vec<AuthorityView>>, StoreError> {
    let mut tx = moment(pool).await?;
    let known =
        sqlx::query!("select deployment_id, revision from deployment where name = $1 and state <> 'gone'", name)
            .fetch_optional(&mut *tx)
            .await
            .map_err(failed("looking for a deployment"))?;
    let Some(known) = known else { return Ok(None) };
    let rows = sqlx::query!(
        "select a.authority_id, v.role, a.generation, a.state, a.certificate, a.not_after, a.issued, a.revoked_at, a.reason
         from authority a join vertex v using (vertex_id)
         where a.deployment_id = $1 and a.state <> 'gone' order by v.role, a.generation",
        known.deployment_id
    )
    .fetch_all(&mut *tx)
    .await
    .map_err(failed("reading authorities"))?;
    let of = Of { deployment: known.deployment_id, revision: known.revision };
    let moving = rotations(&mut tx, of).await?;
    let waits_for = |role: &str, state: &str| {
        let moves = moving.iter().find(|one| one.authority == role && one.stage != Stage::Retire);
        let Some(moves) = moves.filter(|_| state != "active") else { return Vec::new() };
        let paused = moves.paused.then(|| "a person who resumes it".to_owned());
        paused.into_iter().chain(moves.waits_for.clone()).collect()
    };
    let all = rows.into_iter().map(|row| AuthorityView {
        waits_for: waits_for(&row.role, &row.state),
        id: row.authority_id,
        role: row.role,
        generation: row.generation,
        state: row.state,
        not_after: row.not_after,
        certificate: row.certificate,
        issued: row.issued,
        lists: engine_core::identity::lists(name, &row.authority_id.to_string()),
        parts: part(row.issued) + 1,
        revoked_at: row.revoked_at,
        reason: row.reason,
    });
    Ok(Some(all.collect()))
}
