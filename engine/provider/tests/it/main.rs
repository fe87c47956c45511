//! Providers on real parts: machines by systemd-nspawn, a real sshd on loopback.
//!
//! These tests need root and the packages that `Lab::doctor` names. Where they are missing the tests fail and say so.

mod agent;
mod contract;
mod lab;
mod support;
