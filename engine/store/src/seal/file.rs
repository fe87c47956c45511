//! The file of seal keys: `ID KEY` a line, in hexadecimal digits and base64, the newest last.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::{Key, SealError};

const HEAD: &str = "\
# Opens what is sealed in the database of this engine. The last key seals, all of them open.
# No backup of the database has it: keep a copy apart from them. Engines that share a database share this file.
";

/// The keys of a file; `None` if it is missing and not to be made.
pub(super) fn read(path: &Path, make: bool) -> Result<Option<Vec<Key>>, SealError> {
    let failed = |source| SealError::File { path: path.to_owned(), source };
    if make && !path.exists() {
        add(path).map_err(failed)?;
    }
    let meta = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        meta => meta.map_err(failed)?,
    };
    let mode = meta.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(SealError::Open { path: path.to_owned(), mode });
    }
    let text = Zeroizing::new(fs::read_to_string(path).map_err(failed)?);
    let mut keys: Vec<Key> = Vec::new();
    let mut last = 0;
    for (index, line) in text.lines().enumerate() {
        last = index + 1;
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let invalid = |reason| SealError::Invalid { path: path.to_owned(), line: last, reason };
        let key =
            parse(line).ok_or_else(|| invalid("expected ID KEY, 16 hexadecimal digits and 32 bytes in base64"))?;
        if keys.iter().any(|other| other.id == key.id) {
            return Err(invalid("its id is that of another line"));
        }
        keys.push(key);
    }
    if keys.is_empty() {
        return Err(SealError::Invalid { path: path.to_owned(), line: last, reason: "there is no key" });
    }
    Ok(Some(keys))
}

fn parse(line: &str) -> Option<Key> {
    let (id, key) = line.trim().split_once(' ')?;
    let mut id_bytes = [0; super::ID];
    hex::decode_to_slice(id, &mut id_bytes).ok()?;
    let bytes = Zeroizing::new(STANDARD.decode(key).ok()?);
    let mut key = Zeroizing::new([0; 32]);
    if bytes.len() != key.len() {
        return None;
    }
    key.copy_from_slice(&bytes);
    Some(Key { id: id_bytes, key })
}

/// Adds a new key to the file, which is made if it is missing: whole, or not at all.
pub(super) fn add(path: &Path) -> io::Result<()> {
    let before = match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => HEAD.to_owned(),
        text => text?,
    };
    let before = Zeroizing::new(before);
    let (id, key) = (rand::random::<[u8; super::ID]>(), Zeroizing::new(rand::random::<[u8; 32]>()));
    let line = Zeroizing::new(format!("{} {}\n", hex::encode(id), STANDARD.encode(key.as_slice())));
    let beside = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(before.as_bytes())?;
    file.write_all(line.as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => fs::File::open(folder)?.sync_all(),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str, mode: u32) -> &'static str {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("seal.key");
        fs::write(&path, text).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("a mode");
        match read(&path, true) {
            Ok(_) => "taken",
            Err(error) => error.code(),
        }
    }

    #[test]
    fn what_is_no_key_file_is_refused() {
        let key = STANDARD.encode([7; 32]);
        let good = format!("# a comment\n\n0011223344556677 {key}\n");
        assert_eq!(code(&good, 0o600), "taken");
        assert_eq!(code(&good, 0o400), "taken");
        assert_eq!(code(&good, 0o640), "seal-key-open");
        assert_eq!(code(&format!("{good}0011223344556677 {key}\n"), 0o600), "seal-key-invalid", "twice");
        for text in
            ["", "# nothing\n", "0011223344556677\n", "x y\n", "00112233445566 AAAA\n", "0011223344556677 AAAA\n"]
        {
            assert_eq!(code(text, 0o600), "seal-key-invalid", "{text}");
        }
    }

    #[test]
    fn a_missing_file_is_made_only_where_it_may_be() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("seal.key");
        assert!(read(&path, false).expect("nothing").is_none());
        assert_eq!(read(&path, true).expect("usable").map(|keys| keys.len()), Some(1));
        assert_eq!(fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o600);
        let again = read(&path, true).expect("usable").expect("there");
        assert_eq!(again.len(), 1);
    }
}
