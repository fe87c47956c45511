//! Nodes that are looked at, for a policy of their deployment makes something of those that do not answer: who looks when,
//! and for how long a node has not answered.
//!
//! Whoever looks puts the next look off first, so that no other engine does the same; if it dies then, the next look is the
//! one that was to come anyway. What came of a look is recorded with the node, under the lock of its deployment.

use std::collections::HashMap;
use std::time::Duration;

use engine_core::id::{DeploymentId, EngineId, NodeId};
use engine_core::silence::{self, Silence, Times};
use sqlx::{PgConnection, PgPool};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::StoreError;
use crate::error::doing;
use crate::pass::Locked;

/// A node that is to be looked at now.
#[derive(Clone, Debug)]
pub struct Due {
    /// The node.
    pub node: NodeId,
    /// It answered when it was heard last: whether it still does is to be found out.
    pub answers: bool,
    /// Something may be to be done with it: [`super::settle`].
    pub unsettled: bool,
}

/// Takes nodes whose time has come; nobody else looks at them until their next one.
pub async fn due(pool: &PgPool, limit: i64) -> Result<Vec<Due>, StoreError> {
    let rows = sqlx::query!(
        r#"with due as (
               select node_id from look where look_at <= clock_timestamp() order by look_at limit $1 for update skip locked)
           update look l set look_at = clock_timestamp() + l.every_ms * interval '1 millisecond'
           from due join node n using (node_id)
           where l.node_id = due.node_id
           returning l.node_id as node,
                     n.state = 'up' and not n.rebuild and l.aside_by is null and n.deployment_id = l.deployment_id as "answers!",
                     n.state = 'unreachable' or l.aside_by is not null
                         or n.state = 'gone' or n.deployment_id is distinct from l.deployment_id as "unsettled!""#,
        limit
    )
    .fetch_all(pool)
    .await
    .map_err(doing("looking for nodes to look at"))?;
    let due =
        rows.into_iter().map(|row| Due { node: NodeId(row.node), answers: row.answers, unsettled: row.unsettled });
    Ok(due.collect())
}

/// Until the next look, if there is any.
pub async fn next_look_in(pool: &PgPool) -> Result<Option<Duration>, StoreError> {
    let seconds = sqlx::query_scalar!(
        "select extract(epoch from look_at - clock_timestamp())::float8 from look order by look_at limit 1"
    )
    .fetch_optional(pool)
    .await
    .map_err(doing("looking for the next look"))?;
    Ok(seconds.flatten().map(|seconds| Duration::from_secs_f64(seconds.clamp(0.0, 3600.0))))
}

/// From a commit on nodes are looked at as its policy wants. Those that a policy put aside are looked at until they are back.
pub(crate) async fn enter(locked: &mut Locked, times: Times) -> Result<(), StoreError> {
    let failed = doing("noting which nodes are looked at");
    let Some(every) = times.look_every() else {
        sqlx::query!("delete from look where deployment_id = $1 and aside_by is null", locked.id.0)
            .execute(&mut *locked.tx)
            .await
            .map_err(&failed)?;
        return Ok(());
    };
    // What the policy of another deployment put aside is not so for this one.
    sqlx::query!(
        "update node n set standing = 'in', changed_at = now() from look l
         where l.node_id = n.node_id and n.deployment_id = $1 and l.deployment_id <> $1 and l.aside_by is not null
               and n.standing = 'aside'",
        locked.id.0
    )
    .execute(&mut *locked.tx)
    .await
    .map_err(&failed)?;
    // Not all of them in one moment.
    sqlx::query!(
        "insert into look (node_id, deployment_id, every_ms, look_at)
         select node_id, $1, $2::bigint, clock_timestamp() + random() * $2::bigint * interval '1 millisecond' from node
         where deployment_id = $1 and group_name is not null and standing <> 'lost' and state not in ('gone', 'virtual')
         on conflict (node_id) do update
         set every_ms = $2, deployment_id = $1, aside_by = case when look.deployment_id = $1 then look.aside_by end,
             look_at = excluded.look_at, silent_since = null, silent_at = null, silent_ms = 0, held = null
         where look.deployment_id <> $1 or look.every_ms <> $2",
        locked.id.0,
        i64::try_from(every.as_millis()).unwrap_or(i64::MAX)
    )
    .execute(&mut *locked.tx)
    .await
    .map_err(&failed)?;
    Ok(())
}

/// A node that was recorded as answering again, or as not answering, by this engine.
pub(super) struct Heard {
    pub(super) node: NodeId,
    pub(super) answers: bool,
    pub(super) by: Option<EngineId>,
}

