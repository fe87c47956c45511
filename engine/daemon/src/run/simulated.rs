//! Jobs on nodes that exist only in memory: a script says how they end, or what they come to is made up.

use std::time::Duration;

use engine_agent::protocol::{Mode, Outcome, Status};
use engine_core::catalog::CatalogRole;
use engine_core::document::Object;
use engine_core::schema;
use engine_core::settle::turn::Failure;
use engine_provider::simulated::script_of;
use engine_store::jobs::OpenJob;
use engine_store::nodes::Node;
use serde_json::json;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{Ran, cancelled};
use crate::MadeUp;

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

/// When what is made up is to be renewed: not while anybody looks.
const NEVER: &str = "2999-01-01T00:00:00Z";

/// What a job comes to where nothing is really done.
pub(super) async fn made_up(
    made_up: &MadeUp,
    job: &OpenJob,
    role: &CatalogRole,
    mode: Mode,
    cancel: &CancellationToken,
) -> Ran {
    let mut outcome = Outcome::of(Status::Succeeded);
    outcome.millis = u64::try_from(made_up.latency.as_millis()).unwrap_or(u64::MAX);
    if mode == Mode::Apply {
        if job.attempt == 1 && fails(made_up, &job.role) {
            let message = "simulated".to_owned();
            return Ran::Failed(Failure { code: "step-failed".to_owned(), message });
        }
        match outputs(made_up, job, role) {
            Ok(outputs) => outcome.outputs = outputs,
            Err(failure) => return Ran::Failed(failure),
        }
    }
    let work = async {
        sleep(made_up.latency).await;
        outcome
    };
    Ran::Over(cancel.run_until_cancelled(work).await.unwrap_or_else(cancelled))
}

/// Outputs that steps or drivers would find out: what is said of them, else an example.
fn outputs(made_up: &MadeUp, job: &OpenJob, role: &CatalogRole) -> Result<Object, Failure> {
    let said = [&job.role, &role.doc.role].into_iter().find_map(|name| made_up.outputs.get(name));
    let mut outputs = Object::new();
    for (name, output) in role.doc.outputs.iter().filter(|(_, output)| output.value.is_none()) {
        let value = match said.and_then(|said| said.get(name)) {
            Some(value) => value.clone(),
            None if role.doc.renew_at.as_ref() == Some(name) => json!(NEVER),
            None => schema::example(&output.schema).ok_or_else(|| Failure {
                code: "simulation-no-example".to_owned(),
                message: format!("nothing fits output `{name}` of role `{}`; say what it is to be", role.doc.role),
            })?,
        };
        outputs.insert(name.clone(), value);
    }
    Ok(outputs)
}

/// Of a hundred roles, `fail`; which ones follows from the seed and their names.
fn fails(made_up: &MadeUp, role: &str) -> bool {
    let mixed = role.bytes().fold(made_up.seed ^ 0x9E37_79B9_7F4A_7C15, |mixed, byte| {
        (mixed ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
    });
    (mixed ^ (mixed >> 31)) % 100 < u64::from(made_up.fail)
}
