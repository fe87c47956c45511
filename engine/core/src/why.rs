//! Why a node role is held: the one thing that holds it, what holds that, and so on to the end of the chain.
//!
//! Every blocked vertex stores one cause. Following causes leads to a running job, a failure, a node, a pause or
//! something that is about to be judged; that end is what people have to know. What is not loaded yet is asked for
//! with a [`Want`], so that a single chain is followed without loading a deployment.

use std::collections::{HashMap, HashSet};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::graph::{NodeName, RoleName};
use crate::id::{NodeId, VertexId};
use crate::settle::Cause;
use crate::settle::hood::Standing;
use crate::silence;
use crate::state::{Goal, State};
use crate::view::{SilenceView, WhyLink};

/// Chains longer than this are cut; real ones are as long as the longest path of roles.
const LONGEST: usize = 512;

/// A vertex as far as a chain needs to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stand {
    /// Its node; `deployment` is the virtual one.
    pub node: NodeName,
    /// Its deployment role or helper.
    pub role: RoleName,
    /// Where it stands.
    pub state: State,
    /// What it is to become.
    pub goal: Goal,
    /// Code of its failure, while failed.
    pub code: Option<String>,
    /// When it is tried again by itself, while failed.
    pub retry_at: Option<OffsetDateTime>,
    /// What its job saw last of what it waits for outside, while running.
    pub saw: Option<String>,
    /// What holds it, while blocked.
    pub cause: Option<Cause>,
    /// It is itself held back by a person, not only with its deployment.
    pub paused: bool,
}

impl Stand {
    /// `NODE/ROLE`.
    pub fn address(&self) -> String {
        format!("{}/{}", self.node, self.role)
    }

    /// What became of it, while failed: `step-failed, tries again at …`.
    fn failure(&self) -> String {
        let code = self.code.as_deref().unwrap_or("unknown");
        let again = self.retry_at.and_then(|at| at.replace_nanosecond(0).ok()?.format(&Rfc3339).ok());
        again.map_or_else(|| code.to_owned(), |at| format!("{code}, tries again at {at}"))
    }

    /// What it is at: `running`, or `running: sees that …`.
    fn running(&self) -> String {
        let saw = self.saw.as_ref().map(|saw| format!(": sees that {saw}")).unwrap_or_default();
        format!("{}{saw}", self.state)
    }

    /// How much it is worth to be named as what holds others; more is better.
    pub fn weight(&self) -> u8 {
        match self.state {
            State::Failed => 4,
            State::Running => 3,
            State::Ready => 2,
            State::Blocked => 1,
            State::Proposed | State::Active | State::Gone => 0,
        }
    }
}

/// A node as far as a chain needs to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeStand {
    /// Its name.
    pub name: NodeName,
    /// `creating`, `joining`, `up`, `unreachable`, `failed`, `leaving`.
    pub state: String,
    /// Whether it takes part.
    pub standing: Standing,
    /// Code of what is wrong with it.
    pub code: Option<String>,
    /// What a policy makes of it.
    pub silence: Option<SilenceView>,
}

/// What is loaded. `None` as a value means: looked for, and there is none.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Vertices.
    pub vertices: HashMap<VertexId, Option<Stand>>,
    /// By role the present stale instance most worth naming.
    pub stale: HashMap<RoleName, Option<VertexId>>,
    /// By role the leaving instance most worth naming.
    pub leaving: HashMap<RoleName, Option<VertexId>>,
    /// By budget the vertex most worth naming on a node that holds of it.
    pub holders: HashMap<String, Option<VertexId>>,
    /// By budget that deployments share those of them with nodes out of service, with how many.
    pub elsewhere: HashMap<String, Vec<(String, i64)>>,
    /// Nodes.
    pub nodes: HashMap<NodeId, Option<NodeStand>>,
    /// Everything there is was loaded: what is missing does not exist.
    pub whole: bool,
}

/// What has to be loaded before a chain can be followed further.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Want {
    /// This vertex.
    Vertex(VertexId),
    /// A present stale instance of a role.
    Stale(RoleName),
    /// A leaving instance of a role.
    Leaving(RoleName),
    /// This node.
    Node(NodeId),
    /// A vertex on a node that holds of a budget.
    Holder(String),
    /// Deployments with nodes out of service, of those that share a budget.
    Elsewhere(String),
}

