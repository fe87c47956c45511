//! What became of nodes, recorded: one transaction for as many nodes of a deployment as there are results.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use engine_core::document::{Object, differing};
use engine_core::id::{DeploymentId, EngineId, NodeId};
use engine_core::settle::Cause;
use serde_json::{Value, json};
use sqlx::types::Json;
use sqlx::{PgConnection, PgPool, Postgres, Transaction};
use uuid::Uuid;

use super::facts;
use super::look::{self, Heard};
use crate::StoreError;
use crate::error::doing;
use crate::outages;
use crate::pass::{self, EVENTS, Locked, Revisions, WORK};

/// What became of the work on a node. `None` leaves a field as it is.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// The new state.
    pub state: &'static str,
    /// Code of what is wrong; cleared where there is none.
    pub code: Option<String>,
    /// What is wrong.
    pub reason: Option<String>,
    /// When to go on: so long from now. For states that are worked on.
    pub again_in: Option<Duration>,
    /// Address, port and user.
    pub access: Option<(String, u16, String)>,
    /// Pinned host keys.
    pub host_keys: Option<Vec<String>>,
    /// The machine's id.
    pub machine_id: Option<String>,
    /// The incarnation of its agent.
    pub incarnation: Option<String>,
    /// All that is known of it.
    pub facts: Option<Object>,
    /// Labels by rules, and which rule set each, where no rule ever set one.
    pub ruled: Option<(Object, Value)>,
    /// It belongs to no deployment any more.
    pub unbind: bool,
    /// Only if it is in this state.
    pub only_from: Option<&'static str>,
    /// It was emptied, as a redeploy wants it.
    pub emptied: bool,
    /// It is another machine now: how the old one was reached, and what knew it again, is forgotten.
    pub machine_anew: bool,
}

/// What is to be recorded of one node.
#[derive(Clone, Debug)]
pub struct Recording {
    /// The node.
    pub node: NodeId,
    /// Only if this engine works on it; it lets go of it then.
    pub engine: Option<EngineId>,
    /// What became of it.
    pub change: Change,
}

/// What came of recording some nodes. Those in neither list are gone, or not ours, or not in the state that was asked for.
#[derive(Clone, Debug, Default)]
pub struct Recorded {
    /// Recorded.
    pub done: BTreeSet<NodeId>,
    /// Not recorded: another deployment uses them by now, or none.
    pub moved: BTreeSet<NodeId>,
}

/// A transaction in which nodes of one deployment, or of none, are recorded. It holds the deployment, as every turn does: else a vertex could
/// be judged by the old state of a node and wait for a wake-up that was already given.
pub struct Records(Held);

enum Held {
    Deployment(Box<Locked>),
    Nothing(Transaction<'static, Postgres>),
}

impl Records {
    /// Begins, as soon as nobody else holds the deployment.
    pub async fn begin(pool: &PgPool, deployment: Option<DeploymentId>) -> Result<Self, StoreError> {
        if let Some(deployment) = deployment
            && let Some(locked) = pass::lock(pool, deployment).await?
        {
            return Ok(Self(Held::Deployment(Box::new(locked))));
        }
        Ok(Self(Held::Nothing(pool.begin().await.map_err(doing("recording nodes"))?)))
    }

