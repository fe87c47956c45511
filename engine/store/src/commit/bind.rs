//! The nodes of a revision: those that are made, taken, and let go. Nodes that stay as they are, are not looked at.

use std::collections::{BTreeMap, BTreeSet};

use engine_core::document::Object;
use engine_core::graph::{Graph, NodeName};
use engine_core::id::NodeId;
use sqlx::types::Json;
use uuid::Uuid;

use super::{Binding, Commit};
use crate::StoreError;
use crate::error::doing;
use crate::pass::Locked;

/// Makes and takes nodes; those that the revision does not name any more lose their group. Says which were made, or
/// which one is taken already.
pub(super) async fn bind(
    locked: &mut Locked,
    commit: &Commit,
    before: Option<&Graph>,
) -> Result<Result<BTreeMap<NodeName, NodeId>, NodeName>, StoreError> {
    let group_before = |name: &str| before.and_then(|graph| graph.nodes.get(name)).map(|node| node.group.as_str());
    let named: BTreeSet<&str> = commit.bindings.iter().map(|binding| binding.name.as_str()).collect();
    let let_go: Vec<&str> = before
        .into_iter()
        .flat_map(|graph| graph.nodes.keys())
        .map(String::as_str)
        .filter(|name| !named.contains(name))
        .collect();
    unbind(locked, &let_go).await?;
    let places = commit.bindings.iter().zip(0..);
    let (make, take): (Vec<_>, Vec<_>) = places
        .filter(|(binding, _)| binding.create.is_some() || group_before(&binding.name) != Some(binding.group.as_str()))
        .partition(|(binding, _)| binding.create.is_some());
    let made = create(locked, &make).await?;
    let taken = self::take(locked, &take).await?;
    highest(locked, commit).await?;
    let is_missing =
        |(binding, _): &&(&Binding, i32)| !made.contains_key(&binding.name) && !taken.contains(&binding.name);
    Ok(match make.iter().chain(&take).find(is_missing) {
        Some((binding, _)) => Err(binding.name.clone()),
        None => Ok(made),
    })
}

async fn unbind(locked: &mut Locked, names: &[&str]) -> Result<(), StoreError> {
    if names.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "update node set group_name = null, changed_at = now()
         where name = any($2) and state not in ('gone', 'virtual') and deployment_id = $1",
        locked.id.0,
        names as &[&str]
    )
    .execute(&mut *locked.tx)
    .await
    .map_err(doing("letting go of nodes"))?;
    Ok(())
}

async fn create(locked: &mut Locked, bindings: &[(&Binding, i32)]) -> Result<BTreeMap<NodeName, NodeId>, StoreError> {
    let made: Vec<(&Binding, i32, &String, &Object)> = bindings
        .iter()
        .filter_map(|(binding, place)| binding.create.as_ref().map(|(by, with)| (*binding, *place, by, with)))
        .collect();
    if made.is_empty() {
        return Ok(BTreeMap::new());
    }
    let rows = sqlx::query!(
        "insert into node (node_id, name, provider, options, owned_by, deployment_id, group_name, position, state,
                           created_at, changed_at)
         select u.id, u.name, u.provider, u.options, $1, $1, u.group_name, u.position, 'creating', now(), now()
         from unnest($2::uuid[], $3::text[], $4::text[], $5::jsonb[], $6::text[], $7::int[])
              as u(id, name, provider, options, group_name, position)
         on conflict (name) where state not in ('gone', 'virtual') do nothing
         returning name, node_id",
        locked.id.0,
        &made.iter().map(|_| Uuid::now_v7()).collect::<Vec<_>>(),
        &made.iter().map(|(binding, ..)| binding.name.as_str()).collect::<Vec<_>>() as &[&str],
        &made.iter().map(|(.., by, _)| by.as_str()).collect::<Vec<_>>() as &[&str],
        &made.iter().map(|(.., with)| Json(*with)).collect::<Vec<_>>() as &[Json<&Object>],
        &made.iter().map(|(binding, ..)| binding.group.as_str()).collect::<Vec<_>>() as &[&str],
        &made.iter().map(|(_, place, ..)| *place).collect::<Vec<_>>()
    )
    .fetch_all(&mut *locked.tx)
    .await
    .map_err(doing("making nodes"))?;
    Ok(rows.into_iter().map(|row| (row.name, NodeId(row.node_id))).collect())
}

async fn take(locked: &mut Locked, bindings: &[(&Binding, i32)]) -> Result<BTreeSet<NodeName>, StoreError> {
    if bindings.is_empty() {
        return Ok(BTreeSet::new());
    }
    let wanted: Vec<&str> = bindings.iter().map(|(binding, _)| binding.name.as_str()).collect();
    // In one order, as all who hold free nodes.
    sqlx::query!("select node_id from node where name = any($1) order by node_id for update", &wanted as &[&str])
        .fetch_all(&mut *locked.tx)
        .await
        .map_err(doing("holding nodes"))?;
    let names = sqlx::query_scalar!(
        "update node n set generation = case when deployment_id = $1 then generation else 0 end, deployment_id = $1,
                           group_name = u.group_name, position = u.position, changed_at = now()
         from unnest($2::text[], $3::text[], $4::int[]) as u(name, group_name, position)
         where n.name = u.name and (deployment_id is null or deployment_id = $1)
               and state not in ('gone', 'virtual', 'leaving')
         returning n.name",
        locked.id.0,
        &wanted as &[&str],
        &bindings.iter().map(|(binding, _)| binding.group.as_str()).collect::<Vec<_>>() as &[&str],
        &bindings.iter().map(|(_, place)| *place).collect::<Vec<_>>()
    )
    .fetch_all(&mut *locked.tx)
    .await
    .map_err(doing("taking nodes"))?;
    Ok(names.into_iter().collect())
}

async fn highest(locked: &mut Locked, commit: &Commit) -> Result<(), StoreError> {
    let (groups, highest): (Vec<&str>, Vec<i32>) = commit
        .highest
        .iter()
        .map(|(group, highest)| (group.as_str(), i32::try_from(*highest).unwrap_or(i32::MAX)))
        .unzip();
    sqlx::query!(
        "insert into node_index (deployment_id, group_name, highest)
         select $1, u.* from unnest($2::text[], $3::int[]) as u
         on conflict (deployment_id, group_name) do update set highest = greatest(node_index.highest, excluded.highest)",
        locked.id.0,
        &groups as &[&str],
        &highest
    )
    .execute(&mut *locked.tx)
    .await
    .map_err(doing("counting nodes"))?;
    Ok(())
}
