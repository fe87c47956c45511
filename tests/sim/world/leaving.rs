//! What must be so when a removal begins.

use engine_core::graph::{Source, VIRTUAL};
use engine_core::id::VertexId;
use engine_core::settle::Claim;
use engine_core::state::Goal;
use serde_json::json;

use super::World;

impl World {
    /// Invariant 9: whoever read this leaver has let go of it, or is gone.
    pub(super) fn nobody_reads(&self, leaver: VertexId) {
        if let Some(reader) = self.reads.reader_of(&self.graph, &self.vertices, leaver) {
            let (leaver, reader) = (&self.vertices[&leaver], &self.vertices[&reader]);
            let says = format!("{}, which is {} with goal {:?}", reader.role, reader.phase.state, reader.phase.goal);
            panic!("{} is removed while it is read by {says}:\n{}", leaver.role, self.table());
        }
    }

    /// What a removal gathers says who stays: as it is now, and nothing where nobody does.
    pub(super) fn gathered_from_those_who_stay(&self, claim: &Claim) {
        let role = &self.graph.roles[&self.vertices[&claim.vertex].role];
        for (input, value) in &claim.frozen.values {
            let Source::Gather { helper } = &role.inputs[input].source else { panic!("{input} is not gathered") };
            let gather = self.at(helper, VIRTUAL).map(|id| &self.vertices[&id]);
            match gather.filter(|gather| gather.phase.goal == Goal::Present) {
                Some(gather) => {
                    assert_eq!(Some(value), gather.outputs.get("value"), "{helper} as it is");
                    for member in self.reads.of(gather.id) {
                        let member = &self.vertices[&member];
                        assert_eq!(
                            member.phase.goal,
                            Goal::Present,
                            "{} is in {helper}:\n{}",
                            member.role,
                            self.table()
                        );
                    }
                }
                None => assert!(*value == json!({}) || *value == json!([]), "nobody stays, and {value} is read"),
            }
        }
    }
}
