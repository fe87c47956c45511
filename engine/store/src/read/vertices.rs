//! Node roles as rows, and what holds them.

use std::collections::HashMap;

use engine_core::graph::{VIRTUAL, is_helper};
use engine_core::id::{JobId, NodeId, VertexId};
use engine_core::settle::Cause;
use engine_core::state::{Goal, State};
use engine_core::view::{CauseView, NodeRoleView, Progress};
use engine_core::why::{self, Chain, Known, NodeStand, Stand, Want};
use sqlx::types::Json;
use sqlx::{PgConnection, PgPool};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{MOST, failed, moment, nodes};
use crate::{StoreError, outages};

/// A vertex with what is shown of it.
#[derive(Clone)]
pub(super) struct Row {
    pub(super) id: Uuid,
    pub(super) deployment_id: Uuid,
    pub(super) node: String,
    pub(super) role: String,
    state: String,
    goal: String,
    serving: bool,
    paused: bool,
    cause: Option<String>,
    code: Option<String>,
    message: Option<String>,
    job: Option<Uuid>,
    progress: Option<Json<Progress>>,
    saw: Option<String>,
    attempts: i32,
    retry_at: Option<OffsetDateTime>,
    changed_at: OffsetDateTime,
}

impl Row {
    /// As stored; CHECKs leave no other word.
    pub(super) fn state(&self) -> State {
        State::parse(&self.state).unwrap_or(State::Gone)
    }

    pub(super) fn goal(&self) -> Goal {
        if self.goal == "absent" { Goal::Absent } else { Goal::Present }
    }

    /// The budget of all deployments that it waits for, if it does.
    pub(super) fn shared(&self) -> Option<String> {
        match self.cause.as_deref()?.parse() {
            Ok(Cause::Shared { budget }) => Some(budget),
            _ => None,
        }
    }

    pub(super) fn stand(&self) -> Stand {
        Stand {
            node: self.node.clone(),
            role: self.role.clone(),
            state: self.state(),
            goal: self.goal(),
            code: self.code.clone(),
            retry_at: self.retry_at,
            saw: self.saw.clone(),
            cause: self.cause.as_deref().and_then(|key| key.parse().ok()),
            paused: self.paused,
        }
    }

    /// For people; `says` is what holds it.
    pub(super) fn view(self, says: impl FnOnce() -> String) -> NodeRoleView {
        let (state, goal) = (self.state(), self.goal());
        NodeRoleView {
            id: VertexId(self.id),
            node: self.node,
            role: self.role,
            state,
            goal,
            serving: self.serving,
            paused: self.paused,
            cause: self.cause.map(|key| CauseView { key, says: says() }),
            code: self.code.filter(|_| state == State::Failed),
            message: self.message,
            job: self.job.map(JobId),
            progress: self.progress.map(|json| json.0),
            saw: self.saw,
            attempts: self.attempts,
            retry_at: self.retry_at,
            changed_at: self.changed_at,
        }
    }
}

macro_rules! rows {
    ($which:literal, $($value:expr),*) => {
        sqlx::query_as!(
            Row,
            r#"select v.vertex_id as id, v.deployment_id, v.role, v.state, v.goal, v.serving, v.paused, v.cause, v.code,
                      v.job_id as job, v.attempts, v.changed_at, j.progress as "progress?: Json<Progress>",
                      j.saw as "saw?",
                      case when n.state = 'virtual' then $1 else n.name end as "node!",
                      case when v.state = 'failed' then v.retry_at end as retry_at,
                      case when v.state = 'failed' then
                          (select l.message from job l where l.vertex_id = v.vertex_id and not l.beside order by l.claimed_at desc limit 1)
                      end as message
               from vertex v join node n on n.node_id = v.node_id left join job j on j.job_id = v.job_id
               where not v.gone and "# + $which,
            VIRTUAL,
            $($value),*
        )
    };
}

/// All vertices of a deployment, helpers too.
pub(super) async fn all(connection: &mut PgConnection, deployment: Uuid) -> Result<Vec<Row>, StoreError> {
    rows!("v.deployment_id = $2", deployment).fetch_all(connection).await.map_err(failed("reading node roles"))
}

/// The vertex of a role on a node of a deployment.
pub(super) async fn at(
    connection: &mut PgConnection,
    deployment: &str,
    node: &str,
    role: &str,
) -> Result<Option<Row>, StoreError> {
    let Some(deployment) = sqlx::query!(
        "select deployment_id, virtual_node from deployment where name = $1 order by state = 'gone' limit 1",
        deployment
    )
    .fetch_optional(&mut *connection)
    .await
    .map_err(failed("looking for a deployment"))?
    else {
        return Ok(None);
    };
    rows!(
        "v.deployment_id = $2 and v.role = $3
         and (case when n.node_id = $4 then $1 = $5 else n.name = $5 end)
         limit 1",
        deployment.deployment_id,
        role,
        deployment.virtual_node,
        node
    )
    .fetch_optional(connection)
    .await
    .map_err(failed("looking for a node role"))
}

/// The id of a node role.
pub async fn vertex(pool: &PgPool, deployment: &str, node: &str, role: &str) -> Result<Option<VertexId>, StoreError> {
    let mut connection = pool.acquire().await.map_err(failed("looking for a node role"))?;
    Ok(at(&mut connection, deployment, node, role).await?.map(|row| VertexId(row.id)))
}

