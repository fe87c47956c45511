//! The typed client of the HTTP API.
//!
//! Finds the engine of this machine, says clearly when there is none, and turns every answer into a type or an error
//! with a code. Streams resume where they were when the connection or the engine goes away for a while.

mod calls;
pub mod endpoint;
mod error;
mod http;
mod stream;

pub use calls::Client;
pub use endpoint::Endpoint;
pub use error::ClientError;
pub use stream::{Events, Exec, Log, LogEvent};
