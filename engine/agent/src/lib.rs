//! The node-side agent and the protocol that the engine speaks with it.
//!
//! `plinth-agent serve --state DIR` holds one conversation on its standard input and output. A job runs in a process
//! of its own (`plinth-agent job DIR`), in a session of its own, and writes a journal; a conversation only follows
//! that journal. So a lost connection, a dead engine and a dead job process all lead to the same place: the next
//! conversation reads the journal and goes on from there.
//!
//! What is kept and when it is made durable: [`journal`]. Who may run a job: only the holder of the lock on its folder.
//! What is deliberately not here: async, a resolver or name service inside the binary (it is static), a retry that
//! nobody asked for.
//!
//! The binary for nodes is static, so that it runs on any machine of its architecture:
//!
//! ```text
//! RUSTFLAGS='-C target-feature=+crt-static' \
//!     cargo build --profile agent -p engine-agent --target x86_64-unknown-linux-gnu
//! ```

pub mod haproxy;
pub mod protocol;

mod args;
mod child;
mod context;
mod error;
mod facts;
mod job;
mod journal;
mod ledger;
mod passwd;
mod promises;
mod redact;
mod serve;
mod state;
mod step;

use std::path::PathBuf;
use std::process::ExitCode;

/// The `plinth-agent` command.
pub fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["serve", "--state", dir] => serve::serve(&PathBuf::from(dir)),
        ["job", dir] => job::main(&PathBuf::from(dir)),
        ["version" | "--version"] => return version(),
        _ => {
            eprintln!("usage: plinth-agent serve --state DIR | version");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("plinth-agent: {error}");
            ExitCode::FAILURE
        }
    }
}

fn version() -> ExitCode {
    use std::io::Write as _;
    let line = format!("plinth-agent {} protocol {}\n", env!("CARGO_PKG_VERSION"), protocol::PROTOCOL);
    match std::io::stdout().write_all(line.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
