//! What a policy makes of a node that does not answer, or answers again: what a person would do, and in the same way.

use std::collections::BTreeSet;

use engine_core::graph::Graph;
use engine_core::id::{DeploymentId, EngineId, NodeId};
use engine_core::policy;
use engine_core::settle::hood::Standing;
use engine_core::silence::{self, Move, Rest, Seen, Times};
use serde_json::{Value, json};
use sqlx::PgPool;
use time::OffsetDateTime;

use super::look::{self, silence_of};
use super::{around, event, lost, stand};
use crate::StoreError;
use crate::error::doing;
use crate::pass::{self, EVENTS, Locked, Revisions};

/// In whose name it is done.
const BY: &str = "policy";

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settled {
    /// Nothing was to be done.
    Nothing,
    /// Done; the name of the node.
    Done(Move, String),
    /// It would be done, but: the name of the node, and why not.
    Held(String, String),
}

struct Row {
    name: String,
    standing: String,
    state: String,
    rebuild: bool,
    is_bound: bool,
    is_here: bool,
    since: Option<OffsetDateTime>,
    last: Option<OffsetDateTime>,
    millis: i64,
    aside_by: Option<String>,
    held: Option<String>,
    now: OffsetDateTime,
    began: Option<OffsetDateTime>,
}

impl Row {
    fn seen(&self) -> Seen {
        Seen {
            standing: match self.standing.as_str() {
                "aside" => Standing::Aside,
                "lost" => Standing::Lost,
                _ => Standing::In,
            },
            by_policy: self.aside_by.is_some(),
            answers: self.state == "up",
            silence: silence_of(self.since, self.last, self.millis).filter(|_| self.state == "unreachable"),
        }
    }
}

/// Does with a node what the policy of its deployment says now. If two engines ask, one of them does it and the other finds
/// it done; if one dies, nothing has happened. `engine` looks at nodes itself; `known`: revisions at hand.
pub async fn settle(pool: &PgPool, node: NodeId, engine: EngineId, known: &Revisions) -> Result<Settled, StoreError> {
    let failed = doing("looking what becomes of a node that does not answer");
    let deployment = sqlx::query_scalar!("select deployment_id from look where node_id = $1", node.0)
        .fetch_optional(pool)
        .await
        .map_err(&failed)?;
    let Some(deployment) = deployment.map(DeploymentId) else { return Ok(Settled::Nothing) };
    let Some(mut locked) = pass::lock(pool, deployment).await? else { return Ok(Settled::Nothing) };
    let row = sqlx::query_as!(
        Row,
        r#"select n.name, n.standing, n.state, n.rebuild, n.group_name is not null as "is_bound!",
                  n.state <> 'gone' and n.deployment_id is not distinct from l.deployment_id as "is_here!", l.silent_since as since, l.silent_at as last,
                  l.silent_ms as millis, l.aside_by, l.held, clock_timestamp() as "now!",
                  (select started_at from engine where engine_id = $3) as began
           from look l join node n using (node_id) where l.node_id = $1 and l.deployment_id = $2"#,
        node.0,
        deployment.0,
        engine.0
    )
    .fetch_optional(&mut *locked.tx)
    .await
    .map_err(&failed)?;
    let Some(row) = row else { return Ok(Settled::Nothing) };
    if !row.is_here {
        // What a policy of theirs put aside is not so for whoever uses it next; the row goes when that is done.
        locked.roll_back().await?;
        if row.aside_by.is_some() && row.state != "gone" {
            stand(pool, &row.name, false, known, BY).await?;
        }
        look::left(pool, deployment, node).await?;
        return Ok(Settled::Nothing);
    }
    let revision = locked.revision(known).await?;
    let times = Times::of(&revision.graph.policy.silent);
    let verdict =
        row.began.and_then(|began| silence::verdict(times, &row.seen(), row.now, began)).filter(|_| !row.rebuild);
    let Some(verdict) = verdict else { return Ok(Settled::Nothing) };
    // Who pauses a deployment decides what happens there; and of what leaves nobody reads any more.
    let is_quiet = locked.paused || locked.state != "active" || !row.is_bound;
    if verdict != Move::In && is_quiet {
        return Ok(Settled::Nothing);
    }
    carry_out(locked, (node, &row), verdict, known).await
}

