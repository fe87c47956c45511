//! The API on a real database and a real socket, through its client and without it.

mod answers;
mod description;
mod metrics;
mod problems;
mod streams;
mod support;
