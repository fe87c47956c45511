//! The whole engine's decisions without a database: turns over loaded neighbourhoods, a machine that remembers what
//! was applied, crashes between any two writes, failures, changes. `PLINTH_SEED=n` replays one history.

mod again;
mod anew;
mod causes;
mod change;
mod counts;
mod elsewhere;
mod leaving;
mod plans;
mod standing;
mod told;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

use engine_core::budget::found;
use engine_core::catalog::CatalogRole;
use engine_core::document::Object;
use engine_core::graph::{Graph, GraphRole, Kind, Pairing, VIRTUAL};
use engine_core::id::{JobId, NodeId, VertexId};
use engine_core::settle::allowance::{Count, Shared, Token};
use engine_core::settle::commit::concerned;
use engine_core::settle::hood::Standing;
use engine_core::settle::turn::Failure;
use engine_core::settle::{Claim, Hood, Report, Tally, Turn, Vertex, Written};
use engine_core::state::{Event, Goal, State};
use engine_core::template;
use engine_core::testing::Dice;
use serde_json::{Value, json};
use time::OffsetDateTime;
use uuid::Uuid;

use self::plans::Job;

pub(crate) use self::counts::Counts;
pub(crate) use self::plans::assert_nothing_planned;
use crate::reads::Reads;

