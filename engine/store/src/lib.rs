//! Remembers: the only crate with SQL, and the embedded Postgres.

pub mod backup;
pub mod connect;
pub mod embedded;
pub mod migrate;
pub mod testing;

mod error;

pub use error::StoreError;
pub use migrate::MIGRATOR;
