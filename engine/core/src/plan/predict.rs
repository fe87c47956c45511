//! What every vertex will read and output, as far as it can be known without running anything.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::{Action, Cause, Item, PlanInput, Seen, address, effects, members, untouched};
use crate::compile::render_with;
use crate::document::{Object, OnChange};
use crate::effect::Effect;
use crate::graph::{Gathered, Graph, GraphInput, GraphRole, Kind, NodeName, Source, VIRTUAL};
use crate::identity;
use crate::secret;
use crate::value::{at_path, strongest};

/// A value that is to come.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Predicted {
    /// This one, set by somebody.
    Known(Value, String),
    /// What was frozen before.
    Same,
    /// Surely another one than before.
    Changed(String),
    /// The same or another one, for what runs above: `NODE/ROLE`.
    Unsure(String),
}

/// Outputs that are to come: the known ones, and who runs if there are others.
#[derive(Clone, Debug, Default)]
struct Outputs {
    known: Object,
    runs: Option<String>,
}

/// What a chooser will say.
enum Choice<'a> {
    Keeps(&'a str),
    /// There is nothing to choose from, and there was nothing.
    None,
    Anew,
}

/// Goes through the desired graph, parents first.
pub(super) struct Predictor<'a> {
    input: PlanInput<'a>,
    outputs: BTreeMap<&'a str, BTreeMap<&'a str, Outputs>>,
    /// Known inputs of vertices whose role says `destroys`, or of all.
    pub(super) inputs: BTreeMap<(&'a str, &'a str), Object>,
    /// Values of gathers, by helper.
    gathers: BTreeMap<&'a str, Predicted>,
    remember: bool,
}

impl<'a> Predictor<'a> {
    pub(super) fn new(input: PlanInput<'a>) -> Self {
        let (outputs, inputs, gathers) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { input, outputs, inputs, gathers, remember: false }
    }

    /// One that keeps the known inputs of all vertices.
    pub(super) fn remembering(input: PlanInput<'a>) -> Self {
        Self { remember: true, ..Self::new(input) }
    }

    /// What becomes of a vertex. Those above were asked before.
    pub(super) fn vertex(&mut self, role: &'a GraphRole, node: &'a NodeName) -> Item {
        let item = |action, causes, effects: Option<Vec<Effect>>| Item {
            node: node.clone(),
            role: role.name.clone(),
            action,
            may_be_spared: false,
            causes,
            effects_unknown: effects.is_none(),
            effects: effects.unwrap_or_default(),
        };
        match &role.kind {
            Kind::Work => {}
            Kind::Gather { of, map, group } => {
                let value = self.gather(role, of, *map, group.as_deref());
                self.gathers.insert(&role.name, value);
                return item(Action::Untouched, Vec::new(), Some(Vec::new()));
            }
            Kind::Chooser { .. } => return item(Action::Untouched, Vec::new(), Some(Vec::new())),
        }
        let before = self.input.seen(&role.name, node);
        let anew = before.is_some_and(|seen| seen.served || seen.failed) && self.input.anew.covers(node);
        // What is made anew keeps nothing of what it was.
        let seen = before.filter(|_| !anew);
        let predicted: BTreeMap<&'a str, Predicted> =
            role.inputs.iter().map(|(name, input)| (name.as_str(), self.read(role, name, input, node))).collect();
        let mut causes = if anew { vec![Cause::Redeployed] } else { Self::causes(role, node, seen, &predicted) };
        let runs = causes.iter().any(|cause| !matches!(cause, Cause::Failed | Cause::Override { .. }));
        let is_new = causes.iter().any(|cause| matches!(cause, Cause::New | Cause::NotYet));
        let action = match (runs, is_new) {
            (false, _) => Action::Untouched,
            (true, true) => Action::Create,
            (true, false) if role.destructive && seen.is_some_and(|seen| seen.served) => Action::Outdated,
            (true, false) => Action::ReRun,
        };
        let may_be_spared = action == Action::ReRun
            && causes
                .iter()
                .all(|cause| cause.is_upper_bound() || matches!(cause, Cause::Override { .. } | Cause::Failed));
        self.keep(role, node, action, seen, &predicted);
        let effects = match action {
            Action::Create | Action::ReRun => {
                let content = causes.contains(&Cause::Content);
                let changed = changed(&causes);
                let contents = self.input.contents;
                let applied =
                    effects::apply(contents.role(&role.role, &role.content), is_new || anew, &changed, content);
                match before.filter(|_| anew && !role.on_virtual) {
                    Some(seen) => {
                        let left = effects::leave(contents.role(&role.role, &seen.content), &seen.inputs);
                        effects::anew(applied, left, self.input.anew.machines.contains(node))
                    }
                    None => applied,
                }
            }
            Action::Leave | Action::Outdated | Action::Untouched => Some(Vec::new()),
        };
        if action != Action::Untouched {
            causes.retain(|cause| *cause != Cause::Failed);
        }
        Item { may_be_spared, ..item(action, causes, effects) }
    }

