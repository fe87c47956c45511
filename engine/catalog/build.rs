//! Compiles the core bundle in: a list of (path, bytes) of `bundle.yaml`, `roles/`, `workloads/` and `schemas/` at the top of the tree.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let top = PathBuf::from(env::var("CARGO_MANIFEST_DIR").expect("set by cargo")).join("../..").canonicalize()?;
    let mut files = vec![top.join("bundle.yaml")];
    println!("cargo::rerun-if-changed={}", top.join("bundle.yaml").display());
    for folder in ["roles", "workloads", "schemas"] {
        println!("cargo::rerun-if-changed={}", top.join(folder).display());
        collect(&top.join(folder), &mut files)?;
    }
    files.sort();
    let mut text = String::from("&[\n");
    for file in files {
        let name = file.strip_prefix(&top).expect("below the top").to_string_lossy().into_owned();
        writeln!(text, "    ({name:?}, include_bytes!({:?})),", file.display().to_string())
            .expect("a string takes all");
    }
    text.push_str("]\n");
    fs::write(Path::new(&env::var("OUT_DIR").expect("set by cargo")).join("core_bundle.rs"), text)
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if hidden {
            continue;
        }
        if path.is_dir() {
            collect(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}
