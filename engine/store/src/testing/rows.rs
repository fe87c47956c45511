//! Rows as an engine would have left them, for tests of what is read.

use std::collections::BTreeMap;
use std::time::Duration;

use engine_core::graph::{Graph, VIRTUAL};
use engine_core::id::DeploymentId;
use serde_json::{Value, json};
use sqlx::{Executor, Postgres, Transaction};
use uuid::Uuid;

use super::Database;

/// The tallies of all deployments, counted anew.
const TALLIES: &str = "
    delete from tally;
    insert into tally (deployment_id, role, stale, failed, leaving, active, unawaited)
    select deployment_id, role, count(*) filter (where goal = 'present' and since is not null),
           count(*) filter (where goal = 'present' and state = 'failed'),
           count(*) filter (where goal = 'absent' and state <> 'gone'),
           count(*) filter (where goal = 'present' and state = 'active'), 0
    from vertex group by deployment_id, role";

const DEPLOYMENT: &str = "
    insert into deployment (deployment_id, name, workload, state, revision, virtual_node, created_at, changed_at)
    select ($1->>'id')::uuid, $1->>'name', $1->>'workload', 'active', 1, ($1->>'virtual')::uuid,
           '2026-01-01T10:00:00Z', '2026-01-01T10:00:00Z'";

const REVISION: &str = "
    insert into revision
    select ($1->>'id')::uuid, 1, $1->'document', $1->'graph', '{}', '{}', 'root', '2026-01-01T10:00:00Z'";

const NODE: &str = "
    insert into node (node_id, name, provider, deployment_id, group_name, state, address, port, created_at, changed_at)
    select ($1->>'id')::uuid, $1->>'name', 'simulated', ($1->>'deployment')::uuid, $1->>'group', $1->>'state',
           $1->>'name', 22, '2026-01-01T10:00:00Z', '2026-01-01T10:00:00Z'";

const VERTEX: &str = "
    insert into vertex (vertex_id, deployment_id, role, node_id, state, goal, armed, touched, rebound, applying, started,
                        wake, serving, attempts, changed_at)
    select ($1->>'id')::uuid, ($1->>'deployment')::uuid, $1->>'role', ($1->>'node')::uuid, 'active', 'present', false,
           false, false, false, true, false, true, 1, '2026-01-01T10:00:00Z'";

const JOB: &str = "
    insert into job (job_id, deployment_id, vertex_id, node_id, action, attempt, fence, revision, content, digest, inputs,
                     claimed_at, finished_at, outcome)
    select ($1->>'id')::uuid, deployment_id, vertex_id, node_id, 'apply', 1, 1, 1, '', '', '{}',
           ($1->>'at')::timestamptz, case when $1->>'outcome' is not null then ($1->>'at')::timestamptz end,
           $1->>'outcome'
    from vertex where vertex_id = ($1->>'vertex')::uuid";

impl Database {
    /// Runs statements.
    ///
    /// # Panics
    /// When Postgres refuses them.
    pub async fn run(&self, statements: &str) {
        let statements = sqlx::AssertSqlSafe(statements.to_owned());
        self.pool().execute(statements).await.expect("Postgres takes the statements of a test");
    }

    /// Whether there is a row of a table of which this is true.
    ///
    /// # Panics
    /// When Postgres refuses the question.
    pub async fn has(&self, table: &str, condition: &str) -> bool {
        let question = sqlx::AssertSqlSafe(format!("select exists (select from {table} where {condition})"));
        sqlx::query_scalar(question).fetch_one(self.pool()).await.expect("Postgres takes the question of a test")
    }

    /// A committed deployment, all of it active; its nodes are up.
    ///
    /// # Panics
    /// When it can not be written.
    pub async fn deployment(&self, graph: &Graph) -> DeploymentId {
        let (deployment, virtual_node) = (Uuid::now_v7(), Uuid::now_v7());
        let (name, workload) = (&graph.deployment, &graph.workload);
        let row = json!({"id": deployment, "name": name, "workload": workload, "virtual": virtual_node});
        self.insert(DEPLOYMENT, row).await;
        let document = json!({"deployment": name, "workload": workload});
        self.insert(REVISION, json!({"id": deployment, "document": document, "graph": graph})).await;
        let row = json!({"id": virtual_node, "name": name, "deployment": deployment, "state": "virtual"});
        self.insert(NODE, row).await;
        let mut ids = BTreeMap::from([(VIRTUAL, virtual_node)]);
        for (name, node) in &graph.nodes {
            let id = Uuid::now_v7();
            let row = json!({"id": id, "name": name, "deployment": deployment, "group": node.group, "state": "up"});
            self.insert(NODE, row).await;
            ids.insert(name, id);
        }
        for role in graph.roles.values() {
            for node in &role.bound {
                let node = ids[node.as_str()];
                let row = json!({"id": Uuid::now_v7(), "deployment": deployment, "role": role.name, "node": node});
                self.insert(VERTEX, row).await;
            }
        }
        self.run(TALLIES).await;
        DeploymentId(deployment)
    }

