//! From one stage to the next: when all below have absorbed the last one, and their checks have passed since.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use engine_core::graph::{Graph, RoleName};
use engine_core::id::{DeploymentId, VertexId};
use sqlx::PgPool;
use time::OffsetDateTime;

use super::{below, probed, unproven};
use crate::StoreError;
use crate::error::doing;
use crate::pass::{self, EVENTS, Locked, Revisions};

/// What a look at all rotations came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Advanced {
    /// Some authority goes over to another key.
    pub moving: bool,
    /// Checks were asked for.
    pub asked: bool,
}

/// Goes on with every rotation whose stage has come to its end.
pub async fn advance(pool: &PgPool, known: &Revisions) -> Result<Advanced, StoreError> {
    let deployments =
        sqlx::query_scalar!("select distinct deployment_id from authority where state in ('introduced', 'retiring')")
            .fetch_all(pool)
            .await
            .map_err(doing("looking for rotations"))?;
    let mut all = Advanced { moving: !deployments.is_empty(), asked: false };
    for deployment in deployments {
        let Some(mut locked) = pass::lock(pool, DeploymentId(deployment)).await? else { continue };
        match locked.advance(known).await? {
            Some(asked) => {
                locked.commit().await?;
                all.asked |= asked;
            }
            None => locked.roll_back().await?,
        }
    }
    Ok(all)
}

struct Moving {
    vertex: VertexId,
    role: RoleName,
    state: String,
    change: i64,
    absorbed_at: Option<OffsetDateTime>,
}

impl Locked {
    /// The first rotation of this deployment that can go on does. `None`: nothing was written; else whether checks were
    /// asked for.
    async fn advance(&mut self, known: &Revisions) -> Result<Option<bool>, StoreError> {
        let (mut wrote, mut asked) = (false, false);
        for row in self.moving().await? {
            let revision = self.revision(known).await?;
            let below = below(&revision.graph, &row.role);
            if self.is_held(&below, row.change).await? {
                continue;
            }
            let since = match row.absorbed_at {
                Some(since) => since,
                None => {
                    wrote = true;
                    self.absorbed(row.vertex).await?
                }
            };
            let probed = probed(&mut self.tx, self.id.0, self.revision, &below).await?;
            let unproven = unproven(&mut self.tx, (self.id.0, self.virtual_node.0), &probed, since).await?;
            if !unproven.is_empty() {
                let ask: Vec<_> = unproven.iter().filter(|one| one.may_ask).map(|one| one.vertex).collect();
                if !ask.is_empty() {
                    self.check(&ask).await?;
                    (wrote, asked) = (true, true);
                }
                continue;
            }
            let change = self.next_change().await?;
            if !self.again(row.vertex, change, "rotation", known).await? {
                continue;
            }
            if row.state == "introduced" {
                self.switch(row.vertex, "introduced", change).await?;
                self.told(row.vertex, "authority.switched", "rotation").await?;
            } else {
                self.retire(row.vertex, "retiring", change).await?;
                self.told(row.vertex, "authority.retired", "rotation").await?;
            }
            return Ok(Some(asked));
        }
        Ok(wrote.then_some(asked))
    }

    async fn moving(&mut self) -> Result<Vec<Moving>, StoreError> {
        let rows = sqlx::query!(
            "select a.vertex_id, a.state, a.change, a.absorbed_at, v.role from authority a join vertex v using (vertex_id)
             where a.deployment_id = $1 and a.state in ('introduced', 'retiring') and not a.paused order by a.vertex_id",
            self.id.0
        )
        .fetch_all(&mut *self.tx)
        .await
        .map_err(doing("looking for rotations"))?;
        let row = rows.into_iter().map(|row| Moving {
            vertex: VertexId(row.vertex_id),
            role: row.role,
            state: row.state,
            change: row.change,
            absorbed_at: row.absorbed_at,
        });
        Ok(row.collect())
    }

