//! What the outcome of a check says of a node role.

use engine_agent::protocol::{Outcome, Status};
use engine_core::view::DriftDiff;
use engine_store::beside::Checked;
use engine_store::jobs::OpenJob;
use serde_json::json;

/// `steps`: how many steps of `apply` come before the probes. A probe that fails is drift, for what it looks at is not as it
/// was made; a step that can not be dry-run says nothing.
pub(super) fn checked(job: &OpenJob, outcome: &Outcome, steps: usize) -> Checked {
    let differs = outcome.steps.iter().any(|step| step.changed);
    let probe_failed = outcome.step.and_then(|step| usize::try_from(step).ok()).is_some_and(|step| step >= steps);
    let verdict = match outcome.status {
        Status::Succeeded => "conform",
        Status::Drifted => "drifted",
        Status::Failed if differs || probe_failed => "drifted",
        Status::Failed | Status::Cancelled | Status::Unknown => "unknown",
    };
    Checked {
        job: job.job,
        attempt: job.attempt,
        verdict,
        code: outcome.code.clone(),
        message: outcome.message.clone(),
        diffs: json!(difference(outcome)),
        failing: outcome.status == Status::Failed && probe_failed,
    }
}

/// What steps would change, or did.
pub(crate) fn difference(outcome: &Outcome) -> Vec<DriftDiff> {
    let mut diffs: Vec<DriftDiff> = Vec::new();
    for step in outcome.steps.iter().filter(|step| step.changed) {
        if step.diffs.is_empty() {
            diffs.push(DriftDiff { step: step.title.clone(), what: String::new(), text: String::new() });
        }
        let diff = |diff: &engine_agent::protocol::Diff| DriftDiff {
            step: step.title.clone(),
            what: diff.what.clone(),
            text: diff.text.clone(),
        };
        diffs.extend(step.diffs.iter().map(diff));
    }
    diffs
}
