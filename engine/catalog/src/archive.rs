//! A bundle in an archive.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _};
use std::path::Path;

use engine_core::diagnostic::Diagnostic;
use flate2::read::GzDecoder;

use crate::bundle::{Folder, is_part, unreadable};

/// More than this comes out of no archive.
const LARGEST: u64 = 64 * 1024 * 1024;
/// How an archive begins that is made smaller by gzip.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Reads the bundle of an archive: at its top, or in the one folder there.
pub(crate) fn read(path: &Path) -> Result<Folder, Box<Diagnostic>> {
    let all = files(path).map_err(|error| unreadable(path, &error))?;
    let top = all.keys().find_map(|file| file.strip_suffix("bundle.yaml").filter(|top| top.matches('/').count() < 2));
    let Some(top) = top.map(str::to_owned) else {
        let missing = "the archive has no bundle.yaml, neither at its top nor in the folder there";
        return Err(Box::new(Diagnostic::error("missing-file", "", missing).in_file(path.display().to_string())));
    };
    let inner = |(file, bytes): (String, Vec<u8>)| Some((file.strip_prefix(&top)?.to_owned(), Cow::Owned(bytes)));
    let files = all.into_iter().filter_map(inner).filter(|(file, _)| is_part(file)).collect();
    Ok(Folder { name: path.display().to_string(), files })
}

/// All plain files of an archive.
fn files(path: &Path) -> io::Result<BTreeMap<String, Vec<u8>>> {
    let mut file = BufReader::new(File::open(path)?);
    let mut begin = [0; 2];
    let is_gzip = file.read_exact(&mut begin).is_ok() && begin == GZIP;
    file.rewind()?;
    let bytes: Box<dyn Read> = if is_gzip { Box::new(GzDecoder::new(file)) } else { Box::new(file) };
    // One byte more, so that what is cut off is seen.
    let mut bytes = bytes.take(LARGEST + 1);
    let mut found = BTreeMap::new();
    let mut archive = tar::Archive::new(&mut bytes);
    for entry in archive.entries()? {
        let mut entry = entry?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let name = entry.path()?.to_string_lossy().trim_start_matches("./").to_owned();
        let mut body = Vec::new();
        entry.read_to_end(&mut body)?;
        found.insert(name, body);
    }
    if bytes.limit() == 0 {
        return Err(io::Error::other("there is more in it than 64 MiB"));
    }
    Ok(found)
}