/// Where a chain ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// At a vertex that is not held by anything: it runs, failed, or is about to be judged.
    Vertex(VertexId),
    /// At a vertex that a person paused, by itself or with its deployment.
    Paused(VertexId),
    /// At a node.
    Node(NodeId),
    /// At a vertex that waits for an approval.
    Approval(VertexId),
    /// At a budget that nobody holds of: it allows nothing, or nodes of it do not answer.
    Budget(String),
    /// At a budget that deployments share and that has no room.
    Shared(String),
    /// At an export (`DEPLOYMENT.EXPORT`) that another deployment has not told yet.
    Import(String, String),
    /// No instance of this role is there to be active.
    Nobody(RoleName),
    /// What it was held by is gone; it is about to be judged.
    Over,
}

/// A chain: the vertices passed, the first of them the one that is asked for, and its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// The vertices passed.
    pub path: Vec<VertexId>,
    /// Where it ends.
    pub end: End,
}

impl Known {
    /// Adds a vertex, and takes it as the instance to be named if none has more weight.
    pub fn add(&mut self, id: VertexId, stand: Stand) {
        let present = stand.goal == Goal::Present;
        if stand.state.is_stale() || !present {
            let weight = stand.weight();
            let of = if present { &self.stale } else { &self.leaving };
            let before = of.get(&stand.role).copied().flatten().and_then(|old| self.stand(old));
            if before.is_none_or(|before| before.weight() < weight) {
                let of = if present { &mut self.stale } else { &mut self.leaving };
                of.insert(stand.role.clone(), Some(id));
            }
        }
        self.vertices.insert(id, Some(stand));
    }

    fn stand(&self, id: VertexId) -> Option<&Stand> {
        self.vertices.get(&id)?.as_ref()
    }

    fn pick(&self, role: &str, leaving: bool) -> Result<Option<VertexId>, Want> {
        let of = if leaving { &self.leaving } else { &self.stale };
        match of.get(role) {
            Some(found) => Ok(*found),
            None if self.whole => Ok(None),
            None if leaving => Err(Want::Leaving(role.to_owned())),
            None => Err(Want::Stale(role.to_owned())),
        }
    }
}

/// Follows the causes from a vertex to the end.
///
/// # Errors
/// What must be loaded first.
pub fn follow(start: VertexId, known: &Known) -> Result<Chain, Want> {
    let mut path = Vec::new();
    let mut passed = HashSet::new();
    let mut id = start;
    loop {
        let stand = match known.vertices.get(&id) {
            Some(Some(stand)) => stand,
            None if !known.whole => return Err(Want::Vertex(id)),
            _ => return Ok(Chain { path, end: End::Over }),
        };
        if !passed.insert(id) || path.len() == LONGEST {
            // Stored causes of a moment between two judgements; the next one puts it right.
            return Ok(Chain { path, end: End::Over });
        }
        path.push(id);
        let end = match (&stand.cause, stand.state) {
            (Some(Cause::Vertex { vertex } | Cause::Before { vertex }), State::Blocked) => {
                id = *vertex;
                continue;
            }
            (Some(Cause::Paused), State::Blocked) => End::Paused(id),
            (Some(Cause::Approval { .. }), State::Blocked) => End::Approval(id),
            (Some(Cause::Import { deployment, export }), State::Blocked) => {
                End::Import(deployment.clone(), export.clone())
            }
            (Some(Cause::Budget { budget } | Cause::Member { budget } | Cause::InTurn { budget }), State::Blocked) => {
                match known.holders.get(budget) {
                    Some(Some(holder)) => {
                        id = *holder;
                        continue;
                    }
                    None if !known.whole => return Err(Want::Holder(budget.clone())),
                    _ => End::Budget(budget.clone()),
                }
            }
            (Some(Cause::Shared { budget }), State::Blocked) => {
                if !known.whole && !known.elsewhere.contains_key(budget) {
                    return Err(Want::Elsewhere(budget.clone()));
                }
                End::Shared(budget.clone())
            }
            (Some(Cause::Node { node }), State::Blocked) => match known.nodes.get(node) {
                Some(Some(_)) => End::Node(*node),
                None if !known.whole => return Err(Want::Node(*node)),
                _ => End::Over,
            },
            (Some(cause @ (Cause::Role { role } | Cause::NoneActive { role } | Cause::Leaving { role })), _)
                if stand.state == State::Blocked =>
            {
                match (known.pick(role, matches!(cause, Cause::Leaving { .. }))?, cause) {
                    (Some(next), _) => {
                        id = next;
                        continue;
                    }
                    (None, Cause::NoneActive { .. }) => End::Nobody(role.clone()),
                    (None, _) => End::Over,
                }
            }
            _ => End::Vertex(id),
        };
        return Ok(Chain { path, end });
    }
}

