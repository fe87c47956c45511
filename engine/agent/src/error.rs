//! Why a step fails.

use std::io;
use std::path::{Path, PathBuf};

use engine_core::template::TemplateError;

use crate::protocol::NOT_YET;

/// Result of everything a step does.
pub(crate) type Result<T> = std::result::Result<T, StepError>;

/// Why a step fails. The code is stable and has a section in docs/ERRORS.md.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StepError {
    #[error("{doing} {}: {source}", path.display())]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
    #[error(transparent)]
    Template(#[from] TemplateError),
    #[error("`{kind}`: {reason}")]
    Argument { kind: String, reason: String },
    #[error("there is no step called `{0}`")]
    UnknownKind(String),
    #[error("the role carries no file `{0}`")]
    FileMissing(String),
    #[error("{what} {how}{}", tail(last))]
    Command { what: String, how: String, last: String },
    #[error("{what} is not on this machine")]
    ProgramMissing { what: String },
    #[error("output `{0}` is not declared by the role")]
    OutputUndeclared(String),
    #[error("no step gave the declared output `{0}`")]
    OutputMissing(String),
    #[error("outputs are {bytes} bytes, {limit} are allowed")]
    OutputTooLarge { bytes: u64, limit: u64 },
    #[error("what the script wrote to $PLINTH_OUTPUT is not {0}")]
    OutputInvalid(String),
    #[error("the job took longer than {0} s")]
    Timeout(u64),
    #[error("stopped on request")]
    Cancelled,
    #[error("{what} did not come about within {within}: {last}")]
    WaitTimeout { what: String, within: String, last: String },
    /// What was seen, to follow `sees that`. The job is put away and looks again.
    #[error("{0}")]
    NotYet(String),
    #[error("the node did not reboot within {0} s")]
    RebootDidNotHappen(u64),
    #[error("sha256 of {url} is {actual}, expected {expected}")]
    ChecksumMismatch { url: String, actual: String, expected: String },
    #[error("the package database is held by {holder}, after waiting {waited} s")]
    AptLocked { holder: String, waited: u64 },
    #[error("no package source has `{0}`")]
    PackageUnknown(String),
    #[error("there is no {kind} `{name}` on this machine")]
    AccountUnknown { kind: &'static str, name: String },
    #[error("systemd knows no unit `{0}`")]
    UnitUnknown(String),
    #[error("{} is {found}, and stays so", path.display())]
    InTheWay { path: PathBuf, found: String },
    #[error("{} is a place that no role may take away", path.display())]
    Protected { path: PathBuf },
    #[error("no key could be made: {0}")]
    KeyFailed(String),
    #[error("the certificate {} does not do: {reason}", path.display())]
    CertificateInvalid { path: PathBuf, reason: String },
    #[error("the process that ran this step is gone, and nobody knows how far it got")]
    OutcomeUnknown,
    #[error("the journal of the job is damaged: {0}")]
    JournalDamaged(String),
}

fn tail(last: &str) -> String {
    let last = last.trim();
    if last.is_empty() { String::new() } else { format!(": {last}") }
}

impl StepError {
    pub(crate) fn io(doing: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |source| Self::Io { doing, path, source }
    }

    pub(crate) fn argument(kind: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Argument { kind: kind.into(), reason: reason.into() }
    }

    /// Stable across releases.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Io { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "disk-full",
                io::ErrorKind::ReadOnlyFilesystem => "read-only-filesystem",
                io::ErrorKind::PermissionDenied => "permission-denied",
                _ => "io-failed",
            },
            // What a program says is the only place where it tells that the disk is full.
            Self::Command { last, .. } if last.contains("No space left on device") => "disk-full",
            Self::Command { .. } => "step-failed",
            Self::Template(error) => error.code(),
            Self::Argument { .. } => "step-argument",
            Self::UnknownKind(_) => "step-unknown",
            Self::FileMissing(_) => "role-file-missing",
            Self::ProgramMissing { .. } => "program-missing",
            Self::OutputUndeclared(_) => "output-undeclared",
            Self::OutputMissing(_) => "output-missing",
            Self::OutputTooLarge { .. } => "output-too-large",
            Self::OutputInvalid(_) => "output-invalid",
            Self::Timeout(_) => "timeout",
            Self::Cancelled => "cancelled",
            Self::WaitTimeout { .. } => "wait-timeout",
            Self::NotYet(_) => NOT_YET,
            Self::RebootDidNotHappen(_) => "reboot-did-not-happen",
            Self::ChecksumMismatch { .. } => "checksum-mismatch",
            Self::AptLocked { .. } => "apt-locked",
            Self::PackageUnknown(_) => "package-unknown",
            Self::AccountUnknown { .. } => "account-unknown",
            Self::UnitUnknown(_) => "unit-unknown",
            Self::InTheWay { .. } => "path-in-the-way",
            Self::Protected { .. } => "path-protected",
            Self::KeyFailed(_) => "key-failed",
            Self::CertificateInvalid { .. } => "certificate-invalid",
            Self::OutcomeUnknown => "outcome-unknown",
            Self::JournalDamaged(_) => "journal-damaged",
        }
    }
}
