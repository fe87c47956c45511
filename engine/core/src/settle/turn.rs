//! One turn of the pass: reports come in, woken vertices are judged, ready ones are claimed.
//!
//! A turn owns its neighbourhood and moves it; the caller loads what [`Turn::wants`] names, writes what
//! [`Turn::finish`] returns, all in the one transaction that holds the deployment's lock.

mod again;
mod budgets;
mod records;
mod redeploy;
mod renew;
mod stand;
mod touch;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde_json::{Value, json};

pub use self::records::{Claim, Failure, Moved, Report, Wants, Written};
use super::allowance::Token;
use super::judge::{first_active, moves};
use super::{Cause, Frozen, Hood, Tally, Verdict, Vertex, judge};
use crate::digest;
use crate::document::{At, Object, OnChange, differing};
use crate::graph::{Edge, Graph, Kind, Pairing, RoleName};
use crate::id::{JobId, NodeId, VertexId};
use crate::state::{Event, Goal, Phase, State, next};

/// One turn. See the module.
pub struct Turn<'g> {
    graph: &'g Graph,
    rank: HashMap<&'g str, usize>,
    /// The neighbourhood, moved by the turn.
    pub hood: Hood,
    changed: BTreeSet<VertexId>,
    queue: BTreeSet<(usize, bool, VertexId)>,
    waiting: BTreeSet<VertexId>,
    touches: Vec<(RoleName, i64, String)>,
    /// Who held of which budget when the turn began.
    tokens: BTreeMap<(String, NodeId), Token>,
    /// Nodes of which it is to be counted again what they hold, and budgets of which somebody may be waiting in vain.
    recount: BTreeSet<NodeId>,
    moved_budgets: BTreeSet<String>,
    /// Some role goes before another where both move.
    any_soft: bool,
    /// Roles whose instance on a chosen node holds others.
    chosen: HashSet<&'g str>,
    wants: Wants,
    written: Written,
}

impl<'g> Turn<'g> {
    /// Begins a turn over a loaded neighbourhood.
    pub fn new(graph: &'g Graph, hood: Hood) -> Self {
        let rank = graph.order.iter().enumerate().map(|(rank, name)| (name.as_str(), rank)).collect();
        let any_soft = graph.roles.values().any(|role| role.parents.iter().any(Edge::is_soft));
        Self {
            tokens: budgets::tokens(&hood),
            recount: BTreeSet::new(),
            moved_budgets: BTreeSet::new(),
            any_soft,
            chosen: graph
                .roles
                .values()
                .flat_map(|role| role.above.chosen.values().flatten())
                .map(String::as_str)
                .collect(),
            graph,
            rank,
            hood,
            changed: BTreeSet::new(),
            queue: BTreeSet::new(),
            waiting: BTreeSet::new(),
            touches: Vec::new(),
            wants: Wants::default(),
            written: Written::default(),
        }
    }

    /// Takes in how a job ended. A report of a job that the vertex does not run any more changes nothing and is
    /// answered with `false`.
    pub fn report(&mut self, report: &Report) -> bool {
        let Some(vertex) = self.hood.vertices.get(&report.vertex) else { return false };
        if vertex.job != Some(report.job) || vertex.phase.state != State::Running {
            return false;
        }
        let was = vertex.phase;
        match &report.result {
            Ok(outputs) => self.succeed(report.vertex, was, outputs.clone()),
            Err(failure) => self.fail(report.vertex, was, failure, report.failed_at),
        }
        true
    }

    fn succeed(&mut self, id: VertexId, was: Phase, outputs: Object) {
        let job = self.vertex(id).job;
        if !was.applying {
            self.moved_by(id, Event::Done, job, json!({"action": "remove"}));
            self.vertex(id).job = None;
            return;
        }
        let since = self.hood.vertices[&id].since;
        let renewal = self.renewal(id, &outputs);
        let vertex = self.vertex(id);
        let before = std::mem::replace(&mut vertex.outputs, outputs);
        vertex.applied = vertex.frozen.take();
        vertex.failed = None;
        vertex.code = None;
        vertex.approved = None;
        vertex.tries = 0;
        vertex.serving = true;
        vertex.anew = false;
        vertex.job = None;
        vertex.renew_at = renewal;
        let changed = differing(&before, &vertex.outputs);
        self.moved_by(id, Event::Done, job, json!({"action": "apply", "outputs_changed": changed}));
        self.touch_readers(id, &changed, since);
    }

