//! What is installed, from dpkg's own status file: a few milliseconds, and no process.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use super::split;
use crate::error::{Result, StepError};

const STATUS: &str = "/var/lib/dpkg/status";

/// Installed packages and what they provide.
#[derive(Debug, Default)]
pub(super) struct Status {
    versions: BTreeMap<String, String>,
    provided: BTreeSet<String>,
}

impl Status {
    pub(super) fn read() -> Result<Self> {
        match fs::read_to_string(STATUS) {
            Ok(text) => Ok(Self::parse(&text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(StepError::ProgramMissing { what: "dpkg".to_owned() })
            }
            Err(error) => Err(StepError::io("reading", STATUS)(error)),
        }
    }

    fn parse(text: &str) -> Self {
        let mut status = Self::default();
        for paragraph in text.split("\n\n") {
            let field = |name: &str| {
                paragraph.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map_or("", str::trim)
            };
            if !field("Status").ends_with(" ok installed") {
                continue;
            }
            let (name, arch, version) = (field("Package"), field("Architecture"), field("Version"));
            status.versions.insert(format!("{name}:{arch}"), version.to_owned());
            status.versions.insert(name.to_owned(), version.to_owned());
            for provided in field("Provides").split(',') {
                let provided = provided.split_whitespace().next().unwrap_or_default();
                status.provided.insert(provided.to_owned());
            }
        }
        status.provided.remove("");
        status
    }

    /// Is `NAME`, or `NAME=VERSION` (which may end with `*`), installed or provided?
    pub(super) fn has(&self, wanted: &str) -> bool {
        let (name, version) = split(wanted);
        match (self.version(name), version) {
            (Some(_), None) => true,
            (Some(found), Some(version)) => match version.strip_suffix('*') {
                Some(prefix) => found.starts_with(prefix),
                None => found == version,
            },
            (None, None) => self.provided.contains(name),
            (None, Some(_)) => false,
        }
    }

    /// The version of an installed package.
    pub(super) fn version(&self, name: &str) -> Option<&str> {
        self.versions.get(name).map(String::as_str)
    }

    /// Name and version of all that is installed.
    pub(super) fn installed(&self) -> impl Iterator<Item = (&str, &str)> {
        let plain = self.versions.iter().filter(|(name, _)| !name.contains(':'));
        plain.map(|(name, version)| (name.as_str(), version.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_installed() {
        let status = Status::parse(
            "Package: mawk\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1.3.4\nProvides: awk, x (= 1)\n\n\
             Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n\n\
             Package: kept\nStatus: hold ok installed\nArchitecture: all\nVersion: 2:3.4.23-1\nDescription: a\n b\n",
        );
        let names: Vec<_> = status.installed().collect();
        assert_eq!(names, [("kept", "2:3.4.23-1"), ("mawk", "1.3.4")]);
        for there in ["mawk", "mawk:amd64", "awk", "x", "kept=2:3.4.23-1", "kept=2:3.4*"] {
            assert!(status.has(there), "{there}");
        }
        for missing in ["gone", "kept=2:3.5*", "nosuch", "awk=1"] {
            assert!(!status.has(missing), "{missing}");
        }
    }
}
