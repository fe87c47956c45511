//! Where a round looks for work. What others changed, and what our own turns left, is found at once and costs what it is; only now and then
//! everything is looked through: who left work and went away without a word leaves no other trace.

use std::collections::HashSet;
use std::time::Duration;

use engine_core::id::DeploymentId;
use engine_store::{PgPool, StoreError, pass};
use tokio::time::Instant;

use crate::hints;

/// Between two looks at everything at least, however many hints come.
const SELDOM: Duration = Duration::from_secs(1);

/// What is known of where there is work.
pub(super) struct Look {
    /// Before this everything is not looked through again.
    complete: Instant,
    /// A hint came since, or nobody looked yet.
    owed: bool,
    /// Our turns left something to be done there, at once or when there are places for jobs again.
    left: HashSet<DeploymentId>,
}

impl Look {
    pub(super) fn new() -> Self {
        Self { complete: Instant::now(), owed: true, left: HashSet::new() }
    }

    /// Deployments in which something may have to be done. `hinted`: somebody says so, or it is time to look.
    pub(super) async fn work(&mut self, pool: &PgPool, hinted: bool) -> Result<Vec<DeploymentId>, StoreError> {
        self.owed |= hinted;
        let mut work = if self.owed && self.due_in().is_zero() {
            let began = Instant::now();
            let all = pass::with_work(pool).await?;
            (self.complete, self.owed) = (hints::not_before(SELDOM, began), false);
            all
        } else {
            pass::stirred(pool).await?
        };
        work.extend(&self.left);
        Ok(work)
    }

    /// A turn has come to its end there. `left`: there is more to do.
    pub(super) fn turned(&mut self, deployment: DeploymentId, left: bool) {
        if left {
            self.left.insert(deployment);
        } else {
            self.left.remove(&deployment);
        }
    }

    /// How long a round that left nothing may be followed by none: at most so long.
    pub(super) fn rest(&self, most: Duration) -> Duration {
        if self.owed { self.due_in().min(most) } else { most }
    }

    fn due_in(&self) -> Duration {
        self.complete.saturating_duration_since(Instant::now())
    }
}
