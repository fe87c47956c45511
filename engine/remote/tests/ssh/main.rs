//! The SSH side against a real OpenSSH server.
#![allow(clippy::unwrap_used)] // in tests a panic is the finding

mod connect;
mod follow;
mod install;
mod jobs;
mod parallel;
mod scripted;
mod sshd;
