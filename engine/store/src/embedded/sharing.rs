//! Several engines over one data directory: who may start and stop Postgres, and who is the last one out.
//!
//! Two files, locked by `flock`, which the kernel releases when a process dies in whatever way:
//!
//! - `starting.lock`: exclusive and short. Whoever starts or stops Postgres holds it.
//! - `users.lock`: shared and long. Every engine holds it while it lives; an engine that stops and then gets it
//!   exclusively was the last one and stops Postgres. If others are left, it goes on running for them.

use std::{
    fs::{File, OpenOptions, TryLockError},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::{EmbeddedError, postmaster::LOOK};

/// A file that is locked as long as this lives. Unlocked in so many words: closing it is not enough while a child of ours that was
/// just forked has it too, until it runs its program.
#[derive(Debug)]
pub(crate) struct Held(File);

impl Drop for Held {
    fn drop(&mut self) {
        // If it can not be unlocked, closing it does.
        let _ = self.0.unlock();
    }
}

/// The locks of one data directory.
#[derive(Debug, Clone)]
pub(crate) struct Sharing {
    base: PathBuf,
}

impl Sharing {
    pub(crate) fn new(base: &Path) -> Self {
        Self { base: base.to_owned() }
    }

    /// Waits for the turn to start or stop Postgres; it ends when it is dropped.
    pub(crate) async fn turn(&self, limit: Duration) -> Result<Held, EmbeddedError> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(file) = self.try_turn()? {
                return Ok(file);
            }
            if Instant::now() >= deadline {
                return Err(EmbeddedError::Busy { directory: self.base.clone(), limit });
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// The turn, if nobody has it.
    pub(crate) fn try_turn(&self) -> Result<Option<Held>, EmbeddedError> {
        let path = self.base.join("starting.lock");
        let file = open(&path)?;
        match file.try_lock() {
            Ok(()) => {
                let held = Held(file);
                // Its directory may have been removed while we waited for it.
                Ok(is_still(&held.0, &path).then_some(held))
            }
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(EmbeddedError::io("lock", path, error)),
        }
    }

    /// Says that we use this Postgres until it is dropped. To be called in one's turn.
    pub(crate) fn join(&self) -> Result<Held, EmbeddedError> {
        let path = self.base.join("users.lock");
        let file = open(&path)?;
        // Nobody holds it exclusively for longer than a look, and that in a turn.
        file.lock_shared().map_err(|error| EmbeddedError::io("lock", path, error))?;
        Ok(Held(file))
    }

    /// Nobody uses it? To be called in one's turn, after one's own file was dropped.
    pub(crate) fn is_unused(&self) -> Result<bool, EmbeddedError> {
        self.is_free("users.lock")
    }

    /// Does nobody hold this lock, shared or not, at this moment?
    pub(crate) fn is_free(&self, name: &str) -> Result<bool, EmbeddedError> {
        let path = self.base.join(name);
        let file = open(&path)?;
        match file.try_lock() {
            Ok(()) => {
                drop(Held(file));
                Ok(true)
            }
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(EmbeddedError::io("lock", path, error)),
        }
    }
}

fn open(path: &Path) -> Result<File, EmbeddedError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|error| EmbeddedError::io("open", path, error))
}

fn is_still(file: &File, path: &Path) -> bool {
    let (Ok(held), Ok(there)) = (file.metadata(), std::fs::metadata(path)) else { return false };
    (held.dev(), held.ino()) == (there.dev(), there.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_ends_with_its_holder_and_not_with_a_child_that_was_just_forked() {
        let folder = tempfile::tempdir().expect("a folder");
        let sharing = Sharing::new(folder.path());
        let held = sharing.join().expect("joined");
        // What a child has of it until it runs its program.
        let forked = held.0.try_clone().expect("another one of the same");
        assert!(!sharing.is_unused().expect("looked at"));
        drop(held);
        assert!(sharing.is_unused().expect("looked at"));
        drop(forked);
    }
}
