//! What was told for a time only: when the next of it is to be made anew, and that it is. An authority is made to tell anew
//! also when something of it was revoked that no list of it has.

use std::collections::BTreeSet;

use engine_core::document::wire::Wire;
use engine_core::graph::{Graph, Why};
use engine_core::id::{DeploymentId, VertexId};
use engine_core::settle::Turn;
use sqlx::{PgConnection, PgPool};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::StoreError;
use crate::error::doing;
use crate::pass::{self, Locked, Revisions};

/// The output of an authority that has all that it revoked.
const LIST: &str = "revoked";

/// When the next time comes; in the past if it has come. What moves already is not asked for.
pub async fn next(pool: &PgPool) -> Result<Option<OffsetDateTime>, StoreError> {
    sqlx::query_scalar!(
        r#"select renew_at as "renew_at!" from vertex
           where renew_at is not null and state = 'active' and goal = 'present' order by renew_at limit 1"#
    )
    .fetch_optional(pool)
    .await
    .map_err(doing("looking for what is to be renewed"))
}

/// Deployments in which something is to be made anew now.
pub async fn due(pool: &PgPool, now: OffsetDateTime) -> Result<BTreeSet<DeploymentId>, StoreError> {
    let failed = doing("looking for what is to be renewed");
    let mut connection = pool.acquire().await.map_err(&failed)?;
    let ids = sqlx::query_scalar!(
        "select distinct deployment_id from vertex where renew_at <= $1 and state = 'active' and goal = 'present'",
        now
    )
    .fetch_all(&mut *connection)
    .await
    .map_err(&failed)?;
    let unlisted = unlisted(&mut connection, None).await?;
    Ok(ids.into_iter().chain(unlisted.into_iter().map(|one| one.deployment)).map(DeploymentId).collect())
}

/// An authority that has to list what was revoked since.
struct Unlisted {
    deployment: Uuid,
    vertex: Uuid,
    role: String,
}

/// Those of a deployment, or of all; those whose list nobody reads are passed over once that is noted.
async fn unlisted(connection: &mut PgConnection, deployment: Option<Uuid>) -> Result<Vec<Unlisted>, StoreError> {
    sqlx::query_as!(
        Unlisted,
        "select distinct v.deployment_id as deployment, v.vertex_id as vertex, v.role
         from authority a join vertex v on v.vertex_id = a.vertex_id
         where ($1::uuid is null or a.deployment_id = $1) and a.state <> 'gone' and not a.unread
               and v.state = 'active' and v.goal = 'present'
               and exists (select from certificate c where c.authority_id = a.authority_id and c.revoked_at is not null
                                                           and c.listed_at is null)",
        deployment
    )
    .fetch_all(connection)
    .await
    .map_err(doing("looking for what is to be listed"))
}

/// Lets all of a deployment run again whose time has come, as one change. If we die before the end, nothing has happened.
/// `known`: revisions at hand.
pub async fn renew(
    pool: &PgPool,
    deployment: DeploymentId,
    now: OffsetDateTime,
    known: &Revisions,
) -> Result<(), StoreError> {
    let Some(mut locked) = pass::lock(pool, deployment).await? else { return Ok(()) };
    let ids = sqlx::query_scalar!(
        r#"select vertex_id as "vertex_id!" from vertex
           where deployment_id = $1 and renew_at <= $2 and state = 'active' and goal = 'present'"#,
        deployment.0,
        now
    )
    .fetch_all(&mut *locked.tx)
    .await
    .map_err(doing("looking for what is to be renewed"))?;
    let mut ids: BTreeSet<VertexId> = ids.into_iter().map(VertexId).collect();
    let (unlisted, noted) = locked.unlisted(known).await?;
    ids.extend(unlisted);
    let ids: Vec<VertexId> = ids.into_iter().collect();
    if ids.is_empty() {
        return if noted { locked.commit().await } else { locked.roll_back().await };
    }
    let change = locked.next_change().await?;
    let renew = |turn: &mut Turn<'_>| {
        for id in &ids {
            turn.renew(*id, change);
        }
        true
    };
    locked.turn_apart(&ids, known, "renewal", renew).await?;
    locked.commit().await
}

