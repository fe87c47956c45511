//! What people and programs see, read from the tables: the views of `engine_core::view`.
//!
//! Every function sees one moment. The cost of a status, of a graph and of nothing else is that of the deployment; all
//! other reads are bounded by a limit or follow one chain. Helpers (gathers and choosers) are left out of counts and
//! lists, for people did not ask for them; chains of causes pass through them.

mod authorities;
mod certificates;
mod deployments;
mod dns;
mod drift;
mod engines;
mod events;
mod figures;
mod graph;
mod history;
mod jobs;
mod nodes;
mod residue;
mod rotations;
mod secrets;
mod status;
mod timing;
mod vertices;
mod why;

use sqlx::{PgPool, Postgres, Transaction};

pub use crate::pass::EVENTS;
pub use authorities::authorities;
pub use certificates::{certificate, certificates};
pub use deployments::{deployment, deployments};
pub use dns::{records, zones};
pub use drift::drift;
pub use engines::engines;
pub use events::{events, head, latest_events, outbox};
pub use figures::{AuthorityFigures, Figures, HeldFigures, Waiting, figures, held};
pub use graph::graph;
pub use history::revisions;
pub use jobs::{job, jobs, latest_job, log, residue};
pub use nodes::{node, nodes};
pub use residue::residue_of;
pub use secrets::secrets;
pub use status::status;
pub use timing::{NoRevision, why_deployment};
pub use vertices::{node_roles, vertex};
pub use why::why;

use crate::StoreError;
use crate::error::doing as failed;

/// More rows than this are never returned at once.
pub const MOST: i64 = 1000;

/// A transaction that sees one moment and changes nothing.
async fn moment(pool: &PgPool) -> Result<Transaction<'static, Postgres>, StoreError> {
    pool.begin_with("begin isolation level repeatable read read only").await.map_err(failed("beginning to read"))
}

fn limited(limit: i64) -> i64 {
    limit.clamp(1, MOST)
}
