//! Values that nobody may read in the database: sealed by a key that is not in it.
//!
//! XChaCha20-Poly1305 with a random nonce. A sealed value opens only at its place (table, row and column) and only with
//! the key that sealed it, whose id it carries. Keys are lines of a file. The last one seals and all of them open, so a
//! new key is a new line. For each key that ever sealed the database has a canary, so that a wrong or missing key is
//! told at the start, and not when the first value is needed.

mod again;
mod file;

use std::fmt;
use std::path::PathBuf;

use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use sqlx::{PgConnection, PgPool};
use zeroize::Zeroizing;

use crate::StoreError;
use crate::error::doing;

pub use again::reseal;

/// Bytes of a key's id, a nonce, and what is added to the clear text.
const ID: usize = 8;
const NONCE: usize = 24;
/// How a sealed value begins: with the version of its form.
const VERSION: u8 = 1;
/// What canaries say.
const CANARY: &[u8] = b"plinth";

/// Where the key is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFile {
    /// The file.
    pub path: PathBuf,
    /// It is made if it is missing and nothing was ever sealed.
    pub make: bool,
}

/// Where a sealed value stands. It opens nowhere else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place<'a> {
    /// The table.
    pub table: &'a str,
    /// What names the row.
    pub row: &'a str,
    /// The column, or what names the value in it.
    pub column: &'a str,
}

/// A sealed value, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed(Vec<u8>);

impl Sealed {
    /// As stored.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// From what was stored.
    pub fn stored(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

/// Seals and opens. Shows no key when it is printed.
pub struct Sealer {
    path: PathBuf,
    /// The newest last; never empty.
    keys: Vec<Key>,
}

struct Key {
    id: [u8; ID],
    key: Zeroizing<[u8; 32]>,
}

/// A key that is not there, or not the right one; or a value that it does not open.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The file can not be read or written.
    #[error("cannot use the file of the seal key {path}: {source}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Others can read the file.
    #[error("{path} has mode {mode:04o}: others than its owner can read the seal key", path = path.display())]
    Open {
        /// Which.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It has something else in it.
    #[error("line {line} of {path} is no seal key: {reason}", path = path.display())]
    Invalid {
        /// Which.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The database has values that only this key opens.
    #[error("the database has values that the seal key {id} opens, and {path} does not have it", path = path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// The id of the key.
        id: String,
    },
    /// It has the id, and not the key.
    #[error("the seal key {id} in {path} is not the one that sealed this database", path = path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// The id of the key.
        id: String,
    },
    /// A value was changed, or stands where it was not sealed.
    #[error("a sealed value in {place} does not open")]
    Damaged {
        /// The place.
        place: String,
    },
}

impl SealError {
    /// Stable code, listed in docs/ERRORS.md.
    pub fn code(&self) -> &'static str {
        match self {
            Self::File { .. } => "seal-key-unusable",
            Self::Open { .. } => "seal-key-open",
            Self::Invalid { .. } => "seal-key-invalid",
            Self::Missing { .. } => "seal-key-missing",
            Self::Wrong { .. } => "seal-key-wrong",
            Self::Damaged { .. } => "seal-damaged",
        }
    }
}

impl Sealer {
    /// Reads the keys, and tries each that ever sealed anything in this database. A first key is made where nothing was
    /// ever sealed; engines that share a database share the file, and a second one that made its own is refused here.
    ///
    /// # Errors
    /// When a key is missing or another one than before.
    pub async fn start(pool: &PgPool, file: &KeyFile) -> Result<Self, StoreError> {
        let failed = doing("trying the seal key");
        let mut tx = pool.begin().await.map_err(&failed)?;
        // Two engines that start at once must not both think that they are the first.
        sqlx::query!("lock table seal in exclusive mode").execute(&mut *tx).await.map_err(&failed)?;
        let rows = sqlx::query!("select key_id, canary from seal order by made_at, key_id")
            .fetch_all(&mut *tx)
            .await
            .map_err(&failed)?;
        let sealed: Vec<(String, Sealed)> =
            rows.into_iter().map(|row| (row.key_id, Sealed::stored(row.canary))).collect();
        let keys = file::read(&file.path, file.make && sealed.is_empty())?;
        let keys = keys.ok_or_else(|| match sealed.first() {
            Some((id, _)) => SealError::Missing { path: file.path.clone(), id: id.clone() },
            None => SealError::File { path: file.path.clone(), source: std::io::ErrorKind::NotFound.into() },
        })?;
        let sealer = Self { path: file.path.clone(), keys };
        for (id, canary) in &sealed {
            sealer.try_key(id, canary)?;
        }
        sealer.keep_canary(&mut tx).await?;
        tx.commit().await.map_err(&failed)?;
        Ok(sealer)
    }

    /// One whose key is kept nowhere: what it seals, it alone opens.
    pub fn of_nobody() -> Self {
        let key = Key { id: rand::random(), key: Zeroizing::new(rand::random()) };
        Self { path: PathBuf::new(), keys: vec![key] }
    }

    fn try_key(&self, id: &str, canary: &Sealed) -> Result<(), SealError> {
        let (path, id) = (self.path.clone(), id.to_owned());
        if self.keys.iter().all(|key| hex::encode(key.id) != id) {
            return Err(SealError::Missing { path, id });
        }
        match self.open(&canary_place(&id), canary) {
            Ok(clear) if clear.as_slice() == CANARY => Ok(()),
            _ => Err(SealError::Wrong { path, id }),
        }
    }