    /// Queues vertices for judgement.
    pub fn wake(&mut self, vertices: impl IntoIterator<Item = VertexId>) {
        for id in vertices {
            self.enqueue(id);
        }
    }

    /// Something about a vertex changed from outside: a fact, its content, its binding, its time of renewal.
    pub fn touch(&mut self, id: VertexId, since: i64, why: &Value) {
        self.touch_one(id, since, why);
    }

    /// An event that a person, a commit or a timer caused.
    ///
    /// # Errors
    /// [`crate::state::Illegal`] where the table says so; nothing is changed then.
    pub fn event(&mut self, id: VertexId, event: Event, since: i64, why: Value) -> Result<(), crate::state::Illegal> {
        let phase = self.hood.vertices[&id].phase;
        next(phase, event)?;
        let vertex = self.vertex(id);
        vertex.since = Some(vertex.since.map_or(since, |old| old.min(since)));
        if event == Event::Retry {
            vertex.failed = None;
            (vertex.tries, vertex.retry_at) = (0, None);
        }
        self.moved(id, event, why);
        Ok(())
    }

    /// A person takes what the last success of a vertex made for good, although it failed since: until its next change it
    /// holds nobody back. `false` where there is no such success, or no failure.
    pub fn accept(&mut self, id: VertexId, why: Value) -> bool {
        let vertex = &self.hood.vertices[&id];
        let may = vertex.serving && !vertex.phase.accepted && next(vertex.phase, Event::Accept).is_ok();
        if may {
            self.vertex(id).retry_at = None;
            self.moved(id, Event::Accept, why);
        }
        may
    }

    /// Judges until nothing queued can be judged with what is loaded, and applies touches.
    /// Returns what must be loaded before going on; call again after loading.
    pub fn judge_all(&mut self) -> Wants {
        loop {
            self.apply_touches();
            let Some((.., id)) = self.queue.pop_first() else { break };
            self.judge_one(id);
        }
        std::mem::take(&mut self.wants)
    }

    /// Adds loaded rows and queues what waited for them.
    pub fn loaded(&mut self, roles: BTreeSet<RoleName>, all_nodes: bool) {
        self.hood.all_of.extend(roles);
        self.hood.all_nodes |= all_nodes;
        for id in std::mem::take(&mut self.waiting) {
            self.enqueue(id);
        }
    }

    fn judge_one(&mut self, id: VertexId) {
        let vertex = &self.hood.vertices[&id];
        if !self.hood.can_judge(self.graph, vertex) {
            // Its neighbours are not loaded: the next turn does it.
            self.vertex(id).wake = true;
            return;
        }
        if !matches!(vertex.phase.state, State::Blocked | State::Ready) {
            self.unwake(id);
            return;
        }
        if let Some(Cause::Budget { budget } | Cause::Member { budget } | Cause::InTurn { budget }) = &vertex.cause {
            self.moved_budgets.insert(budget.clone());
        }
        match judge(self.graph, &self.hood, vertex) {
            Verdict::LoadRole(role) => {
                self.wants.roles.insert(role);
                self.waiting.insert(id);
                return;
            }
            Verdict::LoadNodes => {
                self.wants.nodes = true;
                self.waiting.insert(id);
                return;
            }
            Verdict::LoadNode(node) => {
                self.wants.whole.insert(node);
                self.waiting.insert(id);
                return;
            }
            Verdict::Hold(cause) => self.hold(id, cause),
            Verdict::Same => self.same(id),
            Verdict::SameAsFailed => self.moved(id, Event::SameAsFailed, Value::Null),
            Verdict::Go(frozen) => self.go(id, &frozen),
            Verdict::Settle(outputs) => self.settle(id, outputs),
        }
        self.unwake(id);
    }

    fn hold(&mut self, id: VertexId, cause: Cause) {
        let vertex = self.vertex(id);
        if vertex.cause.as_ref() == Some(&cause) && vertex.phase.state == State::Blocked {
            // What holds it may have stopped moving, and so does this then.
            self.let_go(id);
            return;
        }
        let key = cause.to_string();
        vertex.cause = Some(cause.clone());
        self.hood.held.entry(cause).or_default().push(id);
        self.moved(id, Event::Hold, json!({"cause": key}));
        self.let_go(id);
    }

