//! The whole engine's decisions without a database: turns over loaded neighbourhoods, a machine that remembers what
//! was applied, crashes between any two writes, failures, changes. `PLINTH_SEED=n` replays one history.

mod again;
mod anew;
mod leaving;
mod told;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use engine_core::budget::found;
use engine_core::document::Object;
use engine_core::graph::{Graph, GraphRole, Kind, Pairing, Source, VIRTUAL};
use engine_core::id::{JobId, NodeId, VertexId};
use engine_core::settle::allowance::Token;
use engine_core::settle::commit::{concerned, keep_leavers, rewired};
use engine_core::settle::turn::Failure;
use engine_core::settle::{Cause, Claim, Hood, Report, Tally, Turn, Vertex, Written};
use engine_core::state::{Event, Goal, State};
use engine_core::testing::Dice;
use engine_core::value::{Layer, Layered};
use serde_json::{Value, json};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::reads::Reads;

/// A deployment in memory: what the store would hold, and the machines.
pub(crate) struct World {
    pub(crate) dice: Dice,
    pub(crate) graph: Graph,
    change: i64,
    ids: u128,
    pub(crate) nodes: BTreeMap<String, NodeId>,
    pub(crate) vertices: HashMap<VertexId, Vertex>,
    /// Those whose cause is looked up; others are only woken by who has them at hand.
    sought: BTreeSet<VertexId>,
    pub(crate) tallies: HashMap<String, Tally>,
    /// Who holds of which budget.
    pub(crate) tokens: BTreeMap<(String, NodeId), Token>,
    /// Of those, the ones taken under another limit, or by nodes that were out of service anyway.
    pub(crate) borne: BTreeSet<(String, NodeId)>,
    /// Vertices whose last job took something that served out of service.
    pub(crate) disturbing: BTreeSet<VertexId>,
    /// What the last turn saw, until somebody else changes anything.
    pub(crate) kept: Option<Hood>,
    /// Jobs that machines run or have run, until their report is recorded.
    jobs: BTreeMap<JobId, Claim>,
    /// How often each job was counted.
    counted: BTreeMap<JobId, u32>,
    /// What each vertex's machine holds.
    machine: HashMap<VertexId, String>,
    /// Whose outputs are in what each vertex holds.
    reads: Reads,
    /// Successful applies since the last change, by vertex.
    pub(crate) applies: HashMap<VertexId, u32>,
    /// How often each machine was made anew.
    pub(crate) generations: BTreeMap<NodeId, u32>,
    /// Jobs whose machine was taken away from under them, with their claims.
    abandoned: BTreeMap<JobId, Claim>,
    /// What the clock says; it goes on only where a history lets it.
    pub(crate) now: OffsetDateTime,
    /// Chance of a failure in percent.
    pub(crate) failing: usize,
    /// Chance in percent that a turn's writes are lost with the engine.
    pub(crate) crashing: usize,
}

impl World {
    pub(crate) fn new(mut graph: Graph, seed: u64) -> Self {
        found(None, &mut graph, |_, _| false);
        let mut world = Self {
            now: OffsetDateTime::UNIX_EPOCH,
            dice: Dice::new(seed),
            graph,
            change: 1,
            ids: 1,
            nodes: BTreeMap::new(),
            vertices: HashMap::new(),
            sought: BTreeSet::new(),
            tallies: HashMap::new(),
            tokens: BTreeMap::new(),
            borne: BTreeSet::new(),
            disturbing: BTreeSet::new(),
            kept: None,
            jobs: BTreeMap::new(),
            counted: BTreeMap::new(),
            machine: HashMap::new(),
            reads: Reads::default(),
            applies: HashMap::new(),
            generations: BTreeMap::new(),
            abandoned: BTreeMap::new(),
            failing: 0,
            crashing: 0,
        };
        for name in world.graph.nodes.keys().cloned().chain([VIRTUAL.to_owned()]).collect::<Vec<_>>() {
            let id = NodeId(world.id());
            world.nodes.insert(name, id);
        }
        let bind = concerned(None, &world.graph).bind;
        for (role, node) in bind {
            let id = VertexId(world.id());
            world.vertices.insert(id, Vertex::new(id, role, world.nodes[&node]));
        }
        let all: Vec<VertexId> = world.vertices.keys().copied().collect();
        world.events(&all, Event::Bind);
        world
    }

