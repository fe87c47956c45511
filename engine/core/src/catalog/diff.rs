//! What differs between two catalogs, and between what is committed and a catalog.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Catalog, CatalogRole};
use crate::digest;
use crate::document::differing;
use crate::graph::RoleName;

/// What a catalog consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum CatalogKind {
    /// A role.
    Role,
    /// A workload.
    Workload,
}

/// What becomes of a role or a workload of the catalog.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Difference {
    /// It is new.
    Added,
    /// It is another one.
    Changed,
    /// It is there no more.
    Removed,
}

/// A role or a workload that differs between two catalogs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CatalogChange {
    /// Role or workload.
    pub kind: CatalogKind,
    /// Its name.
    pub name: String,
    /// What becomes of it.
    pub change: Difference,
    /// Its version before, if it was there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Its version after, if it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// What differs in it: keys of its document, and files by their path beside it.
    #[serde(default)]
    pub parts: Vec<String>,
    /// Its content is another one: node roles that are moved to it run again.
    #[serde(default)]
    pub runs_again: bool,
}

/// A role of a deployment that the catalog has otherwise than the deployment is committed with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Upgrade {
    /// The deployment role.
    pub role: RoleName,
    /// The role of the catalog.
    pub is: String,
    /// The version that it is committed with.
    pub from: String,
    /// The version of the catalog; missing if the role is not in it any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// What differs: keys of its document, and files by their path beside it.
    pub parts: Vec<String>,
    /// Its content is another one: its node roles run again when they are moved to it.
    pub runs_again: bool,
}

/// What is in `after` and not, or otherwise, in `before`, and the other way round; by kind and name.
pub fn changes(before: &Catalog, after: &Catalog) -> Vec<CatalogChange> {
    let mut changes = Vec::new();
    for name in names(&before.roles, &after.roles) {
        let (old, new) = (before.roles.get(name), after.roles.get(name));
        let runs_again = old.zip(new).is_some_and(|(old, new)| old.content != new.content);
        let parts = old.zip(new).map(|(old, new)| role_parts(old, new));
        let versions = (old.map(|role| &role.doc.version), new.map(|role| &role.doc.version));
        changes.extend(change(CatalogKind::Role, name, versions, parts, runs_again));
    }
    for name in names(&before.workloads, &after.workloads) {
        let (old, new) = (before.workloads.get(name), after.workloads.get(name));
        let parts = old.zip(new).map(|(old, new)| parts(&json!(old), &json!(new)));
        let versions = (old.map(|one| &one.version), new.map(|one| &one.version));
        changes.extend(change(CatalogKind::Workload, name, versions, parts, false));
    }
    changes
}

fn names<'a, T>(before: &'a BTreeMap<String, T>, after: &'a BTreeMap<String, T>) -> BTreeSet<&'a str> {
    before.keys().chain(after.keys()).map(String::as_str).collect()
}

fn change(
    kind: CatalogKind,
    name: &str,
    (from, to): (Option<&String>, Option<&String>),
    parts: Option<Vec<String>>,
    runs_again: bool,
) -> Option<CatalogChange> {
    let change = match &parts {
        Some(parts) if parts.is_empty() => return None,
        Some(_) => Difference::Changed,
        None if from.is_none() => Difference::Added,
        None => Difference::Removed,
    };
    let parts = parts.unwrap_or_default();
    Some(CatalogChange { kind, name: name.to_owned(), change, from: from.cloned(), to: to.cloned(), parts, runs_again })
}

/// Keys of two documents that differ.
fn parts(before: &Value, after: &Value) -> Vec<String> {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => differing(before, after).into_iter().collect(),
        _ => Vec::new(),
    }
}

fn role_parts(before: &CatalogRole, after: &CatalogRole) -> Vec<String> {
    let mut all = parts(&json!(before.doc), &json!(after.doc));
    let files = names(&before.files, &after.files).into_iter();
    all.extend(files.filter(|path| before.files.get(*path) != after.files.get(*path)).map(str::to_owned));
    if before.bundle != after.bundle {
        all.push("bundle".to_owned());
    }
    all
}

/// Roles that a deployment is committed with and that are otherwise in the catalog, by deployment role.
pub fn upgrades<'a>(
    committed: impl IntoIterator<Item = (&'a RoleName, &'a CatalogRole)>,
    catalog: &BTreeMap<String, CatalogRole>,
) -> Vec<Upgrade> {
    let upgrade = |(role, old): (&RoleName, &CatalogRole)| {
        let new = catalog.get(&old.doc.role);
        let parts = new.map(|new| role_parts(old, new)).unwrap_or_default();
        (new.is_none() || !parts.is_empty()).then(|| Upgrade {
            role: role.clone(),
            is: old.doc.role.clone(),
            from: old.doc.version.clone(),
            to: new.map(|new| new.doc.version.clone()),
            parts,
            runs_again: new.is_some_and(|new| new.content != old.content),
        })
    };
    committed.into_iter().filter_map(upgrade).collect()
}

/// The hash under which a role is committed: of everything that it is.
pub fn hash(role: &CatalogRole) -> String {
    digest::of(&json!(role))
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;
    use serde_json::json;

    use super::{CatalogChange, changes, upgrades};
    use crate::testing::catalog;

    fn said(changes: &[CatalogChange]) -> String {
        let line = |one: &CatalogChange| {
            let runs = if one.runs_again { ", runs again" } else { "" };
            format!("{:?} {} {:?} {:?}{runs}\n", one.kind, one.name, one.change, one.parts)
        };
        changes.iter().map(line).collect()
    }

    #[test]
    fn what_differs_is_told_by_role_and_workload() {
        let step = |text: &str| json!([{"file": {"path": "/etc/a", "content": text}}]);
        let before = catalog(
            [
                json!({"role": "a", "milestone": true, "apply": step("1")}),
                json!({"role": "b", "about": "One.", "apply": step("1")}),
                json!({"role": "old", "apply": []}),
                json!({"role": "same", "apply": []}),
            ],
            [json!({"workload": "w", "groups": {"g": {}}, "roles": {"g": ["a"]}})],
        );
        let after = catalog(
            [
                json!({"role": "a", "milestone": true, "apply": step("2")}),
                json!({"role": "b", "about": "Two.", "apply": step("1")}),
                json!({"role": "new", "apply": []}),
                json!({"role": "same", "apply": []}),
            ],
            [json!({"workload": "w", "groups": {"g": {}}, "roles": {"g": ["a"]}, "about": "More."})],
        );
        assert_snapshot!(said(&changes(&before, &after)), @r#"
        Role a Changed ["apply"], runs again
        Role b Changed ["about"]
        Role new Added []
        Role old Removed []
        Workload w Changed ["about"]
        "#);
        assert_eq!(changes(&after, &after), []);
        let told: Vec<_> =
            upgrades(&before.roles, &after.roles).into_iter().map(|one| (one.role, one.runs_again)).collect();
        assert_eq!(told, [("a".to_owned(), true), ("b".to_owned(), false), ("old".to_owned(), false)]);
    }
}
