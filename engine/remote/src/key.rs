//! Keys that the engine logs in with.
//!
//! The deploy key is the engine's own: Ed25519, made once, kept in a file that only its owner reads. Hosts that are
//! adopted may also be entered with keys of the person who adopts them, from files or from an SSH agent.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use russh::keys::ssh_key::LineEnding;
use russh::keys::{Algorithm, HashAlg, PrivateKey};

use crate::RemoteError;

/// The engine's own key.
#[derive(Clone, Debug)]
pub struct DeployKey {
    key: Arc<PrivateKey>,
    path: PathBuf,
}

impl DeployKey {
    /// Reads the key at `path`, or makes it there with mode 0600.
    ///
    /// If two engines make it at the same time, one file stays and both use it.
    pub fn load_or_create(path: &Path) -> Result<Self, RemoteError> {
        if !path.exists() {
            create(path)?;
        }
        Ok(Self { key: Arc::new(load(path)?), path: path.to_owned() })
    }

    /// The line for `authorized_keys`.
    pub fn public_line(&self) -> String {
        self.key.public_key().to_openssh().expect("an Ed25519 public key can be written")
    }
}

/// Everything that may be tried to log in to a node, in this order: deploy key, files, agent.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    /// The engine's own key.
    pub deploy: Option<DeployKey>,
    /// Private key files without a passphrase.
    pub files: Vec<PathBuf>,
    /// Socket of an SSH agent, as in `$SSH_AUTH_SOCK`.
    pub agent: Option<PathBuf>,
}

impl Keys {
    /// The keys that are read from files, each with where it came from.
    pub(crate) fn private(&self) -> Result<Vec<(String, Arc<PrivateKey>)>, RemoteError> {
        let mut keys = Vec::new();
        if let Some(deploy) = &self.deploy {
            keys.push((deploy.path.display().to_string(), Arc::clone(&deploy.key)));
        }
        for path in &self.files {
            keys.push((path.display().to_string(), Arc::new(load(path)?)));
        }
        Ok(keys)
    }
}

/// `path (SHA256:…)`, for messages.
pub(crate) fn describe(origin: &str, key: &russh::keys::PublicKey) -> String {
    format!("{origin} ({})", key.fingerprint(HashAlg::Sha256))
}

fn load(path: &Path) -> Result<PrivateKey, RemoteError> {
    russh::keys::load_secret_key(path, None).map_err(|error| unusable(path, &error))
}

fn create(path: &Path) -> Result<(), RemoteError> {
    let mut key = PrivateKey::random(&mut russh::keys::key::safe_rng(), Algorithm::Ed25519)
        .map_err(|error| unusable(path, &error))?;
    key.set_comment("plinth");
    let text = key.to_openssh(LineEnding::LF).map_err(|error| unusable(path, &error))?;
    // Written beside and linked into place: a reader never sees half a key, and the first of two writers wins.
    let beside = path.with_extension(format!("new-{:016x}", rand::random::<u64>()));
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&beside)
        .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
        .and_then(|()| std::fs::hard_link(&beside, path));
    let removed = std::fs::remove_file(&beside);
    match written {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(unusable(path, &error)),
        _ => removed.map_err(|error| unusable(&beside, &error)),
    }
}

fn unusable(path: &Path, error: &impl ToString) -> RemoteError {
    RemoteError::KeyUnusable { path: path.to_owned(), reason: error.to_string() }
}
