//! The committed graph with the states of its vertices, for drawing.

use engine_core::draw::States;
use engine_core::graph::{Graph, VIRTUAL};
use engine_core::state::State;
use sqlx::PgPool;
use sqlx::types::Json;

use super::{failed, moment};
use crate::StoreError;

/// The graph of the committed revision, helpers included, and where everything stands.
pub async fn graph(pool: &PgPool, name: &str) -> Result<Option<(Graph, States)>, StoreError> {
    let mut tx = moment(pool).await?;
    let row = sqlx::query!(
        r#"select d.deployment_id, r.graph as "graph: Json<Graph>"
           from deployment d join revision r on r.deployment_id = d.deployment_id and r.number = d.revision
           where d.name = $1 order by d.state = 'gone' limit 1"#,
        name
    )
    .fetch_optional(&mut *tx)
    .await
    .map_err(failed("reading a graph"))?;
    let Some(row) = row else { return Ok(None) };
    let vertices = sqlx::query!(
        r#"select v.role, v.state, case when n.state = 'virtual' then $2 else n.name end as "node!"
           from vertex v join node n using (node_id) where v.deployment_id = $1 and not v.gone"#,
        row.deployment_id,
        VIRTUAL
    )
    .fetch_all(&mut *tx)
    .await
    .map_err(failed("reading the states of a graph"))?;
    let mut states = States::new();
    for vertex in vertices {
        let Some(state) = State::parse(&vertex.state) else { continue };
        states.entry(vertex.role).or_default().insert(vertex.node, state);
    }
    Ok(Some((row.graph.0, states)))
}
