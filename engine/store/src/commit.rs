//! Committing a revision: the one transaction that puts it in force, if nothing has moved since its plan was made.

use std::collections::BTreeMap;

use engine_core::catalog::CatalogRole;
use engine_core::document::{CheckPolicy, Object, OnDrift};
use engine_core::graph::{Graph, NodeName, RoleName, VIRTUAL};
use engine_core::id::{DeploymentId, NodeId, VertexId};
use engine_core::settle::commit::{Concerned, concerned};
use engine_core::settle::{Turn, Vertex};
use engine_core::state::Event;
use serde_json::{Value, json};
use sqlx::PgPool;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::StoreError;
use crate::error::doing;
use crate::imports::{self, Importer, Unbound};
use crate::pass::{self, EVENTS, Locked, Revision};

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
    let bound = if commit.destroying { Ok(()) } else { locked.bind_imports(&commit.graph).await? };
    if let Err(unbound) = bound {
        locked.roll_back().await?;
        return Ok(match unbound {
            Unbound::Gone => Committed::Moved,
            Unbound::Cycle => Committed::ImportCycle,
        });
    }
    locked.tell_all().await?;
    let revision = write_revision(&mut locked, commit, old.as_deref()).await?;
    if let Err(name) = bind(&mut locked, commit).await? {
        locked.roll_back().await?;
        return Ok(Committed::NodeTaken(name));
    }
    let concerned = concerned(old.as_ref().map(|old| &old.graph), &commit.graph);
    settle(&mut locked, &revision, &concerned, &commit.by).await?;
    // What was held may be held by something that this revision took away.
    sqlx::query!(
        "update vertex set wake = true where deployment_id = $1 and state = 'blocked' and not wake",
        locked.id.0
    )
    .execute(&mut *locked.tx)
    .await
    .map_err(&failed)?;
    let totals = commit.plan.get("totals").cloned().unwrap_or_default();
    let kind = if commit.destroying { "deployment.destroying" } else { "deployment.committed" };
    event(&mut locked, kind, &commit.by, json!({"revision": revision.number, "totals": totals})).await?;
    locked.notify(EVENTS).await?;
    locked.notify_work().await?;
    let number = revision.number;
    locked.commit().await?;
    Ok(Committed::Revision(number))
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
                on_drift = $6, schedule = $7, check_at = case when schedule is not distinct from $7 then check_at end,
                changed_at = now() where deployment_id = $1",
        locked.id.0,
        revision.number,
        if commit.destroying { "destroying" } else { "active" },
        commit.graph.workload,
        commit.expires_at,
        if commit.check.on_drift == OnDrift::Repair { "repair" } else { "report" },
        commit.check.schedule
    )
    .execute(&mut *locked.tx)
    .await
    .map_err(&failed)?;
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

/// Makes and takes nodes; those that the revision does not name any more lose their group.
async fn bind(locked: &mut Locked, commit: &Commit) -> Result<Result<(), NodeName>, StoreError> {
    let failed = doing("binding nodes");
    let names: Vec<String> = commit.bindings.iter().map(|binding| binding.name.clone()).collect();
    sqlx::query!(
        "update node set group_name = null, changed_at = now()
         where deployment_id = $1 and not name = any($2) and state <> 'virtual'",
        locked.id.0,
        &names
    )
    .execute(&mut *locked.tx)
    .await
    .map_err(&failed)?;
    for (position, binding) in commit.bindings.iter().enumerate() {
        let position = i32::try_from(position).unwrap_or(i32::MAX);
        let done = match &binding.create {
            Some((provider, with)) => {
                sqlx::query!(
                    "insert into node (node_id, name, provider, options, owned_by, deployment_id, group_name, position,
                                       state, created_at, changed_at)
                     values ($1, $2, $3, $4, $5, $5, $6, $7, 'creating', now(), now())
                     on conflict (name) where state not in ('gone', 'virtual') do nothing",
                    Uuid::now_v7(),
                    binding.name,
                    provider,
                    json!(with),
                    locked.id.0,
                    binding.group,
                    position
                )
                .execute(&mut *locked.tx)
                .await
            }
            None => {
                sqlx::query!(
                    "update node set generation = case when deployment_id = $1 then generation else 0 end,
                                     deployment_id = $1, group_name = $3, position = $4, changed_at = now()
                     where name = $2 and (deployment_id is null or deployment_id = $1)
                           and state not in ('gone', 'virtual', 'leaving')",
                    locked.id.0,
                    binding.name,
                    binding.group,
                    position
                )
                .execute(&mut *locked.tx)
                .await
            }
        };
        if done.map_err(&failed)?.rows_affected() != 1 {
            return Ok(Err(binding.name.clone()));
        }
    }
    for (group, highest) in &commit.highest {
        sqlx::query!(
            "insert into node_index (deployment_id, group_name, highest) values ($1, $2, $3)
             on conflict (deployment_id, group_name) do update set highest = greatest(node_index.highest, excluded.highest)",
            locked.id.0,
            group,
            i32::try_from(*highest).unwrap_or(i32::MAX)
        )
        .execute(&mut *locked.tx)
        .await
        .map_err(&failed)?;
    }
    Ok(Ok(()))
}