    /// Those who only wait for what moves must look again when this vertex stopped moving.
    fn let_go(&mut self, id: VertexId) {
        let vertex = &self.hood.vertices[&id];
        if self.any_soft && !moves(&self.hood, vertex) {
            let (failed, role) = (vertex.phase.state == State::Failed, vertex.role.clone());
            self.wake_held(id);
            if failed {
                self.stops(&role);
            }
        }
    }

    /// Instances of a role failed, or are waited for no more.
    fn stops(&mut self, role: &str) {
        if self.any_soft {
            self.wake_key(&Cause::Role { role: role.to_owned() });
            self.wake_key(&Cause::NoneActive { role: role.to_owned() });
        }
    }

    fn same(&mut self, id: VertexId) {
        self.moved(id, Event::Same, Value::Null);
    }

    fn go(&mut self, id: VertexId, frozen: &Frozen) {
        let vertex = self.vertex(id);
        vertex.cause = None;
        let leaving = vertex.phase.goal == Goal::Absent;
        let role = vertex.role.clone();
        if vertex.phase.state == State::Blocked {
            let digest = frozen.digest.clone();
            self.take_budgets(id);
            self.moved(id, Event::Go, json!({"digest": digest}));
        }
        // A helper holds nothing that would have to be removed.
        if leaving && self.graph.roles.get(&role).is_some_and(|role| role.kind != Kind::Work) {
            self.moved(id, Event::Claim, Value::Null);
            self.moved(id, Event::Done, json!({"action": "remove"}));
        }
    }

    /// A helper has no work: it goes through its states in one go.
    fn settle(&mut self, id: VertexId, mut outputs: Object) {
        if let Some(value) = outputs.get_mut("value") {
            let digest = digest::of(value);
            let value = std::mem::replace(value, json!({"$digest": digest}));
            self.written.values.insert(digest, value);
        }
        let digest = digest::of(&Value::Object(outputs.clone()));
        let vertex = self.vertex(id);
        if vertex.applied.as_deref() == Some(&digest) {
            vertex.phase.armed = false;
            self.same(id);
            return;
        }
        vertex.cause = None;
        vertex.frozen = Some(digest);
        if vertex.phase.state == State::Blocked {
            self.moved(id, Event::Go, Value::Null);
        }
        self.moved(id, Event::Claim, Value::Null);
        let was = self.hood.vertices[&id].phase;
        self.succeed(id, was, outputs);
    }

    /// Vertices that this turn made ready: they may be claimed by it as well.
    pub fn made_ready(&self) -> Vec<VertexId> {
        let is_ready = |id: &&VertexId| self.hood.vertices[id].phase.state == State::Ready;
        self.changed.iter().filter(is_ready).copied().collect()
    }

    /// Claims ready vertices, uppermost first, judging each again in this very snapshot. Returns what must be loaded
    /// to judge the rest; load it and call again.
    pub fn claim(&mut self, ready: &[VertexId], capacity: usize, mut new_job: impl FnMut() -> JobId) -> Wants {
        let mut order: Vec<(usize, VertexId)> = ready
            .iter()
            .filter_map(|id| self.hood.vertices.get(id))
            .filter(|vertex| vertex.phase.state == State::Ready && self.hood.can_judge(self.graph, vertex))
            .map(|vertex| (self.rank_of(&vertex.role), vertex.id))
            .collect();
        order.sort_unstable();
        order.dedup();
        for (_, id) in order {
            if self.written.claims.len() >= capacity {
                break;
            }
            match judge(self.graph, &self.hood, &self.hood.vertices[&id]) {
                Verdict::Go(frozen) => self.take(id, frozen, new_job()),
                Verdict::LoadRole(role) => {
                    self.wants.roles.insert(role);
                }
                Verdict::LoadNode(node) => {
                    self.wants.whole.insert(node);
                }
                _ => self.judge_one(id),
            }
        }
        std::mem::take(&mut self.wants)
    }

