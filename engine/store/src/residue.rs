//! What was promised to go and is still there. Written where it becomes known, kept when everything else is gone.

use engine_core::id::{JobId, NodeId, VertexId};
use serde_json::{Value, json};
use sqlx::PgPool;
use uuid::Uuid;

use crate::StoreError;
use crate::error::doing;
use crate::pass::{EVENTS, Locked};

impl Locked {
    /// Notes what removes that just ended could not take away.
    pub(crate) async fn note_left(&mut self, jobs: &[JobId]) -> Result<(), StoreError> {
        if jobs.is_empty() {
            return Ok(());
        }
        let ids: Vec<Uuid> = jobs.iter().map(|job| job.0).collect();
        sqlx::query!(
            "insert into residue (deployment_id, node, role, kind, things, reason, job_id, found_at)
             select j.deployment_id, n.name, v.role, 'left', j.residue, 'its remove could not take it away', j.job_id,
                    clock_timestamp()
             from job j join vertex v using (vertex_id) join node n on n.node_id = v.node_id
             where j.job_id = any($1) and jsonb_typeof(j.residue) = 'array'",
            &ids
        )
        .execute(&mut *self.tx)
        .await
        .map_err(doing("noting residue"))?;
        Ok(())
    }

    /// Notes vertices that went without their remove: what they had made was never taken away by us.
    pub(crate) async fn note_skipped(&mut self, skipped: &[(VertexId, &'static str)]) -> Result<(), StoreError> {
        if skipped.is_empty() {
            return Ok(());
        }
        let (ids, reasons): (Vec<Uuid>, Vec<String>) =
            skipped.iter().map(|(vertex, reason)| (vertex.0, (*reason).to_owned())).unzip();
        sqlx::query!(
            "insert into residue (deployment_id, node, role, kind, things, reason, found_at)
             select v.deployment_id, n.name, v.role, 'skipped', '[]', u.reason, clock_timestamp()
             from unnest($1::uuid[], $2::text[]) as u(vertex_id, reason)
             join vertex v using (vertex_id) join node n using (node_id)
             where v.role not like '% %'
                   and exists (select from job j where j.vertex_id = v.vertex_id and j.action = 'apply')",
            &ids,
            &reasons
        )
        .execute(&mut *self.tx)
        .await
        .map_err(doing("noting what was not removed"))?;
        Ok(())
    }
}

/// Notes what the agent of a node found when everything had left: by node role, `KIND:NAME` each. What is noted
/// already is not noted twice.
pub async fn note_found(pool: &PgPool, node: NodeId, found: &[(VertexId, Vec<String>)]) -> Result<(), StoreError> {
    let failed = doing("noting what was found on a node");
    let rows: Value = found
        .iter()
        .flat_map(|(vertex, things)| things.iter().map(move |thing| json!({"vertex_id": vertex, "thing": thing})))
        .collect();
    sqlx::query!(
        r#"with u as (select * from jsonb_to_recordset($2) as u(vertex_id uuid, thing text))
           insert into residue (deployment_id, node, role, kind, things, reason, found_at)
           select v.deployment_id, n.name, v.role, 'found', jsonb_agg(u.thing order by u.thing),
                  'it was there when everything had left', clock_timestamp()
           from u join vertex v using (vertex_id) join node n on n.node_id = $1
           where not exists (
               select from residue r
               where r.deployment_id = v.deployment_id and r.node = n.name and r.role = v.role and r.things ? u.thing)
           group by v.deployment_id, n.name, v.role"#,
        node.0,
        rows
    )
    .execute(pool)
    .await
    .map_err(&failed)?;
    sqlx::query!("select pg_notify($1, '')", EVENTS).execute(pool).await.map_err(&failed)?;
    Ok(())
}
