//! The files of a bundle, from disk or from what is compiled in.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use engine_core::diagnostic::Diagnostic;
use engine_core::document::BundleDoc;

use crate::archive;
use crate::document::{self, Kind};

/// The core bundle of this build.
const CORE: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/core_bundle.rs"));

/// The parts of a bundle; everything else in its folder is none of our business.
const PARTS: [&str; 3] = ["roles", "workloads", "schemas"];

/// Folders deeper than this are not looked into.
const DEEPEST: usize = 12;

/// All files of a bundle by their path in it, and what to call the folder in messages.
#[derive(Clone, Debug)]
pub struct Folder {
    /// Prefix of file names in messages: as the user wrote it.
    pub name: String,
    /// Bytes by path, such as `roles/etcd/role.yaml`.
    pub files: BTreeMap<String, Cow<'static, [u8]>>,
}

impl Folder {
    /// Reads a bundle: its folder, or an archive of one (`tar`, also with gzip).
    ///
    /// # Errors
    /// A diagnostic when a part of it can not be read.
    pub fn read(path: &Path) -> Result<Self, Box<Diagnostic>> {
        if path.is_file() {
            return archive::read(path);
        }
        let mut files = BTreeMap::new();
        let manifest = path.join("bundle.yaml");
        if manifest.is_file() {
            files.insert(
                "bundle.yaml".to_owned(),
                Cow::Owned(fs::read(&manifest).map_err(|error| unreadable(&manifest, &error))?),
            );
        }
        for part in PARTS {
            let below = path.join(part);
            if below.is_dir() {
                collect(&below, part, 0, &mut files)?;
            }
        }
        Ok(Self { name: path.display().to_string(), files })
    }

    /// A bundle from its files, as [`Self::packed`] makes them; `name` is what it is called in messages.
    ///
    /// # Errors
    /// A diagnostic when a file is not in base64, or not one of a bundle.
    pub fn unpacked(name: &str, files: &BTreeMap<String, String>) -> Result<Self, Box<Diagnostic>> {
        let mut folder = Self { name: name.to_owned(), files: BTreeMap::new() };
        for (path, text) in files {
            let wrong =
                |what: String| Box::new(Diagnostic::error("unreadable-file", "", what).in_file(folder.display(path)));
            if !is_part(path) {
                return Err(wrong(
                    "it is not a file of a bundle: bundle.yaml, or below roles, workloads or schemas".to_owned(),
                ));
            }
            let bytes = STANDARD.decode(text).map_err(|error| wrong(format!("it is not base64: {error}")))?;
            folder.files.insert(path.clone(), Cow::Owned(bytes));
        }
        Ok(folder)
    }

    /// Its files in base64, by path.
    pub fn packed(&self) -> BTreeMap<String, String> {
        self.files.iter().map(|(path, bytes)| (path.clone(), STANDARD.encode(bytes))).collect()
    }

    /// Its `bundle.yaml`, if that can be read.
    pub fn manifest(&self) -> Option<BundleDoc> {
        let read = document::read_one(self.bytes("bundle.yaml")?, "bundle.yaml", Kind::Bundle);
        read.ok().map(|read| read.doc)
    }

    /// How many documents of a part (`roles` or `workloads`) there are.
    pub fn count(&self, part: &str) -> usize {
        let document = format!("{}.yaml", part.trim_end_matches('s'));
        self.below(part).filter(|(path, _)| path.split_once('/').is_some_and(|(_, file)| file == document)).count()
    }

    /// How a file of it is called in messages.
    pub fn display(&self, file: &str) -> String {
        match self.name.as_str() {
            "" | "." => file.to_owned(),
            name => format!("{}/{file}", name.trim_end_matches('/')),
        }
    }

    /// The bytes of a file.
    pub fn bytes(&self, file: &str) -> Option<&[u8]> {
        self.files.get(file).map(AsRef::as_ref)
    }

    /// Files below a folder, with the rest of their path.
    pub fn below<'a>(&'a self, folder: &'a str) -> impl Iterator<Item = (&'a str, &'a [u8])> + 'a {
        self.files
            .iter()
            .filter_map(move |(path, bytes)| Some((path.strip_prefix(folder)?.strip_prefix('/')?, bytes.as_ref())))
    }
}

/// Does a file of this path, with no way out of it, belong to a bundle?
pub(crate) fn is_part(path: &str) -> bool {
    let plain = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.contains(['\\', '\0']);
    let mut parts = path.split('/');
    let first = parts.next().unwrap_or_default();
    let below = path.split('/').count();
    path == "bundle.yaml" || (PARTS.contains(&first) && (2..DEEPEST).contains(&below) && parts.all(plain))
}

/// The core bundle that is compiled in.
pub fn core_bundle() -> Folder {
    let files = CORE.iter().map(|(path, bytes)| ((*path).to_owned(), Cow::Borrowed(*bytes))).collect();
    Folder { name: "core:".to_owned(), files }
}

fn collect(
    folder: &Path,
    prefix: &str,
    depth: usize,
    files: &mut BTreeMap<String, Cow<'static, [u8]>>,
) -> Result<(), Box<Diagnostic>> {
    let entries = fs::read_dir(folder).map_err(|error| unreadable(folder, &error))?;
    for entry in entries {
        let path = entry.map_err(|error| unreadable(folder, &error))?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()).filter(|name| !name.starts_with('.')) else {
            continue;
        };
        let inner = format!("{prefix}/{name}");
        if path.is_dir() {
            if depth < DEEPEST {
                collect(&path, &inner, depth + 1, files)?;
            }
        } else {
            files.insert(inner, Cow::Owned(fs::read(&path).map_err(|error| unreadable(&path, &error))?));
        }
    }
    Ok(())
}

pub(crate) fn unreadable(path: &Path, error: &io::Error) -> Box<Diagnostic> {
    let code = if error.kind() == io::ErrorKind::NotFound { "missing-file" } else { "unreadable-file" };
    Box::new(Diagnostic::error(code, "", format!("can not be read: {error}")).in_file(path.display().to_string()))
}
