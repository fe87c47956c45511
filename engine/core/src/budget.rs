//! Budgets: how many nodes of a deployment may be out of service at once.
//!
//! Which roles take from which budgets, and which nodes a deployment was founded with, follow from the graph and are
//! kept in it. Who holds what at the moment is kept by the store and moved by turns ([`crate::settle::allowance`]).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::document::Budget;
use crate::graph::{Founders, Graph, GraphRole, NodeName, RoleName};

/// Fills in [`GraphRole::takes`]: the budgets that a role disrupts, with those of its descendants on the same node. A
/// node takes them all at once, so that two nodes never hold what the other waits for. Returns on how many nodes a role
/// stands that disrupts a budget, for [`Graph::members`].
pub(crate) fn derive(
    roles: &mut BTreeMap<RoleName, GraphRole>,
    budgets: &BTreeMap<String, Budget>,
) -> BTreeMap<String, usize> {
    let own: BTreeMap<RoleName, BTreeSet<String>> = roles
        .values()
        .map(|role| (role.name.clone(), role.disrupts.iter().filter(|name| budgets.contains_key(*name)).cloned()))
        .map(|(name, own)| (name, own.collect::<BTreeSet<String>>()))
        .filter(|(_, own)| !own.is_empty())
        .collect();
    let mut takes = own.clone();
    for (name, budgets) in &own {
        for above in &roles[name].above.same {
            if let Some(takes) = takes.get_mut(above) {
                takes.extend(budgets.iter().cloned());
            }
        }
    }
    for (name, takes) in takes {
        roles.get_mut(&name).expect("a name of these roles").takes = takes;
    }
    let nodes = |budget: &String| -> BTreeSet<&NodeName> {
        roles.values().filter(|role| role.disrupts.contains(budget)).flat_map(|role| &role.bound).collect()
    };
    budgets.keys().map(|budget| (budget.clone(), nodes(budget).len())).collect()
}

/// Fills in [`Graph::founders`]: while nothing of a budget serves, all its roles and nodes are founders; once something
/// does, none is added.
pub fn found(old: Option<&Graph>, new: &mut Graph, serves: impl Fn(&str, &str) -> bool) {
    let mut founders = BTreeMap::new();
    for budget in new.budgets.keys() {
        let takes = |role: &&GraphRole| role.takes.contains(budget);
        let roles = new.roles.values().filter(takes).map(|role| role.name.clone()).collect();
        let mut founding = Founders { roles, nodes: new.members_of(budget) };
        let served =
            |old: &&Graph| old.disruptors(budget).any(|role| role.bound.iter().any(|node| serves(&role.name, node)));
        if let Some(old) = old.filter(served) {
            let nobody = Founders::default();
            let before = old.founders.get(budget).unwrap_or(&nobody);
            founding.roles.retain(|role| before.roles.contains(role));
            founding.nodes.retain(|node| before.nodes.contains(node));
        }
        founders.insert(budget.clone(), founding);
    }
    new.founders = founders;
}

impl Graph {
    /// Roles that disrupt a budget.
    pub fn disruptors(&self, budget: &str) -> impl Iterator<Item = &GraphRole> {
        self.roles.values().filter(move |role| role.disrupts.contains(budget))
    }

    /// Nodes on which a role that disrupts this budget is bound.
    fn members_of(&self, budget: &str) -> BTreeSet<NodeName> {
        self.disruptors(budget).flat_map(|role| role.bound.iter().cloned()).collect()
    }
}

/// How many nodes of a budget may be unavailable at once, of so many members.
///
/// A percentage is rounded down, to at least 1. With `quorum` it is a minority, but of one or two members still 1:
/// they have no majority to keep, and else could never be worked on.
pub fn limit(budget: &Budget, members: usize) -> usize {
    let wanted = match &budget.max_unavailable {
        Value::String(percent) => {
            let percent: usize = percent.trim_end_matches('%').parse().unwrap_or(0);
            (members * percent / 100).max(1)
        }
        number => usize::try_from(number.as_u64().unwrap_or(0)).unwrap_or(usize::MAX),
    };
    if budget.quorum { wanted.min((members.saturating_sub(1) / 2).max(1)) } else { wanted }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::limit;
    use crate::document::Budget;

    #[test]
    fn percentages_round_down_and_a_quorum_keeps_its_majority() {
        let of =
            |max_unavailable: Value, quorum, members| limit(&Budget { max_unavailable, failures: 0, quorum }, members);
        let figures = [
            of(json!("10%"), false, 29),
            of(json!("10%"), false, 3),
            of(json!(4), false, 3),
            of(json!(0), true, 3),
            of(json!(4), true, 5),
            of(json!(4), true, 3),
            of(json!("50%"), true, 7),
            of(json!(1), true, 2),
            of(json!(1), true, 1),
        ];
        assert_eq!(figures, [2, 1, 4, 0, 2, 1, 3, 1, 1]);
    }
}
