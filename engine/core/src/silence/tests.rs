//! What counts as silence, and what a policy may do for it.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{GAP, Move, Rest, Seen, Silence, Times, keeps, patience, says, sees, verdict};
use crate::document::{Budget, Silent};
use crate::graph::Graph;
use crate::id::{NodeId, VertexId};
use crate::settle::allowance::{Count, Shared, Token};
use crate::settle::hood::Standing;
use crate::settle::{Hood, Vertex};
use crate::testing::{Fixture, catalog};
use crate::view::SilenceView;

fn at(seconds: i64) -> OffsetDateTime {
    OffsetDateTime::UNIX_EPOCH + time::Duration::seconds(seconds)
}

fn times(aside: Option<u64>, lost: Option<u64>) -> Times {
    Times { aside: aside.map(Duration::from_secs), lost: lost.map(Duration::from_secs) }
}

#[test]
fn policies_say_times_or_never() {
    let said = |aside: &str, lost: &str| Silent { aside: Some(aside.to_owned()), lost: Some(lost.to_owned()) };
    assert_eq!(Times::of(&said("10m", "2h")), times(Some(600), Some(7200)));
    assert_eq!(Times::of(&said("never", "90s")), times(None, Some(90)));
    assert!(patience("never") > patience("36500d"));
    assert_eq!(Times::of(&Silent::default()).look_every(), None, "nobody has to look");
    let every = |aside, lost| times(aside, lost).look_every().expect("somebody looks").as_secs();
    assert_eq!([every(Some(600), None), every(Some(60), Some(10)), every(Some(1), None)], [60, 2, 1]);
}

#[test]
fn time_counts_between_looks_of_who_looked_all_the_while_and_could_see() {
    let (early, begins) = (Some(at(0)), Silence::begins(at(100)));
    let twice = begins.goes_on(at(130), early, true).goes_on(at(160), early, true);
    assert_eq!((twice.since, twice.last, twice.counted.as_secs()), (at(100), at(160), 60));
    let counted = |silence: Silence| silence.counted.as_secs();
    assert_eq!(counted(twice.goes_on(at(190), Some(at(170)), true)), 60, "it was not there at the look before");
    assert_eq!(counted(twice.goes_on(at(190), None, true)), 60, "nobody knows since when it is there");
    assert_eq!(counted(twice.goes_on(at(190), early, false)), 60, "it is cut off itself");
    let late = i64::try_from(GAP.as_secs()).expect("small") + 161;
    assert_eq!(counted(twice.goes_on(at(late), early, true)), 60, "nobody looked for too long");
    assert_eq!(counted(twice.goes_on(at(190), early, false).goes_on(at(220), early, true)), 90, "and it goes on");
    assert_eq!(counted(twice.goes_on(at(150), early, true)), 60, "a clock that is set back takes nothing away");
    assert!(sees(1, 2) && sees(2, 3) && !sees(1, 3) && !sees(0, 1), "half of all");
}

fn seen(standing: Standing, by_policy: bool, counted: Option<u64>) -> Seen {
    let silence =
        counted.map(|counted| Silence { since: at(0), last: at(1000), counted: Duration::from_secs(counted) });
    Seen { standing, by_policy, answers: silence.is_none(), silence }
}

#[test]
fn a_node_is_put_aside_and_then_lost_and_comes_back_if_it_answers_in_between() {
    let policy = times(Some(10), Some(60));
    let now = |seen: &Seen| verdict(policy, seen, at(1010), at(0));
    assert_eq!(now(&seen(Standing::In, false, Some(9))), None);
    assert_eq!(now(&seen(Standing::In, false, Some(10))), Some(Move::Aside));
    assert_eq!(now(&seen(Standing::Aside, true, Some(59))), None, "it is aside already");
    assert_eq!(now(&seen(Standing::Aside, true, Some(60))), Some(Move::Lost));
    assert_eq!(now(&seen(Standing::Aside, true, None)), Some(Move::In));
    assert_eq!(now(&seen(Standing::In, false, None)), None);
    for counted in [None, Some(10), Some(1_000_000)] {
        assert_eq!(now(&seen(Standing::Aside, false, counted)), None, "a person put it there");
        assert_eq!(now(&seen(Standing::Lost, false, counted)), None, "a lost one never comes back");
    }
    let unseen = verdict(policy, &seen(Standing::In, false, Some(10)), at(1010), at(1001));
    assert_eq!(unseen, None, "who came since has to see it first");
    assert_eq!(
        verdict(policy, &seen(Standing::In, false, Some(10)), at(1_000_000), at(0)),
        None,
        "so it is after long"
    );
    assert_eq!(verdict(times(None, None), &seen(Standing::Aside, true, None), at(1010), at(0)), Some(Move::In));
}