/// What holds the first vertex of a chain, in one sentence that names the end.
pub fn says(chain: &Chain, known: &Known) -> String {
    let about = || "is about to be judged".to_owned();
    match &chain.end {
        End::Over => about(),
        End::Nobody(role) => format!("waits for {role}, of which no instance is active"),
        End::Approval(id) => match (known.stand(*id).map(|stand| (stand, &stand.cause)), chain.path.first()) {
            (Some((_, Some(Cause::Approval { effects, .. }))), Some(first)) if first == id => {
                format!("waits for an approval: {effects}")
            }
            (Some((stand, Some(Cause::Approval { effects, .. }))), _) => {
                format!("{} waits for an approval: {effects}", stand.address())
            }
            _ => about(),
        },
        End::Import(deployment, export) => format!("waits for deployment {deployment} to tell its export {export}"),
        End::Budget(budget) => format!("waits for budget {budget}, which allows no node more to be out of service"),
        End::Shared(budget) => {
            format!("waits for budget {budget} of all deployments, which {}", shared_says(budget, known))
        }
        End::Node(node) => known.nodes.get(node).and_then(Option::as_ref).map_or_else(about, node_says),
        End::Paused(id) => known.stand(*id).map_or_else(about, |stand| match (stand.paused, chain.path.first()) {
            (false, _) => "the deployment is paused".to_owned(),
            (true, Some(first)) if first == id => "paused".to_owned(),
            (true, _) => format!("held back by {} paused", stand.address()),
        }),
        End::Vertex(id) if chain.path.len() == 1 && chain.path.first() == Some(id) => about(),
        End::Vertex(id) => known.stand(*id).map_or_else(about, |stand| {
            let address = stand.address();
            let leaves = if stand.goal == Goal::Absent { " to leave" } else { "" };
            match stand.state {
                State::Failed => format!("held back by {address} failed{leaves}: {}", stand.failure()),
                State::Blocked => format!("waits for {address}{leaves} (about to be judged)"),
                State::Running => format!("waits for {address}{leaves} ({})", stand.running()),
                state => format!("waits for {address}{leaves} ({state})"),
            }
        }),
    }
}

fn shared_says(budget: &str, known: &Known) -> String {
    let nothing = "allows no node more to be out of service";
    let who: Vec<String> = known.elsewhere.get(budget).map_or_else(Vec::new, |all| {
        all.iter().map(|(deployment, count)| format!("{count} in {deployment}")).collect()
    });
    if who.is_empty() { nothing.to_owned() } else { format!("{nothing}: {}", who.join(", ")) }
}

fn node_says(node: &NodeStand) -> String {
    let name = &node.name;
    let code = node.code.as_deref().unwrap_or("unknown");
    let silence = node.silence.as_ref().map(silence::says).unwrap_or_default();
    match (node.standing, node.state.as_str()) {
        (Standing::Aside, _) => format!("node {name} stands aside{silence}"),
        (Standing::Lost, _) => format!("node {name} is lost"),
        (Standing::In, "unreachable") => format!("node {name} does not answer: {code}{silence}"),
        (Standing::In, "failed") => format!("node {name} failed: {code}"),
        (Standing::In, state) => format!("waits for node {name} ({state})"),
    }
}

/// The chain link by link, from the vertex that was asked for to the end.
pub fn links(chain: &Chain, known: &Known) -> Vec<WhyLink> {
    let mut links = Vec::new();
    for (index, id) in chain.path.iter().enumerate() {
        let Some(stand) = known.stand(*id) else { continue };
        let next = chain.path.get(index + 1).and_then(|next| known.stand(*next));
        links.push(WhyLink { what: stand.address(), says: link_says(stand, next) });
    }
    match &chain.end {
        End::Node(id) => {
            if let Some(Some(node)) = known.nodes.get(id) {
                links.push(WhyLink { what: format!("node {}", node.name), says: node_says(node) });
            }
        }
        End::Nobody(role) => {
            links.push(WhyLink { what: role.clone(), says: "no instance of it is active".to_owned() });
        }
        End::Budget(budget) => {
            let says = "allows no node more to be out of service".to_owned();
            links.push(WhyLink { what: format!("budget {budget}"), says });
        }
        End::Shared(budget) => {
            let says = shared_says(budget, known);
            links.push(WhyLink { what: format!("budget {budget} of all deployments"), says });
        }
        End::Import(deployment, export) => {
            let says = format!("has not told its export {export} yet; see `plinth status {deployment}`");
            links.push(WhyLink { what: format!("deployment {deployment}"), says });
        }
        End::Vertex(_) | End::Paused(_) | End::Approval(_) | End::Over => {}
    }
    links
}

