//! Printing, and what can go wrong before an engine is asked.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;

use crate::args::Output;

/// What stops a command.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    #[error("[no-such-path] {} does not exist", path.display())]
    NoSuchPath { path: PathBuf },
    #[error("[file-exists] {} is there already and is left as it is", path.display())]
    Exists { path: PathBuf },
    #[error("[bad-name] `{name}` is not a name: expected lower-case letters, digits and single dashes, a letter first")]
    BadName { name: String },
    #[error("[cannot-write] writing {}: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("[cannot-print] writing the answer: {0}")]
    Print(#[from] io::Error),
}

impl CliError {
    /// The exit code that goes with it.
    pub(crate) fn exit(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::BadName { .. } => 2,
            Self::NoSuchPath { .. } => 3,
            Self::Exists { .. } => 4,
            Self::Write { .. } | Self::Print(_) => 1,
        })
    }
}

/// Prints text as it is.
pub(crate) fn print(text: &str) -> Result<(), CliError> {
    Ok(io::stdout().write_all(text.as_bytes())?)
}

/// Prints a value as JSON or YAML.
pub(crate) fn structured(value: &impl Serialize, output: Output) -> Result<(), CliError> {
    let text = match output {
        Output::Yaml => serde_saphyr::to_string(value).map_err(io::Error::other)?,
        _ => serde_json::to_string_pretty(value).map_err(io::Error::other)? + "\n",
    };
    print(&text)
}
