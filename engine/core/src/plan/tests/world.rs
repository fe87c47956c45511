//! A world in which everything succeeds at once: the ideal evaluation of a graph.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::compile::render_with;
use crate::document::{Object, OnChange};
use crate::graph::{Gathered, Graph, GraphRole, Kind, Source, VIRTUAL};
use crate::plan::dry_run::{Foretold, foretell};
use crate::plan::{Anew, CurrentView, Plan, PlanInput, PlanNode, Reach, Seen, diff};
use crate::settle::commit::concerned;
use crate::testing::Fixture;
use crate::value::{at_path, strongest};

/// What is in force, and for which graph.
#[derive(Clone, Debug, Default)]
pub(super) struct World {
    graph: Option<Graph>,
    vertices: BTreeMap<String, BTreeMap<String, Seen>>,
}

fn facts(node: &str) -> Object {
    Object::from_iter([("name".to_owned(), json!(node)), ("address".to_owned(), json!(format!("address of {node}")))])
}

impl World {
    pub(super) fn plan(&self, fixture: &Fixture, desired: &Graph) -> Plan {
        self.plan_anew(fixture, desired, &Anew::default())
    }

    /// Nobody knows the address of a machine that is made again.
    pub(super) fn plan_anew(&self, fixture: &Fixture, desired: &Graph, anew: &Anew) -> Plan {
        self.with_input(fixture, desired, anew, |input| {
            let plan = diff(input);
            if let Some(graph) = &self.graph
                && fixture.document.moved.is_empty()
                && *anew == Anew::default()
            {
                assert_eq!(self.plan_within_reach(input, graph), plan, "what was not looked at rests");
            }
            plan
        })
    }

    pub(super) fn foretold(&self, fixture: &Fixture, desired: &Graph) -> Vec<Foretold> {
        self.with_input(fixture, desired, &Anew::default(), foretell)
    }

    fn with_input<T>(&self, fixture: &Fixture, desired: &Graph, anew: &Anew, what: impl Fn(&PlanInput) -> T) -> T {
        let node = |name: &String| {
            let mut facts = facts(name);
            facts.retain(|fact, _| fact == "name" || !anew.machines.contains(name));
            (name.clone(), PlanNode { facts, aside: false })
        };
        let nodes: BTreeMap<String, PlanNode> = fixture.nodes.keys().map(node).collect();
        let current = self.graph.as_ref().map(|graph| CurrentView { graph, vertices: &self.vertices });
        what(&PlanInput {
            current,
            desired,
            contents: &fixture.catalog,
            nodes: &nodes,
            imports: &BTreeMap::new(),
            moved: &fixture.document.moved,
            anew,
            reach: None,
        })
    }

    /// The same by one who has not seen more than a plan has to.
    fn plan_within_reach(&self, input: &PlanInput, graph: &Graph) -> Plan {
        let is_restless = |(_, seen): &(&String, &Seen)| !seen.served || seen.failed;
        let restless = self
            .vertices
            .iter()
            .flat_map(|(role, on)| on.iter().filter(is_restless).map(|(node, _)| (role.clone(), node.clone())));
        let reach = Reach::of(input.desired, &concerned(Some(graph), input.desired), &restless.collect());
        let is_seen = |role: &str, node: &str| {
            let of = [&reach.roles, &reach.read].iter().any(|roles| roles.contains(role));
            node == VIRTUAL || of || reach.nodes.contains(node)
        };
        let mut vertices = self.vertices.clone();
        for (role, on) in &mut vertices {
            on.retain(|node, _| is_seen(role, node));
        }
        let mut nodes = input.nodes.clone();
        for (name, node) in nodes.iter_mut().filter(|(name, _)| !reach.facts && !reach.nodes.contains(*name)) {
            node.facts.retain(|fact, _| fact == "name");
            assert!(node.facts.contains_key("name"), "of {name} the name is known");
        }
        let current = Some(CurrentView { graph, vertices: &vertices });
        diff(&PlanInput { current, nodes: &nodes, reach: Some(&reach), ..*input })
    }

    /// Commits a graph and runs everything that has to run.
    pub(super) fn settle(&mut self, _: &Fixture, graph: &Graph) {
        let mut vertices: BTreeMap<String, BTreeMap<String, Seen>> = BTreeMap::new();
        for name in &graph.order {
            let role = &graph.roles[name];
            for node in &role.bound {
                let before = self.vertices.get(name).and_then(|all| all.get(node));
                let seen = evaluate(graph, role, node, before, &vertices);
                vertices.entry(name.clone()).or_default().insert(node.clone(), seen);
            }
        }
        *self = Self { graph: Some(graph.clone()), vertices };
    }

