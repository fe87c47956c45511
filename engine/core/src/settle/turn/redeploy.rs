//! What a redeploy does to a vertex: the machine forgets what it was, and so does the vertex.

use serde_json::{Value, json};

use super::Turn;
use crate::id::VertexId;
use crate::state::{Event, Goal, State};

/// Code of a job whose machine was taken away from under it.
const ABANDONED: &str = "redeployed";

impl Turn<'_> {
    /// Arms a vertex whose machine is emptied, or whose deployment is made anew: it runs again whatever its digest says,
    /// also if it is destructive; values of `on_change: ignore` inputs are read afresh. A running job is abandoned.
    /// What was there before counts as out of service until it succeeds, unless the redeploy is `wide` as a first creation.
    /// With `machine_gone` nothing of what it did is left: it need not be removed before it goes, and a leaver is gone.
    ///
    /// Helpers have no work and are judged by what they gather; they are left alone.
    pub fn redeploy(&mut self, id: VertexId, since: i64, machine_gone: bool, wide: bool, why: &Value) {
        let vertex = &self.hood.vertices[&id];
        let phase = vertex.phase;
        if matches!(phase.state, State::Gone | State::Proposed) {
            return;
        }
        if phase.goal == Goal::Absent && !phase.rebound {
            if machine_gone {
                self.moved(id, Event::Lost, why.clone());
            }
            return;
        }
        let vertex = self.vertex(id);
        vertex.since = Some(vertex.since.map_or(since, |old| old.min(since)));
        vertex.serving = false;
        vertex.anew = vertex.attempts > 0 && !wide;
        vertex.applied = None;
        vertex.failed = None;
        vertex.frozen = None;
        vertex.content = None;
        vertex.approved = None;
        vertex.read.clear();
        vertex.kept.clear();
        // The states' table needs no event of its own: a job that is taken away has failed, what was ready has to be
        // judged again, and asking for a run arms what is blocked.
        if phase.state == State::Running {
            let job = vertex.job.take();
            vertex.code = Some(ABANDONED.to_owned());
            self.written.abandoned.extend(job);
            self.moved(id, Event::Fail, json!({"job": job, "code": ABANDONED}));
        }
        if phase.state == State::Ready {
            self.moved(id, Event::Touch, why.clone());
        }
        self.moved(id, Event::Retry, why.clone());
        let vertex = self.vertex(id);
        vertex.phase.started &= !machine_gone;
        vertex.code = None;
        (vertex.tries, vertex.retry_at) = (0, None);
        vertex.wake = true;
    }
}