/// The node roles on a node, by name; helpers have no node of their own.
pub async fn node_roles(pool: &PgPool, node: &str) -> Result<Vec<NodeRoleView>, StoreError> {
    let mut tx = moment(pool).await?;
    let rows = rows!("n.name = $2 and n.state not in ('virtual', 'gone') order by v.role limit $3", node, MOST)
        .fetch_all(&mut *tx)
        .await
        .map_err(failed("reading the node roles of a node"))?;
    let mut known: HashMap<Uuid, Known> = HashMap::new();
    let mut views = Vec::new();
    for row in rows.into_iter().filter(|row| !is_helper(&row.role)) {
        let known = known.entry(row.deployment_id).or_default();
        let chain = chain(&mut tx, &row, known).await?;
        views.push(row.view(|| why::says(&chain, known)));
    }
    Ok(views)
}

/// Follows the causes of one vertex, loading what they lead to.
pub(super) async fn chain(connection: &mut PgConnection, row: &Row, known: &mut Known) -> Result<Chain, StoreError> {
    known.vertices.insert(VertexId(row.id), Some(row.stand()));
    loop {
        match why::follow(VertexId(row.id), known) {
            Ok(chain) => return Ok(chain),
            Err(want) => load(connection, row.deployment_id, want, known).await?,
        }
    }
}

async fn load(
    connection: &mut PgConnection,
    deployment: Uuid,
    want: Want,
    known: &mut Known,
) -> Result<(), StoreError> {
    let doing = failed("following what holds a node role");
    match want {
        Want::Vertex(id) => {
            let row = rows!("v.vertex_id = $2", id.0).fetch_optional(connection).await.map_err(doing)?;
            known.vertices.insert(id, row.map(|row| row.stand()));
        }
        Want::Stale(role) => {
            let found = worst(connection, deployment, &role, "present", known).await?;
            known.stale.insert(role, found);
        }
        Want::Leaving(role) => {
            let found = worst(connection, deployment, &role, "absent", known).await?;
            known.leaving.insert(role, found);
        }
        Want::Holder(budget) => {
            let row = rows!(
                "v.deployment_id = $2 and v.since is not null and v.node_id in
                     (select t.node_id from token t where t.deployment_id = $2 and t.budget = $3)
                 order by array_position(array['failed', 'running', 'ready', 'blocked'], v.state), n.name limit 1",
                deployment,
                budget
            )
            .fetch_optional(&mut *connection)
            .await
            .map_err(doing)?;
            let found = row.map(|row| (VertexId(row.id), row.stand()));
            known.holders.insert(budget, found.as_ref().map(|(id, _)| *id));
            known.vertices.extend(found.map(|(id, stand)| (id, Some(stand))));
        }
        Want::Elsewhere(budget) => {
            let found = outages::elsewhere(connection, &budget).await?;
            known.elsewhere.insert(budget, found);
        }
        Want::Node(id) => {
            let row = sqlx::query!(
                r#"select n.name, case when n.rebuild and n.state <> 'failed' then 'rebuilding' else n.state end as "state!",
                          n.standing, n.code, l.silent_since as "silent_since?", l.silent_ms as "silent_ms?",
                          l.aside_by as "aside_by?", l.held as "held?"
                   from node n left join look l using (node_id) where n.node_id = $1"#,
                id.0
            )
            .fetch_optional(connection)
            .await
            .map_err(doing)?;
            let stand = row.map(|row| NodeStand {
                name: row.name,
                state: row.state,
                standing: nodes::standing(&row.standing),
                code: row.code,
                silence: nodes::silence(row.silent_since, row.silent_ms, row.aside_by, row.held),
            });
            known.nodes.insert(id, stand);
        }
    }
    Ok(())
}

/// The stale instance of a role that is most worth naming.
async fn worst(
    connection: &mut PgConnection,
    deployment: Uuid,
    role: &str,
    goal: &str,
    known: &mut Known,
) -> Result<Option<VertexId>, StoreError> {
    let row = rows!(
        "v.deployment_id = $2 and v.role = $3 and v.goal = $4 and v.since is not null
         order by array_position(array['failed', 'running', 'ready', 'blocked'], v.state), n.name limit 1",
        deployment,
        role,
        goal
    )
    .fetch_optional(connection)
    .await
    .map_err(failed("following what holds a node role"))?;
    Ok(row.map(|row| {
        let id = VertexId(row.id);
        known.vertices.insert(id, Some(row.stand()));
        id
    }))
}

/// Everything of a deployment, so that no chain has to load anything.
pub(super) fn whole(
    rows: &[Row],
    nodes: impl Iterator<Item = (NodeId, NodeStand)>,
    holders: &[(String, String)],
) -> Known {
    let mut known = Known { whole: true, ..Known::default() };
    known.nodes = nodes.map(|(id, stand)| (id, Some(stand))).collect();
    for row in rows {
        known.add(VertexId(row.id), row.stand());
    }
    for (budget, node) in holders {
        let on = rows.iter().filter(|row| row.node == *node && row.state().is_stale());
        let worst = on.max_by_key(|row| row.stand().weight()).map(|row| VertexId(row.id));
        let named = known.holders.entry(budget.clone()).or_default();
        *named = worst.or(*named);
    }
    known
}

/// Which nodes hold of which budgets.
pub(super) async fn holders(
    connection: &mut PgConnection,
    deployment: Uuid,
) -> Result<Vec<(String, String)>, StoreError> {
    let rows = sqlx::query!(
        r#"select t.budget, case when n.state = 'virtual' then $2 else n.name end as "node!"
           from token t join node n using (node_id) where t.deployment_id = $1 order by t.budget, t.failed, n.name"#,
        deployment,
        VIRTUAL
    )
    .fetch_all(connection)
    .await
    .map_err(failed("reading what nodes hold of budgets"))?;
    Ok(rows.into_iter().map(|row| (row.budget, row.node)).collect())
}