    /// A vertex that nothing happens to, for those who read it.
    pub(super) fn rests(&mut self, role: &'a GraphRole, node: &'a NodeName) -> Item {
        let seen = self.input.seen(&role.name, node);
        match (&role.kind, seen) {
            (Kind::Gather { .. }, Some(seen)) => {
                let value = seen.outputs.get("value").cloned();
                let value = value.map_or(Predicted::Same, |value| Predicted::Known(value, role.name.clone()));
                self.gathers.insert(&role.name, value);
            }
            (Kind::Work, Some(seen)) => {
                if self.destroys(role) {
                    self.inputs.insert((node, role.name.as_str()), seen.inputs.clone());
                }
                let outputs = Outputs { known: seen.outputs.clone(), runs: None };
                self.outputs.entry(&role.name).or_default().insert(node, outputs);
            }
            (Kind::Chooser { .. }, _) | (_, None) => {}
        }
        untouched(role, node)
    }

    fn destroys(&self, role: &GraphRole) -> bool {
        self.input.contents.role(&role.role, &role.content).is_some_and(|role| !role.doc.destroys.is_empty())
    }

    fn causes(
        role: &'a GraphRole,
        node: &str,
        seen: Option<&Seen>,
        predicted: &BTreeMap<&'a str, Predicted>,
    ) -> Vec<Cause> {
        let Some(seen) = seen else { return vec![Cause::New] };
        if !seen.served && !seen.failed {
            return vec![Cause::NotYet];
        }
        let mut causes = Vec::new();
        if seen.content != role.content {
            causes.push(Cause::Content);
        }
        for (name, value) in predicted {
            let input = &role.inputs[*name];
            let before = seen.inputs.get(*name);
            if input.on_change == OnChange::Ignore && seen.served && before.is_some() {
                continue;
            }
            causes.extend(Self::input_cause(input, name, before, value));
            if let Some(by) = input.overrides.get(node) {
                causes.push(Cause::Override { input: (*name).to_owned(), layer: by.layer });
            }
        }
        let gone = seen.inputs.keys().filter(|name| !role.inputs.contains_key(*name));
        causes.extend(gone.map(|name| Cause::InputGone { input: name.clone() }));
        if seen.failed {
            causes.push(Cause::Failed);
        }
        causes
    }

    fn input_cause(input: &GraphInput, name: &str, before: Option<&Value>, value: &Predicted) -> Option<Cause> {
        let name = name.to_owned();
        match value {
            Predicted::Known(value, by) => (before != Some(value)).then(|| Cause::Input {
                input: name,
                from: before.filter(|_| !input.secret).cloned(),
                to: Some(value.clone()).filter(|_| !input.secret),
                by: by.clone(),
            }),
            Predicted::Changed(by) => Some(Cause::Input {
                input: name,
                from: before.filter(|_| !input.secret).cloned(),
                to: None,
                by: by.clone(),
            }),
            Predicted::Unsure(of) => Some(Cause::Below { input: name, of: of.clone() }),
            Predicted::Same => None,
        }
    }

    /// Remembers what readers will see.
    fn keep(
        &mut self,
        role: &'a GraphRole,
        node: &'a str,
        action: Action,
        seen: Option<&Seen>,
        predicted: &BTreeMap<&'a str, Predicted>,
    ) {
        let mut known = Object::new();
        for (name, input) in &role.inputs {
            let kept = seen.filter(|seen| seen.served && input.on_change == OnChange::Ignore);
            match (kept.and_then(|seen| seen.inputs.get(name)), &predicted[name.as_str()]) {
                (Some(value), _) | (None, Predicted::Known(value, _)) => {
                    known.insert(name.clone(), value.clone());
                }
                (None, Predicted::Same) => {
                    let before = seen.and_then(|seen| seen.inputs.get(name));
                    known.extend(before.map(|value| (name.clone(), value.clone())));
                }
                (None, Predicted::Changed(_) | Predicted::Unsure(_)) => {}
            }
        }
        let outputs = match (action, seen) {
            (Action::Untouched | Action::Outdated, Some(seen)) => Outputs { known: seen.outputs.clone(), runs: None },
            _ => {
                // What follows from a secret nobody can tell who has its token only.
                let seen_through = known.iter().filter(|(_, value)| !secret::any(value));
                let shown: Object = seen_through.map(|(name, value)| (name.clone(), value.clone())).collect();
                let rendered = role.outputs.iter().filter_map(|(name, output)| {
                    Some((name.clone(), render_with(output.value.as_ref()?, &shown).ok()?))
                });
                Outputs { known: rendered.collect(), runs: Some(address(node, &role.name)) }
            }
        };
        if self.destroys(role) || self.remember {
            self.inputs.insert((node, role.name.as_str()), known);
        }
        self.outputs.entry(&role.name).or_default().insert(node, outputs);
    }

