//! What people ask of node roles that are there: retry, pause, resume, cancel, approve, accept.

use engine_core::graph::VIRTUAL;
use engine_core::id::{DeploymentId, VertexId};
use engine_core::request::Ask;
use engine_core::settle::{Cause, Turn};
use engine_core::state::{Event, State};
use serde_json::json;
use sqlx::PgPool;
use uuid::Uuid;

use crate::StoreError;
use crate::commit::event;
use crate::error::doing;
use crate::pass::{self, EVENTS, Locked, Revisions};

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Node roles that it concerned, `NODE/ROLE`.
    Done(Vec<String>),
    /// No deployment of this name.
    NoDeployment,
    /// The deployment has no such node role.
    NoNodeRole,
}

struct Place {
    id: VertexId,
    role: String,
    node: String,
    state: String,
    cause: Option<Cause>,
}

/// Does what is asked: to one node role, or to all of the deployment that it can be done to. `known`: revisions at hand.
pub async fn ask(
    pool: &PgPool,
    ask: Ask,
    name: &str,
    node_role: Option<(&str, &str)>,
    known: &Revisions,
    by: &str,
) -> Result<Asked, StoreError> {
    let id = sqlx::query_scalar!("select deployment_id from deployment where name = $1 and state <> 'gone'", name)
        .fetch_optional(pool)
        .await
        .map_err(doing("looking for a deployment"))?;
    let Some(id) = id else { return Ok(Asked::NoDeployment) };
    let Some(mut locked) = pass::lock(pool, DeploymentId(id)).await? else { return Ok(Asked::NoDeployment) };
    let places = places(&mut locked, node_role).await?;
    if node_role.is_some() && places.is_empty() {
        return Ok(Asked::NoNodeRole);
    }
    let moved = match ask {
        Ask::Retry => retry(&mut locked, places, known, by).await?,
        Ask::Pause => pause(&mut locked, places, node_role.is_some(), true, by).await?,
        Ask::Resume => pause(&mut locked, places, node_role.is_some(), false, by).await?,
        Ask::Cancel => cancel(&mut locked, places, by).await?,
        Ask::Approve => approve(&mut locked, places, by).await?,
        Ask::Accept => accept(&mut locked, places, known, by).await?,
    };
    locked.notify(EVENTS).await?;
    locked.notify_work().await?;
    locked.commit().await?;
    Ok(Asked::Done(moved))
}

async fn places(locked: &mut Locked, node_role: Option<(&str, &str)>) -> Result<Vec<Place>, StoreError> {
    let (node, role) = node_role.unzip();
    let rows = sqlx::query!(
        r#"select v.vertex_id, v.role, v.state, v.cause,
                  case when v.node_id = $2 then $3 else n.name end as "node!"
           from vertex v join node n using (node_id)
           where v.deployment_id = $1 and not v.gone
                 and ($4::text is null or (case when v.node_id = $2 then $3 else n.name end = $4 and v.role = $5))
           order by 4, 2"#,
        locked.id.0,
        locked.virtual_node.0,
        VIRTUAL,
        node,
        role
    )
    .fetch_all(&mut *locked.tx)
    .await
    .map_err(doing("looking for node roles"))?;
    let place = |id, role, state, node, cause: Option<String>| Place {
        id: VertexId(id),
        role,
        node,
        state,
        cause: cause.and_then(|key| key.parse().ok()),
    };
    Ok(rows.into_iter().map(|row| place(row.vertex_id, row.role, row.state, row.node, row.cause)).collect())
}

fn address(place: &Place) -> String {
    format!("{}/{}", place.node, place.role)
}

async fn retry(
    locked: &mut Locked,
    places: Vec<Place>,
    known: &Revisions,
    by: &str,
) -> Result<Vec<String>, StoreError> {
    let failed: Vec<Place> = places.into_iter().filter(|place| place.state == State::Failed.as_str()).collect();
    // Nodes that could not be made or joined are tried again, too.
    sqlx::query!(
        "update node set state = case when address is null and not rebuild then 'creating' else 'joining' end, code = null, reason = null,
                next_try_at = null, tries = 0, changed_at = now()
         where deployment_id = $1 and state = 'failed'",
        locked.id.0
    )
    .execute(&mut *locked.tx)
    .await
    .map_err(doing("trying nodes again"))?;
    if failed.is_empty() {
        return Ok(Vec::new());
    }
    let change = locked.next_change().await?;
    let ids: Vec<VertexId> = failed.iter().map(|place| place.id).collect();
    let mut moved = Vec::new();
    let again = |turn: &mut Turn<'_>| {
        for place in &failed {
            if turn.event(place.id, Event::Retry, change, json!({"by": by})).is_ok() {
                moved.push(address(place));
            }
        }
        true
    };
    locked.turn_apart(&ids, known, by, again).await?;
    Ok(moved)
}

