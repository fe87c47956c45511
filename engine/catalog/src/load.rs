//! Bundle folders to a catalog.
//!
//! First everything is read on its own, then `$ref`s and presets are resolved across bundles, then roles and workloads
//! are checked against each other. What has errors takes no part in the next stage, but all stages run.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use engine_core::catalog::{Catalog, CatalogRole};
use engine_core::diagnostic::Diagnostic;
use engine_core::document::{BundleDoc, RoleDoc, WorkloadDoc};
use engine_core::{digest, schema};
use serde_json::Value;

use crate::bundle::{Folder, core_bundle};
use crate::document::{self, Kind, Read};
use crate::report::Report;
use crate::types::{self, Types};
use crate::yaml::Spans;
use crate::{check, preset};

/// What came of loading bundles.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Everything that has no errors.
    pub catalog: Catalog,
    /// Everything that is wrong, in the order of files and lines.
    pub diagnostics: Vec<Diagnostic>,
}

impl Loaded {
    /// Is anything wrong beyond warnings?
    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(Diagnostic::is_error)
    }
}

/// A role between reading and the catalog.
#[derive(Clone, Debug)]
pub(crate) struct RoleSource {
    pub(crate) bundle: String,
    pub(crate) folder: String,
    pub(crate) file: String,
    pub(crate) doc: RoleDoc,
    pub(crate) spans: Spans,
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    /// Named in a diagnostic already: kept so that others can name it without a second complaint, but not in the catalog.
    pub(crate) broken: bool,
}

/// The same for a workload.
#[derive(Clone, Debug)]
pub(crate) struct WorkloadSource {
    pub(crate) bundle: String,
    pub(crate) folder: String,
    pub(crate) file: String,
    pub(crate) doc: WorkloadDoc,
    pub(crate) spans: Spans,
}

/// A file of `schemas/types` or `schemas/interfaces`.
#[derive(Clone, Debug)]
pub(crate) struct TypeFile {
    pub(crate) bundle: String,
    pub(crate) name: String,
    pub(crate) file: String,
    pub(crate) spans: Spans,
}

/// Everything that was read, with what is known of every name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sources {
    pub(crate) bundles: BTreeMap<String, BundleDoc>,
    pub(crate) types: Types,
    pub(crate) type_files: Vec<TypeFile>,
    pub(crate) interfaces: BTreeMap<String, BTreeMap<String, Value>>,
    pub(crate) roles: BTreeMap<String, RoleSource>,
    pub(crate) workloads: BTreeMap<String, WorkloadSource>,
    /// Roles and workloads that stand somewhere but could not be read; nobody is told that they are unknown.
    pub(crate) unreadable: BTreeSet<String>,
    pub(crate) found: Vec<Diagnostic>,
}

/// Loads bundle folders together with the core bundle of this build, unless one of them is a core bundle itself.
pub fn load(paths: &[PathBuf]) -> Loaded {
    let (mut folders, mut found) = (Vec::new(), Vec::new());
    for path in paths {
        match Folder::read(path) {
            Ok(folder) => folders.push(folder),
            Err(diagnostic) => found.push(*diagnostic),
        }
    }
    let mut loaded = load_folders(folders);
    loaded.diagnostics.splice(0..0, found);
    loaded
}

/// The same for folders that were read already.
pub fn load_folders(folders: Vec<Folder>) -> Loaded {
    let mut sources = Sources::default();
    for folder in &with_core(folders) {
        sources.read(folder);
    }
    sources.resolve();
    sources.into_loaded()
}

/// The folders with core first, that of this build where none of them is one, and each after those that it needs.
pub(crate) fn with_core(folders: Vec<Folder>) -> Vec<Folder> {
    let named = folders.into_iter().map(|folder| (folder.manifest(), folder));
    let (mut ordered, mut left): (Vec<_>, Vec<_>) =
        named.partition(|(manifest, _)| manifest.as_ref().is_some_and(|manifest| manifest.bundle == "core"));
    if ordered.is_empty() {
        let core = core_bundle();
        ordered.push((core.manifest(), core));
    }
    while !left.is_empty() {
        let is_ready = |(manifest, _): &(Option<BundleDoc>, Folder)| {
            let mut needs = manifest.iter().flat_map(|manifest| manifest.needs.keys());
            !needs.any(|need| left.iter().any(|(other, _)| other.as_ref().is_some_and(|other| other.bundle == *need)))
        };
        // Those that need each other are told so, one by one.
        let next = left.iter().position(is_ready).unwrap_or(0);
        ordered.push(left.remove(next));
    }
    ordered.into_iter().map(|(_, folder)| folder).collect()
}

