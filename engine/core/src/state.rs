//! How a vertex moves: one function over states and events. The table is that of docs/ARCHITECTURE.md.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where a vertex stands. `Blocked`, `Ready`, `Running` and `Failed` are stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// In a proposed revision, not committed.
    Proposed,
    /// Something is to be done and may not begin yet; the cause says why.
    Blocked,
    /// May begin; waits for a claimer.
    Ready,
    /// A job of it runs.
    Running,
    /// Its last job succeeded and nothing is to be done.
    Active,
    /// Its last job failed; waits for a change or a retry.
    Failed,
    /// Removed.
    Gone,
}

/// All states, in the order of the table.
pub const STATES: [State; 7] =
    [State::Proposed, State::Blocked, State::Ready, State::Running, State::Active, State::Failed, State::Gone];

impl State {
    /// As stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Proposed => "proposed",
            Self::Blocked => "blocked",
            Self::Ready => "ready",
            Self::Running => "running",
            Self::Active => "active",
            Self::Failed => "failed",
            Self::Gone => "gone",
        }
    }

    /// The state stored under this word.
    pub fn parse(text: &str) -> Option<Self> {
        STATES.into_iter().find(|state| state.as_str() == text)
    }

    /// Is something to be done?
    pub fn is_stale(self) -> bool {
        matches!(self, Self::Blocked | Self::Ready | Self::Running | Self::Failed)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a vertex is to become.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Goal {
    /// It is to be there.
    Present,
    /// It is leaving.
    Absent,
}

/// The part of a vertex that events move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Phase {
    /// Where it stands.
    pub state: State,
    /// What it is to become.
    pub goal: Goal,
    /// Runs even if its digest equals what is applied: first run, redeploy, repair, retry.
    pub armed: bool,
    /// Touched while a job ran: judged again afterwards.
    pub touched: bool,
    /// Bound again while its remove ran.
    pub rebound: bool,
    /// The running job is an apply, not a remove.
    pub applying: bool,
    /// Some job of it was started once.
    pub started: bool,
    /// It failed, and a person takes what its last success made for good until its next change.
    pub accepted: bool,
}

impl Phase {
    /// A vertex that a plan proposes.
    pub const PROPOSED: Self = Self {
        state: State::Proposed,
        goal: Goal::Present,
        armed: false,
        touched: false,
        rebound: false,
        applying: false,
        started: false,
        accepted: false,
    };

    /// Is something to be done, in either direction?
    pub fn is_stale(self) -> bool {
        self.state.is_stale()
    }

    /// Does it hold back readers of its outputs? A leaver does not: it is out of their sight. Nor does a failure that a
    /// person accepts.
    pub fn holds_readers(self) -> bool {
        self.goal == Goal::Present && self.is_stale() && !self.accepted
    }

    fn to(self, state: State) -> Self {
        Self { state, ..self }
    }
}

/// What can happen to a vertex.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// An input it reads, its content or its binding changed.
    Touch,
    /// Judged: it may not begin. The cause is stored beside.
    Hold,
    /// Judged: nothing to do, its digest equals `applied`.
    Same,
    /// Judged: nothing new, this very digest failed and nobody asked for a retry.
    SameAsFailed,
    /// Judged: it may begin.
    Go,
    /// An engine took it.
    Claim,
    /// The job succeeded.
    Done,
    /// The job failed, or its outcome is unknown.
    Fail,
    /// A person or a repair asks for a run.
    Retry,
    /// It is no longer bound.
    Unbind,
    /// It is bound by a committed revision.
    Bind,
    /// Its node is lost: no job can ever run there.
    Lost,
    /// A person takes what its last success made for good, although it failed since.
    Accept,
}

impl Event {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Touch => "touch",
            Self::Hold => "hold",
            Self::Same => "same",
            Self::SameAsFailed => "same-as-failed",
            Self::Go => "go",
            Self::Claim => "claim",
            Self::Done => "done",
            Self::Fail => "fail",
            Self::Retry => "retry",
            Self::Unbind => "unbind",
            Self::Bind => "bind",
            Self::Lost => "lost",
            Self::Accept => "accept",
        }
    }
}

/// All events, in the order of the table.
pub const EVENTS: [Event; 13] = [
    Event::Touch,
    Event::Hold,
    Event::Same,
    Event::SameAsFailed,
    Event::Go,
    Event::Claim,
    Event::Done,
    Event::Fail,
    Event::Retry,
    Event::Unbind,
    Event::Bind,
    Event::Lost,
    Event::Accept,
];