impl Locked {
    /// Authorities that have to list what was revoked since. Those whose list nobody reads have not, which is noted: `true` if
    /// there are some.
    async fn unlisted(&mut self, known: &Revisions) -> Result<(Vec<VertexId>, bool), StoreError> {
        let rows = unlisted(&mut self.tx, Some(self.id.0)).await?;
        if rows.is_empty() {
            return Ok((Vec::new(), false));
        }
        let revision = self.revision(known).await?;
        let (read, unread): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| reads_list(&revision.graph, &row.role));
        let unread: Vec<Uuid> = unread.into_iter().map(|row| row.vertex).collect();
        if !unread.is_empty() {
            sqlx::query!("update authority set unread = true where vertex_id = any($1) and state <> 'gone'", &unread)
                .execute(&mut *self.tx)
                .await
                .map_err(doing("noting whose list nobody reads"))?;
        }
        Ok((read.into_iter().map(|row| VertexId(row.vertex)).collect(), !unread.is_empty()))
    }

    /// Lets a vertex run again. `false`: it is not at rest.
    pub(crate) async fn again(
        &mut self,
        vertex: VertexId,
        change: i64,
        by: &str,
        known: &Revisions,
    ) -> Result<bool, StoreError> {
        let renew = |turn: &mut Turn<'_>| turn.hood.vertices.contains_key(&vertex) && turn.renew(vertex, change);
        self.turn_apart(&[vertex], known, by, renew).await
    }

    /// Somebody may read now what nobody read before.
    pub(crate) async fn may_be_read(&mut self) -> Result<(), StoreError> {
        sqlx::query!("update authority set unread = false where deployment_id = $1 and unread", self.id.0)
            .execute(&mut *self.tx)
            .await
            .map_err(doing("looking again who reads lists of what was revoked"))?;
        Ok(())
    }
}

/// Does anybody read what the authority of a role revoked?
fn reads_list(graph: &Graph, role: &str) -> bool {
    // A wire that names no output reads all of them.
    let reads = |why: &Why| match why {
        Why::Data { wire, .. } => wire.parse().is_ok_and(|wire: Wire| wire.output.is_none_or(|output| output == LIST)),
        Why::Requires | Why::Precedes => false,
    };
    graph.readers(role).any(|(_, edge)| reads(&edge.why))
        || graph.exports.values().any(|(of, output)| of == role && output == LIST)
}

/// What came of asking for another certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewed {
    /// It is made as soon as there is room for it.
    Done,
    /// There is no such certificate.
    Unknown,
    /// Nobody of a deployment holds it any more, or it was asked for over the API: whoever holds it asks for another one.
    Unheld,
    /// The node role that has it signed runs, waits or leaves at the moment.
    NotAtRest,
}

/// Lets whoever had a certificate signed have another one signed. If we die before the end, nothing has happened.
pub async fn renew_one(pool: &PgPool, serial: &str, by: &str, known: &Revisions) -> Result<Renewed, StoreError> {
    let row = sqlx::query!(
        r#"select v.vertex_id as "vertex?", v.deployment_id as "deployment?" from certificate c
           left join vertex v on v.vertex_id = c.vertex_id and not v.gone where c.serial = $1"#,
        serial
    )
    .fetch_optional(pool)
    .await
    .map_err(doing("looking for a certificate"))?;
    let Some(row) = row else { return Ok(Renewed::Unknown) };
    let (Some(vertex), Some(deployment)) = (row.vertex, row.deployment) else { return Ok(Renewed::Unheld) };
    let vertex = VertexId(vertex);
    let Some(mut locked) = pass::lock(pool, DeploymentId(deployment)).await? else { return Ok(Renewed::Unheld) };
    let change = locked.next_change().await?;
    if locked.again(vertex, change, by, known).await? {
        locked.commit().await?;
        return Ok(Renewed::Done);
    }
    locked.roll_back().await?;
    Ok(Renewed::NotAtRest)
}