async fn carry_out(
    mut locked: Locked,
    (node, row): (NodeId, &Row),
    verdict: Move,
    known: &Revisions,
) -> Result<Settled, StoreError> {
    let around = around(&mut locked, known, node, &row.name).await?;
    let graph = &around.revision.graph;
    let said = says(graph, verdict);
    if verdict != Move::In {
        let rest = rest(&mut locked, graph).await?;
        if let Some(kept) = silence::keeps(graph, &around.hood, node, &rest) {
            return hold(locked, (node, row), verdict, &said, kept).await;
        }
    }
    let detail = detail(row, verdict, &said);
    match verdict {
        Move::In => stand::put(&mut locked, around, (node, &row.name), Standing::In, (BY, detail)).await?,
        Move::Aside => stand::put(&mut locked, around, (node, &row.name), Standing::Aside, (BY, detail)).await?,
        Move::Lost => lost::give_up(&mut locked, around, (node, &row.name), (BY, detail)).await?,
    };
    sqlx::query!(
        "update look set aside_by = $2, held = null where node_id = $1",
        node.0,
        (verdict == Move::Aside).then_some(said)
    )
    .execute(&mut *locked.tx)
    .await
    .map_err(doing("noting what a policy did"))?;
    locked.commit().await?;
    Ok(Settled::Done(verdict, row.name.clone()))
}

/// It would be taken out, and is not: written down once for each reason.
async fn hold(
    mut locked: Locked,
    (node, row): (NodeId, &Row),
    verdict: Move,
    said: &str,
    kept: String,
) -> Result<Settled, StoreError> {
    if row.held.as_ref() == Some(&kept) {
        locked.roll_back().await?;
        return Ok(Settled::Nothing);
    }
    sqlx::query!("update look set held = $2 where node_id = $1", node.0, kept)
        .execute(&mut *locked.tx)
        .await
        .map_err(doing("noting what keeps a policy from taking a node out"))?;
    let mut detail = detail(row, verdict, said);
    detail["node"] = json!(row.name);
    detail["would"] = json!(if verdict == Move::Lost { "lost" } else { "aside" });
    detail["held"] = json!(kept);
    event(&mut locked.tx, "node.held", Some(locked.id.0), node, BY, detail).await?;
    locked.notify(EVENTS).await?;
    locked.commit().await?;
    Ok(Settled::Held(row.name.clone(), kept))
}

/// Which policy says it.
fn says(graph: &Graph, verdict: Move) -> String {
    let said = match verdict {
        Move::Aside => graph.policy_by.get(&policy::key("silent", "aside")),
        Move::Lost => graph.policy_by.get(&policy::key("silent", "lost")),
        Move::In => None,
    };
    said.cloned().unwrap_or_else(|| "the policy of the deployment".to_owned())
}

fn detail(row: &Row, verdict: Move, said: &str) -> Value {
    match verdict {
        Move::In => json!({"answers": true}),
        Move::Aside | Move::Lost => json!({
            "policy": said, "silent_since": row.since.map(time_text), "silent_seconds": row.millis / 1000,
        }),
    }
}

fn time_text(at: OffsetDateTime) -> String {
    at.format(&time::format_description::well_known::Rfc3339).unwrap_or_default()
}

async fn rest(locked: &mut Locked, graph: &Graph) -> Result<Rest, StoreError> {
    let failed = doing("looking at the nodes of a deployment");
    let rows = sqlx::query!(
        "select name, state = 'up' and standing = 'in' as \"takes_part!\" from node
         where deployment_id = $1 and group_name is not null and standing <> 'lost' and state not in ('gone', 'virtual')",
        locked.id.0
    )
    .fetch_all(&mut *locked.tx)
    .await
    .map_err(&failed)?;
    let there: BTreeSet<&str> = rows.iter().map(|row| row.name.as_str()).collect();
    Ok(Rest {
        taking_part: rows.iter().filter(|row| row.takes_part).count(),
        missing: graph.nodes.keys().filter(|name| !there.contains(name.as_str())).cloned().collect(),
    })
}
