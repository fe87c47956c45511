//! The store on a real Postgres: the embedded one in all the states that a machine can leave it in, and databases.
#![allow(clippy::unwrap_used)] // in tests a panic is the finding

mod backup;
mod connect;
mod embedded;
mod migrate;
mod read;
mod space;
mod support;
mod testing;