    /// What the store still loads.
    pub(crate) fn present(&self) -> impl Iterator<Item = &Vertex> {
        self.vertices.values().filter(|vertex| vertex.phase.state != State::Gone)
    }

    fn id(&mut self) -> Uuid {
        self.ids += 1;
        Uuid::from_u128(self.ids)
    }

    /// How often the machine of a node was made anew.
    pub(crate) fn generation(&self, node: NodeId) -> u32 {
        self.generations.get(&node).copied().unwrap_or_default()
    }

    /// Returns those that were woken by what held them.
    fn write(&mut self, written: Written) -> Vec<VertexId> {
        let busy = self.busy();
        self.kept = None;
        let (mut moved, mut woken) = (Vec::new(), Vec::new());
        for vertex in written.vertices {
            assert_eq!(vertex.phase.is_stale(), vertex.since.is_some(), "stale exactly while since is set: {vertex:?}");
            assert_eq!(
                vertex.phase.state == State::Running,
                vertex.job.is_some(),
                "running exactly while a job is set"
            );
            let quiet = vertex.phase.state != State::Gone || !vertex.wake && vertex.cause.is_none();
            assert!(quiet, "what is gone asks for nothing any more: {vertex:?}");
            let left = vertex.phase.state == State::Gone && self.machine.contains_key(&vertex.id);
            assert!(!left, "{} is gone and was not removed", vertex.role);
            moved.push(vertex.id);
            self.sought.remove(&vertex.id);
            self.vertices.insert(vertex.id, vertex);
        }
        self.sought.extend(written.sought);
        self.reads.moved(&self.graph, &self.vertices, &self.nodes, &moved);
        for (role, delta) in written.tallies {
            self.tallies.entry(role).or_default().shift(Tally::default(), delta);
        }
        for id in &self.sought {
            let vertex = self.vertices.get_mut(id).expect("what is sought is there");
            if vertex.cause.as_ref().is_some_and(|cause| written.wake.contains(&cause.to_string())) {
                woken.extend((!vertex.wake).then_some(*id));
                vertex.wake = true;
            }
        }
        for job in written.abandoned {
            let claim = self.jobs.remove(&job).expect("what is abandoned ran");
            self.abandoned.insert(job, claim);
        }
        for claim in written.claims {
            if claim.remove {
                self.nobody_reads(claim.vertex);
                self.gathered_from_those_who_stay(&claim);
            } else {
                self.nothing_stale_above(&claim);
                self.disturb(claim.vertex);
            }
            self.jobs.insert(claim.job, claim);
        }
        let mut tallies: HashMap<String, Tally> = HashMap::new();
        for vertex in self.vertices.values() {
            tallies.entry(vertex.role.clone()).or_default().shift(Tally::default(), Tally::of(vertex.phase));
        }
        woken.extend(self.give(written.tokens, &written.free, &busy));
        self.assert_budgets();
        self.tallies.retain(|_, tally| !tally.is_zero());
        tallies.retain(|_, tally| !tally.is_zero());
        assert_eq!(self.tallies, tallies, "tallies are what the rows say");
        woken
    }