proptest! {
    #[test]
    fn what_counts_is_never_more_than_what_was_looked_at(
        looks in prop::collection::vec((1_i64..400, any::<bool>(), any::<bool>()), 1..40)
    ) {
        let (mut silence, mut now, mut most) = (Silence::begins(at(0)), 0, Duration::ZERO);
        for (gap, there, sees) in looks {
            now += gap;
            let began = at(if there { 0 } else { now });
            silence = silence.goes_on(at(now), Some(began), sees);
            if there && sees && gap <= i64::try_from(GAP.as_secs()).expect("small") {
                most += Duration::from_secs(gap.unsigned_abs());
            }
            prop_assert_eq!(silence.counted, most);
            prop_assert!(silence.counted <= Duration::try_from(silence.last - silence.since).expect("forward"));
        }
    }

    /// Whatever is out of service already: with this node it is not more than the budget allows, and a quorum has a majority.
    #[test]
    fn a_policy_takes_out_no_more_than_budgets_allow(
        members in 1_usize..8, limit in 0_u64..4, quorum: bool,
        down in prop::collection::btree_set(0_usize..8, 0..4),
        missing in prop::collection::btree_set(0_usize..8, 0..3),
    ) {
        let world = World::new(members, limit, quorum);
        let down: BTreeSet<usize> = down.into_iter().filter(|node| *node < members).collect();
        let missing: BTreeSet<usize> =
            missing.into_iter().filter(|node| *node < members && *node > 0 && !down.contains(node)).collect();
        let out = down.iter().chain(&missing).chain(&[0]).collect::<BTreeSet<_>>().len();
        let taken = world.keeps(&down, &[], &missing, members).is_none();
        let least = if quorum { (members - out) * 2 > members } else { true };
        let minority = if quorum { ((members - 1) / 2).max(1) } else { usize::MAX };
        let most = usize::try_from(limit).expect("small").min(minority);
        prop_assert_eq!(taken, out <= most && least);
    }
}

/// One budget over some nodes that all serve in it.
struct World {
    graph: Graph,
    ids: Vec<NodeId>,
    /// What others make of the budget.
    shared: Option<Shared>,
}

impl World {
    fn new(members: usize, limit: u64, quorum: bool) -> Self {
        let roles = [json!({"role": "app", "milestone": true, "apply": [], "disrupts": ["web"]})];
        let workload = json!({"workload": "w", "groups": {"g": {}}, "roles": {"g": ["app"]},
                              "budgets": {"web": {"max_unavailable": limit, "quorum": quorum}}});
        let graph = Fixture::new(catalog(roles, [workload]), &[("g", members)]).compile().expect("compiles").graph;
        let ids = (0..members).map(|node| NodeId(Uuid::from_u128(node as u128 + 1))).collect();
        Self { graph, ids, shared: None }
    }

    /// What keeps the first node, with these down, of these something failed, and these missing.
    fn keeps(
        &self,
        down: &BTreeSet<usize>,
        failed: &[usize],
        missing: &BTreeSet<usize>,
        taking_part: usize,
    ) -> Option<String> {
        let mut hood = Hood::default();
        let mut app = Vertex::new(VertexId(Uuid::from_u128(99)), "app".to_owned(), self.ids[0]);
        app.serving = true;
        hood.add(app);
        let budget = hood.budgets.entry("web".to_owned()).or_default();
        budget.shared.clone_from(&self.shared);
        budget.down.extend(down.iter().map(|node| self.ids[*node]));
        budget.held.extend(failed.iter().map(|node| (self.ids[*node], Token { failed: true, member: false })));
        let missing = missing.iter().map(|node| format!("g-{}", node + 1)).collect();
        keeps(&self.graph, &hood, self.ids[0], &Rest { taking_part, missing })
    }
}

#[test]
fn what_keeps_a_node_is_named() {
    let none = BTreeSet::new();
    let world = World::new(5, 2, false);
    // One is out of service elsewhere.
    let shared = |most: u32| {
        let budget = Budget { max_unavailable: json!(most), failures: 0, quorum: false };
        Some(Shared { budget, elsewhere: Count { members: 5, unavailable: 1, failed: 0 } })
    };
    let down = |nodes: &[usize]| nodes.iter().copied().collect::<BTreeSet<usize>>();
    let all = [
        world.keeps(&down(&[0]), &[], &none, 4),
        world.keeps(&down(&[0]), &[0], &none, 4),
        world.keeps(&down(&[0]), &[1], &none, 4),
        world.keeps(&down(&[0, 1, 2]), &[], &none, 3),
        world.keeps(&down(&[0]), &[], &down(&[3, 4]), 3),
        world.keeps(&down(&[0]), &[], &none, 2),
        World::new(2, 1, true).keeps(&down(&[0]), &[], &none, 1),
        World { shared: shared(1), ..World::new(5, 2, false) }.keeps(&down(&[0]), &[], &none, 4),
        World { shared: shared(2), ..World::new(5, 2, false) }.keeps(&down(&[0]), &[], &none, 4),
    ];
    let all: Vec<String> = all.into_iter().map(|kept| kept.unwrap_or_else(|| "nothing".to_owned())).collect();
    insta::assert_snapshot!(all.join("\n"), @r"
    nothing
    nothing
    budget web allows no node more to be out of service
    budget web allows no node more to be out of service
    budget web allows no node more to be out of service
    less than half of the nodes of its deployment would be left
    budget web would have no quorum
    budget web of all deployments allows no node more to be out of service
    nothing
    ");
}

#[test]
fn it_is_said_by_whom_and_since_when() {
    let view = |since: Option<i64>, aside_by: Option<&str>, held: Option<&str>| {
        let (aside_by, held) = (aside_by.map(str::to_owned), held.map(str::to_owned));
        says(&SilenceView { since: since.map(at), seconds: 5, aside_by, held })
    };
    let all = [
        view(Some(0), Some("the policy of the deployment"), None),
        view(None, Some("the policy of the deployment"), None),
        view(Some(0), None, None),
        view(Some(0), None, Some("budget web would have no quorum")),
    ];
    insta::assert_snapshot!(all.join("\n"), @r"
     by the policy of the deployment, has not answered since 1970-01-01T00:00:00Z
     by the policy of the deployment, answers again
    , has not answered since 1970-01-01T00:00:00Z
    , has not answered since 1970-01-01T00:00:00Z, it would be taken out, but budget web would have no quorum
    ");
}
