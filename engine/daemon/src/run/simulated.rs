//! Jobs on nodes that exist only in memory: a script says how they end.

use engine_agent::protocol::{Mode, Outcome, Status};
use engine_core::settle::turn::Failure;
use engine_provider::simulated::script_of;
use engine_store::jobs::OpenJob;
use engine_store::nodes::Node;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::Ran;

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
    Ran::Over(cancel.run_until_cancelled(work).await.unwrap_or_else(|| Outcome {
        code: Some("cancelled".to_owned()),
        message: Some("stopped on request".to_owned()),
        ..Outcome::of(Status::Cancelled)
    }))
}
