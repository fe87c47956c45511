//! What fails is tried again by itself.

use std::rc::Rc;

use engine_core::graph::{Kind, Retry};
use engine_core::id::VertexId;
use engine_core::settle::Turn;
use engine_core::state::State;

use super::World;

impl World {
    /// All roles with work are tried so often.
    pub(crate) fn try_all(&mut self, attempts: i32) {
        for role in Rc::make_mut(&mut self.graph).roles.values_mut().filter(|role| role.kind == Kind::Work) {
            role.retry = Some(Retry { attempts, backoff: 10 });
        }
    }

    /// The clock goes on to when the next of those that failed is tried again, and it is. `false`: none is.
    pub(crate) fn next_try(&mut self) -> bool {
        let failed = self.vertices.values().filter(|vertex| vertex.phase.state == State::Failed);
        let Some(next) = failed.filter_map(|vertex| vertex.retry_at).min() else { return false };
        let before = next - std::time::Duration::from_secs(1);
        let due: Vec<VertexId> =
            self.vertices.values().filter(|vertex| vertex.retry_at == Some(next)).map(|vertex| vertex.id).collect();
        let hood = self.load(&due);
        let graph = Rc::clone(&self.graph);
        let mut turn = Turn::new(&graph, hood);
        for id in due {
            let failed = turn.hood.vertices[&id].phase.state == State::Failed;
            assert!(!turn.try_again(id, before), "it is not time yet");
            assert_eq!(turn.try_again(id, next), failed, "only what failed is tried again");
            assert!(!turn.try_again(id, next), "once");
        }
        let written = turn.finish();
        self.write(written);
        self.kept = None;
        // What was held meanwhile may be late.
        self.now = self.now.max(next);
        true
    }
}
