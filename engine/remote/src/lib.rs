//! SSH: connect, install the agent, run and re-attach jobs.
//!
//! One kept connection a node, one channel a job. A lost connection says nothing about a job: the agent goes on, and
//! [`Pool::attach`] finds it again. Deliberately absent: any retry that the caller did not ask for, the database, and
//! what a job means.

mod channel;
mod connection;
mod error;
mod follow;
mod frames;
mod install;
mod key;
mod pool;
mod talk;
mod target;

pub use error::RemoteError;
pub use follow::{Followed, Following, repeatable};
pub use key::{DeployKey, Keys};
pub use pool::{Joined, Pool, Settings};
pub use talk::{Ended, Greeting, Note};
pub use target::{AgentBinary, Target};
