//! A deployment with all that there is to see of it at one moment.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use engine_core::graph::{RoleName, is_helper};
use engine_core::id::VertexId;
use engine_core::view::{Counts, StatusView};
use engine_core::why::{self, Chain, End, NodeStand};
use sqlx::PgPool;
use sqlx::types::Json;

use super::{certificates, deployments, events, failed, moment, nodes, rotations, vertices};
use crate::{StoreError, outages};

/// The status of a deployment.
pub async fn status(pool: &PgPool, name: &str) -> Result<Option<StatusView>, StoreError> {
    let mut tx = moment(pool).await?;
    let Some(row) = deployments::row(&mut tx, name).await? else { return Ok(None) };
    // The same moment: events that are not in this view come after this number.
    let event = events::head_of(&mut tx).await?;
    let order = sqlx::query_scalar!(
        r#"select r.graph -> 'order' as "order: Json<Vec<RoleName>>"
           from deployment d join revision r on r.deployment_id = d.deployment_id and r.number = d.revision
           where d.deployment_id = $1"#,
        row.id
    )
    .fetch_optional(&mut *tx)
    .await
    .map_err(failed("reading the order of roles"))?;
    let mut rows = vertices::all(&mut tx, row.id).await?;
    let nodes = nodes::of_deployment(&mut tx, row.id).await?;
    let holders = vertices::holders(&mut tx, row.id).await?;
    let of = rotations::Of { deployment: row.id, revision: row.revision };
    let rotations = rotations::rotations(&mut tx, of).await?;
    let certificates = certificates::held(&mut tx, row.id).await?;
    let mut elsewhere = HashMap::new();
    for budget in rows.iter().filter_map(vertices::Row::shared) {
        if let Entry::Vacant(free) = elsewhere.entry(budget) {
            let found = outages::elsewhere(&mut tx, free.key()).await?;
            free.insert(found);
        }
    }
    drop(tx);

    let order = order.flatten().map(|json| json.0).unwrap_or_default();
    let rank: HashMap<&str, usize> = order.iter().enumerate().map(|(rank, role)| (role.as_str(), rank)).collect();
    let stand = |node: &engine_core::view::NodeView| NodeStand {
        name: node.name.clone(),
        state: node.state.clone(),
        standing: node.standing,
        code: node.code.clone(),
        silence: node.silence.clone(),
    };
    let mut known = vertices::whole(&rows, nodes.iter().map(|node| (node.id, stand(node))), &holders);
    known.elsewhere = elsewhere;
    rows.retain(|row| !is_helper(&row.role));
    // Roles that the revision does not have any more come last.
    rows.sort_by(|a, b| {
        let key = |row: &vertices::Row| rank.get(row.role.as_str()).copied().unwrap_or(usize::MAX);
        key(a).cmp(&key(b)).then_with(|| a.role.cmp(&b.role)).then_with(|| a.node.cmp(&b.node))
    });
    let mut counts = Counts::default();
    let mut ends: HashMap<VertexId, End> = HashMap::new();
    let node_roles = rows
        .into_iter()
        .map(|row| {
            counts.add(row.state(), row.goal());
            let id = VertexId(row.id);
            row.view(|| why::says(&end(id, &known, &mut ends), &known))
        })
        .collect();
    Ok(Some(StatusView { deployment: row.view(Some(counts)), node_roles, nodes, rotations, certificates, event }))
}

/// The chain of a vertex, of which only the first and the end are of interest here. Ends are kept by vertex, so that
/// a long chain is walked once and not from each of its links.
fn end(id: VertexId, known: &why::Known, ends: &mut HashMap<VertexId, End>) -> Chain {
    if !ends.contains_key(&id) {
        // Everything is loaded, so nothing can be wanted.
        let chain = why::follow(id, known).unwrap_or(Chain { path: vec![id], end: End::Over });
        for passed in &chain.path {
            ends.insert(*passed, chain.end.clone());
        }
    }
    let end = ends.get(&id).cloned().unwrap_or(End::Over);
    // A chain of one link that ends at its own vertex waits for nothing but a judgement.
    let path = if end == End::Vertex(id) { vec![id] } else { vec![id, id] };
    Chain { path, end }
}