    fn read(&self, role: &'a GraphRole, name: &str, input: &'a GraphInput, node: &'a str) -> Predicted {
        if let Some(by) = input.overrides.get(node) {
            return Predicted::Known(by.value.clone(), by.by.clone());
        }
        let group = self.input.desired.nodes.get(node).map(|node| node.group.as_str());
        self.source(role, name, &input.source, node, group)
    }

    fn source(
        &self,
        role: &'a GraphRole,
        name: &str,
        source: &'a Source,
        node: &'a str,
        group: Option<&str>,
    ) -> Predicted {
        let unknown = || Predicted::Unsure(format!("`{name}` of {}", address(node, &role.name)));
        match source {
            Source::Output { role: supplier, output, path, only } => {
                let at = if self.input.desired.roles[supplier].on_virtual { VIRTUAL } else { node };
                self.output(supplier, at, output.as_deref(), path, only.as_ref())
            }
            Source::Gather { helper } => self.gathers.get(helper.as_str()).cloned().unwrap_or_else(unknown),
            Source::Chosen { helper, role: supplier, output, path } => match self.chosen(helper) {
                Choice::Keeps(at) => self.output(supplier, at, output.as_deref(), path, None),
                // Nothing to choose from, before and now.
                Choice::None if self.input.seen(&role.name, node).is_some() => Predicted::Same,
                Choice::None | Choice::Anew => Predicted::Unsure(address(VIRTUAL, helper)),
            },
            Source::At { role: supplier, output, path } => self.at(supplier, output, path),
            Source::Node { fact, path } => {
                let value = self.fact(node, fact, path);
                value.map_or_else(unknown, |value| Predicted::Known(value, format!("fact {fact}")))
            }
            Source::Deployment { field, path } => {
                let graph = self.input.desired;
                let value = match field.as_str() {
                    "name" => Value::String(graph.deployment.clone()),
                    "workload" => Value::String(graph.workload.clone()),
                    other => match identity::of_deployment(other, &graph.deployment) {
                        Some(value) => value,
                        None => return unknown(),
                    },
                };
                at_path(&value, path).map_or_else(unknown, |value| Predicted::Known(value.clone(), field.clone()))
            }
            Source::Import { import, output, path } => {
                let key = format!("{import}.{output}");
                let value = self.input.imports.get(&key).and_then(|value| at_path(value, path));
                value.map_or_else(unknown, |value| Predicted::Known(value.clone(), format!("import {key}")))
            }
            Source::Layers { base, groups, nodes } => {
                let by_group = group.and_then(|group| groups.get(group));
                let all = [base.as_ref(), by_group, nodes.get(node)].into_iter().flatten();
                strongest(all).map_or_else(unknown, |found| Predicted::Known(found.value.clone(), found.by.clone()))
            }
            Source::ByGroup { groups } => match group.and_then(|group| groups.get(group)) {
                Some(source) => self.source(role, name, source, node, None),
                None => unknown(),
            },
        }
    }

    fn output(
        &self,
        supplier: &str,
        node: &str,
        output: Option<&str>,
        path: &[String],
        only: Option<&BTreeSet<String>>,
    ) -> Predicted {
        let by = address(node, supplier);
        let Some(outputs) = self.outputs.get(supplier).and_then(|all| all.get(node)) else {
            return Predicted::Unsure(by);
        };
        let runs = || Predicted::Unsure(outputs.runs.clone().unwrap_or_else(|| by.clone()));
        let value = match output {
            Some(output) => match outputs.known.get(output) {
                Some(value) => value.clone(),
                None => return runs(),
            },
            None => {
                let names = self.input.desired.roles[supplier].outputs.keys();
                let mut whole = Map::new();
                for name in names.filter(|name| only.is_none_or(|only| only.contains(*name))) {
                    match outputs.known.get(name) {
                        Some(value) => whole.insert(name.clone(), value.clone()),
                        None => return runs(),
                    };
                }
                Value::Object(whole)
            }
        };
        at_path(&value, path).map_or_else(runs, |value| Predicted::Known(value.clone(), by.clone()))
    }