    fn take(&mut self, id: VertexId, frozen: Frozen, job: JobId) {
        let graph_role = self.graph.roles.get(&self.hood.vertices[&id].role);
        let vertex = &self.hood.vertices[&id];
        let node = match graph_role.map(|role| &role.at) {
            Some(At::One { role, .. }) => first_active(&self.hood, role).map_or(vertex.node, |(_, node)| node),
            _ => vertex.node,
        };
        let remove = vertex.phase.goal == Goal::Absent;
        let changed = frozen.read.iter().filter(|(name, digest)| vertex.read.get(*name) != Some(digest));
        let changed = changed.map(|(name, _)| name.clone()).collect();
        let ignored: Object = graph_role
            .into_iter()
            .flat_map(|role| &role.inputs)
            .filter(|(name, input)| input.on_change == OnChange::Ignore && frozen.values.contains_key(*name))
            .map(|(name, _)| (name.clone(), frozen.values[name].clone()))
            .collect();
        let vertex = self.vertex(id);
        vertex.job = Some(job);
        vertex.attempts += 1;
        vertex.cause = None;
        vertex.code = None;
        vertex.retry_at = None;
        if !remove {
            if vertex.failed.as_ref() != Some(&frozen.digest) {
                // Not the attempt that failed.
                vertex.tries = 0;
            }
            vertex.applied = None;
            vertex.frozen = Some(frozen.digest.clone());
            vertex.content = graph_role.map(|role| role.content.clone());
            vertex.read.clone_from(&frozen.read);
            vertex.kept = ignored;
        }
        let digest = frozen.digest.clone();
        self.moved_by(id, Event::Claim, Some(job), json!({"digest": digest, "node": node}));
        let vertex = &self.hood.vertices[&id];
        let place = self.hood.nodes.get(&vertex.node).map(|node| node.name.clone()).unwrap_or_default();
        let (role, attempt) = (vertex.role.clone(), vertex.attempts);
        self.written.claims.push(Claim { job, vertex: id, role, place, attempt, remove, node, frozen, changed });
    }

    /// Ends the turn.
    pub fn finish(self) -> Written {
        self.finish_and_keep().0
    }

    /// Ends the turn. Its neighbourhood is as the rows are once what was written is in force, but for those that are
    /// woken by their cause ([`Hood::woken`]).
    pub fn finish_and_keep(mut self) -> (Written, Hood) {
        // What could not be judged for want of rows, or is not judged by this kind of turn, is judged by the next one.
        let queued = std::mem::take(&mut self.queue).into_iter().map(|(.., id)| id);
        for id in std::mem::take(&mut self.waiting).into_iter().chain(queued) {
            if matches!(self.hood.vertices[&id].phase.state, State::Blocked | State::Ready) {
                self.vertex(id).wake = true;
            }
        }
        self.written.tallies.retain(|_, tally| !tally.is_zero());
        for role in self.written.tallies.keys() {
            let tally = self.hood.tally(role);
            if tally.stale == 0 {
                self.written.wake.insert(Cause::Role { role: role.clone() }.to_string());
            }
            if tally.leaving == 0 {
                self.written.wake.insert(Cause::Leaving { role: role.clone() }.to_string());
            }
            if tally.active > 0 {
                self.written.wake.insert(Cause::NoneActive { role: role.clone() }.to_string());
            }
        }
        self.count_budgets();
        self.written.sought = self.changed.iter().copied().filter(|id| self.is_sought(*id)).collect();
        self.written.vertices = self.changed.iter().map(|id| (*self.hood.vertices[id]).clone()).collect();
        for vertex in self.written.vertices.iter().filter(|vertex| vertex.is_gone()) {
            self.hood.forget(vertex.id);
        }
        (self.written, self.hood)
    }

    /// Is this vertex held by something that is moved without having it at hand? A hard parent on its own node is
    /// never moved by a turn that has not loaded its children there.
    fn is_sought(&self, id: VertexId) -> bool {
        let vertex = &self.hood.vertices[&id];
        let Some(cause) = &vertex.cause else { return false };
        let (Cause::Vertex { vertex: by }, Some(role)) = (cause, self.graph.roles.get(&vertex.role)) else {
            return true;
        };
        let Some(by) = self.hood.vertices.get(by).filter(|by| by.node == vertex.node) else { return true };
        let holds = |edge: &Edge| edge.parent == by.role && edge.pairing == Pairing::Same && !edge.is_soft();
        !role.parents.iter().any(holds)
    }

    fn rank_of(&self, role: &str) -> usize {
        self.rank.get(role).copied().unwrap_or(usize::MAX)
    }

    fn vertex(&mut self, id: VertexId) -> &mut Vertex {
        if !self.graph.budgets.is_empty()
            && let Some(vertex) = self.hood.vertices.get(&id)
        {
            self.recount.insert(vertex.node);
        }
        self.changed.insert(id);
        self.hood.vertices.get_mut(&id).expect("only loaded vertices are moved")
    }

