//! Nodes that do not answer: for how long, as far as anybody looked, and what a policy makes of that.
//!
//! A node is taken out for what it did not do, never for what an engine did not do. So time counts only between two looks
//! in vain of engines that looked all the while and could see at least half of the deployment; and a policy takes a node
//! out only where that leaves budgets and quorums as they have to be, which a person may pass over.

use std::collections::BTreeSet;
use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::budget::limit;
use crate::compile::duration;
use crate::document::Silent;
use crate::graph::{Graph, NodeName};
use crate::id::NodeId;
use crate::settle::Hood;
use crate::settle::allowance::{Allowance, serves};
use crate::settle::hood::Standing;
use crate::view::SilenceView;

/// Of two looks that are further apart nobody knows what was in between.
pub const GAP: Duration = Duration::from_mins(5);
/// Nodes are looked at so often at least, and at most.
const SELDOM: Duration = Duration::from_mins(1);
const OFTEN: Duration = Duration::from_secs(1);

/// Seconds of what a policy says; `never` is the longest time that there is.
pub fn patience(said: &str) -> u64 {
    // What is no time was refused when it was read.
    duration::seconds(said).unwrap_or(u64::MAX)
}

/// After which time a node that does not answer is taken out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// It is put aside.
    pub aside: Option<Duration>,
    /// It is lost.
    pub lost: Option<Duration>,
}

impl Times {
    /// Those that a policy says.
    pub fn of(said: &Silent) -> Self {
        let time = |said: &Option<String>| {
            let seconds = said.as_deref().map(patience).filter(|seconds| *seconds < u64::MAX);
            seconds.map(Duration::from_secs)
        };
        Self { aside: time(&said.aside), lost: time(&said.lost) }
    }

    /// How often somebody has to look at a node that answers; `None`: for these times nobody has to.
    pub fn look_every(self) -> Option<Duration> {
        let shortest = [self.aside, self.lost].into_iter().flatten().min()?;
        Some((shortest / 5).clamp(OFTEN, SELDOM))
    }
}

/// Since when a node does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Silence {
    /// The first look in vain.
    pub since: OffsetDateTime,
    /// The last one.
    pub last: OffsetDateTime,
    /// The time in between that counts.
    pub counted: Duration,
}

impl Silence {
    /// The first look in vain.
    pub fn begins(now: OffsetDateTime) -> Self {
        Self { since: now, last: now, counted: Duration::ZERO }
    }

    /// Another one. `began`: since when the engine that looked is there, if that is known; `sees`: as [`sees`] says.
    #[must_use]
    pub fn goes_on(self, now: OffsetDateTime, began: Option<OffsetDateTime>, sees: bool) -> Self {
        let gap = Duration::try_from(now - self.last).unwrap_or_default();
        let looked = began.is_some_and(|began| began <= self.last) && gap <= GAP;
        let counts = if looked && sees { gap } else { Duration::ZERO };
        Self { last: now.max(self.last), counted: self.counted + counts, ..self }
    }
}

/// Whoever reaches less than half of a deployment is rather cut off than alone with the healthy ones.
pub fn sees(answering: usize, of: usize) -> bool {
    answering * 2 >= of
}

/// A node, as far as a policy looks at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its standing.
    pub standing: Standing,
    /// It is so by a policy.
    pub by_policy: bool,
    /// It answers.
    pub answers: bool,
    /// Since when it does not.
    pub silence: Option<Silence>,
}

/// What becomes of a node by a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// It answers again.
    In,
    /// It stands aside until it answers.
    Aside,
    /// For good.
    Lost,
}

/// What is to be done with a node now. `began`: since when the engine that asks is there; what was seen before that, somebody
/// has to see again. What a person put aside is that person's.
pub fn verdict(times: Times, seen: &Seen, now: OffsetDateTime, began: OffsetDateTime) -> Option<Move> {
    let is_out = seen.standing == Standing::Aside && seen.by_policy;
    if seen.standing != Standing::In && !is_out {
        return None;
    }
    if seen.answers {
        return is_out.then_some(Move::In);
    }
    let silence = seen.silence.filter(|silence| silence.last >= began && now - silence.last <= GAP)?;
    let is_over = |time: Option<Duration>| time.is_some_and(|time| silence.counted >= time);
    if is_over(times.lost) { Some(Move::Lost) } else { (is_over(times.aside) && !is_out).then_some(Move::Aside) }
}

/// The deployment around a node that is to be taken out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rest {
    /// How many of its nodes answer and take part.
    pub taking_part: usize,
    /// Nodes that its revision binds and that are lost or gone.
    pub missing: BTreeSet<NodeName>,
}

/// What keeps a policy from taking a node out, as a sentence that goes on after "but"; `None`: nothing. All nodes that
/// are out of service count, this one among them, whoever took them out; so do those that are lost and that nobody has
/// replaced. What failed on this one stops nobody. A quorum keeps its majority, also where a person could work on one of two.
pub fn keeps(graph: &Graph, hood: &Hood, node: NodeId, rest: &Rest) -> Option<String> {
    if !sees(rest.taking_part, graph.nodes.len()) {
        return Some("less than half of the nodes of its deployment would be left".to_owned());
    }
    let nothing = Allowance::default();
    graph.budgets.iter().find_map(|(name, budget)| {
        if !serves(graph, hood, name, node) {
            return None;
        }
        let mut others = hood.budgets.get(name).unwrap_or(&nothing).clone();
        others.held.remove(&node);
        others.down.remove(&node);
        others.failing.remove(&node);
        let members: BTreeSet<&NodeName> = graph.disruptors(name).flat_map(|role| &role.bound).collect();
        let missing = members.iter().filter(|name| rest.missing.contains(**name)).count();
        let out = others.unavailable() + missing + 1;
        let majority = !budget.quorum || members.len().saturating_sub(out) * 2 > members.len();
        if !majority {
            return Some(format!("budget {name} would have no quorum"));
        }
        let mut count = others.count(graph, name);
        count.unavailable += missing;
        if others.shared.as_ref().is_some_and(|shared| shared.room(count) == 0) {
            return Some(format!("budget {name} of all deployments allows no node more to be out of service"));
        }
        let stopped = others.is_open(budget) || (budget.quorum && others.is_changing());
        (stopped || out > limit(budget, members.len()))
            .then(|| format!("budget {name} allows no node more to be out of service"))
    })
}

/// What there is to say of a node after that it stands aside or does not answer.
pub fn says(silence: &SilenceView) -> String {
    let since = silence.since.and_then(|since| since.replace_nanosecond(0).ok()?.format(&Rfc3339).ok());
    let since = since.map(|since| format!("has not answered since {since}"));
    let of = |held: &String| format!("it would be taken out, but {held}");
    let parts = match &silence.aside_by {
        Some(by) => [Some(format!(" by {by}")), since.or_else(|| Some("answers again".to_owned())), None],
        None => [Some(String::new()), since, silence.held.as_ref().map(of)],
    };
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
