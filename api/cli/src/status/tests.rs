//! What a watcher sees.

use engine_core::state::{Goal, State};
use engine_core::view::{CauseView, StatusView};
use serde_json::json;

use super::{Output, Until, View, text, verdict};

fn status(states: &[(&str, State)], health: &str) -> StatusView {
    let at = "2026-01-01T10:00:00Z";
    let id = "00000000-0000-7000-8000-000000000000";
    let row = |(place, state): &(&str, State)| {
        let (node, role) = place.split_once('/').expect("NODE/ROLE");
        json!({"id": id, "node": node, "role": role, "state": state, "goal": "present", "serving": false,
               "paused": false, "attempts": 1, "changed_at": at,
               "code": (*state == State::Failed).then_some("step-failed")})
    };
    let counts = json!({"blocked": 0, "ready": 0, "running": 0, "active": 0, "failed": 0, "leaving": 0});
    let deployment = json!({"id": id, "name": "blue", "workload": "w", "health": health, "paused": false, "revision": 3,
                            "nodes": 1, "counts": counts, "created_at": at, "changed_at": at});
    let rows: Vec<_> = states.iter().map(row).collect();
    serde_json::from_value(json!({"deployment": deployment, "node_roles": rows, "nodes": [], "event": 1}))
        .expect("a status")
}

#[test]
fn without_a_terminal_only_changes_are_told() {
    let mut view = View::new(Output::Json);
    let mut seen = status(&[("a/base", State::Running), ("a/app", State::Blocked)], "converging");
    seen.node_roles[1].cause = Some(CauseView { key: "r:base".into(), says: "waits for a/base (running)".into() });
    let mut told = vec![view.changes(&seen), view.changes(&seen)];
    seen.node_roles[0].state = State::Active;
    seen.node_roles[1].cause =
        Some(CauseView { key: "r:base".into(), says: "held back by a/base failed: step-failed".into() });
    told.push(view.changes(&seen));
    seen.node_roles[1].goal = Goal::Absent;
    seen.node_roles[1].cause = None;
    told.push(view.changes(&seen));
    seen.node_roles.pop();
    told.push(view.changes(&seen));
    insta::assert_snapshot!(told.join("--\n"), @r"
    a/base running
    a/app blocked
    blue converging
    --
    --
    a/base active
    a/app blocked: held back by a/base failed: step-failed
    --
    a/app blocked, leaving
    --
    a/app gone
    ");
}

#[test]
fn a_failure_ends_the_wait_when_nothing_moves_any_more() {
    let of = |states: &[(&str, State)], health, until| verdict(&status(states, health), until);
    let (failed, running) = (("a/base", State::Failed), ("b/base", State::Running));
    assert_eq!(of(&[failed, running], "failed", Until::Active), None);
    let what = "a/base failed: step-failed".to_owned();
    assert_eq!(of(&[failed], "failed", Until::Active), Some(Err(what)));
    assert_eq!(of(&[running], "converging", Until::Active), None);
    assert_eq!(of(&[], "active", Until::Active), Some(Ok(())));
    assert_eq!(of(&[], "gone", Until::Gone), Some(Ok(())));
    assert_eq!(of(&[], "destroying", Until::Gone), None);
    assert!(of(&[], "destroying", Until::Active).is_some_and(|result| result.is_err()));
    assert!(of(&[], "active", Until::Gone).is_some_and(|result| result.is_err()));
}

#[test]
fn a_status_begins_with_the_deployment() {
    let mut seen = status(&[("a/base", State::Failed)], "failed");
    seen.deployment.counts.failed = 1;
    let now = seen.deployment.created_at + time::Duration::seconds(90);
    insta::assert_snapshot!(text(&seen, now), @r"
    blue (w) is failed: 1 failed; revision 3.

    NODE ROLE  STATE   SINCE  SAYS
    a/base     failed  90s    step-failed
    ");
}