    /// Invariant 2, by brute force over the edges and not by the keys above.
    fn nothing_stale_above(&self, claim: &Claim) {
        let mut queue = vec![claim.vertex];
        let mut seen = BTreeSet::new();
        let group_of = |node: NodeId| {
            let name = self.nodes.iter().find(|(_, id)| **id == node).map(|(name, _)| name);
            name.and_then(|name| self.graph.nodes.get(name)).map(|node| &node.group)
        };
        let is_gathered = |role: &GraphRole, parent: &Vertex| match &role.kind {
            Kind::Gather { group: Some(group), .. } => group_of(parent.node) == Some(group),
            _ => true,
        };
        while let Some(id) = queue.pop() {
            let vertex = &self.vertices[&id];
            let Some(role) = self.graph.roles.get(&vertex.role) else { continue };
            for edge in role.parents.iter().filter(|edge| !edge.is_soft()) {
                let on = |parent: &&Vertex| match edge.pairing {
                    Pairing::Same => parent.node == vertex.node,
                    Pairing::All => is_gathered(role, parent),
                    Pairing::FromVirtual => true,
                    Pairing::Chosen => false,
                };
                // Leavers are read by nobody who stays, so what is above them is not above those.
                let stays = |parent: &&Vertex| parent.phase.goal == Goal::Present && !parent.is_gone();
                let parents = self.vertices.values().filter(|parent| parent.role == edge.parent);
                for parent in parents.filter(stays).filter(on) {
                    let name = (&vertex.role, &parent.role);
                    assert!(!parent.phase.holds_readers(), "a job starts while {name:?} is stale above");
                    if seen.insert(parent.id) {
                        queue.push(parent.id);
                    }
                }
            }
        }
    }

    fn events(&mut self, ids: &[VertexId], event: Event) {
        let graph = self.graph.clone();
        let mut turn = Turn::new(&graph, self.load(ids));
        for id in ids {
            turn.event(*id, event, self.change, Value::Null).expect("a legal event");
        }
        self.drive(&mut turn);
        let written = turn.finish();
        self.write(written);
    }

    /// One turn of some engine. Returns whether there was anything to do.
    pub(crate) fn turn(&mut self) -> bool {
        let mut woken: Vec<VertexId> = self.vertices.values().filter(|v| v.wake).map(|v| v.id).collect();
        let mut ready: Vec<VertexId> =
            self.vertices.values().filter(|v| v.phase.state == State::Ready).map(|v| v.id).collect();
        woken.sort_unstable();
        ready.sort_unstable();
        let limit = 1 + self.dice.below(6);
        woken.truncate(limit);
        let ended: Vec<JobId> = self.jobs.keys().copied().collect();
        let ended: Vec<JobId> = ended.into_iter().filter(|_| self.dice.chance(50)).collect();
        if woken.is_empty() && ready.is_empty() && self.jobs.is_empty() {
            return false;
        }
        let reports: Vec<Report> = ended.iter().map(|job| self.perform(*job)).collect();
        let concerned: Vec<VertexId> =
            woken.iter().chain(&ready).copied().chain(reports.iter().map(|report| report.vertex)).collect();
        let graph = self.graph.clone();
        let hood = match self.kept.take().filter(|_| self.dice.chance(80)) {
            Some(mut hood) => {
                self.load_into(&mut hood, &concerned);
                hood
            }
            None => self.load(&concerned),
        };
        let mut turn = Turn::new(&graph, hood);
        for (job, claim) in &self.abandoned {
            let late = Report { job: *job, vertex: claim.vertex, result: Ok(Object::new()), failed_at: None };
            assert!(!turn.report(&late), "what comes of a machine that is not there any more is refused");
        }
        for report in &reports {
            assert!(turn.report(report), "the report of a job that runs is taken");
            assert!(!turn.report(report), "the same report again is refused");
        }
        turn.wake(woken);
        self.drive(&mut turn);
        let capacity = self.dice.below(5);
        if self.dice.chance(50) {
            ready.extend(turn.made_ready());
        }
        let mut ids = self.ids;
        loop {
            let wants = turn.claim(&ready, capacity, || {
                ids += 1;
                JobId(Uuid::from_u128(ids))
            });
            if wants.is_empty() {
                break;
            }
            self.load_more(&mut turn, wants);
        }
        self.ids = ids;
        self.drive(&mut turn);
        let (written, mut hood) = turn.finish_and_keep();
        if self.dice.chance(self.crashing) {
            // The engine dies before its commit: nothing of this turn is there, the jobs' journals still are.
            return true;
        }
        for report in &reports {
            *self.counted.entry(report.job).or_default() += 1;
            let vertex = report.vertex;
            let removed = self.jobs.remove(&report.job).expect("a job").remove;
            match (&report.result, removed) {
                (Ok(_), true) => drop(self.machine.remove(&vertex)),
                (Ok(_), false) => *self.applies.entry(vertex).or_default() += 1,
                (Err(_), _) => {}
            }
        }
        let woken = self.write(written);
        hood.woken(&woken);
        self.keep(hood);
        true
    }

