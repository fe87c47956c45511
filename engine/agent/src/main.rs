//! The node-side binary; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    engine_agent::main()
}
