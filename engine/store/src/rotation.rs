//! An authority goes over to another key in three stages: it is introduced (trusted beside the old one), then it signs, then
//! the old one is retired. Each is a change of its own, and the next begins only when nobody below has still to absorb it and
//! the checks of all below have passed since.
//!
//! Until the old one is retired a person may hold it up, or take it back: then the old one signs again, and the new one is
//! retired, by the same rules.

mod proof;
mod stages;

use std::collections::BTreeSet;

use engine_core::graph::{Graph, RoleName};
use engine_core::id::{DeploymentId, VertexId};
use engine_core::request::{RevocationReason, RotationMove};
use serde_json::json;
use sqlx::PgPool;

pub(crate) use self::proof::{NAMED, probed, unabsorbed, unproven};
pub use self::stages::{Advanced, advance};

use crate::StoreError;
use crate::error::doing;
use crate::pass::{self, EVENTS, Locked, Revisions};
use crate::pki::Authority;

/// What came of asking for a rotation, or of asking something of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begun {
    /// It is so now.
    Done,
    /// Another one has not ended.
    Moving,
    /// The authority does not go over to another key, or the old one is retired already.
    Resting,
    /// The key before is revoked: there is no way but forward.
    Revoked,
    /// The authority runs, waits or leaves at the moment.
    NotAtRest,
}

/// The authority of a role of a deployment, by name: its deployment and vertex. Also one that waits for its certificate.
pub async fn find(pool: &PgPool, name: &str, role: &str) -> Result<Option<(DeploymentId, VertexId)>, StoreError> {
    let row = sqlx::query!(
        "select d.deployment_id, v.vertex_id from deployment d join vertex v using (deployment_id)
         where d.name = $1 and d.state = 'active' and v.role = $2 and not v.gone
               and (exists (select from authority a where a.vertex_id = v.vertex_id and a.state = 'active')
                    or exists (select from authority_request r where r.vertex_id = v.vertex_id))",
        name,
        role
    )
    .fetch_optional(pool)
    .await
    .map_err(doing("looking for an authority"))?;
    Ok(row.map(|row| (DeploymentId(row.deployment_id), VertexId(row.vertex_id))))
}

/// The generation that the next key of an authority is.
pub async fn next_generation(pool: &PgPool, vertex: VertexId) -> Result<i32, StoreError> {
    sqlx::query_scalar!(
        r#"select coalesce(max(generation), 0) + 1 as "next!" from authority where vertex_id = $1"#,
        vertex.0
    )
    .fetch_one(pool)
    .await
    .map_err(doing("looking for the last key of an authority"))
}

/// Begins: the next generation, made and sealed by the caller, is trusted from now on. If we die before the end, nothing has
/// happened. `revoked`: the key before is not to be relied upon; a rotation that has just begun then has no way back.
pub async fn introduce(
    pool: &PgPool,
    (deployment, vertex): (DeploymentId, VertexId),
    made: &Authority,
    revoked: Option<RevocationReason>,
    by: &str,
    known: &Revisions,
) -> Result<Begun, StoreError> {
    let Some(mut locked) = pass::lock(pool, deployment).await? else { return Ok(Begun::NotAtRest) };
    let failed = doing("introducing an authority");
    let newest = sqlx::query!(
        r#"select max(generation) as "generation!", count(*) filter (where state <> 'gone') as "live!"
           from authority where vertex_id = $1"#,
        vertex.0
    )
    .fetch_one(&mut *locked.tx)
    .await
    .map_err(&failed)?;
    if newest.live != 1 || newest.generation + 1 != made.generation {
        return match revoked {
            Some(reason) => locked.revoke_introduced(vertex, reason, by).await,
            None => {
                locked.roll_back().await?;
                Ok(Begun::Moving)
            }
        };
    }
    let change = locked.next_change().await?;
    if !locked.again(vertex, change, by, known).await? {
        locked.roll_back().await?;
        return Ok(Begun::NotAtRest);
    }
    sqlx::query!(
        "insert into authority (authority_id, deployment_id, vertex_id, generation, state, change, founded_as, certificate,
                                above, key, not_after, job_id, made_at)
         select $1, deployment_id, vertex_id, $3, 'introduced', $4, $5, $6, $7, $8, $9, job_id, now()
         from authority where vertex_id = $2 and state = 'active'",
        made.id,
        vertex.0,
        made.generation,
        change,
        made.founded_as,
        made.certificate,
        made.above,
        made.key.bytes(),
        made.not_after
    )
    .execute(&mut *locked.tx)
    .await
    .map_err(&failed)?;
    locked.told(vertex, "authority.introduced", by).await?;
    if let Some(reason) = revoked {
        locked.revoke(vertex, reason, by).await?;
    }
    locked.commit().await?;
    Ok(Begun::Done)
}

/// The key that a rotation leaves is not to be relied upon, where the other key is there already.
pub async fn revoke(
    pool: &PgPool,
    (deployment, vertex): (DeploymentId, VertexId),
    reason: RevocationReason,
    by: &str,
) -> Result<Begun, StoreError> {
    match pass::lock(pool, deployment).await? {
        Some(locked) => locked.revoke_introduced(vertex, reason, by).await,
        None => Ok(Begun::NotAtRest),
    }
}

