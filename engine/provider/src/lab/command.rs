//! Running the machine's own tools, and the error that the lab's inner parts share.

use std::io;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use crate::ProviderError;
use crate::lab::NAME;

/// What went wrong inside the lab, before it is known for which node.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    #[error("{doing}: {source}")]
    Io { doing: String, source: io::Error },
    #[error("`{command}` {how}: {said}")]
    Command { command: String, how: String, said: String },
    #[error("{0}")]
    Needs(String),
    #[error("{0}")]
    Refused(String),
    #[error("no SSH answer from {address} within {}s: {reason}", limit.as_secs())]
    Silent { address: String, limit: Duration, reason: String },
}

impl Trouble {
    /// The public error: what was being done, and to which node.
    pub(crate) fn at(self, doing: &'static str, node: &str) -> ProviderError {
        match self {
            Self::Needs(what) => ProviderError::Needs { provider: NAME, what },
            Self::Silent { address, limit, reason } => {
                ProviderError::Silent { node: node.to_owned(), address, limit, reason }
            }
            other @ (Self::Io { .. } | Self::Command { .. } | Self::Refused(_)) => {
                ProviderError::Failed { provider: NAME, doing, node: node.to_owned(), reason: other.to_string() }
            }
        }
    }
}

/// Says what was being done to which path.
pub(crate) trait Doing<T> {
    fn doing(self, verb: &str, path: &Path) -> Result<T, Trouble>;
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, verb: &str, path: &Path) -> Result<T, Trouble> {
        self.map_err(|source| Trouble::Io { doing: format!("{verb} {}", path.display()), source })
    }
}

/// A command with a known environment and nothing of the engine's own: C locale, no input, and the system folders in PATH
/// (`sudo` and `su` may drop them).
pub(crate) fn command(program: &str) -> Command {
    let mut path = std::env::var("PATH").unwrap_or_default();
    for folder in ["/usr/sbin", "/usr/bin", "/sbin", "/bin"] {
        if !path.split(':').any(|have| have == folder) {
            path = if path.is_empty() { folder.to_owned() } else { format!("{path}:{folder}") };
        }
    }
    let mut command = Command::new(program);
    command.env_clear().env("PATH", path).env("LC_ALL", "C.UTF-8").env("HOME", "/root").stdin(Stdio::null());
    command
}

/// Runs a command to its end and gives what it printed; anything but success is an error with what it said.
pub(crate) fn run(program: &str, arguments: &[&str]) -> Result<String, Trouble> {
    let output = attempt(program, arguments)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(failed(program, arguments, &output))
}

/// Runs a command that is allowed to fail.
pub(crate) fn attempt(program: &str, arguments: &[&str]) -> Result<Output, Trouble> {
    command(program).args(arguments).output().map_err(|source| not_started(program, source))
}

/// The error of a command that could not be started.
pub(crate) fn not_started(program: &str, source: io::Error) -> Trouble {
    match super::doctor::package_of(program) {
        Some(package) if source.kind() == io::ErrorKind::NotFound => {
            Trouble::Needs(format!("the program `{program}`: install the Debian package {package}"))
        }
        _ => Trouble::Io { doing: format!("starting `{program}`"), source },
    }
}

fn failed(program: &str, arguments: &[&str], output: &Output) -> Trouble {
    let said = if output.stderr.is_empty() { &output.stdout } else { &output.stderr };
    Trouble::Command {
        command: format!("{program} {}", arguments.join(" ")),
        how: output.status.to_string(),
        said: tail(&String::from_utf8_lossy(said), 8),
    }
}

/// The last lines of a text.
pub(crate) fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.trim_end().lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
