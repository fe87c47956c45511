//! Committing a revision: the one transaction that puts it in force, if nothing has moved since its plan was made.

mod bind;
mod settle;

use std::collections::{BTreeMap, BTreeSet};

use engine_core::catalog::CatalogRole;
use engine_core::document::{CheckPolicy, Object, OnDrift};
use engine_core::graph::{Graph, NodeName, RoleName, VIRTUAL};
use engine_core::id::{DeploymentId, NodeId};
use engine_core::settle::commit::{concerned, rewired};
use engine_core::silence::Times;
use serde_json::{Value, json};
use sqlx::PgPool;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::StoreError;
use crate::error::doing;
use crate::imports::{self, Importer, Unbound};
use crate::joining;
use crate::nodes::look;
use crate::pass::{self, EVENTS, Locked, Revision};
use crate::secrets::{self, Kept};

/// A node that a revision binds.
#[derive(Clone, Debug)]
pub struct Binding {
    /// Its name.
    pub name: NodeName,
    /// Its group.
    pub group: String,
    /// To be made: by whom, and with which options.
    pub create: Option<(String, Object)>,
}

/// A revision to be committed.
#[derive(Clone, Debug)]
pub struct Commit {
    /// Name of the deployment.
    pub name: String,
    /// The revision that the plan was made from; `None` if there was no deployment of this name.
    pub seen: Option<i32>,
    /// The document.
    pub document: Value,
    /// The secrets of document and graph, which have tokens in their places.
    pub secrets: Kept,
    /// The graph, without leavers' roles.
    pub graph: Graph,
    /// Deployment role to its role with everything.
    pub contents: BTreeMap<RoleName, CatalogRole>,
    /// The plan, kept for history.
    pub plan: Value,
    /// Its nodes.
    pub bindings: Vec<Binding>,
    /// By group the highest index ever used.
    pub highest: BTreeMap<String, u32>,
    /// Everything leaves.
    pub destroying: bool,
    /// When its node roles are checked, and what becomes of drift.
    pub check: CheckPolicy,
    /// Nodes join some group by themselves.
    pub joins: bool,
    /// When it destroys itself.
    pub expires_at: Option<OffsetDateTime>,
    /// Who commits.
    pub by: String,
}

/// What became of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Committed {
    /// It is in force under this number.
    Revision(i32),
    /// Another commit came first; nothing was changed.
    Moved,
    /// A node was taken by another deployment meanwhile, or is gone; nothing was changed.
    NodeTaken(NodeName),
    /// Others import what it would export no more; nothing was changed.
    Imported(Vec<Importer>),
    /// It would import, over others, from itself; nothing was changed.
    ImportCycle,
}

