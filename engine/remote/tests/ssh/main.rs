//! The SSH side against a real OpenSSH server.

mod connect;
mod follow;
mod install;
mod jobs;
mod parallel;
mod scripted;
mod sshd;