/// The event is not possible in this state. A bug, or a report that came too late; never a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{event:?} is not possible while {} with goal {:?}", phase.state, phase.goal)]
pub struct Illegal {
    /// Where it stood.
    pub phase: Phase,
    /// What was to happen.
    pub event: Event,
}

/// Moves a vertex.
///
/// # Errors
/// [`Illegal`] for a pair that the table marks so; the phase is then unchanged.
pub fn next(phase: Phase, event: Event) -> Result<Phase, Illegal> {
    let moved = match phase.goal {
        Goal::Present => present(phase, event),
        Goal::Absent => absent(phase, event),
    };
    // What is accepted is this failure, and no other.
    let accepted = |moved: &Phase| moved.state == State::Failed && moved.goal == Goal::Present && moved.accepted;
    moved.map(|moved| Phase { accepted: accepted(&moved), ..moved }).ok_or(Illegal { phase, event })
}

fn present(phase: Phase, event: Event) -> Option<Phase> {
    use Event as E;
    use State as S;
    let armed = Phase { armed: true, ..phase };
    let leaving = Phase { goal: Goal::Absent, armed: false, ..phase };
    let next = match phase.state {
        S::Proposed => match event {
            E::Touch => phase,
            E::Unbind | E::Lost => phase.to(S::Gone),
            E::Bind => armed.to(S::Blocked),
            _ => return None,
        },
        S::Blocked | S::Ready => match event {
            E::Touch | E::Hold => phase.to(S::Blocked),
            E::Same => phase.to(S::Active),
            E::SameAsFailed => phase.to(S::Failed),
            E::Go => phase.to(S::Ready),
            E::Claim if phase.state == S::Ready => {
                Phase { applying: true, started: true, touched: false, ..phase.to(S::Running) }
            }
            E::Retry if phase.state == S::Ready => phase,
            E::Retry => armed,
            E::Unbind if phase.started => leaving.to(S::Blocked),
            E::Unbind | E::Lost => leaving.to(S::Gone),
            E::Bind => phase,
            E::Claim | E::Done | E::Fail | E::Accept => return None,
        },
        S::Running => match event {
            E::Touch => Phase { touched: true, ..phase },
            E::Done | E::Fail => {
                let over = Phase { touched: false, applying: false, armed: false, ..phase };
                match (phase.touched, event) {
                    (true, _) => over.to(S::Blocked),
                    (false, E::Done) => over.to(S::Active),
                    (false, _) => over.to(S::Failed),
                }
            }
            E::Unbind => leaving,
            E::Bind => phase,
            E::Lost => leaving.to(S::Gone),
            _ => return None,
        },
        S::Active | S::Failed => match event {
            E::Touch => phase.to(S::Blocked),
            E::Retry => armed.to(S::Blocked),
            E::Unbind if phase.started || phase.state == S::Active => leaving.to(S::Blocked),
            E::Unbind | E::Lost => leaving.to(S::Gone),
            E::Bind => phase,
            E::Accept if phase.state == S::Failed => Phase { accepted: true, ..phase },
            _ => return None,
        },
        S::Gone => match event {
            E::Lost => phase,
            _ => return None,
        },
    };
    Some(next)
}

fn absent(phase: Phase, event: Event) -> Option<Phase> {
    use Event as E;
    use State as S;
    let back = Phase { goal: Goal::Present, armed: true, ..phase };
    let next = match phase.state {
        S::Proposed => return None,
        S::Blocked | S::Ready => match event {
            E::Touch | E::Retry | E::Unbind => phase,
            E::Hold => phase.to(S::Blocked),
            E::Go => phase.to(S::Ready),
            E::Claim if phase.state == S::Ready => {
                Phase { applying: false, started: true, touched: false, ..phase.to(S::Running) }
            }
            E::Bind => back.to(S::Blocked),
            E::Lost => phase.to(S::Gone),
            _ => return None,
        },
        S::Running => match event {
            E::Touch => phase,
            E::Unbind => Phase { rebound: false, ..phase },
            E::Bind => Phase { rebound: true, ..phase },
            E::Done | E::Fail => {
                let over = Phase { touched: false, rebound: false, applying: false, ..phase };
                match (phase.rebound, phase.applying, event) {
                    (true, _, _) => Phase { goal: Goal::Present, armed: true, ..over }.to(S::Blocked),
                    (false, true, _) => over.to(S::Blocked),
                    (false, false, E::Done) => over.to(S::Gone),
                    (false, false, _) => over.to(S::Failed),
                }
            }
            E::Lost => phase.to(S::Gone),
            _ => return None,
        },
        S::Failed => match event {
            E::Touch | E::Unbind => phase,
            E::Retry => phase.to(S::Blocked),
            E::Bind => back.to(S::Blocked),
            E::Lost => phase.to(S::Gone),
            _ => return None,
        },
        S::Active => return None,
        S::Gone => match event {
            E::Lost => phase,
            _ => return None,
        },
    };
    Some(next)
}

