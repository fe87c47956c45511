//! The files of a bundle, from disk or from what is compiled in.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use engine_core::diagnostic::Diagnostic;

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
    /// Reads a bundle's folder.
    ///
    /// # Errors
    /// A diagnostic when a part of it can not be read.
    pub fn read(path: &Path) -> Result<Self, Box<Diagnostic>> {
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
