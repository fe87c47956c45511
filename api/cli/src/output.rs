//! Printing, what can go wrong, and what the commands that ask the engine share.

use std::fs;
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use api_client::{Client, ClientError, Endpoint, endpoint};
use engine_core::diagnostic::Diagnostic;
use engine_core::request::Document;
use serde::Serialize;

use crate::args::{Engine, Output};

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
    #[error("[cannot-read] reading {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("[cannot-print] writing the answer: {0}")]
    Print(#[from] io::Error),
    #[error("[{}] {}{}", .0.code(), .0, cause(.0))]
    Engine(#[from] ClientError),
    #[error("[bad-documents] {} in {}", errors(found), file.display())]
    Documents { file: PathBuf, found: Vec<Diagnostic> },
    #[error("[bad-plan-file] {} is not a plan that this plinth has kept: {what}", path.display())]
    BadPlanFile { path: PathBuf, what: String },
    #[error("[unknown-secret] {deployment} has no secret `{secret}`; it has {known}")]
    NoSecret { deployment: String, secret: String, known: String },
    #[error("[not-scalable] cannot change how many nodes group `{group}` of {name} has: {why}")]
    NotScalable { name: String, group: String, why: String },
    #[error("[unknown-authority] deployment `{name}` has no authority `{role}`")]
    NoAuthority { name: String, role: String },
    #[error("[unknown-setting] there is no {kind} `{name}`")]
    NoSetting { kind: &'static str, name: String },
    #[error("[not-confirmed] nothing was changed: {0}")]
    NotConfirmed(&'static str),
    #[error("[plan-refused] nothing was changed: the plan has problems")]
    Refused,
    #[error("[wait-timeout] {name} is {health} and not {wanted} after {seconds} s")]
    Timeout { name: String, health: &'static str, wanted: &'static str, seconds: u64 },
    #[error("[deployment-failed] {name}: {what}")]
    Failed { name: String, what: String },
    #[error("[{}] {}{}", .0.code(), .0, cause(.0))]
    Serve(#[from] crate::serve::ServeError),
}

fn errors(found: &[Diagnostic]) -> String {
    let count = found.iter().filter(|one| one.is_error()).count();
    if count == 1 { "1 error".to_owned() } else { format!("{count} errors") }
}

/// What stands behind an error of the client, as far as its own words do not say it.
fn cause(error: &(dyn std::error::Error + 'static)) -> String {
    let (own, mut text) = (error.to_string(), String::new());
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !own.contains(&cause_text) && !text.contains(&cause_text) {
            text += &format!(": {cause_text}");
        }
        source = cause.source();
    }
    text
}

impl CliError {
    /// The exit code that goes with it.
    pub(crate) fn exit(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::BadName { .. } => 2,
            Self::NoSuchPath { .. } | Self::NoAuthority { .. } | Self::NoSetting { .. } => 3,
            Self::Exists { .. } => 4,
            Self::Timeout { .. } => 5,
            Self::Engine(ClientError::NoToken { .. }) => 6,
            Self::Engine(error) => match error.status() {
                Some(401 | 403) => 6,
                Some(404) => 3,
                Some(409 | 412) => 4,
                _ => 1,
            },
            Self::Write { .. }
            | Self::Read { .. }
            | Self::Print(_)
            | Self::Documents { .. }
            | Self::BadPlanFile { .. }
            | Self::NoSecret { .. }
            | Self::NotScalable { .. }
            | Self::NotConfirmed(_)
            | Self::Refused
            | Self::Failed { .. }
            | Self::Serve(_) => 1,
        })
    }

    /// Says what happened on standard error, findings first.
    pub(crate) fn tell(&self) {
        let findings = match self {
            Self::Engine(error) => error.diagnostics(),
            Self::Documents { found, .. } => found,
            Self::Serve(error) => error.findings(),
            _ => &[],
        };
        for finding in findings {
            eprintln!("{finding}");
        }
        eprintln!("plinth: {self}");
    }
}

/// What a command that asks the engine has at hand.
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) output: Output,
}

impl Context {
    pub(crate) fn new(engine: &Engine, output: Output) -> Result<Self, CliError> {
        let endpoint = Endpoint::find(engine.endpoint.clone(), engine.token.clone(), &endpoint::data_dir())?;
        Ok(Self { client: Client::new(endpoint, user())?, output })
    }

    /// Prints what is for people, or the value in the form asked for. `names` are what scripts go on with.
    pub(crate) fn print(
        &self,
        value: &impl Serialize,
        names: impl FnOnce() -> Vec<String>,
        text: impl FnOnce() -> String,
    ) -> Result<(), CliError> {
        match self.output {
            Output::Name => print(&names().iter().map(|name| format!("{name}\n")).collect::<String>()),
            Output::Json | Output::Yaml => structured(value, self.output),
            _ => print(&text()),
        }
    }

    /// Prints one of many values as it comes: one line of JSON, a document of YAML, or what is for people.
    pub(crate) fn line(
        &self,
        value: &impl Serialize,
        name: impl FnOnce() -> String,
        text: impl FnOnce() -> String,
    ) -> Result<(), CliError> {
        match self.output {
            Output::Name => print(&format!("{}\n", name())),
            Output::Json => print(&(serde_json::to_string(value).map_err(io::Error::other)? + "\n")),
            Output::Yaml => {
                print("---\n")?;
                structured(value, Output::Yaml)
            }
            _ => print(&format!("{}\n", text())),
        }?;
        Ok(io::stdout().flush()?)
    }
}

/// Who asks, for the record: the name of the account.
fn user() -> String {
    let name = ["SUDO_USER", "USER", "LOGNAME"].into_iter().find_map(|name| std::env::var(name).ok());
    let name: String = name.unwrap_or_default().chars().filter(char::is_ascii_graphic).take(64).collect();
    if name.is_empty() { "plinth".to_owned() } else { name }
}

/// A file as a document; `-` is standard input.
pub(crate) fn document(file: &Path) -> Result<Document, CliError> {
    let failed = |source| CliError::Read { path: file.to_owned(), source };
    if file == Path::new("-") {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text).map_err(failed)?;
        return Ok(Document { text, file: "standard input".to_owned() });
    }
    match fs::read_to_string(file) {
        Ok(text) => Ok(Document { text, file: file.display().to_string() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(CliError::NoSuchPath { path: file.to_owned() }),
        Err(error) => Err(failed(error)),
    }
}

/// Asks on the terminal; without one there is nobody to ask.
pub(crate) fn confirm(question: &str) -> Result<(), CliError> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(CliError::NotConfirmed("there is no terminal to ask on; --yes goes ahead without asking"));
    }
    eprint!("{question} [y/N] ");
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(CliError::NotConfirmed("the answer was not yes")),
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