#[cfg(test)]
mod tests {
    use super::{EVENTS, Event, Goal, Phase, STATES, State, next};

    fn table(goal: Goal) -> String {
        let mut text = String::new();
        for state in STATES {
            let phase = Phase { state, goal, started: true, applying: goal == Goal::Present, ..Phase::PROPOSED };
            text += state.as_str();
            for event in EVENTS {
                if let Ok(moved) = next(phase, event) {
                    let mut flags = String::new();
                    for (set, flag) in [
                        (moved.goal == Goal::Absent, "↓"),
                        (moved.armed, " a"),
                        (moved.touched, " touched"),
                        (moved.rebound, " rebound"),
                        (moved.accepted, " accepted"),
                    ] {
                        if set {
                            flags += flag;
                        }
                    }
                    let event = format!("{event:?}").to_lowercase();
                    text += &format!(" {event}->{}{flags};", moved.state);
                }
            }
            text += "\n";
        }
        text
    }

    #[test]
    fn the_table_of_present_vertices() {
        insta::assert_snapshot!(table(Goal::Present), @r"
        proposed touch->proposed; unbind->gone; bind->blocked a; lost->gone;
        blocked touch->blocked; hold->blocked; same->active; sameasfailed->failed; go->ready; retry->blocked a; unbind->blocked↓; bind->blocked; lost->gone↓;
        ready touch->blocked; hold->blocked; same->active; sameasfailed->failed; go->ready; claim->running; retry->ready; unbind->blocked↓; bind->ready; lost->gone↓;
        running touch->running touched; done->active; fail->failed; unbind->running↓; bind->running; lost->gone↓;
        active touch->blocked; retry->blocked a; unbind->blocked↓; bind->active; lost->gone↓;
        failed touch->blocked; retry->blocked a; unbind->blocked↓; bind->failed; lost->gone↓; accept->failed accepted;
        gone lost->gone;
        ");
    }

    #[test]
    fn the_table_of_leavers() {
        insta::assert_snapshot!(table(Goal::Absent), @r"
        proposed
        blocked touch->blocked↓; hold->blocked↓; go->ready↓; retry->blocked↓; unbind->blocked↓; bind->blocked a; lost->gone↓;
        ready touch->ready↓; hold->blocked↓; go->ready↓; claim->running↓; retry->ready↓; unbind->ready↓; bind->blocked a; lost->gone↓;
        running touch->running↓; done->gone↓; fail->failed↓; unbind->running↓; bind->running↓ rebound; lost->gone↓;
        active
        failed touch->failed↓; retry->blocked↓; unbind->failed↓; bind->blocked a; lost->gone↓;
        gone lost->gone↓;
        ");
    }

    #[test]
    fn an_apply_that_ends_while_leaving_is_still_removed() {
        let running = Phase { state: State::Running, applying: true, started: true, ..Phase::PROPOSED };
        let leaving = next(running, Event::Unbind).expect("legal");
        assert_eq!(next(leaving, Event::Done).map(|p| (p.state, p.goal)), Ok((State::Blocked, Goal::Absent)));
        let back = next(leaving, Event::Bind).and_then(|p| next(p, Event::Fail)).expect("legal");
        assert_eq!((back.state, back.goal, back.armed), (State::Blocked, Goal::Present, true));
    }

    #[test]
    fn what_never_started_goes_at_once() {
        let blocked = next(Phase::PROPOSED, Event::Bind).expect("legal");
        assert_eq!(next(blocked, Event::Unbind).map(|p| p.state), Ok(State::Gone));
    }

    #[test]
    fn a_touched_job_is_judged_again() {
        let running = Phase { state: State::Running, applying: true, started: true, ..Phase::PROPOSED };
        let touched = next(running, Event::Touch).expect("legal");
        assert_eq!(next(touched, Event::Done).map(|p| p.state), Ok(State::Blocked));
    }
}