/// A deployment in memory: what the store would hold, and the machines.
pub(crate) struct World {
    pub(crate) dice: Dice,
    pub(crate) graph: Rc<Graph>,
    change: i64,
    ids: u128,
    pub(crate) nodes: BTreeMap<String, NodeId>,
    pub(crate) vertices: HashMap<VertexId, Vertex>,
    /// Those whose cause is looked up; others are only woken by who has them at hand.
    sought: BTreeSet<VertexId>,
    pub(crate) tallies: HashMap<String, Tally>,
    /// Who holds of which budget.
    pub(crate) tokens: BTreeMap<(String, NodeId), Token>,
    /// Budgets that others share, with what counts there.
    pub(crate) elsewhere: BTreeMap<String, Shared>,
    /// What others were told that counts here.
    pub(crate) told: BTreeMap<String, Count>,
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
    /// Values of gathers by digest.
    values: BTreeMap<String, Value>,
    /// The inputs of each vertex's last attempt.
    inputs: HashMap<VertexId, Object>,
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
    /// Nodes that are not in.
    pub(crate) standing: BTreeMap<NodeId, Standing>,
    /// All roles that any document was made of, by content.
    pub(crate) contents: BTreeMap<String, CatalogRole>,
    /// Jobs since the last change.
    pub(crate) ran: Vec<Job>,
    /// What was written.
    pub(crate) counts: Counts,
    /// Engines have room for everything, and all jobs end in the turn after.
    pub(crate) steady: bool,
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
            graph: Rc::new(graph),
            change: 1,
            ids: 1,
            nodes: BTreeMap::new(),
            vertices: HashMap::new(),
            sought: BTreeSet::new(),
            tallies: HashMap::new(),
            tokens: BTreeMap::new(),
            elsewhere: BTreeMap::new(),
            told: BTreeMap::new(),
            borne: BTreeSet::new(),
            disturbing: BTreeSet::new(),
            kept: None,
            jobs: BTreeMap::new(),
            counted: BTreeMap::new(),
            machine: HashMap::new(),
            values: BTreeMap::new(),
            inputs: HashMap::new(),
            reads: Reads::default(),
            applies: HashMap::new(),
            generations: BTreeMap::new(),
            abandoned: BTreeMap::new(),
            standing: BTreeMap::new(),
            contents: BTreeMap::new(),
            ran: Vec::new(),
            counts: Counts::default(),
            steady: false,
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
        self.count(&written);
        self.remember(&written);
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
            let left = vertex.phase.state == State::Gone
                && self.machine.contains_key(&vertex.id)
                && self.stands(vertex.node) != Standing::Lost;
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
        let runs = |claim: &Claim| self.vertices[&claim.vertex].job == Some(claim.job);
        let lost: Vec<JobId> = self.jobs.iter().filter(|(_, claim)| !runs(claim)).map(|(job, _)| *job).collect();
        assert!(written.abandoned.iter().all(|job| lost.contains(job)), "what is abandoned runs no more");
        for job in lost {
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
            tallies
                .entry(vertex.role.clone())
                .or_default()
                .shift(Tally::default(), Tally::of(vertex.phase, self.stands(vertex.node)));
        }
        let is_new = |(place, token): (&(String, NodeId), &Option<Token>)| {
            let new = token.is_some() && !self.tokens.contains_key(place) && !busy.contains(place);
            new.then(|| place.clone())
        };
        let taken: Vec<(String, NodeId)> = written.tokens.iter().filter_map(is_new).collect();
        woken.extend(self.give(written.tokens, &written.free, &busy));
        self.told.extend(written.counts);
        self.assert_room(&taken);
        self.counts.woken += woken.len();
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
                // Nobody waits for what stands aside, but what stands there itself.
                let awaited = |parent: &&Vertex| self.stands(parent.node) == Standing::In || parent.node == vertex.node;
                let stays =
                    |parent: &&Vertex| parent.phase.goal == Goal::Present && !parent.is_gone() && awaited(parent);
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
        let graph = Rc::clone(&self.graph);
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
        let mut ended: Vec<JobId> = self.jobs.keys().copied().collect();
        if !self.steady {
            woken.truncate(1 + self.dice.below(6));
            ended.retain(|_| self.dice.chance(50));
        }
        if woken.is_empty() && ready.is_empty() && self.jobs.is_empty() {
            return self.let_go();
        }
        if self.dice.chance(20) {
            self.let_go();
        }
        let reports: Vec<Report> = ended.iter().map(|job| self.perform(*job)).collect();
        let concerned: Vec<VertexId> =
            woken.iter().chain(&ready).copied().chain(reports.iter().map(|report| report.vertex)).collect();
        let graph = Rc::clone(&self.graph);
        let hood = match self.kept.take().filter(|_| self.steady || self.dice.chance(80)) {
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
        let capacity = if self.steady { usize::MAX } else { self.dice.below(5) };
        if self.steady || self.dice.chance(50) {
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
        if self.dice.chance(25) {
            hood = hood.without_idle();
        }
        self.keep(hood);
        true
    }

    /// What the machine did for a job: decided by the job id, so that asking again gives the same answer.
    fn perform(&mut self, job: JobId) -> Report {
        let claim = self.jobs[&job].clone();
        let mut dice = Dice::new(u64::try_from(job.0.as_u128()).unwrap_or(u64::MAX).wrapping_mul(0x9E37_79B9));
        if dice.chance(self.failing) {
            if !claim.remove {
                self.machine.insert(claim.vertex, format!("half of {}", claim.frozen.digest));
            }
            let failure = Failure { code: "step-failed".to_owned(), message: String::new() };
            return Report { job, vertex: claim.vertex, result: Err(failure), failed_at: Some(self.now) };
        }
        if claim.remove {
            return Report { job, vertex: claim.vertex, result: Ok(Object::new()), failed_at: None };
        }
        self.machine.insert(claim.vertex, claim.frozen.digest.clone());
        let role = &self.graph.roles[&self.vertices[&claim.vertex].role];
        let outputs = outputs(role, &self.resolved(&claim.frozen.values), &claim.frozen.digest);
        Report { job, vertex: claim.vertex, result: Ok(outputs), failed_at: None }
    }

    /// Values of gathers in place of references to them.
    pub(crate) fn resolved(&self, values: &Object) -> Object {
        let plain = |value: &Value| match value.get("$digest").and_then(Value::as_str) {
            Some(digest) => self.values[digest].clone(),
            None => value.clone(),
        };
        values.iter().map(|(name, value)| (name.clone(), plain(value))).collect()
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

    pub(crate) fn at(&self, role: &str, node: &str) -> Option<VertexId> {
        let node = self.nodes[node];
        self.present().find(|vertex| vertex.role == role && vertex.node == node).map(|vertex| vertex.id)
    }

    /// How many nodes a group has.
    pub(crate) fn size(&self, group: &str) -> usize {
        self.graph.nodes.values().filter(|node| node.group == group).count()
    }

    /// Everything leaves.
    pub(crate) fn unbind_all(&mut self) {
        self.change += 1;
        let all: Vec<VertexId> = self.present().map(|vertex| vertex.id).collect();
        for role in Rc::make_mut(&mut self.graph).roles.values_mut() {
            role.bound.clear();
        }
        self.events(&all, Event::Unbind);
    }
}

/// Outputs follow from the inputs, as the engine makes them; what is found out seldom changes on some roles, so that cutoff
/// has something to do.
pub(crate) fn outputs(role: &GraphRole, inputs: &Object, digest: &str) -> Object {
    let output = |(name, output): (&String, &engine_core::graph::GraphOutput)| {
        let value = match &output.value {
            Some(source) => template::value(source, inputs).unwrap_or_else(|error| json!(error.to_string())),
            None if role.name.ends_with(['1', '4', '7']) => json!("always the same"),
            None => json!(format!("{name} of {}", &digest[..8])),
        };
        (name.clone(), value)
    };
    role.outputs.iter().map(output).collect()
}
