//! End to end on real parts: engines in this process over simulated nodes, which do at once what a script says; and
//! engines as processes over lab nodes and hosts with sshd.

mod site;
#[path = "../../engine/remote/tests/ssh/sshd.rs"]
#[allow(dead_code, clippy::unwrap_used, reason = "the tests of the transport use the rest")]
mod sshd;
mod support;

mod balancer;
mod budgets;
mod bundles;
mod certificates;
mod converge;
mod database;
mod dns;
mod drift;
mod etcd;
mod fleet;
mod growing;
mod hooks;
mod hosts;
mod imports;
mod joining;
mod lab;
mod old;
mod outside;
mod pki;
mod redeploy;
mod retry;
mod roles;
mod rollout;
mod rotation;
mod second_day;
mod secrecy;
mod secrets;
mod settings;
mod silent;
mod standing;
mod takeover;
mod waiting;
mod writer;