/// Puts a revision in force, if nothing has moved since its plan was made.
pub async fn commit(pool: &PgPool, commit: &Commit) -> Result<Committed, StoreError> {
    let failed = doing("committing a revision");
    let existing = sqlx::query_scalar!("select deployment_id from deployment where name = $1", commit.name)
        .fetch_optional(pool)
        .await
        .map_err(&failed)?;
    let mut locked = match (existing, commit.seen) {
        (Some(id), Some(seen)) => {
            let Some(locked) = pass::lock(pool, DeploymentId(id)).await? else { return Ok(Committed::Moved) };
            if locked.revision != seen {
                locked.roll_back().await?;
                return Ok(Committed::Moved);
            }
            locked
        }
        (None, None) => match begin_new(pool, commit).await? {
            Some(locked) => locked,
            None => return Ok(Committed::Moved),
        },
        _ => return Ok(Committed::Moved),
    };
    let old = match commit.seen {
        Some(_) => Some(locked.revision(&pass::Revisions::default()).await?),
        None => None,
    };
    let importers = imports::importers(&mut *locked.tx, locked.id).await?;
    let misses = |importer: &Importer| commit.destroying || !commit.graph.exports.contains_key(&importer.export);
    let importers: Vec<Importer> = importers.into_iter().filter(misses).collect();
    if !importers.is_empty() {
        locked.roll_back().await?;
        return Ok(Committed::Imported(importers));
    }
    // Leavers read what they read before until they are gone.
    let bound = if commit.destroying {
        locked.hold_budgets(&commit.graph).await?;
        Ok(())
    } else {
        locked.bind_imports(&commit.graph).await?
    };
    if let Err(unbound) = bound {
        locked.roll_back().await?;
        return Ok(match unbound {
            Unbound::Gone => Committed::Moved,
            Unbound::Cycle => Committed::ImportCycle,
        });
    }
    locked.tell_all().await?;
    locked.may_be_read().await?;
    let revision = write_revision(&mut locked, commit, old.as_deref()).await?;
    let before = old.as_ref().map(|old| &old.graph);
    let made = match bind::bind(&mut locked, commit, before).await? {
        Ok(made) => made,
        Err(name) => {
            locked.roll_back().await?;
            return Ok(Committed::NodeTaken(name));
        }
    };
    if !commit.destroying {
        look::enter(&mut locked, Times::of(&commit.graph.policy.silent)).await?;
    }
    if let Some(before) = before {
        wake(&mut locked, &rewired(before, &revision.graph)).await?;
    }
    locked.bind_budgets(&revision.graph).await?;
    settle::settle(&mut locked, &revision, &concerned(before, &commit.graph), &made, &commit.by).await?;
    let totals = commit.plan.get("totals").cloned().unwrap_or_default();
    let kind = if commit.destroying { "deployment.destroying" } else { "deployment.committed" };
    event(&mut locked, kind, &commit.by, json!({"revision": revision.number, "totals": totals})).await?;
    locked.notify(EVENTS).await?;
    locked.notify_work().await?;
    let number = revision.number;
    locked.commit().await?;
    Ok(Committed::Revision(number))
}

/// What was held may be held by something that this revision took away: a budget, an approval, something elsewhere, or,
/// for these roles, a parent on the same node.
async fn wake(locked: &mut Locked, rewired: &BTreeSet<RoleName>) -> Result<(), StoreError> {
    let failed = doing("waking what a revision may have let go");
    sqlx::query!(
        "update vertex set wake = true where deployment_id = $1 and sought is not null and not wake",
        locked.id.0
    )
    .execute(&mut *locked.tx)
    .await
    .map_err(&failed)?;
    if rewired.is_empty() {
        return Ok(());
    }
    let roles: Vec<&str> = rewired.iter().map(String::as_str).collect();
    sqlx::query!(
        "update vertex set wake = true
         where deployment_id = $1 and role = any($2) and not gone and state = 'blocked' and not wake",
        locked.id.0,
        &roles as &[&str]
    )
    .execute(&mut *locked.tx)
    .await
    .map_err(&failed)?;
    Ok(())
}

/// The row of a new deployment; `None` if somebody else was faster.
async fn begin_new(pool: &PgPool, commit: &Commit) -> Result<Option<Locked>, StoreError> {
    let failed = doing("making a deployment");
    let mut tx = pool.begin().await.map_err(&failed)?;
    let (id, virtual_node) = (Uuid::now_v7(), Uuid::now_v7());
    let made = sqlx::query!(
        "insert into deployment (deployment_id, name, workload, state, revision, virtual_node, created_at, changed_at)
         values ($1, $2, $3, 'active', 0, $4, now(), now()) on conflict on constraint deployment_name_taken do nothing",
        id,
        commit.name,
        commit.graph.workload,
        virtual_node
    )
    .execute(&mut *tx)
    .await
    .map_err(&failed)?;
    if made.rows_affected() == 0 {
        return Ok(None);
    }
    sqlx::query!(
        "insert into node (node_id, name, provider, deployment_id, state, created_at, changed_at)
         values ($1, $2, 'engine', null, 'virtual', now(), now())",
        virtual_node,
        VIRTUAL
    )
    .execute(&mut *tx)
    .await
    .map_err(&failed)?;
    Ok(Some(Locked {
        tx,
        id: DeploymentId(id),
        name: commit.name.clone(),
        workload: commit.graph.workload.clone(),
        state: "active".to_owned(),
        paused: false,
        repairs: false,
        change: 0,
        revision: 0,
        virtual_node: NodeId(virtual_node),
    }))
}