/// Holds a rotation up, lets it go on, or takes it back. If we die before the end, nothing has happened.
pub async fn ask(
    pool: &PgPool,
    (deployment, vertex): (DeploymentId, VertexId),
    what: RotationMove,
    by: &str,
    known: &Revisions,
) -> Result<Begun, StoreError> {
    let Some(mut locked) = pass::lock(pool, deployment).await? else { return Ok(Begun::NotAtRest) };
    let done = match what {
        _ if locked.is_revoked(vertex).await? => Begun::Revoked,
        RotationMove::Pause => locked.hold(vertex, true, by).await?,
        RotationMove::Resume => locked.hold(vertex, false, by).await?,
        RotationMove::Back => locked.back(vertex, by, known).await?,
    };
    if done == Begun::Done {
        locked.notify(EVENTS).await?;
        locked.commit().await?;
    } else {
        locked.roll_back().await?;
    }
    Ok(done)
}

/// An authority, and all that may read of it by however many steps.
pub(crate) fn below(graph: &Graph, role: &str) -> Vec<RoleName> {
    let mut found = BTreeSet::from([role.to_owned()]);
    let mut last = vec![role.to_owned()];
    while let Some(next) = last.pop() {
        for (child, _) in graph.readers(&next) {
            if found.insert(child.name.clone()) {
                last.push(child.name.clone());
            }
        }
    }
    found.into_iter().collect()
}

impl Locked {
    async fn revoke_introduced(
        mut self,
        vertex: VertexId,
        reason: RevocationReason,
        by: &str,
    ) -> Result<Begun, StoreError> {
        let states = self.states(vertex).await?;
        if states == ["active", "introduced"] {
            self.revoke(vertex, reason, by).await?;
            self.notify(EVENTS).await?;
            self.commit().await?;
            return Ok(Begun::Done);
        }
        self.roll_back().await?;
        Ok(if states.len() > 1 { Begun::Moving } else { Begun::Resting })
    }

    async fn hold(&mut self, vertex: VertexId, paused: bool, by: &str) -> Result<Begun, StoreError> {
        let failed = doing("holding a rotation up");
        let held = sqlx::query_scalar!(
            "update authority set paused = $2 where vertex_id = $1 and state in ('introduced', 'retiring')
             returning generation",
            vertex.0,
            paused
        )
        .fetch_optional(&mut *self.tx)
        .await
        .map_err(failed)?;
        if held.is_none() {
            return Ok(Begun::Resting);
        }
        self.told(vertex, if paused { "authority.paused" } else { "authority.resumed" }, by).await?;
        Ok(Begun::Done)
    }

    /// Before it signs the new key is simply not trusted any more: nobody has anything of it. While both do, the old one signs
    /// again, and the new one is retired when everybody has heard.
    async fn back(&mut self, vertex: VertexId, by: &str, known: &Revisions) -> Result<Begun, StoreError> {
        let states = self.states(vertex).await?;
        let states: Vec<&str> = states.iter().map(String::as_str).collect();
        let introduced = match states.as_slice() {
            ["active", "introduced"] => true,
            ["retiring", "active"] => false,
            ["active", "retiring"] => return Ok(Begun::Moving),
            _ => return Ok(Begun::Resting),
        };
        let change = self.next_change().await?;
        if !self.again(vertex, change, by, known).await? {
            return Ok(Begun::NotAtRest);
        }
        if introduced {
            self.retire(vertex, "introduced", change).await?;
        } else {
            self.switch(vertex, "retiring", change).await?;
        }
        self.told(vertex, "authority.taken-back", by).await?;
        Ok(Begun::Done)
    }

    /// States of all generations that are trusted, oldest first.
    async fn states(&mut self, vertex: VertexId) -> Result<Vec<String>, StoreError> {
        sqlx::query_scalar!(
            "select state from authority where vertex_id = $1 and state <> 'gone' order by generation",
            vertex.0
        )
        .fetch_all(&mut *self.tx)
        .await
        .map_err(doing("looking at a rotation"))
    }

    async fn is_revoked(&mut self, vertex: VertexId) -> Result<bool, StoreError> {
        sqlx::query_scalar!(
            r#"select exists (select from authority where vertex_id = $1 and state <> 'gone' and revoked_at is not null) as "is!""#,
            vertex.0
        )
        .fetch_one(&mut *self.tx)
        .await
        .map_err(doing("looking at a rotation"))
    }

    /// The key that signs is not to be relied upon. One row, however much it has signed.
    async fn revoke(&mut self, vertex: VertexId, reason: RevocationReason, by: &str) -> Result<(), StoreError> {
        sqlx::query!(
            "update authority set revoked_at = now(), reason = $2
             where vertex_id = $1 and state = 'active' and revoked_at is null",
            vertex.0,
            reason.as_str()
        )
        .execute(&mut *self.tx)
        .await
        .map_err(doing("revoking an authority"))?;
        sqlx::query!("update authority set paused = false where vertex_id = $1 and state = 'introduced'", vertex.0)
            .execute(&mut *self.tx)
            .await
            .map_err(doing("revoking an authority"))?;
        self.told(vertex, "authority.revoked", by).await
    }

    /// Says what became of the keys of an authority.
    async fn told(&mut self, vertex: VertexId, kind: &str, by: &str) -> Result<(), StoreError> {
        sqlx::query!(
            "insert into event (at, kind, deployment_id, vertex_id, principal, detail)
             values (clock_timestamp(), $1, $2, $3, $4, $5)",
            kind,
            self.id.0,
            vertex.0,
            by,
            json!({})
        )
        .execute(&mut *self.tx)
        .await
        .map_err(doing("telling of a rotation"))?;
        Ok(())
    }
}