/// Counts the time that nodes have not answered, and forgets that of those who do.
pub(super) async fn heard(connection: &mut PgConnection, heard: &[Heard]) -> Result<(), StoreError> {
    let of = |answers: bool| -> Vec<Uuid> {
        heard.iter().filter(|one| one.answers == answers).map(|one| one.node.0).collect()
    };
    let failed = doing("noting which nodes answer");
    let answering = of(true);
    if !answering.is_empty() {
        // One that a policy put aside is taken back in at once.
        sqlx::query!(
            "update look set silent_since = null, silent_at = null, silent_ms = 0, held = null,
                    look_at = case when aside_by is null then look_at else clock_timestamp() end
             where node_id = any($1) and silent_since is not null",
            &answering
        )
        .execute(&mut *connection)
        .await
        .map_err(&failed)?;
    }
    let silent = of(false);
    if silent.is_empty() { Ok(()) } else { count(connection, &silent, heard).await }
}

struct Counted {
    node: Uuid,
    deployment: Uuid,
    since: Option<OffsetDateTime>,
    last: Option<OffsetDateTime>,
    millis: i64,
    now: OffsetDateTime,
    began: Option<OffsetDateTime>,
}

async fn count(connection: &mut PgConnection, silent: &[Uuid], heard: &[Heard]) -> Result<(), StoreError> {
    let failed = doing("counting for how long nodes do not answer");
    let engines: HashMap<Uuid, Uuid> = heard.iter().filter_map(|one| Some((one.node.0, one.by?.0))).collect();
    let engines: Vec<Option<Uuid>> = silent.iter().map(|node| engines.get(node).copied()).collect();
    let rows = sqlx::query_as!(
        Counted,
        r#"select l.node_id as node, l.deployment_id as deployment, l.silent_since as since, l.silent_at as last,
                  l.silent_ms as millis, clock_timestamp() as "now!", e.started_at as "began?"
           from unnest($1::uuid[], $2::uuid[]) as u(node_id, engine_id)
                join look l using (node_id) left join engine e using (engine_id)"#,
        silent,
        &engines as &[Option<Uuid>]
    )
    .fetch_all(&mut *connection)
    .await
    .map_err(&failed)?;
    // All are of the deployment that is locked, and of an earlier one those that have left it.
    let Some(deployment) = rows.first().map(|row| row.deployment) else { return Ok(()) };
    let nodes = sqlx::query!(
        r#"select count(*) filter (where state = 'up') as "answering!", count(*) as "of!" from node
           where deployment_id = $1 and state in ('up', 'unreachable')"#,
        deployment
    )
    .fetch_one(&mut *connection)
    .await
    .map_err(&failed)?;
    let number = |count: i64| usize::try_from(count).unwrap_or_default();
    let sees = silence::sees(number(nodes.answering), number(nodes.of));
    let after: Vec<(Uuid, Silence)> = rows
        .into_iter()
        .map(|row| {
            let silence = silence_of(row.since, row.last, row.millis);
            (row.node, silence.map_or(Silence::begins(row.now), |before| before.goes_on(row.now, row.began, sees)))
        })
        .collect();
    sqlx::query!(
        "update look l set silent_since = u.since, silent_at = u.last, silent_ms = u.counted
         from unnest($1::uuid[], $2::timestamptz[], $3::timestamptz[], $4::bigint[]) as u(node_id, since, last, counted)
         where l.node_id = u.node_id",
        &after.iter().map(|(node, _)| *node).collect::<Vec<_>>(),
        &after.iter().map(|(_, silence)| silence.since).collect::<Vec<_>>(),
        &after.iter().map(|(_, silence)| silence.last).collect::<Vec<_>>(),
        &after.iter().map(|(_, silence)| millis(silence.counted)).collect::<Vec<_>>()
    )
    .execute(&mut *connection)
    .await
    .map_err(&failed)?;
    Ok(())
}

pub(super) fn silence_of(since: Option<OffsetDateTime>, last: Option<OffsetDateTime>, millis: i64) -> Option<Silence> {
    let counted = Duration::from_millis(u64::try_from(millis).unwrap_or_default());
    Some(Silence { since: since?, last: last?, counted })
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

/// A person says how it stands: no policy put it there, and its silence counts from now on.
pub(super) async fn by_hand(connection: &mut PgConnection, node: NodeId) -> Result<bool, StoreError> {
    let was = sqlx::query_scalar!(
        r#"update look l set aside_by = null, silent_since = null, silent_at = null, silent_ms = 0, held = null
           from look old where l.node_id = $1 and old.node_id = l.node_id
           returning old.aside_by is not null as "was!""#,
        node.0
    )
    .fetch_optional(connection)
    .await
    .map_err(doing("noting that a person says how a node stands"))?;
    Ok(was.unwrap_or(false))
}

/// Nobody looks at it any more, if its row is still that of this deployment.
pub(super) async fn left(pool: &PgPool, deployment: DeploymentId, node: NodeId) -> Result<(), StoreError> {
    sqlx::query!("delete from look where node_id = $1 and deployment_id = $2", node.0, deployment.0)
        .execute(pool)
        .await
        .map_err(doing("noting that nobody looks at a node"))?;
    Ok(())
}

/// Nobody looks at it any more.
pub(super) async fn leave(connection: &mut PgConnection, node: NodeId) -> Result<(), StoreError> {
    sqlx::query!("delete from look where node_id = $1", node.0)
        .execute(connection)
        .await
        .map_err(doing("noting that nobody looks at a node"))?;
    Ok(())
}
