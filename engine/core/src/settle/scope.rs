//! How much of a node a turn has to see: what is near the roles that it concerns, and what is stale above them.

use std::collections::BTreeSet;

use crate::graph::{Edge, Graph, GraphRole, RoleName};

/// Which vertices of a node are loaded: all of some roles, and of others those that do not rest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// Loaded whatever their state is.
    pub roles: BTreeSet<RoleName>,
    /// Loaded while they are stale or leaving.
    pub stale: BTreeSet<RoleName>,
}

impl Scope {
    /// What must be loaded on a node for vertices of these roles to report, and for them and their children to be
    /// judged. `None` where only whole nodes will do: `precedes` follows causes through roles that nothing else reads,
    /// and budgets count what else goes on there.
    pub fn of(graph: &Graph, concerned: &BTreeSet<RoleName>) -> Option<Self> {
        let wide = |role: &GraphRole| !role.takes.is_empty() || role.parents.iter().any(Edge::is_soft);
        if graph.roles.values().any(wide) {
            return None;
        }
        let mut scope = Self::default();
        let mut judged = concerned.clone();
        for role in concerned {
            judged.extend(graph.readers(role).map(|(child, _)| child.name.clone()));
        }
        for name in &judged {
            scope.roles.insert(name.clone());
            scope.roles.extend(near(graph, name));
            scope.stale.extend(graph.roles.get(name).into_iter().flat_map(|role| role.above.same.iter().cloned()));
        }
        Some(scope)
    }

    /// Is everything loaded that judging a vertex of this role looks at on its node?
    pub fn covers(&self, graph: &Graph, name: &str) -> bool {
        let seen = |role: &RoleName| self.roles.contains(role) || self.stale.contains(role);
        let above = graph.roles.get(name).into_iter().flat_map(|role| &role.above.same);
        near(graph, name).all(|role| self.roles.contains(&role)) && above.into_iter().all(seen)
    }
}

/// Parents, children, who was a child in a former revision, and what can not be on the node at the same time.
fn near<'a>(graph: &'a Graph, name: &'a str) -> impl Iterator<Item = RoleName> + 'a {
    let parents =
        graph.roles.get(name).into_iter().flat_map(|role| role.parents.iter().map(|edge| edge.parent.clone()));
    let rivals = graph.roles.get(name).into_iter().flat_map(|role| graph.rivals(role).map(|rival| rival.name.clone()));
    parents.chain(graph.readers(name).map(|(child, _)| child.name.clone())).chain(rivals)
}
