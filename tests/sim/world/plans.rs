//! What a plan says will be done, against what was done.

use std::collections::{BTreeMap, BTreeSet};

use engine_core::effect::EffectKind;
use engine_core::plan::{Action, Anew, Cause, CurrentView, Plan, PlanInput, PlanNode, Seen, diff, render};
use engine_core::settle::Written;
use engine_core::settle::hood::Standing;
use engine_core::settle::judge::felt;
use engine_core::state::State;
use engine_core::testing::Fixture;

use super::World;

/// A job that began.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    node: String,
    role: String,
    remove: bool,
    felt: BTreeSet<EffectKind>,
}

impl World {
    /// Values of gathers, inputs of attempts, and jobs with what machines feel of them, before rows are written.
    pub(super) fn remember(&mut self, written: &Written) {
        self.values.extend(written.values.clone());
        for claim in &written.claims {
            let before = &self.vertices[&claim.vertex];
            let felt = match self.graph.roles.get(&claim.role) {
                Some(role) => felt(before, role, &claim.frozen),
                None => BTreeSet::new(),
            };
            let (node, role) = (claim.place.clone(), claim.role.clone());
            self.ran.push(Job { node, role, remove: claim.remove, felt });
            if !claim.remove {
                let inputs = self.resolved(&claim.frozen.values);
                self.inputs.insert(claim.vertex, inputs);
            }
        }
    }

    /// How many jobs began on a node since the last change.
    pub(crate) fn ran_on(&self, name: &str) -> usize {
        self.ran.iter().filter(|job| job.node == name).count()
    }

    /// Keeps what a document is made of, as the store does.
    pub(crate) fn know(&mut self, fixture: &Fixture) {
        let roles = fixture.catalog.roles.values();
        self.contents.extend(roles.map(|role| (role.content.clone(), role.clone())));
    }

    /// The plan of a document for what is there now.
    pub(crate) fn plan(&mut self, fixture: &Fixture) -> Option<Plan> {
        let desired = fixture.compile().ok()?.graph;
        self.know(fixture);
        let mut vertices: BTreeMap<String, BTreeMap<String, Seen>> = BTreeMap::new();
        for vertex in self.present() {
            let name = self.nodes.iter().find(|(_, id)| **id == vertex.node).map(|(name, _)| name.clone());
            let seen = Seen {
                served: vertex.serving,
                failed: vertex.phase.state == State::Failed,
                content: vertex.content.clone().unwrap_or_default(),
                inputs: self.inputs.get(&vertex.id).cloned().unwrap_or_default(),
                outputs: self.resolved(&vertex.outputs),
            };
            vertices.entry(vertex.role.clone()).or_default().insert(name.expect("a node"), seen);
        }
        let of = |(name, id): (&String, &engine_core::id::NodeId)| {
            let aside = self.stands(*id) == Standing::Aside;
            (name.clone(), PlanNode { facts: self.view(name, *id).facts, aside })
        };
        let nodes: BTreeMap<String, PlanNode> = self.nodes.iter().map(of).collect();
        let current = Some(CurrentView { graph: &self.graph, vertices: &vertices });
        let (imports, anew) = (BTreeMap::new(), Anew::default());
        Some(diff(&PlanInput {
            current,
            desired: &desired,
            contents: &self.contents,
            nodes: &nodes,
            imports: &imports,
            moved: &fixture.document.moved,
            anew: &anew,
            reach: None,
        }))
    }

    /// All that ran was planned, with all that machines felt of it; all that was planned ran, unless the plan said that it
    /// may be spared.
    pub(crate) fn assert_as_planned(&self, plan: &Plan) {
        let text = || format!("{}\n{:#?}\n{}", render::text(plan), self.ran, self.table());
        let mut done: BTreeSet<(&str, &str)> = BTreeSet::new();
        for job in &self.ran {
            let found = plan.items.iter().find(|item| (&item.node, &item.role) == (&job.node, &job.role));
            let what = format!("{}/{}", job.node, job.role);
            let item = found.unwrap_or_else(|| panic!("{what} is in no plan, and ran: {}", text()));
            let right = match item.action {
                Action::Create | Action::ReRun => !job.remove,
                Action::Leave => job.remove,
                Action::Outdated | Action::Untouched => false,
            };
            assert!(right, "{what} ran, and was planned as {:?}: {}", item.action, text());
            let planned: BTreeSet<EffectKind> = item.effects.iter().map(|effect| effect.kind).collect();
            assert!(job.felt.is_subset(&planned), "{what} did {:?}, and {planned:?} was planned: {}", job.felt, text());
            // What may still change above is planned as the most that it can do; all else is what is done.
            let is_sure = !item.causes.iter().any(Cause::is_upper_bound);
            assert!(
                !is_sure || job.felt == planned,
                "{what} did {:?}, and just {planned:?} was planned: {}",
                job.felt,
                text()
            );
            assert!(done.insert((&job.node, &job.role)), "{what} ran twice: {}", text());
        }
        for item in &plan.items {
            let quiet = matches!(item.action, Action::Untouched | Action::Outdated);
            let ran = done.contains(&(item.node.as_str(), item.role.as_str()));
            assert!(
                quiet || item.may_be_spared || ran,
                "{}/{} did not run, and was to: {}",
                item.node,
                item.role,
                text()
            );
        }
    }
}

/// What there is is what the document says: nothing would run, and nothing would leave.
pub(crate) fn assert_nothing_planned(plan: &Plan) {
    let totals = plan.totals;
    assert_eq!((totals.create, totals.re_run, totals.leave), (0, 0, 0), "{}", render::text(plan));
}
