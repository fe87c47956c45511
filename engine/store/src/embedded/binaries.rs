//! Finds the programs of Postgres on this machine.
//!
//! In this order: the directory that the configuration names (then nothing else), Debian's place, that of the
//! packages of the Postgres project for other distributions, and PATH.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::EmbeddedError;

/// The programs of one version of Postgres.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binaries {
    /// Where they are.
    pub directory: PathBuf,
    /// Such as 15.
    pub major: u32,
}

impl Binaries {
    /// One of them.
    pub fn program(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

/// Every complete set of binaries, oldest first. An error if there is none.
pub fn all(named: Option<&Path>) -> Result<Vec<Binaries>, EmbeddedError> {
    let (directories, looked_in) = match named {
        Some(directory) => (vec![directory.to_owned()], directory.display().to_string()),
        None => (usual_places(), "/usr/lib/postgresql/*/bin, /usr/pgsql-*/bin and PATH".to_owned()),
    };
    let mut found: Vec<Binaries> = Vec::new();
    for directory in directories {
        if let Some(binaries) = look_into(&directory)
            && !found.iter().any(|known| known.major == binaries.major)
        {
            found.push(binaries);
        }
    }
    found.sort_by_key(|binaries| binaries.major);
    if found.is_empty() { Err(EmbeddedError::Missing { looked_in }) } else { Ok(found) }
}

/// Those that fit the data in `cluster`, or the newest if there are no data yet.
pub fn fitting(named: Option<&Path>, data: Option<u32>, cluster: &Path) -> Result<Binaries, EmbeddedError> {
    let found = all(named)?;
    let (oldest, newest) = (found[0].major, found[found.len() - 1].major);
    let Some(data) = data else {
        return Ok(found[found.len() - 1].clone());
    };
    if let Some(same) = found.into_iter().find(|binaries| binaries.major == data) {
        return Ok(same);
    }
    let directory = cluster.to_owned();
    // Between two installed versions counts as older: a newer one is there to move to.
    if data > newest {
        Err(EmbeddedError::Newer { directory, data, newest })
    } else {
        Err(EmbeddedError::Older { directory, data, oldest: oldest.max(data + 1) })
    }
}

fn usual_places() -> Vec<PathBuf> {
    let mut places = Vec::new();
    for (parent, prefix) in [("/usr/lib/postgresql", ""), ("/usr", "pgsql-")] {
        let Ok(entries) = fs::read_dir(parent) else { continue };
        let mut versions: Vec<(u32, PathBuf)> = entries
            .flatten()
            .filter_map(|entry| {
                let version = entry.file_name().to_str()?.strip_prefix(prefix)?.parse().ok()?;
                Some((version, entry.path().join("bin")))
            })
            .collect();
        versions.sort();
        places.extend(versions.into_iter().map(|(_, directory)| directory));
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let in_path = env::split_paths(&path).find_map(|directory| fs::canonicalize(directory.join("postgres")).ok());
    places.extend(in_path.and_then(|program| program.parent().map(Path::to_owned)));
    places
}

fn look_into(directory: &Path) -> Option<Binaries> {
    if !["postgres", "initdb"].iter().all(|name| directory.join(name).is_file()) {
        return None;
    }
    let printed =
        Command::new(directory.join("postgres")).arg("--version").stdin(Stdio::null()).stderr(Stdio::null()).output();
    let major = parse_major(&String::from_utf8_lossy(&printed.ok()?.stdout))?;
    Some(Binaries { directory: directory.to_owned(), major })
}

/// From `postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)` or `16beta1`.
fn parse_major(printed: &str) -> Option<u32> {
    let version = printed.split_once("(PostgreSQL) ")?.1;
    let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_what_postgres_prints() {
        assert_eq!(parse_major("postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)\n"), Some(15));
        assert_eq!(parse_major("postgres (PostgreSQL) 19devel\n"), Some(19));
        assert_eq!(parse_major("something else"), None);
    }
}
