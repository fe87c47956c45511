//! Who runs Postgres: it refuses to be root, so root lends it an account that can do less.

use std::{
    fs,
    os::unix::{fs::MetadataExt, process::CommandExt},
    path::Path,
    process::Command,
};

use nix::unistd::{Uid, User};

use super::EmbeddedError;

/// An account of this machine that Postgres runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) name: String,
}

impl Account {
    /// Us, if we are not root. Else the owner of the data, or who was asked for, or `postgres`, or `nobody`.
    pub(crate) fn choose(asked: Option<&str>, cluster: &Path) -> Result<Self, EmbeddedError> {
        let me = Uid::effective();
        let owner = fs::metadata(cluster).ok().map(|data| data.uid());
        if !me.is_root() {
            let mine = Self::by_uid(me.as_raw())?;
            if let Some(owner) = owner.filter(|owner| *owner != me.as_raw()) {
                let whose = Self::by_uid(owner).map_or_else(|_| owner.to_string(), |account| account.name);
                let cluster = cluster.display();
                let reason = format!("the data in {cluster} belong to the user `{whose}`, and we are `{}`", mine.name);
                return Err(EmbeddedError::Account { reason });
            }
            return match asked {
                Some(other) if other != mine.name => Err(EmbeddedError::Account {
                    reason: format!("only root can run it as `{other}`, and we are `{}`", mine.name),
                }),
                _ => Ok(mine),
            };
        }
        match (owner, asked) {
            (Some(0), _) => {
                let reason = format!("the data in {} belong to root, whom Postgres refuses to be", cluster.display());
                Err(EmbeddedError::Account { reason })
            }
            (Some(owner), _) => Self::by_uid(owner),
            (None, Some("root")) => {
                Err(EmbeddedError::Account { reason: "it refuses to run as root; name another user".to_owned() })
            }
            (None, Some(name)) => Self::by_name(name)?
                .ok_or_else(|| EmbeddedError::Account { reason: format!("there is no user `{name}` to run it as") }),
            (None, None) => match Self::by_name("postgres")? {
                Some(account) => Ok(account),
                None => Self::by_name("nobody")?.ok_or_else(|| EmbeddedError::Account {
                    reason: "it refuses to run as root, and there is neither a user `postgres` nor `nobody`".to_owned(),
                }),
            },
        }
    }

    /// The names that may log in by the socket: root, the account, and us.
    pub(crate) fn admitted(&self) -> Vec<String> {
        let mut names = vec!["root".to_owned(), self.name.clone()];
        names.extend(Self::by_uid(Uid::effective().as_raw()).ok().map(|me| me.name));
        names.sort();
        names.dedup();
        names
    }

    /// Is that somebody else than us? Then files are given to it, and programs run as it.
    pub(crate) fn is_other(&self) -> bool {
        Uid::effective().as_raw() != self.uid
    }

    /// A command that runs as this account, in `directory`, with nothing of our environment but a safe PATH.
    pub(crate) fn command(&self, program: &Path, directory: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(directory).env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("LC_ALL", "C");
        if self.is_other() {
            // The standard library drops the supplementary groups as well.
            command.uid(self.uid).gid(self.gid);
        }
        command
    }

    /// An error that names the first directory on the way to `path` that this account cannot enter.
    pub(crate) fn can_enter(&self, path: &Path) -> Result<(), EmbeddedError> {
        if !self.is_other() {
            return Ok(());
        }
        let mut way: Vec<&Path> = path.ancestors().collect();
        way.reverse();
        for directory in way {
            let Ok(data) = fs::metadata(directory) else { continue };
            let bit = if data.uid() == self.uid {
                0o100
            } else if data.gid() == self.gid {
                0o010
            } else {
                0o001
            };
            if data.mode() & bit == 0 {
                return Err(EmbeddedError::Closed { directory: directory.to_owned(), account: self.name.clone() });
            }
        }
        Ok(())
    }

    fn by_uid(uid: u32) -> Result<Self, EmbeddedError> {
        let found = User::from_uid(Uid::from_raw(uid));
        let user = found.map_err(|error| cannot_look_up(&uid.to_string(), error))?;
        let reason = || format!("the user id {uid} has no name on this machine, and Postgres needs one");
        user.map(Self::from).ok_or_else(|| EmbeddedError::Account { reason: reason() })
    }

    fn by_name(name: &str) -> Result<Option<Self>, EmbeddedError> {
        Ok(User::from_name(name).map_err(|error| cannot_look_up(name, error))?.map(Self::from))
    }
}

impl From<User> for Account {
    fn from(user: User) -> Self {
        Self { uid: user.uid.as_raw(), gid: user.gid.as_raw(), name: user.name }
    }
}

fn cannot_look_up(who: &str, error: nix::Error) -> EmbeddedError {
    EmbeddedError::Account { reason: format!("the user {who} cannot be looked up: {error}") }
}