fn link_says(stand: &Stand, next: Option<&Stand>) -> String {
    let leaving = if stand.goal == Goal::Absent { ", leaving" } else { "" };
    let state = format!("{}{leaving}", stand.state);
    match (stand.state, &stand.cause) {
        (State::Failed, _) => format!("{state}: {}", stand.failure()),
        (State::Blocked, None) => format!("{state}, about to be judged"),
        (State::Blocked, Some(cause)) => {
            let next = next.map(Stand::address).unwrap_or_default();
            match cause {
                Cause::Paused if stand.paused => format!("{state}, paused"),
                Cause::Paused => format!("{state}, its deployment is paused"),
                Cause::Vertex { .. } => format!("{state}, needs {next} at rest"),
                Cause::Before { .. } => format!("{state}, {next} goes first"),
                Cause::Role { role } => format!("{state}, needs every {role} at rest"),
                Cause::Leaving { role } => format!("{state}, waits until {role} has left"),
                Cause::NoneActive { role } => format!("{state}, needs an active {role}"),
                Cause::Node { .. } => format!("{state}, needs its node"),
                Cause::Approval { effects, .. } => format!("{state}, a person has to approve: {effects}"),
                Cause::Import { deployment, .. } => format!("{state}, reads an export of {deployment}"),
                Cause::Budget { budget } => format!("{state}, budget {budget} is taken"),
                Cause::Shared { budget } => format!("{state}, other deployments took of budget {budget}"),
                Cause::InTurn { budget } => {
                    format!("{state}, fails its check, and another node of {budget} is worked on")
                }
                Cause::Member { budget } => format!("{state}, one node at a time joins or leaves {budget}"),
            }
        }
        (State::Ready, _) => format!("{state}, waits for an engine"),
        (State::Running, _) => format!("{}{leaving}", stand.running()),
        _ => state,
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::{Known, NodeStand, Stand, Want, follow, links, says};
    use crate::id::{NodeId, VertexId};
    use crate::settle::Cause;
    use crate::settle::hood::Standing;
    use crate::state::{Goal, State};

    fn id(number: u128) -> VertexId {
        VertexId(Uuid::from_u128(number))
    }

    fn stand(place: &str, state: State, cause: Option<Cause>) -> Stand {
        let (node, role) = place.split_once('/').expect("NODE/ROLE");
        let code = (state == State::Failed).then(|| "step-failed".to_owned());
        let (node, role) = (node.into(), role.into());
        Stand { node, role, state, goal: Goal::Present, code, retry_at: None, saw: None, cause, paused: false }
    }

    fn whole(stands: Vec<Stand>) -> Known {
        let mut known = Known { whole: true, ..Known::default() };
        for (number, stand) in (1..).zip(stands) {
            known.add(id(number), stand);
        }
        known
    }

    fn told(start: u128, known: &Known) -> String {
        let chain = follow(id(start), known).expect("all is loaded");
        let mut text = says(&chain, known);
        for link in links(&chain, known) {
            text += &format!("\n{}: {}", link.what, link.says);
        }
        text
    }

    #[test]
    fn the_end_of_the_chain_is_named() {
        let held = Some(Cause::Vertex { vertex: id(2) });
        let known = whole(vec![
            stand("a/app", State::Blocked, held),
            stand("a/web", State::Blocked, Some(Cause::Role { role: "etcd".into() })),
            stand("c/etcd", State::Running, None),
            stand("b/etcd", State::Failed, None),
            stand("d/etcd", State::Blocked, None),
        ]);
        insta::assert_snapshot!(told(1, &known), @r"
        held back by b/etcd failed: step-failed
        a/app: blocked, needs a/web at rest
        a/web: blocked, needs every etcd at rest
        b/etcd: failed: step-failed
        ");
        insta::assert_snapshot!(told(5, &known), @r"
        is about to be judged
        d/etcd: blocked, about to be judged
        ");
    }

    #[test]
    fn a_failure_that_is_tried_again_says_when() {
        let mut failed = stand("b/etcd", State::Failed, None);
        failed.retry_at = Some(time::macros::datetime!(2026-02-03 04:05:06.789 UTC));
        let known = whole(vec![stand("a/app", State::Blocked, Some(Cause::Vertex { vertex: id(2) })), failed]);
        insta::assert_snapshot!(told(1, &known), @r"
        held back by b/etcd failed: step-failed, tries again at 2026-02-03T04:05:06Z
        a/app: blocked, needs b/etcd at rest
        b/etcd: failed: step-failed, tries again at 2026-02-03T04:05:06Z
        ");
    }

    #[test]
    fn what_waits_for_something_outside_says_what_it_saw_last() {
        let mut gate = stand("b/name", State::Running, None);
        gate.saw = Some("10.0.0.1:53 does not know b.demo yet".to_owned());
        let known = whole(vec![stand("a/app", State::Blocked, Some(Cause::Vertex { vertex: id(2) })), gate]);
        insta::assert_snapshot!(told(1, &known), @r"
        waits for b/name (running: sees that 10.0.0.1:53 does not know b.demo yet)
        a/app: blocked, needs b/name at rest
        b/name: running: sees that 10.0.0.1:53 does not know b.demo yet
        ");
    }

    #[test]
    fn leavers_pauses_and_nodes_are_ends() {
        let node = NodeId(Uuid::from_u128(9));
        let mut leaver = stand("b/etcd", State::Running, None);
        leaver.goal = Goal::Absent;
        let mut paused = stand("c/web", State::Blocked, Some(Cause::Paused));
        paused.paused = true;
        let mut known = whole(vec![
            stand("a/base", State::Blocked, Some(Cause::Leaving { role: "etcd".into() })),
            leaver,
            stand("c/app", State::Blocked, Some(Cause::Before { vertex: id(4) })),
            paused,
            stand("d/web", State::Blocked, Some(Cause::Node { node })),
            stand("d/app", State::Blocked, Some(Cause::NoneActive { role: "dns".into() })),
            stand("e/web", State::Blocked, Some(Cause::Paused)),
        ]);
        let unreachable = NodeStand {
            name: "d".into(),
            state: "unreachable".into(),
            standing: Standing::In,
            code: Some("ssh-unreachable".into()),
            silence: None,
        };
        known.nodes.insert(node, Some(unreachable));
        let all: Vec<String> =
            [1, 3, 4, 5, 6, 7].into_iter().map(|start| says(&follow(id(start), &known).unwrap(), &known)).collect();
        insta::assert_snapshot!(all.join("\n"), @r"
        waits for b/etcd to leave (running)
        held back by c/web paused
        paused
        node d does not answer: ssh-unreachable
        waits for dns, of which no instance is active
        the deployment is paused
        ");
    }

    #[test]
    fn who_has_taken_of_a_budget_of_all_is_named() {
        let shared = Some(Cause::Shared { budget: "etcd".into() });
        let mut known = Known::default();
        known.add(id(1), stand("a/etcd", State::Blocked, shared));
        assert_eq!(follow(id(1), &known), Err(Want::Elsewhere("etcd".into())));
        known.elsewhere.insert("etcd".into(), vec![("blue".into(), 2), ("green".into(), 1)]);
        insta::assert_snapshot!(told(1, &known), @r"
        waits for budget etcd of all deployments, which allows no node more to be out of service: 2 in blue, 1 in green
        a/etcd: blocked, other deployments took of budget etcd
        budget etcd of all deployments: allows no node more to be out of service: 2 in blue, 1 in green
        ");
    }

    #[test]
    fn a_circle_ends() {
        let known = whole(vec![
            stand("a/one", State::Blocked, Some(Cause::Vertex { vertex: id(2) })),
            stand("a/two", State::Blocked, Some(Cause::Vertex { vertex: id(1) })),
        ]);
        assert_eq!(follow(id(1), &known).map(|chain| chain.path), Ok(vec![id(1), id(2)]));
    }

    #[test]
    fn what_is_not_loaded_is_asked_for() {
        let mut known = Known::default();
        assert_eq!(follow(id(1), &known), Err(Want::Vertex(id(1))));
        known.add(id(1), stand("a/web", State::Blocked, Some(Cause::Role { role: "etcd".into() })));
        assert_eq!(follow(id(1), &known), Err(Want::Stale("etcd".into())));
        known.stale.insert("etcd".into(), None);
        assert_eq!(says(&follow(id(1), &known).unwrap(), &known), "is about to be judged");
    }
}
