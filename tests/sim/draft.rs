//! Documents of one deployment as people write them one after the other: grown and shrunk, rewired, with other values,
//! with approvals, and taken back.

use std::collections::{BTreeMap, BTreeSet};

use engine_core::compile::CompileNode;
use engine_core::digest::content;
use engine_core::document::At;
use engine_core::graph::GraphRole;
use engine_core::testing::{Dice, Fixture, generate};
use serde_json::json;

/// One document, by the seed of its deployment.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    seed: u64,
    sizes: BTreeMap<String, usize>,
    /// What is cut out of the catalog, by dice.
    cut: Option<u64>,
    values: BTreeMap<String, usize>,
    approve: bool,
}

impl Draft {
    /// As it was generated.
    pub(crate) fn new(seed: u64) -> Self {
        let mut sizes = BTreeMap::new();
        for node in generate(seed).nodes.values() {
            *sizes.entry(node.group.clone()).or_default() += 1;
        }
        Self { seed, sizes, cut: None, values: BTreeMap::new(), approve: false }
    }

    /// So many nodes in a group.
    pub(crate) fn sized(mut self, group: &str, size: usize) -> Self {
        self.sizes.insert(group.to_owned(), size);
        self
    }

    /// Restarts wait for an approval.
    pub(crate) fn asking(mut self) -> Self {
        self.approve = true;
        self
    }

    /// The next document that somebody writes.
    pub(crate) fn edited(&self, dice: &mut Dice) -> Self {
        let mut next = self.clone();
        match dice.below(5) {
            0 => drop(next.sizes.insert("a".to_owned(), 1 + dice.below(4))),
            // A group that had nodes keeps some: who reads it could not be compiled without.
            1 => drop(self.sizes.get("b").map(|_| next.sizes.insert("b".to_owned(), 1 + dice.below(3)))),
            2 => next.cut = Some(dice.below(1000) as u64),
            _ => drop(next.values.insert(format!("r{}", dice.below(6)), dice.below(1000))),
        }
        next
    }

    /// With the nodes that there are; the names of those that are lost are not given again.
    pub(crate) fn fixture(&self, lost: &BTreeSet<String>) -> Fixture {
        let mut fixture = generate(self.seed);
        if let Some(cut) = self.cut {
            rewire(&mut fixture, &mut Dice::new(cut));
        }
        fixture.nodes = BTreeMap::new();
        for (group, size) in &self.sizes {
            let names = (1..).map(|index| format!("{group}-{index}")).filter(|name| !lost.contains(name)).take(*size);
            let node = CompileNode { group: group.clone(), ..CompileNode::default() };
            fixture.nodes.extend(names.map(|name| (name, node.clone())));
        }
        let approve: &[&str] = if self.approve { &["restart", "interrupt"] } else { &[] };
        let mut fixture = fixture.with(json!({"policy": {"approve": approve}}));
        for (role, value) in &self.values {
            if fixture.catalog.roles.contains_key(role) {
                fixture.document.set.deployment.insert(format!("{role}.set"), json!(value));
            }
        }
        // What is not pulled in can not be set.
        while let Err(said) = fixture.compile() {
            let Some(key) = fixture.document.set.deployment.keys().next().cloned() else {
                panic!("does not compile: {said:?}");
            };
            fixture.document.set.deployment.remove(&key);
        }
        fixture
    }

    /// Can it be compiled at all? A wire that is cut can be all that pulled a role in.
    pub(crate) fn compiles(&self, lost: &BTreeSet<String>) -> bool {
        let plain = Self { values: BTreeMap::new(), ..self.clone() };
        let mut fixture = generate(self.seed);
        if let Some(cut) = plain.cut {
            rewire(&mut fixture, &mut Dice::new(cut));
        }
        fixture.nodes = Self { cut: None, ..plain }.fixture(lost).nodes;
        // A role performed at one of nobody waits until somebody comes.
        fixture.compile().is_ok_and(|compiled| {
            let graph = compiled.graph;
            let somewhere = |role: &GraphRole| match &role.at {
                At::One { role, .. } => graph.roles.get(role).is_some_and(|role| !role.bound.is_empty()),
                At::OwnNode | At::Engine => true,
            };
            graph.roles.values().all(somewhere)
        })
    }
}

/// Some milestones are not wanted any more, some wires are cut.
pub(crate) fn rewire(fixture: &mut Fixture, dice: &mut Dice) {
    for role in fixture.catalog.roles.values_mut() {
        let wires: Vec<String> = role.doc.inputs.keys().filter(|name| name.starts_with("from_")).cloned().collect();
        for wire in wires {
            if dice.chance(15) {
                role.doc.inputs.remove(&wire);
            }
        }
        role.doc.requires.retain(|_| !dice.chance(15));
        role.content = content(&role.doc, &role.files);
    }
    for workload in fixture.catalog.workloads.values_mut() {
        for milestones in workload.roles.values_mut() {
            milestones.retain(|_| !dice.chance(15));
        }
    }
}