    fn unwake(&mut self, id: VertexId) {
        if self.hood.vertices[&id].wake {
            self.vertex(id).wake = false;
        }
    }

    fn enqueue(&mut self, id: VertexId) {
        if let Some(vertex) = self.hood.vertices.get(&id) {
            // Of one role those first that failed before: repairs come before what works.
            self.queue.insert((self.rank_of(&vertex.role), vertex.code.is_none(), id));
        }
    }

    fn moved(&mut self, id: VertexId, event: Event, detail: Value) {
        self.moved_by(id, event, None, detail);
    }

    /// Applies an event that the table allows, with its event row, tallies and wake-ups.
    fn moved_by(&mut self, id: VertexId, event: Event, job: Option<JobId>, detail: Value) {
        let vertex = self.vertex(id);
        let before = vertex.phase;
        let after = next(before, event).expect("the turn asks only for what the table allows");
        vertex.phase = after;
        if !matches!(after.state, State::Blocked) {
            vertex.cause = None;
        }
        if matches!(after.state, State::Active | State::Gone) {
            vertex.since = None;
            vertex.retry_at = None;
        }
        if before.goal != after.goal {
            (vertex.tries, vertex.retry_at) = (0, None);
        }
        if after.state == State::Gone {
            vertex.serving = false;
            vertex.job = None;
            vertex.renew_at = None;
            // Nobody loads it again who could take this back.
            vertex.wake = false;
        }
        let (role, node) = (vertex.role.clone(), vertex.node);
        let standing = self.hood.standing(node);
        let (was, is) = (Tally::of(before, standing), Tally::of(after, standing));
        self.hood.tallies.entry(role.clone()).or_default().shift(was, is);
        self.written.tallies.entry(role.clone()).or_default().shift(was, is);
        if before.state != after.state || before.goal != after.goal || before.accepted != after.accepted {
            self.written.events.push(Moved { vertex: id, event, from: before.state, to: after.state, job, detail });
        }
        let rests = !after.is_stale() || (before.goal != after.goal) || after.accepted;
        if rests && before.is_stale() {
            self.wake_held(id);
            self.wake_roles(&role);
        }
        if after.state == State::Failed {
            self.let_go(id);
        }
        if matches!(after.state, State::Blocked | State::Ready) && after.state != before.state && event != Event::Hold {
            self.vertex(id).wake = after.state == State::Blocked;
            if after.state == State::Blocked {
                self.enqueue(id);
            }
        }
    }

    fn wake_roles(&mut self, role: &str) {
        let tally = self.hood.tally(role);
        let mut keys = Vec::new();
        if tally.stale == 0 {
            keys.push(Cause::Role { role: role.to_owned() });
        }
        if tally.leaving == 0 {
            keys.push(Cause::Leaving { role: role.to_owned() });
        }
        if tally.active > 0 {
            keys.push(Cause::NoneActive { role: role.to_owned() });
        }
        for key in keys {
            self.wake_loaded(&key);
        }
    }

    /// Wakes those held by a vertex. All of them are on its node, unless it is on the virtual one or where a chooser chose; so
    /// where its node is loaded whole, nobody has to be looked for.
    fn wake_held(&mut self, id: VertexId) {
        let vertex = &self.hood.vertices[&id];
        let elsewhere = self.hood.virtual_node == Some(vertex.node) || self.chosen.contains(vertex.role.as_str());
        let seen = !elsewhere && self.hood.is_whole(vertex.node);
        let before = self.any_soft.then_some(Cause::Before { vertex: id });
        for cause in [Cause::Vertex { vertex: id }].into_iter().chain(before) {
            if seen {
                self.wake_loaded(&cause);
            } else {
                self.wake_key(&cause);
            }
        }
    }

    /// Wakes those held by this cause, loaded or not.
    fn wake_key(&mut self, cause: &Cause) {
        self.written.wake.insert(cause.to_string());
        self.wake_loaded(cause);
    }

    fn wake_loaded(&mut self, cause: &Cause) {
        for id in self.hood.held.remove(cause).unwrap_or_default() {
            // One that is gone by now is not there any more.
            if self.hood.vertices.get(&id).is_some_and(|vertex| vertex.cause.as_ref() == Some(cause)) {
                self.enqueue(id);
                // It may be held by the same again.
                self.hood.held.entry(cause.clone()).or_default().push(id);
            }
        }
    }
}
