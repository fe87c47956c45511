//! Values that cross from one deployment to another.
//!
//! The exporter's turns mark what they told anew (`moved`), in the transaction in which they told it. The importer takes it
//! in under its own lock, as a numbered change. Neither ever holds the other's lock; a commit that imports looks at its
//! exporters before it writes.

use std::collections::{BTreeMap, BTreeSet};

use engine_core::graph::{Graph, GraphOutput};
use engine_core::id::DeploymentId;
use engine_core::settle::commit::readers_of_imports;
use engine_core::settle::{Cause, Turn, Written};
use engine_core::state::State;
use serde_json::{Value, json};
use sqlx::types::Json;
use sqlx::{PgExecutor, PgPool};
use uuid::Uuid;

use crate::StoreError;
use crate::error::doing;
use crate::pass::{self, EVENTS, Locked, Revisions, WORK};

/// Who is said to have moved what an import touches.
const BY: &str = "import";

/// What another deployment reads of this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Importer {
    /// The other deployment.
    pub deployment: String,
    /// Its name of the import.
    pub import: String,
    /// The export.
    pub export: String,
    /// The schema that the value has to fit.
    pub wanted: Value,
}

/// What a deployment exports.
#[derive(Clone, Debug, Default)]
pub struct Exported {
    /// By export its schema.
    pub schemas: BTreeMap<String, Value>,
    /// By export its value, as far as it is told.
    pub values: BTreeMap<String, Value>,
}

/// Who imports from a deployment.
pub async fn importers(executor: impl PgExecutor<'_>, exporter: DeploymentId) -> Result<Vec<Importer>, StoreError> {
    sqlx::query_as!(
        Importer,
        "select d.name as deployment, i.name as import, i.export, i.wanted
         from import i join deployment d using (deployment_id) where i.exporter = $1 order by d.name, i.name, i.export",
        exporter.0
    )
    .fetch_all(executor)
    .await
    .map_err(doing("looking for who imports"))
}

/// What a deployment exports at the moment; `None` if there is none of this name, or it is on its way out.
pub async fn exported(pool: &PgPool, name: &str) -> Result<Option<Exported>, StoreError> {
    let rows = sqlx::query!(
        r#"select e.key as "export?", r.graph -> 'roles' -> (e.value ->> 0) -> 'outputs' -> (e.value ->> 1) as "output: Json<GraphOutput>",
                  v.outputs -> (e.value ->> 1) as value
           from deployment d join revision r on r.deployment_id = d.deployment_id and r.number = d.revision
                left join lateral jsonb_each(r.graph -> 'exports') e on true
                left join vertex v on v.deployment_id = d.deployment_id and v.node_id = d.virtual_node
                          and v.role = e.value ->> 0 and v.serving and not v.gone
           where d.name = $1 and d.state = 'active'"#,
        name
    )
    .fetch_all(pool)
    .await
    .map_err(doing("reading what is exported"))?;
    if rows.is_empty() {
        return Ok(None);
    }
    let mut exported = Exported::default();
    for row in rows {
        let Some(export) = row.export else { continue };
        exported.values.extend(row.value.map(|value| (export.clone(), value)));
        exported.schemas.extend(row.output.map(|output| (export, schema(&output.0))));
    }
    Ok(Some(exported))
}

/// The schema of an output as others see it: of one that is secret it says so.
fn schema(output: &GraphOutput) -> Value {
    if !output.secret {
        return output.schema.clone();
    }
    match &output.schema {
        Value::Object(schema) => {
            let mut schema = schema.clone();
            schema.insert("writeOnly".to_owned(), Value::Bool(true));
            Value::Object(schema)
        }
        other => json!({"allOf": [other], "writeOnly": true}),
    }
}

/// By export the schema of the output that it stands for.
pub fn schemas(graph: &Graph) -> BTreeMap<String, Value> {
    let schema = |role: &str, output: &str| Some(schema(graph.roles.get(role)?.outputs.get(output)?));
    graph.exports.iter().filter_map(|(export, (role, output))| Some((export.clone(), schema(role, output)?))).collect()
}

/// Why a commit can not bind its imports.
pub(crate) enum Unbound {
    /// An exporter is not there any more.
    Gone,
    /// They import, over others, from this very deployment.
    Cycle,
}

