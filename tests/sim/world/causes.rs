//! Invariant 6: at rest whoever is held is held by something that is so, and the chain of causes ends in what people know.

use std::collections::BTreeMap;

use engine_core::id::VertexId;
use engine_core::settle::allowance::Allowance;
use engine_core::settle::hood::Standing;
use engine_core::settle::judge::{freeze, moves};
use engine_core::settle::{Cause, Hood, Vertex};
use engine_core::state::{Goal, State};

use super::World;

/// What follows in a chain of causes.
enum Next {
    /// It ends here, in what the words say.
    End(&'static str),
    /// Each of these holds it.
    By(Vec<VertexId>),
}

impl World {
    /// Every vertex is active, failed, gone, or held; every stored cause is true now, and every chain of causes ends
    /// in one of the listed ends and never in itself.
    pub(crate) fn assert_causes(&self) {
        let hood = self.whole_hood();
        let mut done = BTreeMap::new();
        for vertex in self.present() {
            let rests = matches!(vertex.phase.state, State::Active | State::Failed | State::Blocked);
            assert!(rests, "{} is {} at rest:\n{}", vertex.role, vertex.phase.state, self.table());
            if vertex.phase.state != State::Active {
                self.follow(&hood, vertex, &mut done, &mut Vec::new());
            }
        }
    }

    fn follow(
        &self,
        hood: &Hood,
        vertex: &Vertex,
        done: &mut BTreeMap<VertexId, &'static str>,
        path: &mut Vec<VertexId>,
    ) {
        if done.contains_key(&vertex.id) {
            return;
        }
        assert!(!path.contains(&vertex.id), "{} waits for itself:\n{}", vertex.role, self.table());
        let end = match vertex.phase.state {
            State::Failed => "a failure",
            State::Blocked => match self.next(hood, vertex) {
                Ok(Next::End(end)) => end,
                Ok(Next::By(all)) => {
                    path.push(vertex.id);
                    for by in all {
                        self.follow(hood, &self.vertices[&by], done, path);
                    }
                    path.pop();
                    "others"
                }
                Err(says) => panic!("{} is held by {:?}: {says}\n{}", vertex.role, vertex.cause, self.table()),
            },
            other => panic!("a chain ends in {}, which is {other}:\n{}", vertex.role, self.table()),
        };
        done.insert(vertex.id, end);
    }

    /// What the stored cause names, if it is so.
    fn next(&self, hood: &Hood, vertex: &Vertex) -> Result<Next, &'static str> {
        let cause = vertex.cause.as_ref().ok_or("nothing")?;
        let leaves = vertex.phase.goal == Goal::Absent;
        let of = |role: &str, is: &dyn Fn(&Vertex) -> bool| -> Vec<VertexId> {
            self.present().filter(|other| other.role == role && is(other)).map(|other| other.id).collect()
        };
        let some =
            |found: Vec<VertexId>, otherwise| if found.is_empty() { Err(otherwise) } else { Ok(Next::By(found)) };
        match cause {
            Cause::Vertex { vertex: by } => match self.vertices.get(by) {
                Some(by) if by.phase.is_stale() && (leaves || !by.phase.accepted) => Ok(Next::By(vec![by.id])),
                _ => Err("it rests"),
            },
            Cause::Before { vertex: by } => match self.vertices.get(by) {
                Some(by) if by.phase.holds_readers() && moves(hood, by) => Ok(Next::By(vec![by.id])),
                _ => Err("it does not move"),
            },
            Cause::Role { role } => {
                let stale = |other: &Vertex| other.phase.goal == Goal::Present && other.phase.is_stale();
                let awaited = |other: &Vertex| {
                    let waits = other.phase.holds_readers() && self.stands(other.node) != Standing::Aside;
                    stale(other) && (leaves || waits)
                };
                some(of(role, &awaited), "no instance is stale")
            }
            Cause::Leaving { role } => some(of(role, &|other| other.phase.goal == Goal::Absent), "nothing leaves"),
            Cause::NoneActive { role } => {
                let in_standing =
                    |other: &Vertex| other.phase.goal == Goal::Present && self.stands(other.node) == Standing::In;
                let all = of(role, &in_standing);
                if all.iter().any(|id| self.vertices[id].phase.state == State::Active) {
                    return Err("one is active");
                }
                Ok(if all.is_empty() { Next::End("nothing bound") } else { Next::By(all) })
            }
            Cause::Node { node } => match self.stands(*node) {
                Standing::Aside => Ok(Next::End("aside")),
                _ => Err("its node takes part"),
            },
            Cause::Approval { digest, .. } => {
                let now = || freeze(hood, vertex, &self.graph.roles[&vertex.role]).digest;
                if vertex.approved.as_ref() == Some(digest) {
                    return Err("it is approved");
                }
                if leaves || now() == *digest { Ok(Next::End("an approval")) } else { Err("another attempt is due") }
            }
            Cause::Budget { budget } => {
                let nothing = Allowance::default();
                let allowance = hood.budgets.get(budget).unwrap_or(&nothing);
                if allowance.own_room(&self.graph, budget) > 0 {
                    return Err("there is room");
                }
                self.held(allowance)
            }
            Cause::Shared { budget } => {
                let shared = self.elsewhere.get(budget).ok_or("nobody shares it")?;
                match shared.room(self.count_here(budget)) {
                    0 => Ok(Next::End("others")),
                    _ => Err("there is room"),
                }
            }
            Cause::Member { budget } => {
                let allowance = hood.budgets.get(budget).filter(|by| by.is_changing()).ok_or("nobody joins")?;
                self.held(allowance)
            }
            Cause::Paused | Cause::Import { .. } | Cause::InTurn { .. } => {
                Err("nobody pauses, imports or checks anything here")
            }
        }
    }

    /// At rest nodes are out of service for a failure or because they stand aside; the rest is followed.
    fn held(&self, allowance: &Allowance) -> Result<Next, &'static str> {
        let failed = self.vertices.values().any(|vertex| {
            vertex.phase.state == State::Failed
                && (allowance.held.contains_key(&vertex.node) || allowance.has(vertex.node))
        });
        let aside = allowance.down.iter().any(|node| self.stands(*node) == Standing::Aside);
        if failed {
            Ok(Next::End("a failure"))
        } else if aside {
            Ok(Next::End("aside"))
        } else {
            Err("nobody who is out of service failed or stands aside")
        }
    }
}
