//! Jobs that wait for something outside are put away; nobody follows them until they are looked at again.

use std::time::Duration;

use engine_agent::protocol::{Limits, Outcome};
use engine_core::catalog::CatalogRole;
use engine_core::compile::duration;
use engine_store::StoreError;
use engine_store::jobs::OpenJob;
use engine_store::put_away::{self, Put};
use tokio::time::sleep;

use super::{DOWN_PAUSE, failed};
use crate::shared::Shared;

/// The first pause between two looks; each later one is twice as long, up to the longest.
const FIRST: Duration = Duration::from_millis(20);
const LONGEST: Duration = Duration::from_secs(5);

/// How long a job is put away that has been looked at this often.
pub(super) fn pause(job: &OpenJob) -> Duration {
    // A job has a new fence for each look.
    let looks = u32::try_from(job.fence - 1).unwrap_or(0).min(16);
    FIRST.saturating_mul(1 << looks).min(LONGEST)
}

/// How long a job of this role may take, from its claim.
pub(super) fn time_of(role: &CatalogRole) -> Duration {
    let said = role.doc.timeout.as_deref().and_then(|text| duration::seconds(text).ok());
    Duration::from_secs(said.unwrap_or(Limits::default().seconds))
}

/// Lets go of a job until `after` has passed. How it ended, if its time is over; nothing if it waits, or is not ours any more.
pub(super) async fn put_away(shared: &Shared, job: &OpenJob, saw: &str, after: Duration) -> Option<Outcome> {
    loop {
        match put(shared, job, saw, after).await {
            Ok((Put::Away, _)) => {
                shared.put_away.notify_one();
                return None;
            }
            Ok((Put::NotOurs, _)) => return None,
            Ok((Put::Over, limit)) => {
                return Some(failed("gate-deadline", format!("after {} s it still sees that {saw}", limit.as_secs())));
            }
            Err(error) if error.is_transient() => sleep(DOWN_PAUSE).await,
            Err(error) => return Some(failed(error.code(), error.to_string())),
        }
    }
}

async fn put(shared: &Shared, job: &OpenJob, saw: &str, after: Duration) -> Result<(Put, Duration), StoreError> {
    let limit = time_of(&*shared.role(&job.content).await?);
    let put = put_away::put_away(&shared.pool, shared.engine(), (job.job, job.fence), saw, after, limit).await?;
    Ok((put, limit))
}
