//! End to end on real parts: engines in this process over simulated nodes, which do at once what a script says; and
//! engines as processes over lab nodes and hosts with sshd.

mod site;
mod sshd;
mod support;

mod converge;
mod database;
mod hosts;
mod lab;
mod roles;
mod takeover;
