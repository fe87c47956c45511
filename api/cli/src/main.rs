//! The `plinth` command.
//!
//! What needs no engine is done here: checking documents, schemas, a new role, completions. Data goes to standard
//! output, everything else to standard error. Exit codes: 0 ok, 1 failed, 2 wrong usage, 3 not found.

mod args;
mod documents;
mod output;

use std::process::ExitCode;

use clap::Parser;

use args::{Args, Command, NewKind};

fn main() -> ExitCode {
    reset_sigpipe();
    let args = Args::parse();
    let result = match args.command {
        Command::Check { paths } => documents::check(&paths, args.output),
        Command::Schema { kind } => documents::schema(kind),
        Command::New { kind: NewKind::Role { name, into } } => documents::new_role(&name, &into, args.output),
        Command::Version => documents::version(args.output),
        Command::Completion { shell } => documents::completion(shell),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("plinth: {error}");
            error.exit()
        }
    }
}

/// `plinth … | head` ends quietly.
#[allow(unsafe_code)]
fn reset_sigpipe() {
    // SAFETY: called once, before any thread exists; SIG_DFL is a valid disposition.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
    }
}