/// Moves the vertices that the commit concerns.
async fn settle(locked: &mut Locked, revision: &Revision, concerned: &Concerned, by: &str) -> Result<(), StoreError> {
    let failed = doing("moving what a revision concerns");
    let rows = sqlx::query!(
        "select vertex_id, role, n.name, v.node_id from vertex v join node n using (node_id)
         where v.deployment_id = $1 and not v.gone",
        locked.id.0
    )
    .fetch_all(&mut *locked.tx)
    .await
    .map_err(&failed)?;
    let mut places: BTreeMap<(RoleName, NodeName), VertexId> =
        rows.into_iter().map(|row| ((row.role, row.name), VertexId(row.vertex_id))).collect();
    let nodes = pass::load_nodes(&mut locked.tx, locked.id, locked.virtual_node, None).await?;
    let nodes: BTreeMap<NodeName, NodeId> = nodes.into_iter().map(|node| (node.name, node.id)).collect();
    let mut fresh: Vec<(Uuid, String, Uuid)> = Vec::new();
    for (role, node) in &concerned.bind {
        if !places.contains_key(&(role.clone(), node.clone()))
            && let Some(id) = nodes.get(node)
        {
            let vertex = Vertex::new(VertexId(Uuid::now_v7()), role.clone(), *id);
            fresh.push((vertex.id.0, role.clone(), id.0));
            places.insert((role.clone(), node.clone()), vertex.id);
        }
    }
    let ids: Vec<Uuid> = fresh.iter().map(|(id, ..)| *id).collect();
    let roles: Vec<String> = fresh.iter().map(|(_, role, _)| role.clone()).collect();
    let on: Vec<Uuid> = fresh.iter().map(|(.., node)| *node).collect();
    sqlx::query!(
        "insert into vertex (vertex_id, deployment_id, role, node_id, state, goal, armed, touched, rebound, applying,
                             started, wake, changed_at)
         select u.id, $1, u.role, u.node, 'proposed', 'present', false, false, false, false, false, false, now()
         from unnest($2::uuid[], $3::text[], $4::uuid[]) as u(id, role, node)",
        locked.id.0,
        &ids,
        &roles,
        &on
    )
    .execute(&mut *locked.tx)
    .await
    .map_err(&failed)?;
    let change = locked.change;
    let mut moves: Vec<(VertexId, Event, Value)> = Vec::new();
    let place = |role: &RoleName, node: &NodeName| places.get(&(role.clone(), node.clone())).copied();
    for (role, node) in &concerned.unbind {
        moves.extend(place(role, node).map(|id| (id, Event::Unbind, json!({"revision": revision.number}))));
    }
    for (role, node) in &concerned.bind {
        moves.extend(place(role, node).map(|id| (id, Event::Bind, json!({"revision": revision.number}))));
    }
    for ((role, node), reasons) in &concerned.touch {
        let why = json!({"revision": revision.number, "changed": reasons});
        moves.extend(place(role, node).map(|id| (id, Event::Touch, why)));
    }
    let ids: Vec<VertexId> = moves.iter().map(|(id, ..)| *id).collect();
    let hood = locked.hood(&ids, &revision.graph).await?;
    let mut turn = Turn::new(&revision.graph, hood);
    for (id, what, why) in moves {
        if what == Event::Touch {
            turn.touch(id, change, &why);
        } else if let Err(illegal) = turn.event(id, what, change, why) {
            tracing::debug!(%illegal, "a commit asks for what is so already");
        }
    }
    let written = turn.finish();
    locked.write(&written, revision, None, by).await?;
    Ok(())
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
