//! What a turn sees, loaded into its neighbourhood.

use std::collections::BTreeSet;
use std::sync::Arc;

use engine_core::document::Object;
use engine_core::graph::{Graph, NodeName, RoleName};
use engine_core::id::{NodeId, VertexId};
use engine_core::settle::turn::Wants;
use engine_core::settle::{Hood, Scope, Tally};
use rustc_hash::FxHashMap;
use serde_json::{Value, json};
use uuid::Uuid;

use super::Locked;
use super::rows::{load_near, load_nodes, load_role, load_vertices};
use crate::StoreError;
use crate::error::doing;

impl Locked {
    /// The neighbourhood of some vertices: the virtual node and their nodes whole, all tallies and budgets.
    pub async fn hood(&mut self, vertices: &[VertexId], graph: &Graph) -> Result<Hood, StoreError> {
        let mut hood = Hood::default();
        let nodes = self.places(&hood, vertices).await?.0;
        self.begin(&mut hood).await?;
        hood.budgets = self.budgets(graph).await?;
        hood.imports = self.imports(graph).await?;
        self.load_whole(&mut hood, nodes).await?;
        Ok(hood)
    }

    /// Adds to what was seen before, and is as it was, what a turn needs in which these vertices report, are judged or
    /// claimed: of a node that it sees for the first time what is near to them, and all of one that it comes back to.
    pub async fn near(&mut self, hood: &mut Hood, graph: &Graph, vertices: &[VertexId]) -> Result<(), StoreError> {
        let (nodes, roles) = self.places(hood, vertices).await?;
        if hood.virtual_node.is_none() {
            self.begin(hood).await?;
        }
        (hood.paused, hood.deployment) = (self.paused, self.fields());
        hood.budgets = self.budgets(graph).await?;
        hood.imports = self.imports(graph).await?;
        let new: BTreeSet<NodeId> = nodes.into_iter().filter(|node| !hood.is_whole(*node)).collect();
        if new.is_empty() {
            return Ok(());
        }
        let Some(scope) = Scope::of(graph, &roles).map(Arc::new) else {
            return self.load_whole(hood, new).await;
        };
        let (again, first): (BTreeSet<_>, BTreeSet<_>) = new.into_iter().partition(|id| hood.near.contains_key(id));
        if !again.is_empty() {
            self.load_whole(hood, again).await?;
        }
        if first.is_empty() {
            return Ok(());
        }
        let ids: Vec<Uuid> = first.iter().map(|id| id.0).collect();
        for view in load_nodes(&mut self.tx, self.id, self.virtual_node, Some(&ids)).await? {
            hood.nodes.insert(view.id, view);
        }
        for vertex in load_near(&mut self.tx, self.id, &ids, &scope).await? {
            hood.add(vertex);
        }
        hood.near.extend(first.into_iter().map(|node| (node, Arc::clone(&scope))));
        Ok(())
    }

    /// What every neighbourhood has.
    pub(crate) async fn begin(&mut self, hood: &mut Hood) -> Result<(), StoreError> {
        hood.virtual_node = Some(self.virtual_node);
        (hood.paused, hood.deployment) = (self.paused, self.fields());
        hood.tallies = self.tallies().await?;
        self.load_whole(hood, BTreeSet::from([self.virtual_node])).await
    }

    /// The nodes and the roles of some vertices.
    async fn places(
        &mut self,
        hood: &Hood,
        vertices: &[VertexId],
    ) -> Result<(BTreeSet<NodeId>, BTreeSet<RoleName>), StoreError> {
        let (mut nodes, mut roles, mut unseen) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
        for id in vertices {
            match hood.vertices.get(id) {
                Some(vertex) => {
                    nodes.insert(vertex.node);
                    if !roles.contains(&vertex.role) {
                        roles.insert(vertex.role.clone());
                    }
                }
                None => unseen.push(id.0),
            }
        }
        if !unseen.is_empty() {
            let rows = sqlx::query!("select distinct node_id, role from vertex where vertex_id = any($1)", &unseen)
                .fetch_all(&mut *self.tx)
                .await
                .map_err(doing("loading a neighbourhood"))?;
            nodes.extend(rows.iter().map(|row| NodeId(row.node_id)));
            roles.extend(rows.into_iter().map(|row| row.role));
        }
        Ok((nodes, roles))
    }

    /// The vertices of these roles on these nodes, as far as they are there.
    pub(crate) async fn vertices_at(
        &mut self,
        places: BTreeSet<(RoleName, NodeName)>,
    ) -> Result<Vec<VertexId>, StoreError> {
        if places.is_empty() {
            return Ok(Vec::new());
        }
        let (roles, nodes): (Vec<RoleName>, Vec<NodeName>) = places.into_iter().unzip();
        let ids = sqlx::query_scalar!(
            "select v.vertex_id from vertex v join node n using (node_id)
             join unnest($2::text[], $3::text[]) as p(role, node) on p.role = v.role and p.node = n.name
             where v.deployment_id = $1 and not v.gone",
            self.id.0,
            &roles,
            &nodes
        )
        .fetch_all(&mut *self.tx)
        .await
        .map_err(doing("looking for vertices by role and node"))?;
        Ok(ids.into_iter().map(VertexId).collect())
    }

    /// Fields that wires may read as `deployment.FIELD`.
    pub fn fields(&self) -> Object {
        let Value::Object(fields) = json!({"name": self.name, "workload": self.workload}) else { return Object::new() };
        fields
    }

    /// Adds nodes with all their vertices.
    pub async fn load_whole(&mut self, hood: &mut Hood, nodes: BTreeSet<NodeId>) -> Result<(), StoreError> {
        let ids: Vec<Uuid> = nodes.iter().map(|id| id.0).collect();
        for view in load_nodes(&mut self.tx, self.id, self.virtual_node, Some(&ids)).await? {
            hood.nodes.insert(view.id, view);
        }
        for vertex in load_vertices(&mut self.tx, self.id, &ids).await? {
            hood.add(vertex);
        }
        hood.whole.extend(nodes);
        Ok(())
    }

    /// Adds what a turn wants to see. Call [`engine_core::settle::Turn::loaded`] afterwards.
    pub async fn load_wanted(&mut self, hood: &mut Hood, wants: &Wants) -> Result<(), StoreError> {
        for role in &wants.roles {
            for vertex in load_role(&mut self.tx, self.id, role).await? {
                hood.add(vertex);
            }
        }
        let named: BTreeSet<NodeName> = wants.whole.clone();
        if !named.is_empty() || wants.nodes || !wants.roles.is_empty() {
            for view in load_nodes(&mut self.tx, self.id, self.virtual_node, None).await? {
                hood.nodes.entry(view.id).or_insert(view);
            }
            hood.all_nodes = true;
        }
        let whole: BTreeSet<NodeId> = hood.nodes.values().filter(|n| named.contains(&n.name)).map(|n| n.id).collect();
        if !whole.is_empty() {
            self.load_whole(hood, whole).await?;
        }
        Ok(())
    }

    async fn tallies(&mut self) -> Result<FxHashMap<RoleName, Tally>, StoreError> {
        let rows = sqlx::query!(
            "select role, stale, failed, leaving, active, unawaited from tally where deployment_id = $1",
            self.id.0
        )
        .fetch_all(&mut *self.tx)
        .await
        .map_err(doing("loading tallies"))?;
        let tally = |stale, failed, leaving, active, unawaited| Tally { stale, failed, leaving, active, unawaited };
        Ok(rows.into_iter().map(|r| (r.role, tally(r.stale, r.failed, r.leaving, r.active, r.unawaited))).collect())
    }
}
