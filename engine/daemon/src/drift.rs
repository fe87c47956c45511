//! Checks: begun when they are asked for or their time has come, bounded in number, and what becomes of what they find.

use std::sync::Arc;

use engine_core::id::VertexId;
use engine_core::schedule::Schedule;
use engine_core::settle::Turn;
use engine_core::state::{Event, Goal, State};
use engine_store::beside::{self, Checked};
use engine_store::drift;
use engine_store::pass::Locked;
use engine_store::{StoreError, jobs};
use serde_json::json;
use time::OffsetDateTime;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::control::Control;
use crate::run::Runners;
use crate::shared::Shared;

/// Checks of one engine at once. They share the connections of jobs and must not crowd them out.
const AT_ONCE: i64 = 16;
/// Who asks for checks whose time has come.
const BY: &str = "schedule";

pub(crate) async fn watch(control: Control, runners: Runners, stop: CancellationToken) {
    let shared = control.shared();
    loop {
        let again = shared.beside.notified();
        match round(&control, &shared, &runners).await {
            Ok(()) => {}
            Err(error) => tracing::debug!(%error, "cannot look after checks"),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = again => {}
            () = sleep(shared.poll) => {}
        }
    }
}

async fn round(control: &Control, shared: &Arc<Shared>, runners: &Runners) -> Result<(), StoreError> {
    for of in drift::scheduled(&shared.pool).await? {
        // It was read when it was committed.
        let Ok(schedule) = Schedule::parse(&of.schedule) else { continue };
        let next = schedule.next_after(OffsetDateTime::now_utc());
        if !drift::set_next(&shared.pool, &of, next).await? || !of.due {
            continue;
        }
        match control.check(&of.name, None, None, BY).await {
            Ok(asked) => {
                tracing::info!(deployment = of.name, node_roles = asked.node_roles.len(), "checks by schedule")
            }
            Err(refusal) => tracing::warn!(deployment = of.name, code = refusal.code, "{}", refusal.message),
        }
    }
    drift::look_again(&shared.pool).await?;
    let due = drift::due(&shared.pool).await?;
    if due.is_empty() {
        return Ok(());
    }
    let mut free = AT_ONCE - beside::running_checks(&shared.pool, shared.engine()).await?;
    for deployment in due {
        if free <= 0 {
            break;
        }
        let begun = beside::begin_checks(&shared.pool, shared.engine(), deployment, free).await?;
        free -= i64::try_from(begun.len()).unwrap_or(free);
        for job in jobs::load(&shared.pool, shared.engine(), &begun).await? {
            runners.start(job, false);
        }
    }
    Ok(())
}

/// Takes checks into a turn: what was judged while its vertex moved counts for nothing, and what has drifted runs again
/// if the deployment wants it so.
pub(crate) async fn take_in(
    locked: &mut Locked,
    turn: &mut Turn<'_>,
    checked: &mut [(VertexId, Checked)],
) -> Result<(), StoreError> {
    let mut drifted = Vec::new();
    for (id, found) in checked {
        let Some(vertex) = turn.hood.vertices.get(id) else { continue };
        if vertex.phase.state != State::Active || vertex.attempts != found.attempt {
            found.verdict = "unknown";
            found.code = Some("not-active".to_owned());
            found.message = Some("a job of it began meanwhile".to_owned());
            found.diffs = json!([]);
            found.failing = false;
            continue;
        }
        if found.verdict == "drifted" && vertex.phase.goal == Goal::Present {
            drifted.push((*id, found.job));
        }
        if found.failing {
            turn.fails(*id);
        }
    }
    if !locked.repairs || drifted.is_empty() {
        return Ok(());
    }
    let repairable = locked.repairable(&drifted.iter().map(|(id, _)| *id).collect::<Vec<_>>()).await?;
    drifted.retain(|(id, _)| repairable.contains(id));
    if drifted.is_empty() {
        return Ok(());
    }
    let change = locked.next_change().await?;
    for (id, job) in drifted {
        let why = json!({"by": "check", "drifted": job});
        if let Err(illegal) = turn.event(id, Event::Retry, change, why) {
            tracing::debug!(%illegal, "what has drifted can not be repaired now");
        }
    }
    Ok(())
}