    /// What the machine did for a job: decided by the job id, so that asking again gives the same answer.
    fn perform(&mut self, job: JobId) -> Report {
        let claim = self.jobs[&job].clone();
        let mut dice = Dice::new(u64::try_from(job.0.as_u128()).unwrap_or(u64::MAX).wrapping_mul(0x9E37_79B9));
        if dice.chance(self.failing) {
            let failure = Failure { code: "step-failed".to_owned(), message: String::new() };
            return Report { job, vertex: claim.vertex, result: Err(failure), failed_at: Some(self.now) };
        }
        if claim.remove {
            return Report { job, vertex: claim.vertex, result: Ok(Object::new()), failed_at: None };
        }
        self.machine.insert(claim.vertex, claim.frozen.digest.clone());
        let role = &self.graph.roles[&self.vertices[&claim.vertex].role];
        let outputs = role.outputs.keys().map(|name| (name.clone(), output(name, &claim.frozen.digest))).collect();
        Report { job, vertex: claim.vertex, result: Ok(outputs), failed_at: None }
    }

    /// Runs until nothing moves any more.
    pub(crate) fn settle(&mut self) {
        for _ in 0..200_000 {
            if !self.turn() {
                return;
            }
        }
        panic!("does not come to rest:\n{}", self.table());
    }

    /// Changes one layered value somewhere and commits. Returns false where there is none.
    pub(crate) fn change_a_value(&mut self) -> bool {
        let mut graph = self.graph.clone();
        let names: Vec<String> = graph.roles.keys().cloned().collect();
        let Some(name) = self.dice.pick(&names).cloned() else { return false };
        let value = json!(self.dice.below(1000));
        let role = graph.roles.get_mut(&name).expect("a role");
        let Some(base) = role.inputs.values_mut().find_map(|input| match &mut input.source {
            Source::Layers { base, .. } => Some(base),
            _ => None,
        }) else {
            return false;
        };
        *base = Some(Layered { value, layer: Layer::Deployment, by: "test".to_owned() });
        let concerned = concerned(Some(&self.graph), &graph);
        assert!(concerned.bind.is_empty() && concerned.unbind.is_empty());
        self.graph = graph;
        self.change += 1;
        self.applies.clear();
        let ids: Vec<VertexId> = concerned
            .touch
            .keys()
            .map(|(role, node)| {
                let node = self.nodes[node];
                self.vertices.values().find(|v| v.role == *role && v.node == node).expect("a vertex").id
            })
            .collect();
        self.events(&ids, Event::Touch);
        true
    }

