//! What a plan looks at when it need not look at everything: first an outline, and by that what the change reaches.

use std::collections::{BTreeMap, BTreeSet};

use engine_core::graph::{NodeName, RoleName, VIRTUAL};
use engine_core::id::NodeId;
use sqlx::PgPool;
use uuid::Uuid;

use super::{Current, KnownNode, Snapshot, begin, current, highest, named, nodes_of, seen};
use crate::StoreError;
use crate::error::doing;

/// What is known of a deployment without looking at its node roles.
#[derive(Clone, Debug)]
pub struct Outline {
    /// The deployment as committed.
    pub current: Current,
    /// The highest index of created nodes, by group.
    pub highest: BTreeMap<String, u32>,
    /// Node roles that do not rest, or leave.
    pub restless: BTreeSet<(RoleName, NodeName)>,
    /// Roles of which at least one instance serves.
    pub serving: BTreeSet<RoleName>,
    /// Nodes that stand aside, and all that are lost.
    pub aside: BTreeSet<NodeName>,
    /// See there.
    pub lost: BTreeSet<NodeName>,
}

/// Reads the outline of a deployment. The cost is that of its roles, and of what does not rest.
pub async fn outline(pool: &PgPool, name: &str) -> Result<Option<Outline>, StoreError> {
    let failed = doing("reading the outline of a deployment");
    let mut tx = begin(pool).await?;
    let Some((current, virtual_node)) = current(&mut tx, name).await? else { return Ok(None) };
    let id = current.id;
    let highest = highest(&mut tx, id).await?;
    let tallies =
        sqlx::query!("select role, stale, unawaited, leaving, active from tally where deployment_id = $1", id.0)
            .fetch_all(&mut *tx)
            .await
            .map_err(&failed)?;
    let moving: Vec<&str> = tallies
        .iter()
        .filter(|tally| tally.stale + tally.unawaited + tally.leaving > 0)
        .map(|tally| tally.role.as_str())
        .collect();
    let mut restless = BTreeSet::new();
    if !moving.is_empty() {
        let rows = sqlx::query!(
            "select v.role, v.node_id, n.name from vertex v join node n using (node_id)
             where v.deployment_id = $1 and v.role = any($2) and not v.gone
                   and (v.since is not null or v.goal = 'absent')",
            id.0,
            &moving as &[&str]
        )
        .fetch_all(&mut *tx)
        .await
        .map_err(&failed)?;
        let name = |node, name| if node == virtual_node.0 { VIRTUAL.to_owned() } else { name };
        restless.extend(rows.into_iter().map(|row| (row.role, name(row.node_id, row.name))));
    }
    let aside = sqlx::query_scalar!("select name from node where deployment_id = $1 and standing = 'aside'", id.0)
        .fetch_all(&mut *tx)
        .await
        .map_err(&failed)?;
    // A host may be there again under its name.
    let lost = sqlx::query!(
        r#"select name, (select node_id from node n where n.name = l.name and n.state not in ('gone', 'virtual')
                                and n.standing <> 'lost') is not null as "again!"
           from node l where standing = 'lost'"#
    )
    .fetch_all(&mut *tx)
    .await
    .map_err(&failed)?;
    tx.commit().await.map_err(&failed)?;
    Ok(Some(Outline {
        serving: tallies.into_iter().filter(|tally| tally.active > 0).map(|tally| tally.role).collect(),
        current,
        highest,
        restless,
        aside: aside.into_iter().collect(),
        lost: lost.into_iter().filter(|row| !row.again).map(|row| row.name).collect(),
    }))
}

/// What a plan has to see of a deployment: what is in force for all instances of some roles, for everything on some
/// nodes, and on the virtual node; and these nodes, or all of the deployment. `None`: it was committed anew meanwhile.
pub async fn within(
    pool: &PgPool,
    outline: &Outline,
    roles: &[RoleName],
    nodes: &[NodeName],
    all_nodes: bool,
) -> Result<Option<Snapshot>, StoreError> {
    let failed = doing("reading what a plan has to see");
    let mut tx = begin(pool).await?;
    let id = outline.current.id;
    let row = sqlx::query!("select revision, virtual_node from deployment where deployment_id = $1", id.0)
        .fetch_one(&mut *tx)
        .await
        .map_err(&failed)?;
    if row.revision != outline.current.revision {
        return Ok(None);
    }
    let known = if all_nodes { nodes_of(&mut tx, id).await? } else { named(&mut tx, nodes).await? };
    let mut snapshot = Snapshot {
        current: Some(outline.current.clone()),
        highest: outline.highest.clone(),
        nodes: known,
        ..Snapshot::default()
    };
    let wanted: BTreeSet<&NodeName> = nodes.iter().collect();
    let on: Vec<Uuid> = snapshot
        .nodes
        .iter()
        .filter(|(name, _)| wanted.contains(name))
        .map(|(_, node)| node.id.0)
        .chain([row.virtual_node])
        .collect();
    seen(&mut tx, id, NodeId(row.virtual_node), Some((roles, &on)), &mut snapshot).await?;
    tx.commit().await.map_err(&failed)?;
    Ok(Some(snapshot))
}

/// Nodes by name, as far as they are there.
pub async fn nodes(pool: &PgPool, names: &[NodeName]) -> Result<BTreeMap<NodeName, KnownNode>, StoreError> {
    let mut connection = pool.acquire().await.map_err(doing("reading nodes"))?;
    named(&mut connection, names).await
}
