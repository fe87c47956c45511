//! Remembers: the only crate with SQL, and the embedded Postgres.

pub mod ask;
pub mod backup;
pub mod beside;
pub mod bundles;
pub mod commit;
pub mod connect;
pub mod dns;
pub mod drift;
pub mod embedded;
pub mod engines;
pub mod hooks;
pub mod imports;
pub mod jobs;
pub mod joining;
pub mod measure;
pub mod migrate;
pub mod nodes;
pub mod outages;
pub mod pass;
pub mod pki;
pub mod put_away;
pub mod read;
pub mod redeploy;
pub mod renewal;
pub mod residue;
pub mod retry;
pub mod rotation;
pub mod seal;
pub mod secrets;
pub mod settings;
pub mod snapshot;
pub mod testing;

mod error;
mod events;

pub use error::StoreError;
pub use migrate::MIGRATOR;
/// A pool of connections to the database.
pub use sqlx::{PgConnection, PgPool};