    /// Commits another graph: some vertices come, some leave, all others are judged anew where they read them.
    pub(crate) fn commit(&mut self, mut graph: Graph) {
        found(Some(&self.graph), &mut graph, |role, node| {
            self.at(role, node).is_some_and(|id| self.vertices[&id].serving)
        });
        keep_leavers(&self.graph, &mut graph);
        let concerned = concerned(Some(&self.graph), &graph);
        // What was taken under a wider limit is kept until it is given back.
        self.borne = self.tokens.keys().cloned().collect();
        self.change += 1;
        self.applies.clear();
        let mut made = BTreeSet::new();
        for name in graph.nodes.keys() {
            if !self.nodes.contains_key(name) {
                let id = NodeId(self.id());
                self.nodes.insert(name.clone(), id);
                made.insert(name);
            }
        }
        for (role, node) in &concerned.bind {
            if self.at(role, node).is_none() {
                let id = VertexId(self.id());
                self.vertices.insert(id, Vertex::new(id, role.clone(), self.nodes[node]));
            }
        }
        let rewired = rewired(&self.graph, &graph);
        let mut moves = Vec::new();
        let unbind = concerned.unbind.iter().map(|place| (place, Event::Unbind));
        // Those on nodes that are made now are bound by themselves, after the others.
        let (fresh, bind): (Vec<_>, Vec<_>) = concerned.bind.iter().partition(|(_, node)| made.contains(node));
        let fresh: Vec<VertexId> =
            fresh.into_iter().map(|(role, node)| self.at(role, node).expect("a vertex")).collect();
        let bind = bind.into_iter().map(|place| (place, Event::Bind));
        let touch = concerned.touch.keys().map(|place| (place, Event::Touch));
        for ((role, node), event) in unbind.chain(bind).chain(touch) {
            moves.push((self.at(role, node).expect("a vertex"), event));
        }
        self.graph = graph;
        let ids: Vec<VertexId> = moves.iter().map(|(id, _)| *id).collect();
        let graph = self.graph.clone();
        let mut turn = Turn::new(&graph, self.load(&ids));
        for (id, event) in moves {
            if event == Event::Touch {
                turn.touch(id, self.change, &Value::Null);
            } else {
                turn.event(id, event, self.change, Value::Null).expect("a legal event");
            }
        }
        let written = turn.finish();
        self.write(written);
        // As the store does at a commit.
        for vertex in self.vertices.values_mut().filter(|vertex| vertex.phase.state == State::Blocked) {
            vertex.wake |= self.sought.contains(&vertex.id) || rewired.contains(&vertex.role);
        }
        self.bind_made(&fresh);
    }

    /// Node roles on nodes that nobody has reached yet are judged as they are bound, as far as that goes without loading
    /// more. Then the nodes answer.
    fn bind_made(&mut self, fresh: &[VertexId]) {
        let graph = self.graph.clone();
        let mut hood = self.load(fresh);
        let nodes: BTreeSet<NodeId> = fresh.iter().map(|id| self.vertices[id].node).collect();
        for node in &nodes {
            hood.nodes.get_mut(node).expect("loaded").ready = false;
            hood.whole.insert(*node);
        }
        let mut turn = Turn::new(&graph, hood);
        for id in fresh {
            turn.event(*id, Event::Bind, self.change, Value::Null).expect("a new vertex may be bound");
        }
        turn.judge_all();
        let written = turn.finish();
        assert!(written.vertices.iter().all(|vertex| vertex.phase.state == State::Blocked), "nobody answers there");
        self.write(written);
        for id in &self.sought {
            let vertex = self.vertices.get_mut(id).expect("what is sought is there");
            vertex.wake |= matches!(&vertex.cause, Some(Cause::Node { node }) if nodes.contains(node));
        }
    }

    fn at(&self, role: &str, node: &str) -> Option<VertexId> {
        let node = self.nodes[node];
        self.present().find(|vertex| vertex.role == role && vertex.node == node).map(|vertex| vertex.id)
    }

    /// How many nodes a group has.
    pub(crate) fn size(&self, group: &str) -> usize {
        self.graph.nodes.values().filter(|node| node.group == group).count()
    }

    /// The faults are mended and a person retries what failed, until nothing is failed any more. Once is not always
    /// enough: what was held while it failed comes back as failed when its inputs turn out to be the same.
    pub(crate) fn heal(&mut self) {
        self.failing = 0;
        for _ in 0..=self.graph.order.len() {
            let failed: Vec<VertexId> =
                self.vertices.values().filter(|v| v.phase.state == State::Failed).map(|v| v.id).collect();
            if failed.is_empty() {
                return;
            }
            self.change += 1;
            self.events(&failed, Event::Retry);
            self.settle();
        }
        panic!("retrying does not heal:\n{}", self.table());
    }

    /// Everything leaves.
    pub(crate) fn unbind_all(&mut self) {
        self.change += 1;
        let all: Vec<VertexId> = self.present().map(|vertex| vertex.id).collect();
        for role in self.graph.roles.values_mut() {
            role.bound.clear();
        }
        self.events(&all, Event::Unbind);
    }
}

/// Outputs follow from the inputs; one of them seldom changes, so that cutoff has something to do.
fn output(name: &str, digest: &str) -> Value {
    if name == "told" { json!("always the same") } else { json!(format!("{name} of {}", &digest[..8])) }
}