    /// Has one of these still to absorb this change, or an older one?
    async fn is_held(&mut self, below: &[RoleName], change: i64) -> Result<bool, StoreError> {
        sqlx::query_scalar!(
            r#"select exists (select from vertex where deployment_id = $1 and role = any($2) and not gone
                                     and since <= $3) as "held!""#,
            self.id.0,
            below,
            change
        )
        .fetch_one(&mut *self.tx)
        .await
        .map_err(doing("looking for what holds a rotation"))
    }

    /// From now on checks prove the stage.
    async fn absorbed(&mut self, vertex: VertexId) -> Result<OffsetDateTime, StoreError> {
        let failed = doing("noting that a stage is absorbed");
        let since = sqlx::query_scalar!(
            r#"update authority set absorbed_at = clock_timestamp()
               where vertex_id = $1 and state in ('introduced', 'retiring') returning absorbed_at as "at!""#,
            vertex.0
        )
        .fetch_one(&mut *self.tx)
        .await
        .map_err(failed)?;
        self.told(vertex, "authority.absorbed", "rotation").await?;
        self.notify(EVENTS).await?;
        Ok(since)
    }

    /// Asks for checks; they repair nothing.
    async fn check(&mut self, vertices: &[uuid::Uuid]) -> Result<(), StoreError> {
        sqlx::query!(
            "insert into drift (vertex_id, deployment_id, due, again) select vertex_id, $1, true, true from unnest($2::uuid[]) as u(vertex_id)
             on conflict (vertex_id) do update set due = true, again = true",
            self.id.0,
            vertices
        )
        .execute(&mut *self.tx)
        .await
        .map_err(doing("asking for checks of a rotation"))?;
        Ok(())
    }

    /// The one that was in this state signs from now on, and the one that did is on its way out.
    pub(super) async fn switch(&mut self, vertex: VertexId, from: &str, change: i64) -> Result<(), StoreError> {
        let failed = doing("switching an authority");
        let next = sqlx::query_scalar!(
            "select authority_id from authority where vertex_id = $1 and state = $2",
            vertex.0,
            from
        )
        .fetch_one(&mut *self.tx)
        .await
        .map_err(&failed)?;
        // One after the other: only one signs at any moment.
        sqlx::query!(
            "update authority set state = 'retiring', change = $2, absorbed_at = null
             where vertex_id = $1 and state = 'active'",
            vertex.0,
            change
        )
        .execute(&mut *self.tx)
        .await
        .map_err(&failed)?;
        sqlx::query!(
            "update authority set state = 'active', change = $2, absorbed_at = null, paused = false
             where authority_id = $1",
            next,
            change
        )
        .execute(&mut *self.tx)
        .await
        .map_err(&failed)?;
        Ok(())
    }

    /// The one in this state is not trusted any more, and its key is forgotten.
    pub(super) async fn retire(&mut self, vertex: VertexId, from: &str, change: i64) -> Result<(), StoreError> {
        sqlx::query!(
            "update authority set state = 'gone', key = null, change = $3, absorbed_at = null, paused = false
             where vertex_id = $1 and state = $2",
            vertex.0,
            from,
            change
        )
        .execute(&mut *self.tx)
        .await
        .map_err(doing("retiring an authority"))?;
        Ok(())
    }

    /// While an authority goes over to another key, what leaves counts as stale by the oldest change that something above it
    /// has not absorbed, for it will not hear of that any more. By role; empty while none does.
    pub(crate) async fn unheard(
        &mut self,
        graph: &Graph,
        leaving: &BTreeSet<RoleName>,
    ) -> Result<HashMap<RoleName, i64>, StoreError> {
        let above: BTreeMap<&RoleName, BTreeSet<&RoleName>> = leaving
            .iter()
            .filter_map(|role| graph.roles.get(role))
            .map(|role| {
                let keys = &role.above;
                (&role.name, keys.same.iter().chain(&keys.anywhere).chain(keys.chosen.values().flatten()).collect())
            })
            .collect();
        let all: BTreeSet<&str> = above.values().flatten().map(|role| role.as_str()).collect();
        let rows = sqlx::query!(
            r#"select role, min(since) as "since!" from vertex
               where deployment_id = $1 and role = any($2) and not gone and since is not null
                     and exists (select from authority where deployment_id = $1 and state in ('introduced', 'retiring'))
               group by role"#,
            self.id.0,
            &all.into_iter().collect::<Vec<_>>() as &[&str]
        )
        .fetch_all(&mut *self.tx)
        .await
        .map_err(doing("looking for what those who leave have not heard"))?;
        let stale: HashMap<String, i64> = rows.into_iter().map(|row| (row.role, row.since)).collect();
        let least = |roles: BTreeSet<&RoleName>| roles.into_iter().filter_map(|role| stale.get(role).copied()).min();
        Ok(above.into_iter().filter_map(|(role, above)| Some((role.clone(), least(above)?))).collect())
    }
}
