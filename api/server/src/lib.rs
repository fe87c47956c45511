//! The HTTP API.
//!
//! Reads come from the store; everything that changes something goes through [`control::Control`]. Every error is
//! problem+json with a stable code. It listens on this machine only, and asks for a token on everything but the
//! probes. Event streams wait for hints, not for clocks, and end when the server stops, so that stopping is orderly.
//!
//! Deliberately absent: rules of the engine, SQL, TLS, users.

pub mod control;
mod extract;
mod gate;
mod lists;
mod metrics;
mod problem;
mod routes;
mod server;
mod wake;

pub use lists::lists;
pub use problem::ApiError;
pub use routes::openapi;
pub use server::{Server, ServerError};
