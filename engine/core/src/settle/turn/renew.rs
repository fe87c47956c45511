//! What was told for a time only is made anew when that time has come.

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Turn;
use crate::document::Object;
use crate::id::VertexId;
use crate::state::{Event, Goal, State};

impl Turn<'_> {
    /// When these outputs of a success are to be made anew.
    pub(super) fn renewal(&self, id: VertexId, outputs: &Object) -> Option<OffsetDateTime> {
        let role = self.graph.roles.get(&self.hood.vertices[&id].role)?;
        let at = outputs.get(role.renew_at.as_ref()?).and_then(Value::as_str)?;
        // Validated as a date and time before; what lies outside of what we can count is never.
        OffsetDateTime::parse(at, &Rfc3339).ok()
    }

    /// Lets a vertex run again because its time has come, or what it told is not all any more; the change is its own. `false`:
    /// it moves or leaves already.
    pub fn renew(&mut self, id: VertexId, change: i64) -> bool {
        let vertex = &self.hood.vertices[&id];
        if vertex.phase.state != State::Active || vertex.phase.goal != Goal::Present {
            return false;
        }
        self.event(id, Event::Retry, change, json!({"by": "renewal"})).is_ok()
    }
}
