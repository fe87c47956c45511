//! The node-side binary.
fn main() {}