/// Importers to which a change of value may have been told since they last looked.
pub async fn moved(pool: &PgPool) -> Result<Vec<DeploymentId>, StoreError> {
    let ids = sqlx::query_scalar!("select distinct deployment_id from import where moved")
        .fetch_all(pool)
        .await
        .map_err(doing("looking for imports that moved"))?;
    Ok(ids.into_iter().map(DeploymentId).collect())
}

/// Takes in what exporters told an importer since it last looked: readers of what is another value are touched, a numbered
/// change like any other. An export that is not told any more keeps its last value.
pub async fn take_in(pool: &PgPool, importer: DeploymentId, known: &Revisions) -> Result<(), StoreError> {
    let failed = doing("taking in imports");
    let Some(mut locked) = pass::lock(pool, importer).await? else { return Ok(()) };
    let revision = locked.revision(known).await?;
    locked.hold_budgets(&revision.graph).await?;
    // Whoever tells something now waits for these rows, and marks them again.
    let looked = sqlx::query!(
        "update import set moved = false where deployment_id = $1 and moved returning name, export",
        importer.0
    )
    .fetch_all(&mut *locked.tx)
    .await
    .map_err(&failed)?;
    let rows = sqlx::query!(
        r#"select i.name, i.export, d.name as exporter, i.body, v.outputs -> (r.graph -> 'exports' -> i.export ->> 1) as now
           from import i join deployment d on d.deployment_id = i.exporter
                join revision r on r.deployment_id = d.deployment_id and r.number = d.revision
                left join vertex v on v.deployment_id = d.deployment_id and v.node_id = d.virtual_node
                          and v.role = r.graph -> 'exports' -> i.export ->> 0 and v.serving and not v.gone
           where i.deployment_id = $1"#,
        importer.0
    )
    .fetch_all(&mut *locked.tx)
    .await
    .map_err(&failed)?;
    let (mut imports, mut keys, mut why) = (BTreeSet::new(), Vec::new(), Vec::new());
    for row in rows.iter().filter(|row| looked.iter().any(|by| (&by.name, &by.export) == (&row.name, &row.export))) {
        let Some(now) = row.now.as_ref().filter(|now| row.body.as_ref() != Some(now)) else { continue };
        sqlx::query!(
            "update import set body = $4 where deployment_id = $1 and name = $2 and export = $3",
            importer.0,
            row.name,
            row.export,
            now
        )
        .execute(&mut *locked.tx)
        .await
        .map_err(&failed)?;
        imports.insert(format!("{}.{}", row.name, row.export));
        let cause = Cause::Import { deployment: row.exporter.clone(), export: row.export.clone() };
        keys.push(cause.to_string());
        why.push(json!({"import": row.name, "export": row.export, "of": row.exporter}));
    }
    if !imports.is_empty() {
        let ids = locked.vertices_at(readers_of_imports(&revision.graph, &imports)).await?;
        locked.next_change().await?;
        let mut turn = Turn::new(&revision.graph, locked.hood(&ids, &revision.graph).await?);
        for id in ids {
            turn.touch(id, locked.change, &json!({"imports": why}));
        }
        let mut written = turn.finish();
        written.wake.extend(keys);
        locked.write(&written, &revision, None, BY).await?;
        locked.notify(EVENTS).await?;
        locked.notify_work().await?;
    }
    locked.commit().await
}

impl Locked {
    /// Values of imports by `IMPORT.EXPORT`, as this deployment sees them.
    pub(crate) async fn imports(&mut self, graph: &Graph) -> Result<BTreeMap<String, Value>, StoreError> {
        if graph.imports.is_empty() {
            return Ok(BTreeMap::new());
        }
        let rows = sqlx::query!(
            r#"select name, export, body as "body!" from import where deployment_id = $1 and body is not null"#,
            self.id.0
        )
        .fetch_all(&mut *self.tx)
        .await
        .map_err(doing("loading imports"))?;
        Ok(rows.into_iter().map(|row| (format!("{}.{}", row.name, row.export), row.body)).collect())
    }