    /// The choice that a chooser keeps: bound, and not aside.
    fn chosen(&self, helper: &'a str) -> Choice<'a> {
        let graph = self.input.desired;
        let Some(Kind::Chooser { of, group }) = graph.roles.get(helper).map(|role| &role.kind) else {
            return Choice::Anew;
        };
        let all = graph.roles.get(of).map(|of| members(&self.input, of, graph, group.as_deref())).unwrap_or_default();
        let before = self.input.seen(helper, VIRTUAL).and_then(|seen| seen.outputs.get("node")?.as_str());
        match before.and_then(|node| all.get(node)) {
            Some(node) => Choice::Keeps(node),
            None if before.is_none() && all.is_empty() => Choice::None,
            None => Choice::Anew,
        }
    }

    /// When it is judged all instances rest, and the first by name is taken.
    fn at(&self, of: &str, output: &str, path: &[String]) -> Predicted {
        let takes_part = |node: &&NodeName| !self.input.nodes.get(*node).is_some_and(|node| node.aside);
        let first = |graph: &'a Graph| graph.roles.get(of).and_then(|role| role.bound.iter().find(takes_part));
        let was = self.input.current.and_then(|current| first(current.graph));
        let Some(is) = first(self.input.desired) else { return Predicted::Unsure(of.to_owned()) };
        match self.output(of, is, Some(output), path, None) {
            Predicted::Same if was != Some(is) => Predicted::Unsure(address(is, of)),
            other => other,
        }
    }

    /// What is known of a node.
    fn fact(&self, node: &str, fact: &str, path: &[String]) -> Option<Value> {
        let facts = &self.input.nodes.get(node)?.facts;
        at_path(&identity::fact(facts, &self.input.desired.deployment, fact)?, path).cloned()
    }

    fn gather(&self, helper: &'a GraphRole, of: &'a Gathered, map: bool, group: Option<&str>) -> Predicted {
        let graph = self.input.desired;
        let mut gathered: BTreeMap<&str, Value> = BTreeMap::new();
        let mut unsure = None;
        let nodes = nodes_of(&self.input, graph, of, group);
        for node in &nodes {
            let value = match of {
                Gathered::Output { role, output, path, only } => {
                    self.output(role, node, output.as_deref(), path, only.as_ref())
                }
                Gathered::Fact { fact, path } => {
                    let unknown = || Predicted::Unsure(format!("fact {fact} of {node}"));
                    self.fact(node, fact, path).map_or_else(unknown, |value| Predicted::Known(value, fact.clone()))
                }
            };
            match value {
                Predicted::Known(value, _) => {
                    gathered.insert(node, value);
                }
                Predicted::Changed(by) | Predicted::Unsure(by) => unsure = unsure.or(Some(by)),
                Predicted::Same => {}
            }
        }
        match unsure {
            None => {
                let by = helper.name.clone();
                let value = if map {
                    Value::Object(gathered.into_iter().map(|(node, value)| (node.to_owned(), value)).collect())
                } else {
                    Value::Array(gathered.into_values().collect())
                };
                Predicted::Known(value, by)
            }
            Some(by) => {
                let before = self.input.current.and_then(|current| {
                    Some(nodes_of(&self.input, current.graph, self.gathered_before(helper)?, group))
                });
                match before {
                    Some(before) if before != nodes => Predicted::Changed(helper.name.clone()),
                    _ => Predicted::Unsure(by),
                }
            }
        }
    }

    fn gathered_before(&self, helper: &GraphRole) -> Option<&'a Gathered> {
        match &self.input.current?.graph.roles.get(&helper.name)?.kind {
            Kind::Gather { of, .. } => Some(of),
            Kind::Work | Kind::Chooser { .. } => None,
        }
    }
}

/// Nodes that a gather gathers from.
fn nodes_of<'g>(input: &PlanInput, graph: &'g Graph, of: &Gathered, group: Option<&str>) -> BTreeSet<&'g str> {
    match of {
        Gathered::Output { role, .. } => {
            graph.roles.get(role).map(|role| members(input, role, graph, group)).unwrap_or_default()
        }
        Gathered::Fact { .. } => graph
            .nodes
            .iter()
            .filter(|(_, node)| group.is_none_or(|group| node.group == group))
            .map(|(name, _)| name.as_str())
            .filter(|name| !input.nodes.get(*name).is_some_and(|node| node.aside))
            .collect(),
    }
}

/// Inputs that change or may change.
pub(super) fn changed(causes: &[Cause]) -> BTreeSet<&str> {
    causes
        .iter()
        .filter_map(|cause| match cause {
            Cause::Input { input, .. } | Cause::InputGone { input } | Cause::Below { input, .. } => {
                Some(input.as_str())
            }
            _ => None,
        })
        .collect()
}