    /// Records them, wakes what waits for them, and commits. `known`: revisions at hand.
    pub async fn write(mut self, nodes: &[Recording], known: &Revisions, by: &str) -> Result<Recorded, StoreError> {
        let deployment = match &self.0 {
            Held::Deployment(locked) => Some(locked.id.0),
            Held::Nothing(_) => None,
        };
        if let Held::Deployment(locked) = &mut self.0 {
            let revision = locked.revision(known).await?;
            locked.hold_budgets(&revision.graph).await?;
        }
        let rows = update(self.connection(), deployment, nodes).await?;
        let mut recorded =
            Recorded { done: rows.iter().map(|row| NodeId(row.node_id)).collect(), ..Recorded::default() };
        let missing: Vec<Uuid> =
            nodes.iter().filter(|one| !recorded.done.contains(&one.node)).map(|one| one.node.0).collect();
        if !missing.is_empty() {
            let moved = sqlx::query_scalar!(
                "select node_id from node where node_id = any($1) and deployment_id is distinct from $2 and state <> 'gone'",
                &missing,
                deployment
            );
            let moved = moved.fetch_all(self.connection()).await.map_err(doing("looking for nodes that moved"))?;
            recorded.moved = moved.into_iter().map(NodeId).collect();
        }
        let changes: HashMap<Uuid, &Change> = nodes.iter().map(|one| (one.node.0, &one.change)).collect();
        let written: Vec<(&Row, &Change)> = rows.iter().map(|row| (row, changes[&row.node_id])).collect();
        events(self.connection(), deployment, &written, by).await?;
        wake(self.connection(), deployment, &recorded.done).await?;
        let engines: HashMap<Uuid, Option<EngineId>> = nodes.iter().map(|one| (one.node.0, one.engine)).collect();
        let heard = written.iter().filter_map(|(row, change)| {
            let answers = match (row.before.as_str(), change.state) {
                (_, "unreachable") => false,
                ("up", "up") => return None,
                // One that lets nobody in answers.
                (_, "up" | "failed") => true,
                _ => return None,
            };
            Some(Heard { node: NodeId(row.node_id), answers, by: engines[&row.node_id] })
        });
        look::heard(self.connection(), &heard.collect::<Vec<_>>()).await?;
        match self.0 {
            Held::Deployment(mut locked) => {
                for (row, change) in written {
                    if let Some(facts) = &change.facts {
                        let differing = differing(&row.facts, facts);
                        facts::touch_readers(&mut locked, &row.name, &differing, known, by).await?;
                    }
                }
                locked.commit().await?;
            }
            Held::Nothing(tx) => tx.commit().await.map_err(doing("recording nodes"))?,
        }
        Ok(recorded)
    }

