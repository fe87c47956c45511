//! The `plinth` command.
fn main() {}
