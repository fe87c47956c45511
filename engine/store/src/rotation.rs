//! An authority goes over to another key in three stages: it is introduced (trusted beside the old one), then it signs, then
//! the old one is retired. Each is a change of its own, and the next begins only when nobody below has still to absorb it.

use std::collections::BTreeSet;

use engine_core::graph::{Graph, RoleName};
use engine_core::id::{DeploymentId, VertexId};
use engine_core::settle::Turn;
use serde_json::json;
use sqlx::PgPool;
use uuid::Uuid;

use crate::StoreError;
use crate::error::doing;
use crate::pass::{self, Locked, Revisions};
use crate::pki::Authority;

/// What came of asking for a rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begun {
    /// It has begun.
    Done,
    /// Another one has not ended.
    Moving,
    /// The authority runs, waits or leaves at the moment.
    NotAtRest,
}

/// The authority of a role of a deployment, by name: its deployment and vertex.
pub async fn find(pool: &PgPool, name: &str, role: &str) -> Result<Option<(DeploymentId, VertexId)>, StoreError> {
    let row = sqlx::query!(
        "select d.deployment_id, v.vertex_id from deployment d join vertex v using (deployment_id)
         where d.name = $1 and d.state = 'active' and v.role = $2 and not v.gone
               and exists (select from authority a where a.vertex_id = v.vertex_id and a.state = 'active')",
        name,
        role
    )
    .fetch_optional(pool)
    .await
    .map_err(doing("looking for an authority"))?;
    Ok(row.map(|row| (DeploymentId(row.deployment_id), VertexId(row.vertex_id))))
}

/// Begins: the next generation, made and sealed by the caller, is trusted from now on. If we die before the end, nothing has
/// happened.
pub async fn introduce(
    pool: &PgPool,
    (deployment, vertex): (DeploymentId, VertexId),
    made: &Authority,
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
        locked.roll_back().await?;
        return Ok(Begun::Moving);
    }
    let change = locked.next_change().await?;
    if !locked.again(vertex, change, by, known).await? {
        locked.roll_back().await?;
        return Ok(Begun::NotAtRest);
    }
    sqlx::query!(
        "insert into authority (authority_id, deployment_id, vertex_id, generation, state, change, founded_as, certificate,
                                key, not_after, job_id, made_at)
         select $1, deployment_id, vertex_id, $3, 'introduced', $4, $5, $6, $7, $8, job_id, now()
         from authority where vertex_id = $2 and state = 'active'",
        made.id,
        vertex.0,
        made.generation,
        change,
        made.founded_as,
        made.certificate,
        made.key.bytes(),
        made.not_after
    )
    .execute(&mut *locked.tx)
    .await
    .map_err(&failed)?;
    locked.told(vertex, "authority.introduced", by).await?;
    locked.commit().await?;
    Ok(Begun::Done)
}

/// Goes on with every rotation whose stage has come to its end.
pub async fn advance(pool: &PgPool, known: &Revisions) -> Result<(), StoreError> {
    let deployments =
        sqlx::query_scalar!("select distinct deployment_id from authority where state in ('introduced', 'retiring')")
            .fetch_all(pool)
            .await
            .map_err(doing("looking for rotations"))?;
    for deployment in deployments {
        let Some(mut locked) = pass::lock(pool, DeploymentId(deployment)).await? else { continue };
        if locked.advance(known).await? {
            locked.commit().await?;
        } else {
            locked.roll_back().await?;
        }
    }
    Ok(())
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
    /// The first rotation of this deployment that can go on does. `false`: none can.
    async fn advance(&mut self, known: &Revisions) -> Result<bool, StoreError> {
        let failed = doing("looking for rotations");
        let moving = sqlx::query!(
            "select a.vertex_id, a.state, a.change, v.role from authority a join vertex v using (vertex_id)
             where a.deployment_id = $1 and a.state in ('introduced', 'retiring') order by a.vertex_id",
            self.id.0
        )
        .fetch_all(&mut *self.tx)
        .await
        .map_err(&failed)?;
        for row in moving {
            let revision = self.revision(known).await?;
            let below = below(&revision.graph, &row.role);
            let held = sqlx::query_scalar!(
                r#"select exists (select from vertex where deployment_id = $1 and role = any($2) and not gone
                                         and since <= $3) as "held!""#,
                self.id.0,
                &below,
                row.change
            )
            .fetch_one(&mut *self.tx)
            .await
            .map_err(&failed)?;
            if held {
                continue;
            }
            let (vertex, change) = (VertexId(row.vertex_id), self.next_change().await?);
            if !self.again(vertex, change, "rotation", known).await? {
                continue;
            }
            if row.state == "introduced" {
                self.switch(row.vertex_id, change).await?;
                self.told(vertex, "authority.switched", "rotation").await?;
            } else {
                self.retire(row.vertex_id).await?;
                self.told(vertex, "authority.retired", "rotation").await?;
            }
            return Ok(true);
        }
        Ok(false)
    }

    async fn switch(&mut self, vertex: Uuid, change: i64) -> Result<(), StoreError> {
        let failed = doing("switching an authority");
        // One after the other: only one signs at any moment.
        sqlx::query!(
            "update authority set state = 'retiring', change = $2 where vertex_id = $1 and state = 'active'",
            vertex,
            change
        )
        .execute(&mut *self.tx)
        .await
        .map_err(&failed)?;
        sqlx::query!(
            "update authority set state = 'active', change = $2 where vertex_id = $1 and state = 'introduced'",
            vertex,
            change
        )
        .execute(&mut *self.tx)
        .await
        .map_err(&failed)?;
        Ok(())
    }

    async fn retire(&mut self, vertex: Uuid) -> Result<(), StoreError> {
        sqlx::query!(
            "update authority set state = 'gone', key = null where vertex_id = $1 and state = 'retiring'",
            vertex
        )
        .execute(&mut *self.tx)
        .await
        .map_err(doing("retiring an authority"))?;
        Ok(())
    }

    /// Lets an authority run again. `false`: it is not at rest.
    async fn again(&mut self, vertex: VertexId, change: i64, by: &str, known: &Revisions) -> Result<bool, StoreError> {
        let renew = |turn: &mut Turn<'_>| turn.hood.vertices.contains_key(&vertex) && turn.renew(vertex, change);
        self.turn_apart(&[vertex], known, by, renew).await
    }

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
