//! `plinth check PATH…`: bundles, single documents, and folders of them.

use std::fs;
use std::path::{Component, Path, PathBuf};

use engine_core::catalog::Catalog;
use engine_core::diagnostic::Diagnostic;
use engine_core::document::DeploymentDoc;
use serde_json::Value;

use super::{compiled, deployment};
use crate::bundle::{Folder, unreadable};
use crate::document::{self, Kind};
use crate::load::{Sources, in_order, with_core};
use crate::report::Report;
use crate::setting;

/// Folders deeper than this are not looked into.
const DEEPEST: usize = 8;

/// Everything that is wrong with what stands under some paths: bundle folders, role or workload files (checked with the
/// bundle around them), deployment and node files, and folders of any of these.
pub fn check(paths: &[PathBuf]) -> Vec<Diagnostic> {
    let mut plan = Plan::default();
    for path in paths {
        plan.add(path, 0);
    }
    plan.bundles.sort();
    plan.bundles.dedup();
    let mut folders = Vec::new();
    for path in &plan.bundles {
        match Folder::read(path) {
            Ok(folder) => folders.push(folder),
            Err(diagnostic) => plan.found.push(*diagnostic),
        }
    }
    let mut sources = Sources::default();
    for folder in &with_core(folders) {
        sources.read(folder);
    }
    sources.resolve();
    let catalog = sources.catalog();
    for (file, text) in &plan.documents {
        plan.found.extend(one(file, text, &sources, &catalog));
    }
    // What is wrong with roles shows in every workload that has them: said once, there.
    let sound = !sources.found.iter().any(Diagnostic::is_error);
    let asked = |file: &str| plan.only.is_empty() || plan.only.iter().any(|only| plain(file).starts_with(plain(only)));
    let workloads = sources.workloads.values().filter(|workload| sound && asked(&workload.file));
    let compiled: Vec<Diagnostic> =
        workloads.flat_map(|workload| compiled::workload(workload, &sources, &catalog)).collect();
    let mut found = std::mem::take(&mut sources.found);
    found.retain(|one| plan.only.is_empty() || one.file.as_deref().is_some_and(asked));
    found.extend(compiled);
    found.extend(plan.found);
    in_order(found)
}

#[derive(Default)]
struct Plan {
    bundles: Vec<PathBuf>,
    /// Deployment and node files, with their text.
    documents: Vec<(String, Vec<u8>)>,
    /// Where only single roles or workloads were asked for: prefixes of the files to talk about.
    only: Vec<String>,
    found: Vec<Diagnostic>,
}

impl Plan {
    fn add(&mut self, path: &Path, depth: usize) {
        if path.is_dir() {
            if path.join("bundle.yaml").is_file() {
                self.bundles.push(path.to_owned());
                if depth == 0 {
                    self.only.push(path.display().to_string());
                }
                return;
            }
            if depth == 0
                && let Some(bundle) = bundle_around(path)
            {
                self.only.push(path.display().to_string());
                self.bundles.push(bundle);
                return;
            }
            self.add_folder(path, depth);
            return;
        }
        let is_part = matches!(
            path.file_name().and_then(|name| name.to_str()),
            Some("role.yaml" | "workload.yaml" | "bundle.yaml")
        );
        if is_part && let Some(bundle) = bundle_around(path) {
            self.only.push(path.display().to_string());
            self.bundles.push(bundle);
            return;
        }
        match fs::read(path) {
            Ok(text) => self.documents.push((path.display().to_string(), text)),
            Err(error) => self.found.push(*unreadable(path, &error)),
        }
    }

    fn add_folder(&mut self, path: &Path, depth: usize) {
        let entries = match fs::read_dir(path) {
            Ok(entries) => entries,
            Err(error) => {
                self.found.push(*unreadable(path, &error));
                return;
            }
        };
        let mut inner: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        inner.sort();
        for path in inner {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let is_yaml = name.ends_with(".yaml") || name.ends_with(".yml");
            if !name.starts_with('.') && (is_yaml || (path.is_dir() && depth < DEEPEST)) {
                self.add(&path, depth + 1);
            }
        }
    }
}

/// A path without the `./` that it may begin with; the current folder itself is empty, and so the start of every path.
fn plain(path: &str) -> PathBuf {
    Path::new(path).components().filter(|part| *part != Component::CurDir).collect()
}

/// The bundle that a file or folder is part of.
fn bundle_around(path: &Path) -> Option<PathBuf> {
    let absolute = path.canonicalize().ok()?;
    let up = absolute.ancestors().skip(1).position(|folder| folder.join("bundle.yaml").is_file())?;
    let inside = absolute.strip_prefix(absolute.ancestors().nth(up + 1)?).ok()?;
    let first = inside.components().next()?.as_os_str().to_str()?.to_owned();
    if !["roles", "workloads", "schemas", "bundle.yaml"].contains(&first.as_str()) {
        return None;
    }
    // As the user wrote it, as far as that reaches.
    let mut written = path.to_owned();
    for _ in 0..=up {
        written = match written.parent() {
            Some(parent) if parent.as_os_str().is_empty() => PathBuf::from("."),
            Some(parent) if written != Path::new(".") => parent.to_owned(),
            _ => return absolute.ancestors().nth(up + 1).map(Path::to_owned),
        };
    }
    Some(written)
}

/// A document that stands by itself.
fn one(file: &str, text: &[u8], sources: &Sources, catalog: &Catalog) -> Vec<Diagnostic> {
    let documents = match document::parse(text, file) {
        Ok(documents) if documents.is_empty() => {
            return vec![Diagnostic::error("empty-file", "", "there is nothing in it").in_file(file)];
        }
        Ok(documents) => documents,
        Err(found) => return found,
    };
    let mut found = Vec::new();
    for parsed in documents {
        let report = Report::new(file, &parsed.spans);
        match Kind::of(&parsed.value) {
            Some(Kind::Deployment) => {
                match document::convert::<DeploymentDoc>(parsed.clone(), file, Kind::Deployment) {
                    Ok(read) => {
                        deployment::alone(&read.doc, &report);
                        deployment::check(&read.doc, sources, &report);
                        if !report.has_errors() {
                            compiled::deployment(&read.doc, sources, catalog, &report);
                        }
                    }
                    Err(diagnostics) => found.extend(diagnostics),
                }
            }
            Some(kind @ Kind::Node) => {
                found.extend(document::convert::<Value>(parsed.clone(), file, kind).err().unwrap_or_default())
            }
            Some(kind @ (Kind::Role | Kind::Workload | Kind::Bundle)) => {
                let place = format!("{} stands in a bundle, as {}", kind.name(), place_of(kind));
                report.wrong("wrong-place", "", format!("a {place}"), "a deployment or a node");
            }
            Some(Kind::Profile | Kind::Policy | Kind::Rule | Kind::Budget) => {
                found.extend(setting::one(parsed.clone(), file).err().unwrap_or_default());
            }
            Some(Kind::Step) | None => {
                report.wrong(
                    "unknown-kind",
                    "",
                    "it is not said what this is",
                    "one of the keys `deployment`, `node`, `profile`, `policy`, `rule` or `budget`",
                );
            }
        }
        found.extend(report.into_found());
    }
    found
}

fn place_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Role => "roles/NAME/role.yaml",
        Kind::Workload => "workloads/NAME/workload.yaml",
        _ => "bundle.yaml",
    }
}