    /// Sets columns of the node role `NODE/ROLE`.
    ///
    /// # Panics
    /// When there is none, or Postgres refuses.
    pub async fn set(&self, place: &str, columns: &str) {
        let place = self.place(place).await;
        self.run(&format!("update vertex set {columns} where vertex_id = '{place}'; {TALLIES}")).await;
    }

    /// The id of the vertex `NODE/ROLE`.
    ///
    /// # Panics
    /// When there is none.
    pub async fn place(&self, place: &str) -> Uuid {
        let (node, role) = place.split_once('/').expect("NODE/ROLE");
        sqlx::query_scalar(
            "select vertex_id from vertex v join node n using (node_id)
             where v.role = $2 and v.state <> 'gone'
                   and case when n.state = 'virtual' then 'deployment' else n.name end = $1",
        )
        .bind(node)
        .bind(role)
        .fetch_one(self.pool())
        .await
        .expect("the node role of a test is there")
    }

    /// A job of the node role `NODE/ROLE`, begun at this second of a minute; an outcome makes it a finished one.
    ///
    /// # Panics
    /// When it can not be written.
    pub async fn job(&self, place: &str, second: u32, outcome: Option<&str>) -> Uuid {
        let (id, vertex) = (Uuid::now_v7(), self.place(place).await);
        let at = format!("2026-01-01T10:00:{second:02}Z");
        self.insert(JOB, json!({"id": id, "vertex": vertex, "at": at, "outcome": outcome})).await;
        id
    }

    /// Takes the running job of the node role `NODE/ROLE` away from whoever follows it.
    ///
    /// # Panics
    /// When it has none.
    pub async fn take_away(&self, place: &str) {
        let take = "update job set fence = fence + 1, engine_id = null where vertex_id = $1 and finished_at is null";
        let vertex = self.place(place).await;
        let took = sqlx::query(take).bind(vertex).execute(self.pool()).await.expect("Postgres takes it away");
        assert_eq!(took.rows_affected(), 1, "{place} has a running job");
    }

    /// Of each job of a deployment its claims, and how often it moved its node role with or after its end.
    ///
    /// # Panics
    /// When Postgres refuses.
    pub async fn claims(&self, deployment: &str) -> Vec<(i64, i64)> {
        sqlx::query_as(
            "select fence, (select count(*) from event e where e.job_id = j.job_id and e.kind = 'node-role.done' and e.at >= j.finished_at)
             from job j join deployment d using (deployment_id) where d.name = $1 order by fence",
        )
        .bind(deployment)
        .fetch_all(self.pool())
        .await
        .expect("Postgres knows its jobs")
    }

    /// An event of the node role `NODE/ROLE`, with the hint that goes with it.
    ///
    /// # Panics
    /// When it can not be written.
    pub async fn event(&self, place: &str, kind: &str) {
        let vertex = self.place(place).await;
        self.run(&format!(
            "insert into event (at, kind, deployment_id, node_id, vertex_id, principal, detail)
             select now(), '{kind}', deployment_id, node_id, vertex_id, 'engine', '{{}}' from vertex
             where vertex_id = '{vertex}';
             select pg_notify('plinth_events', '')"
        ))
        .await;
    }

    /// A transaction that writes: while it lasts, events written after its begin may not be read.
    ///
    /// # Panics
    /// When Postgres refuses.
    pub async fn older(&self) -> Transaction<'static, Postgres> {
        let mut older = self.pool().begin().await.expect("a transaction begins");
        older.execute("select pg_current_xact_id()").await.expect("a transaction has an id");
        older
    }

    /// Waits until this event may be read: until every older transaction has ended, those of other databases on the
    /// same server included.
    ///
    /// # Panics
    /// When Postgres refuses.
    pub async fn settled(&self, seq: i64) {
        let so = "select tx < pg_snapshot_xmin(pg_current_snapshot()) from event where seq = $1";
        while !sqlx::query_scalar::<_, bool>(so).bind(seq).fetch_one(self.pool()).await.expect("the event is there") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until all events may be read; the number of the newest.
    ///
    /// # Panics
    /// When Postgres refuses.
    pub async fn all_settled(&self) -> i64 {
        let newest = "select coalesce((select seq from event order by tx desc limit 1), 0)";
        let seq: i64 = sqlx::query_scalar(newest).fetch_one(self.pool()).await.expect("events can be read");
        if seq > 0 {
            self.settled(seq).await;
        }
        seq
    }

    async fn insert(&self, statement: &'static str, row: Value) {
        sqlx::query(statement).bind(row).execute(self.pool()).await.expect("Postgres takes the rows of a test");
    }
}