impl Sources {
    /// Reads all documents of one bundle.
    pub(crate) fn read(&mut self, folder: &Folder) {
        let Some(bundle) = self.read_manifest(folder) else { return };
        self.read_types(folder, &bundle);
        for (path, bytes) in folder.below("roles") {
            if let Some((name, "role.yaml")) = path.split_once('/') {
                self.read_role(folder, &bundle, name, bytes);
            }
        }
        for (path, bytes) in folder.below("workloads") {
            if let Some((name, "workload.yaml")) = path.split_once('/') {
                self.read_workload(folder, &bundle, name, bytes);
            }
        }
        self.found.extend(check::files::stray(folder));
    }

    fn read_manifest(&mut self, folder: &Folder) -> Option<String> {
        let file = folder.display("bundle.yaml");
        let Some(bytes) = folder.bytes("bundle.yaml") else {
            let missing =
                Diagnostic::error("missing-file", "", "a bundle needs this file: {bundle: NAME, version: 1.0.0}");
            self.found.push(missing.in_file(file));
            return None;
        };
        let read: Read<BundleDoc> = match document::read_one(bytes, &file, Kind::Bundle) {
            Ok(read) => read,
            Err(found) => {
                self.found.extend(found);
                return None;
            }
        };
        let report = Report::new(&file, &read.spans);
        check::bundle::check(&read.doc, &self.bundles, &report);
        self.found.extend(report.into_found());
        let name = read.doc.bundle.clone();
        self.bundles.insert(name.clone(), read.doc);
        Some(name)
    }

    fn read_types(&mut self, folder: &Folder, bundle: &str) {
        for part in ["types", "interfaces"] {
            let below = format!("schemas/{part}");
            for (path, bytes) in folder.below(&below) {
                let file = folder.display(&format!("{below}/{path}"));
                let Some(name) = path.strip_suffix(".json") else { continue };
                match document::parse(bytes, &file) {
                    Err(found) => self.found.extend(found),
                    Ok(documents) => {
                        let Some(parsed) = documents.into_iter().next() else { continue };
                        let report = Report::new(&file, &parsed.spans);
                        if part == "interfaces" {
                            check::bundle::check_interface(&parsed.value, &report);
                        }
                        self.found.extend(report.into_found());
                        let schema = if part == "interfaces" { types::whole(&parsed.value) } else { parsed.value };
                        self.types.add(bundle, &format!("{part}/{name}"), schema);
                        self.type_files.push(TypeFile {
                            bundle: bundle.to_owned(),
                            name: format!("{part}/{name}"),
                            file,
                            spans: parsed.spans,
                        });
                    }
                }
            }
        }
    }

    fn read_role(&mut self, folder: &Folder, bundle: &str, name: &str, bytes: &[u8]) {
        let file = folder.display(&format!("roles/{name}/role.yaml"));
        let read: Read<RoleDoc> = match document::read_one(bytes, &file, Kind::Role) {
            Ok(read) => read,
            Err(found) => {
                self.unreadable.insert(name.to_owned());
                self.found.extend(found);
                return;
            }
        };
        let below = format!("roles/{name}");
        let files = folder
            .below(&below)
            .filter(|(path, _)| ["templates/", "files/", "scripts/"].iter().any(|part| path.starts_with(part)))
            .map(|(path, bytes)| (path.to_owned(), bytes.to_vec()))
            .collect();
        let role = read.doc.role.clone();
        let source = RoleSource {
            bundle: bundle.to_owned(),
            folder: name.to_owned(),
            file,
            doc: read.doc,
            spans: read.spans,
            files,
            broken: false,
        };
        if let Some(other) = self.roles.get(&role) {
            let report = Report::new(&source.file, &source.spans);
            report.error("duplicate-role", "/role", format!("the role `{role}` stands in {} already", other.file));
            self.found.extend(report.into_found());
            return;
        }
        self.roles.insert(role, source);
    }

    fn read_workload(&mut self, folder: &Folder, bundle: &str, name: &str, bytes: &[u8]) {
        let file = folder.display(&format!("workloads/{name}/workload.yaml"));
        let read: Read<WorkloadDoc> = match document::read_one(bytes, &file, Kind::Workload) {
            Ok(read) => read,
            Err(found) => {
                self.found.extend(found);
                return;
            }
        };
        let source = WorkloadSource {
            bundle: bundle.to_owned(),
            folder: name.to_owned(),
            file,
            doc: read.doc,
            spans: read.spans,
        };
        if let Some(other) = self.workloads.get(&source.doc.workload) {
            let report = Report::new(&source.file, &source.spans);
            report.error(
                "duplicate-workload",
                "/workload",
                format!("the workload `{}` stands in {} already", source.doc.workload, other.file),
            );
            self.found.extend(report.into_found());
            return;
        }
        self.workloads.insert(source.doc.workload.clone(), source);
    }

