//! Decides: documents, compile, diff, states and values.
//!
//! Everything here is a function of its arguments. Deliberately absent: files, sockets, the database, the clock,
//! randomness and async. Callers pass the time, the ids and the bytes.

pub mod budget;
pub mod catalog;
pub mod compile;
pub mod diagnostic;
pub mod digest;
pub mod document;
pub mod draw;
pub mod driver;
pub mod effect;
pub mod graph;
pub mod hook;
pub mod id;
pub mod identity;
pub mod output;
pub mod plan;
pub mod policy;
pub mod request;
pub mod rule;
pub mod schedule;
pub mod schema;
pub mod secret;
pub mod serial;
pub mod settle;
pub mod silence;
pub mod state;
pub mod template;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod timing;
pub mod value;
pub mod view;
pub mod why;
