//! Jobs on nodes that exist only in memory: a script says how they end.

use std::time::Duration;

use engine_agent::protocol::{Mode, Status};
use engine_core::settle::turn::Failure;
use engine_provider::simulated::script_of;
use engine_store::jobs::OpenJob;
use engine_store::nodes::Node;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{Ran, cancelled};

pub(super) async fn run(job: &OpenJob, node: &Node, mode: Mode, cancel: &CancellationToken) -> Ran {
    let script = match script_of(&node.options) {
        Ok(script) => script,
        Err(error) => {
            return Ran::Failed(Failure { code: error.code().to_owned(), message: error.to_string() });
        }
    };
    let answer = script.answer(&job.role, u32::try_from(job.attempt).unwrap_or(1), mode);
    let work = async {
        sleep(answer.delay).await;
        match answer.outcome {
            Some(outcome) => outcome,
            None => std::future::pending().await,
        }
    };
    let outcome = cancel.run_until_cancelled(work).await.unwrap_or_else(cancelled);
    match answer.wait {
        // It has a new fence for each look.
        Some(wait) if outcome.status == Status::Succeeded && job.fence <= i64::from(wait.looks) => {
            Ran::Later { saw: wait.saw, after: Duration::from_millis(wait.every_ms) }
        }
        _ => Ran::Over(outcome),
    }
}
