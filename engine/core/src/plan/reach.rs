//! How far a plan has to look: at what a change concerns, at what may read other values for it, and at what those read.
//! Everything else is at rest, has what it would be given, and stays as it is.
//!
//! Counted in roles and nodes, never in node roles: what is on a node that the change concerns is looked at as a whole,
//! and a role that reads what changes for all is looked at everywhere.

use std::collections::BTreeSet;

use crate::graph::{Gathered, Graph, GraphRole, Kind, NodeName, Pairing, RoleName, Source, VIRTUAL, Why};
use crate::settle::commit::Concerned;

/// What a plan looks at. The virtual node is always seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// Nodes on which everything is predicted.
    pub nodes: BTreeSet<NodeName>,
    /// Roles of which every instance is predicted.
    pub roles: BTreeSet<RoleName>,
    /// Roles whose instances are read everywhere, and stay as they are where nothing else is said.
    pub read: BTreeSet<RoleName>,
    /// What is predicted of the virtual node.
    pub on_virtual: BTreeSet<RoleName>,
    /// Facts of all nodes are read.
    pub facts: bool,
}

impl Reach {
    /// Of a change from one graph to another that concerns so much. `restless`: what does not rest, or leaves.
    pub fn of(desired: &Graph, concerned: &Concerned, restless: &BTreeSet<(RoleName, NodeName)>) -> Self {
        let mut reach = Self::default();
        let mut queue: Vec<(&str, bool)> = Vec::new();
        for (role, node) in concerned.bind.iter().chain(&concerned.unbind).chain(concerned.touch.keys()).chain(restless)
        {
            if node != VIRTUAL {
                reach.nodes.insert(node.clone());
            }
            queue.push((role, false));
        }
        // It rests also where it is not what it would be made as.
        for role in desired.roles.values().filter(|role| role.destructive && !role.on_virtual) {
            reach.everywhere(desired, role);
        }
        let mut seen = BTreeSet::new();
        while let Some((name, all)) = queue.pop() {
            if !seen.insert((name, all)) || (!all && seen.contains(&(name, true))) {
                continue;
            }
            // One that leaves changes nothing but by whoever gathers from it, who is concerned by itself.
            let Some(role) = desired.roles.get(name) else { continue };
            match (role.on_virtual, all) {
                (true, _) => reach.alone(role),
                (false, true) => reach.everywhere(desired, role),
                (false, false) => reach.elsewhere(role),
            }
            for (child, edge) in desired.children(name).filter(|(_, edge)| matches!(edge.why, Why::Data { .. })) {
                let all = match edge.pairing {
                    Pairing::Same => all,
                    Pairing::FromVirtual | Pairing::Chosen => true,
                    Pairing::All => false,
                };
                queue.push((&child.name, all));
            }
        }
        reach
    }

    /// Is this vertex predicted, or taken as it is?
    pub(super) fn predicts(&self, role: &GraphRole, node: &str) -> bool {
        if role.on_virtual {
            return self.on_virtual.contains(&role.name);
        }
        self.roles.contains(&role.name) || self.nodes.contains(node)
    }

    /// The nodes of a role that are looked at.
    pub(super) fn looks_at<'g>(&self, role: &'g GraphRole) -> Vec<&'g NodeName> {
        if role.on_virtual || self.roles.contains(&role.name) || self.read.contains(&role.name) {
            return role.bound.iter().collect();
        }
        self.nodes.iter().filter_map(|node| role.bound.get(node)).collect()
    }

    /// A role of the deployment, or a helper.
    fn alone(&mut self, role: &GraphRole) {
        self.on_virtual.insert(role.name.clone());
        match &role.kind {
            Kind::Gather { of: Gathered::Fact { .. }, .. } => self.facts = true,
            Kind::Gather { of: Gathered::Output { role: of, .. }, .. } => {
                self.read.insert(of.clone());
            }
            Kind::Chooser { .. } => {}
            Kind::Work => self.elsewhere(role),
        }
    }

    fn everywhere(&mut self, desired: &Graph, role: &GraphRole) {
        self.roles.insert(role.name.clone());
        self.elsewhere(role);
        for source in role.inputs.values().flat_map(|input| each(&input.source)) {
            match source {
                Source::Output { role: of, .. } if desired.roles.get(of).is_some_and(|of| !of.on_virtual) => {
                    self.read.insert(of.clone());
                }
                Source::Node { .. } => self.facts = true,
                _ => {}
            }
        }
    }

    /// What it reads of nodes that are not its own.
    fn elsewhere(&mut self, role: &GraphRole) {
        for source in role.inputs.values().flat_map(|input| each(&input.source)) {
            if let Source::Chosen { role: of, .. } | Source::At { role: of, .. } = source {
                self.read.insert(of.clone());
            }
        }
    }
}

/// A source, or those that it is in each group.
fn each(source: &Source) -> Vec<&Source> {
    match source {
        Source::ByGroup { groups } => groups.values().flat_map(each).collect(),
        other => vec![other],
    }
}