async fn write_revision(locked: &mut Locked, commit: &Commit, old: Option<&Revision>) -> Result<Revision, StoreError> {
    let failed = doing("writing a revision");
    let mut contents = BTreeMap::new();
    let mut bodies: BTreeMap<String, Value> = BTreeMap::new();
    for (name, role) in &commit.contents {
        let body = json!(role);
        let hash = engine_core::digest::of(&body);
        contents.insert(name.clone(), hash.clone());
        bodies.insert(hash, body);
    }
    let mut graph = commit.graph.clone();
    if let Some(old) = old {
        engine_core::settle::commit::keep_leavers(&old.graph, &mut graph);
        for (name, hash) in &old.contents {
            contents.entry(name.clone()).or_insert_with(|| hash.clone());
        }
    }
    secrets::keep(&mut *locked.tx, locked.id, &commit.secrets).await?;
    let (hashes, values): (Vec<String>, Vec<Value>) = bodies.into_iter().unzip();
    sqlx::query!(
        "insert into content (hash, body) select * from unnest($1::text[], $2::jsonb[]) on conflict do nothing",
        &hashes,
        &values
    )
    .execute(&mut *locked.tx)
    .await
    .map_err(&failed)?;
    let revision = Revision { number: locked.revision + 1, graph, contents };
    sqlx::query!(
        "insert into revision (deployment_id, number, document, graph, contents, plan, committed_by, committed_at)
         values ($1, $2, $3, $4, $5, $6, $7, now())",
        locked.id.0,
        revision.number,
        commit.document,
        json!(revision.graph),
        json!(revision.contents),
        commit.plan,
        commit.by
    )
    .execute(&mut *locked.tx)
    .await
    .map_err(&failed)?;
    sqlx::query!(
        "update deployment set revision = $2, change = change + 1, state = $3, workload = $4, expires_at = $5,
                joins = $8, on_drift = $6, schedule = $7, check_at = case when schedule is not distinct from $7 then check_at end,
                changed_at = now() where deployment_id = $1",
        locked.id.0,
        revision.number,
        if commit.destroying { "destroying" } else { "active" },
        commit.graph.workload,
        commit.expires_at,
        if commit.check.on_drift == OnDrift::Repair { "repair" } else { "report" },
        commit.check.schedule,
        commit.joins
    )
    .execute(&mut *locked.tx)
    .await
    .map_err(&failed)?;
    if commit.joins {
        joining::look_again(&mut locked.tx).await?;
    }
    locked.change += 1;
    locked.revision = revision.number;
    Ok(revision)
}

/// Deployments whose time is over and that do not leave yet. One from which others import stays until they are gone.
pub async fn expired(pool: &PgPool) -> Result<Vec<String>, StoreError> {
    sqlx::query_scalar!(
        "select name from deployment d where state = 'active' and expires_at <= now()
                and not exists (select from import i where i.exporter = d.deployment_id) order by expires_at"
    )
    .fetch_all(pool)
    .await
    .map_err(doing("looking for deployments whose time is over"))
}

/// Writes an event about the deployment itself.
pub(crate) async fn event(locked: &mut Locked, kind: &str, by: &str, detail: Value) -> Result<(), StoreError> {
    sqlx::query!(
        "insert into event (at, kind, deployment_id, principal, detail) values (clock_timestamp(), $1, $2, $3, $4)",
        kind,
        locked.id.0,
        by,
        detail
    )
    .execute(&mut *locked.tx)
    .await
    .map_err(doing("writing an event"))?;
    Ok(())
}