    fn connection(&mut self) -> &mut PgConnection {
        match &mut self.0 {
            Held::Deployment(locked) => &mut locked.tx,
            Held::Nothing(tx) => tx,
        }
    }
}

/// Records what became of one node, whoever uses it. Returns whether it was recorded.
pub async fn change(pool: &PgPool, one: Recording, known: &Revisions, by: &str) -> Result<bool, StoreError> {
    let one = [one];
    loop {
        let user = sqlx::query_scalar!("select deployment_id from node where node_id = $1", one[0].node.0)
            .fetch_optional(pool)
            .await
            .map_err(doing("looking for who uses a node"))?
            .flatten();
        let records = Records::begin(pool, user.map(DeploymentId)).await?;
        let recorded = records.write(&one, known, by).await?;
        if recorded.moved.is_empty() {
            return Ok(!recorded.done.is_empty());
        }
    }
}

/// A node as it was before something was recorded of it.
struct Row {
    node_id: Uuid,
    name: String,
    before: String,
    code_before: Option<String>,
    facts: Json<Object>,
}

async fn update(
    connection: &mut PgConnection,
    deployment: Option<Uuid>,
    nodes: &[Recording],
) -> Result<Vec<Row>, StoreError> {
    let rows: Vec<Value> = nodes
        .iter()
        .map(|Recording { node, engine, change }| {
            let (address, port, user) = match &change.access {
                Some((address, port, user)) => (Some(address), Some(port), Some(user)),
                None => (None, None, None),
            };
            json!({
                "node": node, "engine": engine, "state": change.state, "code": change.code, "reason": change.reason,
                "again": change.again_in.map(|pause| pause.as_secs_f64()), "address": address, "port": port,
                "ssh_user": user, "host_keys": change.host_keys, "machine_id": change.machine_id,
                "incarnation": change.incarnation, "facts": change.facts, "unbind": change.unbind,
                "ruled": change.ruled.as_ref().map(|ruled| &ruled.0), "ruled_by": change.ruled.as_ref().map(|ruled| &ruled.1),
                "only_from": change.only_from, "emptied": change.emptied, "anew": change.machine_anew,
            })
        })
        .collect();
    let ids: Vec<Uuid> = nodes.iter().map(|one| one.node.0).collect();
    sqlx::query_as!(
        Row,
        r#"update node n set state = c.state, code = c.code, reason = c.reason,
               next_try_at = clock_timestamp() + c.again * interval '1 second',
               tries = case when n.state = c.state then n.tries + 1 else 0 end,
               address = coalesce(c.address, case when not c.anew then n.address end),
               port = coalesce(c.port, case when not c.anew then n.port end),
               ssh_user = coalesce(c.ssh_user, case when not c.anew then n.ssh_user end),
               host_keys = coalesce(c.host_keys, case when c.anew then '[]' else n.host_keys end),
               machine_id = coalesce(c.machine_id, case when not c.anew then n.machine_id end),
               incarnation = coalesce(c.incarnation, case when not c.anew then n.incarnation end),
               rebuild = n.rebuild and not c.emptied, facts = coalesce(c.facts, n.facts),
               to_rule = n.to_rule or (c.facts is not null and c.facts <> n.facts),
               join_due = n.join_due + case when c.unbind or (c.facts is not null and c.facts <> n.facts) then 1 else 0 end,
               ruled = case when n.ruled = '{}' then coalesce(c.ruled, n.ruled) else n.ruled end,
               ruled_by = case when n.ruled = '{}' then coalesce(c.ruled_by, n.ruled_by) else n.ruled_by end,
               deployment_id = case when c.unbind then null else n.deployment_id end,
               engine_id = case when c.engine is null then n.engine_id end,
               changed_at = case when n.state = c.state and n.code is not distinct from c.code then n.changed_at else now() end
           from jsonb_to_recordset($1) as c(
                    node uuid, engine uuid, state text, code text, reason text, again float8, address text, port integer,
                    ssh_user text, host_keys jsonb, machine_id text, incarnation text, facts jsonb, ruled jsonb, ruled_by jsonb,
                    unbind boolean,
                    only_from text, emptied boolean, anew boolean),
                node old
           where n.node_id = c.node and n.node_id = any($3) and old.node_id = n.node_id and (c.engine is null or n.engine_id = c.engine)
                 and old.deployment_id is not distinct from $2
                 and old.state <> 'gone' and (c.only_from is null or old.state = c.only_from)
           returning n.node_id, n.name, old.state as "before!", old.code as code_before,
                     old.facts as "facts!: Json<Object>""#,
        Value::Array(rows),
        deployment,
        // What is in a document nobody can estimate, and a few nodes would be looked for among all.
        &ids
    )
    .fetch_all(connection)
    .await
    .map_err(doing("recording nodes"))
}

async fn events(
    connection: &mut PgConnection,
    deployment: Option<Uuid>,
    written: &[(&Row, &Change)],
    by: &str,
) -> Result<(), StoreError> {
    let moved = written.iter().filter(|(row, change)| row.before != change.state || row.code_before != change.code);
    let (mut kinds, mut nodes, mut details) = (Vec::new(), Vec::new(), Vec::new());
    for (row, change) in moved {
        kinds.push(format!("node.{}", change.state));
        nodes.push(row.node_id);
        details.push(json!({"node": row.name, "from": row.before, "to": change.state, "code": change.code,
                            "reason": change.reason}));
    }
    sqlx::query!(
        "insert into event (at, kind, deployment_id, node_id, principal, detail)
         select clock_timestamp(), e.kind, $1, e.node, $2, e.detail
         from unnest($3::text[], $4::uuid[], $5::jsonb[]) as e(kind, node, detail)",
        deployment,
        by,
        &kinds,
        &nodes,
        &details
    )
    .execute(connection)
    .await
    .map_err(doing("writing events of nodes"))?;
    Ok(())
}

/// Wakes what stands ready on them, and who waits for them.
async fn wake(
    connection: &mut PgConnection,
    deployment: Option<Uuid>,
    nodes: &BTreeSet<NodeId>,
) -> Result<(), StoreError> {
    let ids: Vec<Uuid> = nodes.iter().map(|node| node.0).collect();
    sqlx::query!("update vertex set wake = true where node_id = any($1) and ready and not wake", &ids)
        .execute(&mut *connection)
        .await
        .map_err(doing("waking who stands on nodes"))?;
    if let Some(deployment) = deployment {
        wake_waiting(&mut *connection, deployment, nodes.iter().copied()).await?;
    }
    for channel in [EVENTS, WORK] {
        sqlx::query!("select pg_notify($1, '')", channel)
            .execute(&mut *connection)
            .await
            .map_err(doing("telling of nodes"))?;
    }
    Ok(())
}

/// Wakes who waits for nodes, and who waits for a budget: in those it counts as long as one does not answer.
pub(crate) async fn wake_waiting(
    connection: &mut PgConnection,
    deployment: Uuid,
    nodes: impl Iterator<Item = NodeId>,
) -> Result<(), StoreError> {
    let failed = doing("waking who waits for a node");
    let sought: Vec<String> = nodes.map(|node| Cause::Node { node }.to_string()).collect();
    sqlx::query!(
        "update vertex set wake = true where deployment_id = $1 and sought = any($2) and not wake",
        deployment,
        &sought
    )
    .execute(&mut *connection)
    .await
    .map_err(&failed)?;
    sqlx::query!(
        "update vertex set wake = true
         where deployment_id = $1 and (sought like 'b:%' or sought like 'm:%' or sought like 't:%') and not wake",
        deployment
    )
    .execute(&mut *connection)
    .await
    .map_err(&failed)?;
    outages::count_again(connection, deployment).await
}
