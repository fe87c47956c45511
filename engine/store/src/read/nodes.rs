//! Nodes; virtual ones and those that are gone left out.

use engine_core::document::Object;
use engine_core::id::NodeId;
use engine_core::settle::hood::Standing;
use engine_core::view::{LabelView, NodeView, SilenceView};
use serde_json::Value;
use sqlx::types::Json;
use sqlx::{PgConnection, PgPool};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{failed, limited};
use crate::StoreError;

struct Row {
    id: Uuid,
    name: String,
    provider: String,
    state: String,
    standing: String,
    code: Option<String>,
    reason: Option<String>,
    address: Option<String>,
    deployment: Option<String>,
    group_name: Option<String>,
    owned: bool,
    facts: Value,
    labels: Json<Object>,
    ruled: Json<Object>,
    ruled_by: Json<Object>,
    silent_since: Option<OffsetDateTime>,
    silent_ms: Option<i64>,
    aside_by: Option<String>,
    held: Option<String>,
    changed_at: OffsetDateTime,
}

/// As stored; CHECKs leave no other word.
pub(super) fn standing(word: &str) -> Standing {
    match word {
        "aside" => Standing::Aside,
        "lost" => Standing::Lost,
        _ => Standing::In,
    }
}

/// By name; what a person set is stronger.
fn labels(labels: &Object, ruled: &Object, by: &Object) -> Vec<LabelView> {
    let rule = |name: &String| by.get(name).and_then(Value::as_str).map(str::to_owned);
    let own = labels.iter().map(|(name, value)| LabelView { name: name.clone(), value: value.clone(), rule: None });
    let ruled = ruled.iter().filter(|(name, _)| !labels.contains_key(*name));
    let ruled = ruled.map(|(name, value)| LabelView { name: name.clone(), value: value.clone(), rule: rule(name) });
    let mut all: Vec<LabelView> = own.chain(ruled).collect();
    all.sort_by(|one, other| one.name.cmp(&other.name));
    all
}

/// What a policy makes of a node; nothing if there is nothing to say.
pub(super) fn silence(
    since: Option<OffsetDateTime>,
    millis: Option<i64>,
    aside_by: Option<String>,
    held: Option<String>,
) -> Option<SilenceView> {
    let seconds = millis.unwrap_or_default() / 1000;
    (since.is_some() || aside_by.is_some()).then_some(SilenceView { since, seconds, aside_by, held })
}

impl Row {
    fn view(self) -> NodeView {
        NodeView {
            id: NodeId(self.id),
            standing: standing(&self.standing),
            name: self.name,
            provider: self.provider,
            state: self.state,
            code: self.code,
            reason: self.reason,
            address: self.address,
            deployment: self.deployment,
            group: self.group_name,
            owned: self.owned,
            facts: self.facts,
            labels: labels(&self.labels, &self.ruled, &self.ruled_by),
            silence: silence(self.silent_since, self.silent_ms, self.aside_by, self.held),
            changed_at: self.changed_at,
        }
    }
}

// That two nodes are one machine is computed, for each of them may be the later one.
macro_rules! rows {
    ($which:literal, $($value:expr),*) => {
        sqlx::query_as!(
            Row,
            r#"select n.node_id as id, n.name, n.provider, n.standing,
                      case when n.rebuild and n.state <> 'failed' then 'rebuilding' else n.state end as "state!", n.address, d.name as "deployment?",
                      n.group_name, n.owned_by is not null as "owned!", n.changed_at,
                      l.silent_since as "silent_since?", l.silent_ms as "silent_ms?", l.aside_by as "aside_by?", l.held as "held?",
                      n.ruled || n.labels || n.facts || jsonb_build_object('generation', n.generation) as "facts!",
                      n.labels as "labels: Json<Object>", n.ruled as "ruled: Json<Object>", n.ruled_by as "ruled_by: Json<Object>",
                      coalesce(n.code, case when twin.names is not null then 'node-twin' end) as code,
                      coalesce(n.reason, 'has the machine id of ' || twin.names
                          || ': one machine under several names, or a copied image') as reason
               from node n
                    left join deployment d on d.deployment_id = n.deployment_id
                    left join look l on l.node_id = n.node_id
                    left join lateral (
                        select string_agg(t.name, ', ' order by t.name) as names from node t
                        where t.machine_id = n.machine_id and t.node_id <> n.node_id
                              and t.state not in ('virtual', 'gone')
                    ) twin on true
               where n.state not in ('virtual', 'gone') and "# + $which,
            $($value),*
        )
    };
}

/// Nodes by name; `after` is the last name of the page before.
pub async fn nodes(pool: &PgPool, after: Option<&str>, limit: i64) -> Result<Vec<NodeView>, StoreError> {
    let rows = rows!("n.name > $1 order by n.name limit $2", after.unwrap_or_default(), limited(limit))
        .fetch_all(pool)
        .await
        .map_err(failed("reading nodes"))?;
    Ok(rows.into_iter().map(Row::view).collect())
}

/// One node.
pub async fn node(pool: &PgPool, name: &str) -> Result<Option<NodeView>, StoreError> {
    let row = rows!("n.name = $1", name).fetch_optional(pool).await.map_err(failed("reading a node"))?;
    Ok(row.map(Row::view))
}

/// The nodes of a deployment: those bound to it, and those made for it that are on their way out.
pub(super) async fn of_deployment(connection: &mut PgConnection, id: Uuid) -> Result<Vec<NodeView>, StoreError> {
    let rows = rows!("(n.deployment_id = $1 or n.owned_by = $1) order by n.group_name, n.position, n.name", id)
        .fetch_all(connection)
        .await
        .map_err(failed("reading the nodes of a deployment"))?;
    Ok(rows.into_iter().map(Row::view).collect())
}
