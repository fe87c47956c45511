//! Where the engine is, and what to say to be let in: flag before environment before the file of `plinth serve`.

use std::env;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::ClientError;

/// Name of the file in the data directory.
pub const FILE: &str = "endpoint.json";

/// An endpoint with its token.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// `http://127.0.0.1:PORT`.
    pub endpoint: String,
    /// What lets us in.
    pub token: String,
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoint").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// The data directory: `$PLINTH_DATA`, or `/var/lib/plinth` for root, or `~/.local/share/plinth`.
pub fn data_dir() -> PathBuf {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let root = fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
    set("PLINTH_DATA").unwrap_or_else(|| {
        if root {
            return PathBuf::from("/var/lib/plinth");
        }
        let share = set("XDG_DATA_HOME").or_else(|| set("HOME").map(|home| home.join(".local/share")));
        share.unwrap_or_else(|| PathBuf::from(".")).join("plinth")
    })
}

impl Endpoint {
    /// Finds it: what was given (by flag or environment) counts before the file in the data directory. The token of the
    /// file is for the endpoint of the file, and is given to no other.
    ///
    /// # Errors
    /// When there is none, or no token for it.
    pub fn find(endpoint: Option<String>, token: Option<String>, data: &Path) -> Result<Self, ClientError> {
        let file = data.join(FILE);
        match (endpoint, token) {
            (Some(endpoint), Some(token)) => Ok(Self { endpoint, token }),
            (Some(endpoint), None) => match Self::read(&file) {
                Ok(Some(known)) if known.endpoint.trim_end_matches('/') == endpoint.trim_end_matches('/') => Ok(known),
                _ => Err(ClientError::NoToken { endpoint }),
            },
            (None, token) => {
                let known = Self::read(&file)?.ok_or(ClientError::NoEngine { file })?;
                Ok(Self { token: token.unwrap_or(known.token), ..known })
            }
        }
    }

    /// Reads a file; nothing if it is not there.
    fn read(file: &Path) -> Result<Option<Self>, ClientError> {
        let bad = |reason: String| ClientError::File { file: file.to_owned(), reason };
        match fs::read_to_string(file) {
            Ok(text) => serde_json::from_str(&text).map(Some).map_err(|error| bad(error.to_string())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(bad(error.to_string())),
        }
    }

    /// Writes the file of a data directory, for its owner alone. A reader sees the old one or the new one.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write(&self, data: &Path) -> io::Result<()> {
        let (file, half) = (data.join(FILE), data.join(format!("{FILE}.{}", std::process::id())));
        let written = || -> io::Result<()> {
            let mut new: File = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&half)?;
            new.write_all(serde_json::to_string(self).map_err(io::Error::other)?.as_bytes())?;
            new.sync_all()?;
            fs::rename(&half, &file)
        };
        written().inspect_err(|_| {
            let _ = fs::remove_file(&half);
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::{Endpoint, FILE};

    fn endpoint(port: u16) -> Endpoint {
        Endpoint { endpoint: format!("http://127.0.0.1:{port}"), token: "file".to_owned() }
    }

    fn folder(name: &str) -> std::path::PathBuf {
        let folder = std::env::temp_dir().join(format!("plinth-client-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        folder
    }

    #[test]
    fn what_was_given_counts_before_the_file() {
        let data = folder("given");
        let given = |endpoint: Option<&str>, token: Option<&str>| {
            Endpoint::find(endpoint.map(str::to_owned), token.map(str::to_owned), &data)
                .map(|found| format!("{} {}", found.endpoint, found.token))
                .map_err(|error| error.code().to_owned())
        };
        assert_eq!(given(None, None), Err("no-engine".into()));
        assert_eq!(given(Some("http://x"), None), Err("no-token".into()));
        endpoint(1).write(&data).expect("written");
        assert_eq!(given(None, None), Ok("http://127.0.0.1:1 file".into()));
        assert_eq!(given(None, Some("flag")), Ok("http://127.0.0.1:1 flag".into()));
        assert_eq!(given(Some("http://127.0.0.1:1/"), None), Ok("http://127.0.0.1:1 file".into()));
        assert_eq!(given(Some("http://x"), None), Err("no-token".into()), "the token goes nowhere else");
        std::fs::write(data.join(FILE), "{").expect("written");
        assert_eq!(given(None, None), Err("endpoint-file".into()));
        std::fs::remove_dir_all(data).expect("removed");
    }

    #[test]
    fn the_file_is_for_its_owner() {
        let data = folder("owner");
        endpoint(1).write(&data).expect("written");
        endpoint(2).write(&data).expect("written over");
        let mode = std::fs::metadata(data.join(FILE)).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(&data).expect("listed").count(), 1, "nothing half-made is left");
        std::fs::remove_dir_all(data).expect("removed");
    }
}