    /// Vertices with work that ran since.
    pub(super) fn differs_from<'g>(&self, before: &Self, graph: &'g Graph) -> BTreeSet<(&'g str, &'g str)> {
        let mut ran = BTreeSet::new();
        for role in graph.roles.values().filter(|role| role.kind == Kind::Work) {
            for node in &role.bound {
                let now = &self.vertices[&role.name][node];
                let was = before.vertices.get(&role.name).and_then(|all| all.get(node));
                let kept = |name: &String| role.inputs[name].on_change == OnChange::Ignore;
                let same = was.is_some_and(|was| {
                    was.content == now.content
                        && now.inputs.iter().all(|(name, value)| kept(name) || was.inputs.get(name) == Some(value))
                });
                if !same {
                    ran.insert((role.name.as_str(), node.as_str()));
                }
            }
        }
        ran
    }
}

type Vertices = BTreeMap<String, BTreeMap<String, Seen>>;

fn evaluate(graph: &Graph, role: &GraphRole, node: &str, before: Option<&Seen>, above: &Vertices) -> Seen {
    let outputs = match &role.kind {
        Kind::Gather { of, map, group } => {
            let members = gather(graph, of, group.as_deref(), above);
            let value = if *map {
                Value::Object(members.into_iter().collect())
            } else {
                Value::Array(members.into_values().collect())
            };
            Map::from_iter([("value".to_owned(), value)])
        }
        Kind::Chooser { of, group } => {
            let all: Vec<&String> = graph.roles[of]
                .bound
                .iter()
                .filter(|node| group.as_ref().is_none_or(|group| graph.nodes[*node].group == *group))
                .collect();
            let kept =
                before.and_then(|seen| seen.outputs["node"].as_str()).filter(|old| all.iter().any(|node| node == old));
            let choice = kept.map(str::to_owned).or_else(|| all.first().map(|node| (*node).clone()));
            Map::from_iter([("node".to_owned(), json!(choice))])
        }
        Kind::Work => return work(graph, role, node, before, above),
    };
    Seen { served: true, outputs, ..Seen::default() }
}

fn work(graph: &Graph, role: &GraphRole, node: &str, before: Option<&Seen>, above: &Vertices) -> Seen {
    let mut inputs = Object::new();
    let mut plain = Object::new();
    for (name, input) in &role.inputs {
        let kept = before.filter(|_| input.on_change == OnChange::Ignore).and_then(|seen| seen.inputs.get(name));
        let value = kept.cloned().or_else(|| read(graph, &input.source, node, above));
        let value = value.unwrap_or(Value::Null);
        plain.insert(name.clone(), value.clone());
        inputs.insert(name.clone(), value);
    }
    let changed = before.is_none_or(|seen| seen.inputs != inputs || seen.content != role.content);
    if let Some(before) = before.filter(|_| !changed || role.destructive) {
        return before.clone();
    }
    let outputs = role.outputs.iter().map(|(name, output)| {
        let value = match &output.value {
            Some(template) => render_with(template, &plain).expect("renders"),
            // What is found out does not hang on the values of inputs, so that cutoff happens.
            None => json!(format!("{} on {node} of {}", role.name, plain.len())),
        };
        (name.clone(), value)
    });
    Seen { served: true, failed: false, content: role.content.clone(), outputs: outputs.collect(), inputs }
}

fn gather(graph: &Graph, of: &Gathered, group: Option<&str>, above: &Vertices) -> BTreeMap<String, Value> {
    let in_group = |node: &str| group.is_none_or(|group| graph.nodes.get(node).is_some_and(|node| node.group == group));
    match of {
        Gathered::Fact { fact, .. } => graph
            .nodes
            .keys()
            .filter(|node| in_group(node))
            .map(|node| (node.clone(), facts(node)[fact].clone()))
            .collect(),
        Gathered::Output { role, output, path, .. } => {
            let members = above.get(role).into_iter().flatten().filter(|(node, _)| in_group(node));
            members
                .map(|(node, seen)| {
                    let value = &seen.outputs[output.as_deref().expect("named")];
                    (node.clone(), at_path(value, path).cloned().unwrap_or_default())
                })
                .collect()
        }
    }
}

fn read(graph: &Graph, source: &Source, node: &str, above: &Vertices) -> Option<Value> {
    let output = |role: &str, node: &str, output: &Option<String>| {
        above.get(role)?.get(node)?.outputs.get(output.as_deref()?).cloned()
    };
    match source {
        Source::Output { role, output: name, .. } => {
            output(role, if graph.roles[role].on_virtual { VIRTUAL } else { node }, name)
        }
        Source::Gather { helper } => above[helper][VIRTUAL].outputs.get("value").cloned(),
        Source::Chosen { helper, role, output: name, .. } => {
            output(role, above[helper][VIRTUAL].outputs["node"].as_str()?, name)
        }
        Source::Node { fact, .. } => facts(node).get(fact).cloned(),
        Source::Layers { base, groups, nodes } => {
            let group = graph.nodes.get(node).and_then(|node| groups.get(&node.group));
            strongest([base.as_ref(), group, nodes.get(node)].into_iter().flatten()).map(|found| found.value.clone())
        }
        Source::ByGroup { groups } => read(graph, groups.get(&graph.nodes[node].group)?, node, above),
        Source::At { role, output: name, .. } => {
            let first = above.get(role)?.keys().next()?;
            output(role, first, &Some(name.clone()))
        }
        Source::Deployment { .. } | Source::Import { .. } => None,
    }
}
