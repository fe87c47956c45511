//! What becomes of a vertex whose job failed: it waits for a change or a person, or is tried again by itself.
//!
//! It stays failed meanwhile: whoever holds of a budget keeps it, so that no other node is taken out of service while
//! this one may not come back.

use std::time::Duration;

use serde_json::json;
use time::OffsetDateTime;

use super::{Failure, Turn};
use crate::id::VertexId;
use crate::state::{Event, Phase, State};

impl Turn<'_> {
    pub(super) fn fail(&mut self, id: VertexId, was: Phase, failure: &Failure, at: Option<OffsetDateTime>) {
        let retry = self.graph.roles.get(&self.hood.vertices[&id].role).and_then(|role| role.retry);
        let vertex = self.vertex(id);
        vertex.tries += 1;
        let wait = retry.and_then(|retry| retry.wait(vertex.tries));
        vertex.retry_at = at.zip(wait).map(|(at, wait)| at + Duration::from_secs(wait));
        let job = vertex.job.take();
        vertex.failed = vertex.frozen.take();
        vertex.code = Some(failure.code.clone());
        let action = if was.applying { "apply" } else { "remove" };
        let detail = json!({"action": action, "code": failure.code, "message": failure.message});
        self.moved_by(id, Event::Fail, job, detail);
    }

    /// Tries again what failed, if its time has come. `false`: it has not, or there is nothing to be tried any more.
    pub fn try_again(&mut self, id: VertexId, now: OffsetDateTime) -> bool {
        let vertex = &self.hood.vertices[&id];
        if vertex.phase.state != State::Failed || vertex.retry_at.is_none_or(|at| at > now) {
            return false;
        }
        let failed = vertex.tries;
        self.vertex(id).retry_at = None;
        self.moved(id, Event::Retry, json!({"by": "retry", "tries": failed}));
        true
    }
}
