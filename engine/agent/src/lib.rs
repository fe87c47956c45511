//! The node-side agent and the protocol that the engine speaks with it.

pub mod protocol;