    async fn keep_canary(&self, connection: &mut PgConnection) -> Result<(), StoreError> {
        let id = hex::encode(self.newest().id);
        let canary = self.seal(&canary_place(&id), CANARY);
        sqlx::query!(
            "insert into seal (key_id, canary, made_at) values ($1, $2, now()) on conflict do nothing",
            id,
            canary.bytes()
        )
        .execute(connection)
        .await
        .map_err(doing("keeping the canary of a seal key"))?;
        Ok(())
    }

    fn newest(&self) -> &Key {
        self.keys.last().expect("a file of seal keys has one")
    }

    /// Seals a value for its place, by the newest key.
    pub fn seal(&self, place: &Place<'_>, clear: &[u8]) -> Sealed {
        let key = self.newest();
        let nonce: [u8; NONCE] = rand::random();
        let payload = Payload { msg: clear, aad: &bound(place, key.id) };
        let body = cipher(key).encrypt(&XNonce::from(nonce), payload).expect("a value is shorter than 256 GiB");
        Sealed([&[VERSION][..], &key.id, &nonce, &body].concat())
    }

    /// The clear text of a value at its place; it is overwritten when it is dropped.
    ///
    /// # Errors
    /// When the value was changed, or moved, or the key that sealed it is not there.
    pub fn open(&self, place: &Place<'_>, sealed: &Sealed) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let damaged = || SealError::Damaged { place: format!("{}.{}", place.table, place.column) };
        let (version, rest) = sealed.0.split_first().ok_or_else(damaged)?;
        let (id, rest) = rest.split_first_chunk::<ID>().ok_or_else(damaged)?;
        let (nonce, body) = rest.split_first_chunk::<NONCE>().ok_or_else(damaged)?;
        if *version != VERSION {
            return Err(damaged());
        }
        let missing = || SealError::Missing { path: self.path.clone(), id: hex::encode(id) };
        let key = self.keys.iter().find(|key| key.id == *id).ok_or_else(missing)?;
        let payload = Payload { msg: body, aad: &bound(place, *id) };
        cipher(key).decrypt(&XNonce::from(*nonce), payload).map(Zeroizing::new).map_err(|_| damaged())
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<String> = self.keys.iter().map(|key| hex::encode(key.id)).collect();
        f.debug_struct("Sealer").field("path", &self.path).field("keys", &ids).finish()
    }
}

fn cipher(key: &Key) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new_from_slice(key.key.as_slice()).expect("a key has 32 bytes")
}

fn canary_place(id: &str) -> Place<'_> {
    Place { table: "seal", row: id, column: "canary" }
}

/// What a sealed value is bound to. Each part has its length before it, so that no two places look alike.
fn bound(place: &Place<'_>, id: [u8; ID]) -> Vec<u8> {
    let mut bound = vec![VERSION];
    for part in [place.table.as_bytes(), place.row.as_bytes(), place.column.as_bytes(), &id] {
        bound.extend((part.len() as u64).to_be_bytes());
        bound.extend(part);
    }
    bound
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const PLACE: Place<'static> = Place { table: "authority", row: "1", column: "key" };

    fn sealer(folder: &Path) -> Sealer {
        let path = folder.join("seal.key");
        let keys = file::read(&path, true).expect("usable").expect("made");
        Sealer { path, keys }
    }

    #[test]
    fn a_value_opens_at_its_place_and_nowhere_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let sealer = sealer(folder.path());
        let sealed = sealer.seal(&PLACE, b"the key");
        assert_eq!(sealer.open(&PLACE, &sealed).expect("its place").as_slice(), b"the key");
        assert_ne!(sealer.seal(&PLACE, b"the key"), sealed, "never the same twice");
        assert!(!sealed.bytes().windows(7).any(|part| part == b"the key"));
        for place in [Place { table: "authorit", ..PLACE }, Place { row: "2", ..PLACE }, Place { column: "x", ..PLACE }]
        {
            assert_eq!(sealer.open(&place, &sealed).expect_err("another place").code(), "seal-damaged");
        }
        for at in 0..sealed.0.len() {
            let mut other = sealed.clone();
            other.0[at] ^= 1;
            let code = sealer.open(&PLACE, &other).expect_err("changed").code();
            assert_eq!(code, if (1..=ID).contains(&at) { "seal-key-missing" } else { "seal-damaged" }, "byte {at}");
        }
        for length in 0..sealed.0.len() {
            let short = Sealed::stored(sealed.0[..length].to_vec());
            sealer.open(&PLACE, &short).expect_err("cut");
        }
    }

    #[test]
    fn the_newest_key_seals_and_all_of_them_open() {
        let folder = tempfile::tempdir().expect("a folder");
        let old = sealer(folder.path());
        let sealed = old.seal(&PLACE, b"x");
        file::add(&old.path).expect("another key");
        let both = sealer(folder.path());
        assert_eq!(both.keys.len(), 2);
        assert_eq!(both.open(&PLACE, &sealed).expect("by the old key").as_slice(), b"x");
        let again = both.seal(&PLACE, b"x");
        assert_eq!(old.open(&PLACE, &again).expect_err("by the new one").code(), "seal-key-missing");
    }

    #[test]
    fn no_key_is_ever_shown() {
        let folder = tempfile::tempdir().expect("a folder");
        let sealer = sealer(folder.path());
        let shown = format!("{sealer:?}");
        let text = std::fs::read_to_string(&sealer.path).expect("the file");
        let key = text.lines().last().and_then(|line| line.split(' ').nth(1)).expect("a key").to_owned();
        assert!(shown.contains(&hex::encode(sealer.keys[0].id)) && !shown.contains(&key), "{shown}");
    }
}
