//! Jobs by drivers: work that is done in the engine.
//!
//! A driver may be killed between what it writes and its report; the job is followed again then, by this engine or another
//! one. So each driver finds what it did by the job's id, and does it once, or does what may be done again. What is not there
//! yet is looked at later: none of them waits.

mod dns;
pub(crate) mod pki;
mod secret;

use std::time::Duration;

use engine_agent::protocol::{Mode, Outcome, Status};
use engine_core::catalog::CatalogRole;
use engine_core::document::Object;
use engine_core::settle::turn::Failure;
use engine_store::StoreError;
use engine_store::jobs::OpenJob;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{Ran, cancelled, failed};
use crate::shared::Shared;

/// What a driver did.
enum Did {
    /// What was to be done, with these outputs.
    Told(Object),
    /// A check found something else than what should be there.
    Drifted(String),
    /// It could not.
    Failed(Failure),
    /// What it waits for outside is not there yet: what it saw, to follow `sees that`, and when it looks again.
    NotYet(String, Duration),
    /// Somebody else has the job by now.
    NotOurs,
}

/// What a driver works on.
struct Work<'a> {
    shared: &'a Shared,
    job: &'a OpenJob,
    inputs: Object,
    mode: Mode,
}

pub(super) async fn run(
    shared: &Shared,
    job: &OpenJob,
    role: &CatalogRole,
    inputs: Object,
    mode: Mode,
    cancel: &CancellationToken,
) -> Result<Ran, StoreError> {
    if cancel.is_cancelled() {
        return Ok(Ran::Over(cancelled()));
    }
    let driver = role.doc.driver.as_deref().unwrap_or_default();
    let work = Work { shared, job, inputs, mode };
    let did = match driver {
        "dns.zone" => dns::zone(&work).await?,
        "dns.record" => dns::record(&work).await?,
        "dns.service" => dns::service(&work).await?,
        "dns.key" => dns::key(&work).await?,
        "pki.authority" => pki::authority(&work).await?,
        "pki.leaf" => pki::leaf(&work).await?,
        engine_core::driver::RANDOM => secret::random(&work).await?,
        _ => Did::failed("driver-unknown", format!("this engine has no driver `{driver}`")),
    };
    Ok(Ran::Over(match did {
        Did::Told(mut outputs) => {
            // A role need not declare all that its driver could tell.
            outputs.retain(|name, _| role.doc.outputs.contains_key(name));
            Outcome { outputs, changed: mode != Mode::Check, ..Outcome::of(Status::Succeeded) }
        }
        Did::Drifted(message) => Outcome { message: Some(message), ..Outcome::of(Status::Drifted) },
        Did::Failed(failure) => failed(&failure.code, failure.message),
        Did::NotYet(saw, after) => return Ok(Ran::Later { saw, after }),
        Did::NotOurs => return Ok(Ran::NotOurs),
    }))
}

impl Did {
    fn failed(code: &str, message: String) -> Self {
        Self::Failed(Failure { code: code.to_owned(), message })
    }

    fn nothing() -> Self {
        Self::Told(Object::new())
    }
}

impl Work<'_> {
    /// The inputs as the driver takes them. They were validated by the role's schemas, which may admit more.
    fn read<T: DeserializeOwned>(&self) -> Result<T, Did> {
        serde_json::from_value(Value::Object(self.inputs.clone()))
            .map_err(|error| Did::failed("input-invalid", format!("the driver does not take its inputs: {error}")))
    }
}