    /// Marks what a turn told to importers.
    pub(crate) async fn tell(&mut self, written: &Written, graph: &Graph) -> Result<(), StoreError> {
        let told = |role: &str| {
            let rests = |state| state == State::Active;
            written.vertices.iter().any(|vertex| vertex.role == role && rests(vertex.phase.state))
        };
        let exports: Vec<String> =
            graph.exports.iter().filter(|(_, (role, _))| told(role)).map(|(export, _)| export.clone()).collect();
        if exports.is_empty() {
            return Ok(());
        }
        // Also those marked already: whoever takes in is waited for, else it could miss this.
        let importers = sqlx::query_scalar!(
            "update import set moved = true where exporter = $1 and export = any($2) returning deployment_id",
            self.id.0,
            &exports
        )
        .fetch_all(&mut *self.tx)
        .await
        .map_err(doing("telling importers"))?;
        if !importers.is_empty() {
            self.notify(WORK).await?;
        }
        Ok(())
    }

    /// Holds the deployments that a graph imports from as they are until the end of this transaction. To be asked for before
    /// any import is written. `None`: one of them is not there.
    pub(crate) async fn hold_exporters(&mut self, graph: &Graph) -> Result<Option<BTreeMap<String, Uuid>>, StoreError> {
        let names: Vec<String> = graph.imports.values().map(|imported| imported.deployment.clone()).collect();
        if names.is_empty() {
            return Ok(Some(BTreeMap::new()));
        }
        let rows = sqlx::query!(
            "select name, deployment_id from deployment where name = any($1) and state = 'active' order by name for share",
            &names
        )
        .fetch_all(&mut *self.tx)
        .await
        .map_err(doing("looking for exporters"))?;
        let found: BTreeMap<String, Uuid> = rows.into_iter().map(|row| (row.name, row.deployment_id)).collect();
        Ok(names.iter().all(|name| found.contains_key(name)).then_some(found))
    }

    /// Writes what a revision imports; all of it is looked at again.
    pub(crate) async fn bind_imports(&mut self, graph: &Graph) -> Result<Result<(), Unbound>, StoreError> {
        let failed = doing("binding imports");
        let Some(exporters) = self.hold_exporters(graph).await? else { return Ok(Err(Unbound::Gone)) };
        // After other deployments, before what their turns write.
        self.hold_budgets(graph).await?;
        let (mut names, mut exports, mut from, mut wanted) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (name, imported) in &graph.imports {
            for (export, schema) in &imported.exports {
                names.push(name.clone());
                exports.push(export.clone());
                from.push(exporters[&imported.deployment]);
                wanted.push(schema.clone());
            }
        }
        sqlx::query!(
            "delete from import i where i.deployment_id = $1
                    and not exists (select from unnest($2::text[], $3::text[]) as n(name, export)
                                    where n.name = i.name and n.export = i.export)",
            self.id.0,
            &names,
            &exports
        )
        .execute(&mut *self.tx)
        .await
        .map_err(&failed)?;
        sqlx::query!(
            "insert into import (deployment_id, name, export, exporter, wanted, moved)
             select $1, n.name, n.export, n.exporter, n.wanted, true
             from unnest($2::text[], $3::text[], $4::uuid[], $5::jsonb[]) as n(name, export, exporter, wanted)
             on conflict (deployment_id, name, export)
             do update set exporter = excluded.exporter, wanted = excluded.wanted, moved = true,
                           body = case when import.exporter = excluded.exporter then import.body end",
            self.id.0,
            &names,
            &exports,
            &from,
            &wanted
        )
        .execute(&mut *self.tx)
        .await
        .map_err(&failed)?;
        let cycle = sqlx::query_scalar!(
            r#"with recursive up (id) as (
                   select exporter from import where deployment_id = $1
                   union select i.exporter from import i join up on i.deployment_id = up.id)
               select exists (select from up where id = $1) as "cycle!""#,
            self.id.0
        )
        .fetch_one(&mut *self.tx)
        .await
        .map_err(&failed)?;
        Ok(if cycle { Err(Unbound::Cycle) } else { Ok(()) })
    }

    /// After a commit: whoever imports from here looks again, for other outputs may be exported now.
    pub(crate) async fn tell_all(&mut self) -> Result<(), StoreError> {
        sqlx::query!("update import set moved = true where exporter = $1", self.id.0)
            .execute(&mut *self.tx)
            .await
            .map_err(doing("telling importers"))?;
        Ok(())
    }
}
