//! The keys above, derived along the order.

use std::collections::{BTreeMap, BTreeSet};

use crate::graph::{Above, Edge, GraphNode, GraphRole, Kind, NodeName, Pairing, RoleName, Source, VIRTUAL, Why};

/// Groups in which instances of a role count; the virtual node is a group of its own.
type Groups = BTreeSet<String>;

/// Keys on the way: like [`Above`], with the groups of what counts anywhere.
#[derive(Clone, Default)]
struct Keys {
    same: BTreeSet<RoleName>,
    anywhere: BTreeMap<RoleName, Groups>,
    chosen: BTreeMap<RoleName, BTreeSet<RoleName>>,
}

/// Fills in [`GraphRole::above`] of every role.
///
/// An instance on the virtual node is the only one of its role, so it counts "anywhere". A path through a chooser
/// counts on the chosen node alone.
pub(super) fn derive(
    roles: &mut BTreeMap<RoleName, GraphRole>,
    order: &[RoleName],
    nodes: &BTreeMap<NodeName, GraphNode>,
) {
    let groups: BTreeMap<RoleName, Groups> =
        roles.values().map(|role| (role.name.clone(), groups(role, nodes))).collect();
    let mut all: BTreeMap<&str, Keys> = BTreeMap::new();
    for name in order {
        let role = &roles[name];
        let mut keys = Keys::default();
        for edge in role.parents.iter().filter(|edge| !edge.is_soft()) {
            add(&mut keys, edge, role, roles, &all[edge.parent.as_str()], &groups[&edge.parent]);
        }
        all.insert(name, keys);
    }
    let derived: BTreeMap<RoleName, Above> =
        all.into_iter().map(|(name, keys)| (name.to_owned(), finish(keys, &groups))).collect();
    for (name, above) in derived {
        roles.get_mut(&name).expect("the order names roles").above = above;
    }
}

fn groups(role: &GraphRole, nodes: &BTreeMap<NodeName, GraphNode>) -> Groups {
    if role.on_virtual {
        return Groups::from([VIRTUAL.to_owned()]);
    }
    let groups: BTreeSet<&str> =
        role.bound.iter().filter_map(|node| nodes.get(node)).map(|node| node.group.as_str()).collect();
    groups.into_iter().map(str::to_owned).collect()
}

fn add(
    keys: &mut Keys,
    edge: &Edge,
    child: &GraphRole,
    roles: &BTreeMap<RoleName, GraphRole>,
    above: &Keys,
    groups: &Groups,
) {
    let parent = &roles[&edge.parent];
    let chooser = (edge.pairing == Pairing::Chosen).then(|| chooser_of(edge, child)).flatten();
    let only = match chooser.as_ref().and_then(|chooser| roles.get(chooser)).map_or(&child.kind, |role| &role.kind) {
        Kind::Gather { group: Some(group), .. } | Kind::Chooser { group: Some(group), .. } => {
            groups.iter().filter(|one| *one == group).cloned().collect()
        }
        _ => groups.clone(),
    };
    // No instance to wait for, so nothing above it either.
    if only.is_empty() {
        return;
    }
    for (role, groups) in &above.anywhere {
        keys.anywhere.entry(role.clone()).or_default().extend(groups.iter().cloned());
    }
    for (chooser, roles) in &above.chosen {
        keys.chosen.entry(chooser.clone()).or_default().extend(roles.iter().cloned());
    }
    let near = above.same.iter().chain([&parent.name]).cloned();
    match edge.pairing {
        Pairing::Same if !parent.on_virtual => keys.same.extend(near),
        Pairing::Same | Pairing::FromVirtual | Pairing::All => {
            for role in near {
                keys.anywhere.entry(role).or_default().extend(only.iter().cloned());
            }
        }
        Pairing::Chosen => {
            if let Some(chooser) = chooser {
                keys.chosen.entry(chooser).or_default().extend(near);
            }
        }
    }
}

/// The chooser through which an edge goes: the one that feeds the same input.
fn chooser_of(edge: &Edge, child: &GraphRole) -> Option<RoleName> {
    let Why::Data { input, .. } = &edge.why else { return None };
    match &child.inputs.get(input)?.source {
        Source::Chosen { helper, .. } => Some(helper.clone()),
        _ => None,
    }
}

/// Leaves out what another key says already.
fn finish(keys: Keys, groups: &BTreeMap<RoleName, Groups>) -> Above {
    let whole = |role: &RoleName, only: &Groups| groups[role].is_subset(only);
    let everywhere: BTreeSet<RoleName> =
        keys.anywhere.iter().filter(|(role, only)| whole(role, only)).map(|(role, _)| role.clone()).collect();
    let mut above = Above { same: keys.same, chosen: keys.chosen, ..Above::default() };
    above.same.retain(|role| !everywhere.contains(role));
    for roles in above.chosen.values_mut() {
        roles.retain(|role| !everywhere.contains(role));
    }
    above.chosen.retain(|_, roles| !roles.is_empty());
    for (role, only) in keys.anywhere {
        if !everywhere.contains(&role) {
            let only = only.intersection(&groups[&role]).cloned().collect::<Groups>();
            if only.is_empty() {
                continue;
            }
            above.within.insert(role.clone(), only);
        }
        above.anywhere.insert(role);
    }
    above
}
