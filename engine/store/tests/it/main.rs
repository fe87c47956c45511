//! The store on a real Postgres: the embedded one in all the states that a machine can leave it in, and databases.

mod backup;
mod connect;
mod embedded;
mod migrate;
mod space;
mod support;
mod testing;