async fn pause(
    locked: &mut Locked,
    places: Vec<Place>,
    single: bool,
    paused: bool,
    by: &str,
) -> Result<Vec<String>, StoreError> {
    let failed = doing("pausing");
    let ids: Vec<Uuid> = places.iter().map(|place| place.id.0).collect();
    let kind = if paused { "paused" } else { "resumed" };
    if single {
        sqlx::query!(
            "update vertex set paused = $2, wake = (state in ('blocked', 'ready')) where vertex_id = any($1)",
            &ids,
            paused
        )
        .execute(&mut *locked.tx)
        .await
        .map_err(&failed)?;
        let what: Vec<String> = places.iter().map(address).collect();
        event(locked, &format!("node-role.{kind}"), by, json!({"node_roles": what})).await?;
        return Ok(what);
    }
    sqlx::query!("update deployment set paused = $2 where deployment_id = $1", locked.id.0, paused)
        .execute(&mut *locked.tx)
        .await
        .map_err(&failed)?;
    // Ready ones are held, held ones are let go.
    sqlx::query!(
        "update vertex set wake = true where deployment_id = $1 and (ready or sought = $2)",
        locked.id.0,
        Cause::Paused.to_string()
    )
    .execute(&mut *locked.tx)
    .await
    .map_err(&failed)?;
    event(locked, &format!("deployment.{kind}"), by, json!({})).await?;
    let stale = |place: &&Place| State::parse(&place.state).is_some_and(State::is_stale);
    Ok(places.iter().filter(stale).map(address).collect())
}

async fn cancel(locked: &mut Locked, places: Vec<Place>, by: &str) -> Result<Vec<String>, StoreError> {
    let running: Vec<&Place> = places.iter().filter(|place| place.state == State::Running.as_str()).collect();
    let ids: Vec<Uuid> = running.iter().map(|place| place.id.0).collect();
    // One that waits for its time is taken up at once, to be told.
    sqlx::query!(
        "update job set cancelled = true, look_at = case when look_at is not null then clock_timestamp() end
         where vertex_id = any($1) and finished_at is null",
        &ids
    )
    .execute(&mut *locked.tx)
    .await
    .map_err(doing("cancelling jobs"))?;
    let what: Vec<String> = running.into_iter().map(address).collect();
    event(locked, "node-role.cancel-asked", by, json!({"node_roles": what})).await?;
    Ok(what)
}

/// Takes what failed as it last succeeded, until its next change.
async fn accept(
    locked: &mut Locked,
    places: Vec<Place>,
    known: &Revisions,
    by: &str,
) -> Result<Vec<String>, StoreError> {
    let failed: Vec<Place> = places.into_iter().filter(|place| place.state == State::Failed.as_str()).collect();
    if failed.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<VertexId> = failed.iter().map(|place| place.id).collect();
    let mut taken = Vec::new();
    let accept = |turn: &mut Turn<'_>| {
        taken.extend(failed.iter().filter(|place| turn.accept(place.id, json!({"by": by}))).map(address));
        true
    };
    locked.turn_apart(&ids, known, by, accept).await?;
    Ok(taken)
}

/// Allows the attempts that wait for it; each is allowed as it is now, and asks again if it changes.
async fn approve(locked: &mut Locked, places: Vec<Place>, by: &str) -> Result<Vec<String>, StoreError> {
    let mut approved = Vec::new();
    for place in &places {
        let Some(Cause::Approval { effects, digest }) = &place.cause else { continue };
        sqlx::query!("update vertex set approved = $2, wake = true where vertex_id = $1", place.id.0, digest)
            .execute(&mut *locked.tx)
            .await
            .map_err(doing("approving"))?;
        approved.push(json!({"node_role": address(place), "effects": effects}));
    }
    let waiting = places.iter().filter(|place| matches!(place.cause, Some(Cause::Approval { .. })));
    let what = waiting.map(address).collect();
    event(locked, "node-role.approved", by, json!({"approved": approved})).await?;
    Ok(what)
}
