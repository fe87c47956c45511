//! The real binary, in folders of its own: jobs, what becomes of them when things die, and what each step does.

mod haproxy;
mod jobs;
mod names;
mod schema;
mod steps;
mod support;
