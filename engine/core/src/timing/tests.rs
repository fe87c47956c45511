//! Paths and estimates of small graphs.

use std::collections::BTreeMap;

use serde_json::json;
use time::{Duration, OffsetDateTime};

use super::{Left, Ran, critical_path, remaining};
use crate::graph::Graph;
use crate::testing::{Fixture, catalog};

fn graph() -> Graph {
    let text = json!({"type": "string"});
    let roles = [
        json!({"role": "base", "apply": [], "outputs": {"url": {"schema": text}}}),
        json!({"role": "side", "milestone": true, "apply": []}),
        json!({"role": "app", "milestone": true, "apply": [], "disrupts": ["web"], "requires": ["base"],
               "inputs": {"all": {"schema": {}, "from": "map base.url"}}}),
    ];
    let workload = json!({"workload": "w", "groups": {"g": {}}, "roles": {"g": ["app", "side"]},
                          "budgets": {"web": {"max_unavailable": 2}}});
    Fixture::new(catalog(roles, [workload]), &[("g", 5)]).compile().expect("compiles").graph
}

fn at(seconds: i64) -> OffsetDateTime {
    OffsetDateTime::UNIX_EPOCH + Duration::seconds(seconds)
}

fn ran(node: &str, role: &str, from: i64, to: i64) -> Ran {
    Ran { node: node.to_owned(), role: role.to_owned(), remove: false, claimed_at: at(from), finished_at: at(to) }
}

fn shown(path: &[crate::view::PathStep]) -> Vec<String> {
    let step = |step: &crate::view::PathStep| {
        format!("{}/{} {} {} {}+{}", step.node, step.role, step.action, step.because, step.waited, step.took)
    };
    path.iter().map(step).collect()
}

#[test]
fn a_path_goes_back_through_gathers_to_the_commit() {
    let all = [
        ran("g-1", "base", 2, 3),
        ran("g-2", "base", 2, 9),
        ran("g-1", "side", 2, 11),
        ran("g-1", "app", 10, 12),
        ran("g-2", "app", 10, 14),
    ];
    let path = shown(&critical_path(&graph(), at(0), &all));
    assert_eq!(path, ["g-2/base apply the commit 2000+7000", "g-2/app apply input all 1000+4000"]);
    assert_eq!(critical_path(&graph(), at(0), &[]), []);
}

#[test]
fn a_path_shows_who_was_waited_for_in_a_budget() {
    let all = [ran("g-1", "base", 0, 1), ran("g-1", "app", 1, 4), ran("g-2", "app", 4, 6)];
    let path = shown(&critical_path(&graph(), at(0), &all));
    assert_eq!(
        path,
        ["g-1/base apply the commit 0+1000", "g-1/app apply input all 0+3000", "g-2/app apply budget web 0+2000"]
    );
}

#[test]
fn a_path_of_leaving_goes_the_other_way_round() {
    let gone = |role: &str, from, to| Ran { remove: true, ..ran("g-1", role, from, to) };
    let path = shown(&critical_path(&graph(), at(0), &[gone("app", 1, 2), gone("base", 3, 5)]));
    assert_eq!(path, ["g-1/app remove the commit 1000+1000", "g-1/base remove it had to leave first 1000+2000"]);
}

#[test]
fn what_is_left_takes_as_long_as_the_longest_chain_and_as_often_as_budgets_ask() {
    let usual =
        |role: &str| [("base", 3000), ("app", 1000)].into_iter().find(|(name, _)| *name == role).map(|(_, ms)| ms);
    let of = |base, app: (usize, usize), side| {
        BTreeMap::from([
            ("base".to_owned(), Left { nodes: base, serving: 0 }),
            ("app".to_owned(), Left { nodes: app.0, serving: app.1 }),
            ("side".to_owned(), Left { nodes: side, serving: 0 }),
        ])
    };
    let ms = |left| remaining(&graph(), &left, usual).0;
    assert_eq!(ms(of(0, (0, 0), 0)), 0);
    assert_eq!(ms(of(5, (5, 0), 0)), 4000, "first creation is wide");
    assert_eq!(ms(of(0, (5, 5), 0)), 3000, "two at once");
    let (ms, unknown) = remaining(&graph(), &of(1, (0, 0), 2), usual);
    assert_eq!((ms, unknown.into_iter().collect::<Vec<_>>()), (3000, vec!["side".to_owned()]));
}
