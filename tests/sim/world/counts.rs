//! What a turn writes, against what was touched and what ran (invariant 10).

use std::collections::BTreeSet;

use engine_core::id::VertexId;
use engine_core::settle::Written;
use engine_core::state::{Event, State};

use super::World;

/// Since it was last cleared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Rows of vertices that were written.
    pub(crate) rows: usize,
    /// Vertices that something was changed for: touched, bound, unbound, retried.
    pub(crate) touched: BTreeSet<VertexId>,
    /// Jobs that began, and helpers that came to another value.
    pub(crate) runs: usize,
    /// Vertices that were woken by what held them.
    pub(crate) woken: usize,
    /// Vertices that came to rest, and roles of which nothing is stale, or leaving, any more.
    pub(crate) keys: usize,
}

impl Counts {
    /// Rows are a small multiple of what was touched and run, and so are wake-ups.
    pub(crate) fn assert_proportional(&self) {
        let moved = self.touched.len() + self.runs;
        assert!(self.rows <= 5 * moved, "{} rows for {} touched and {} run", self.rows, self.touched.len(), self.runs);
        assert!(self.woken <= 2 * (moved + self.keys), "{} woken: {self:?}", self.woken);
    }
}

impl World {
    pub(super) fn count(&mut self, written: &Written) {
        let counts = &mut self.counts;
        counts.rows += written.vertices.len();
        counts.keys += written.wake.len();
        for moved in &written.events {
            match moved.event {
                Event::Touch | Event::Bind | Event::Unbind | Event::Retry | Event::Lost => {
                    counts.touched.insert(moved.vertex);
                }
                Event::Claim => counts.runs += 1,
                _ => {}
            }
        }
        // A helper goes through its states in one go and a job that was touched moves only when it ends.
        let running =
            written.vertices.iter().filter(|vertex| vertex.phase.touched && vertex.phase.state == State::Running);
        counts.touched.extend(running.map(|vertex| vertex.id));
    }
}