    /// Replaces `$ref`s, merges presets, and checks everything against everything.
    pub(crate) fn resolve(&mut self) {
        self.resolve_types();
        let mut roles = std::mem::take(&mut self.roles);
        for role in roles.values_mut() {
            self.inline_role(role);
        }
        self.roles = roles;
        let mut workloads = std::mem::take(&mut self.workloads);
        for workload in workloads.values_mut() {
            self.inline_workload(workload);
        }
        self.workloads = workloads;
        preset::merge_all(self);
        check::all(self);
    }

    /// Inlines every type file once, so that what is wrong with it is told there.
    fn resolve_types(&mut self) {
        for one in std::mem::take(&mut self.type_files) {
            let report = Report::new(&one.file, &one.spans);
            let inlined = inline(&self.types, &one.bundle, self.types.get(&one.bundle, &one.name), "", &report);
            if let Some(name) = one.name.strip_prefix("interfaces/") {
                self.interfaces.insert(name.to_owned(), types::outputs_of(&inlined));
            }
            self.found.extend(report.into_found());
        }
    }

    /// Replaces the `$ref`s of a role's inputs and outputs, and makes sure that what comes out is a schema.
    fn inline_role(&mut self, role: &mut RoleSource) {
        let report = Report::new(&role.file, &role.spans);
        let inputs =
            role.doc.inputs.iter_mut().map(|(name, input)| (format!("/inputs/{name}/schema"), &mut input.schema));
        let outputs =
            role.doc.outputs.iter_mut().map(|(name, output)| (format!("/outputs/{name}/schema"), &mut output.schema));
        for (pointer, schema) in inputs.chain(outputs) {
            *schema = inline(&self.types, &role.bundle, schema, &pointer, &report);
        }
        role.broken = report.has_errors();
        self.found.extend(report.into_found());
    }

    /// Replaces the `$ref`s of the parameters of a workload, and of what it imports.
    fn inline_workload(&mut self, workload: &mut WorkloadSource) {
        let report = Report::new(&workload.file, &workload.spans);
        if !workload.doc.parameters.is_null() {
            let inlined = inline(&self.types, &workload.bundle, &workload.doc.parameters, "/parameters", &report);
            // Without its `$ref`s nobody could say which parameters there are.
            if !report.has_errors() {
                workload.doc.parameters = inlined;
            }
        }
        for (name, exports) in &mut workload.doc.imports {
            for (export, wanted) in exports {
                let pointer = format!("/imports/{name}/{export}/schema");
                wanted.schema = inline(&self.types, &workload.bundle, &wanted.schema, &pointer, &report);
            }
        }
        self.found.extend(report.into_found());
    }

    fn into_loaded(self) -> Loaded {
        Loaded { catalog: self.catalog(), diagnostics: in_order(self.found) }
    }

    /// Everything that has no errors.
    pub(crate) fn catalog(&self) -> Catalog {
        let broken: BTreeSet<&str> =
            self.found.iter().filter(|one| one.is_error()).filter_map(|one| one.file.as_deref()).collect();
        let roles = self
            .roles
            .iter()
            .filter(|(_, role)| {
                let folder = role.file.trim_end_matches("role.yaml");
                !role.broken && !broken.iter().any(|file| file.starts_with(folder))
            })
            .map(|(name, role)| {
                let content = digest::content(&role.doc, &role.files);
                let role = CatalogRole {
                    doc: role.doc.clone(),
                    bundle: role.bundle.clone(),
                    files: role.files.clone(),
                    content,
                    source: role.file.clone(),
                };
                (name.clone(), role)
            })
            .collect();
        let workloads = self
            .workloads
            .iter()
            .filter(|(_, workload)| !broken.contains(workload.file.as_str()))
            .map(|(name, workload)| (name.clone(), workload.doc.clone()))
            .collect();
        Catalog { roles, workloads, interfaces: self.interfaces.clone() }
    }
}

/// Replaces the `$ref`s of one schema and reports what is wrong with it.
pub(crate) fn inline(types: &Types, bundle: &str, written: &Value, pointer: &str, report: &Report<'_>) -> Value {
    match types.inline(bundle, written) {
        Ok(inlined) => {
            if let Err(error) = schema::check(&inlined) {
                report.error(error.code(), &format!("{pointer}{}", error.pointer), error.message.clone());
            }
            inlined
        }
        Err(errors) => {
            for error in errors {
                report.error(error.code, &format!("{pointer}{}", error.pointer), error.message);
            }
            Value::Bool(true)
        }
    }
}

/// By file, line and column; each only once.
pub(crate) fn in_order(mut found: Vec<Diagnostic>) -> Vec<Diagnostic> {
    found.sort_by(|one, other| {
        (&one.file, one.line, one.column, one).cmp(&(&other.file, other.line, other.column, other))
    });
    found.dedup();
    found
}
