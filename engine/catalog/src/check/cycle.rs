//! Roles that require each other.

use std::collections::{BTreeMap, BTreeSet};

use engine_core::diagnostic::Diagnostic;

use crate::load::Sources;
use crate::report::Report;

/// Every cycle among `requires` and `uses`, once, printed whole.
pub(crate) fn check(sources: &Sources) -> Vec<Diagnostic> {
    let below: BTreeMap<&str, Vec<(String, &str)>> =
        sources.roles.iter().map(|(name, role)| (name.as_str(), needs(&role.doc))).collect();
    let mut done = BTreeSet::new();
    let mut found = Vec::new();
    for name in below.keys() {
        let mut trail = Vec::new();
        walk(name, &below, &mut trail, &mut done, &mut |cycle: &[&str]| {
            let first = &sources.roles[cycle[0]];
            let pointer = needs(&first.doc)
                .into_iter()
                .find(|(_, needed)| *needed == cycle[1 % cycle.len()])
                .map(|(pointer, _)| pointer);
            let report = Report::new(&first.file, &first.spans);
            let printed: Vec<&str> = cycle.iter().copied().chain([cycle[0]]).collect();
            report.error(
                "cycle",
                &pointer.unwrap_or_default(),
                format!("roles require each other: {}", printed.join(" > ")),
            );
            found.extend(report.into_found());
        });
    }
    found
}

/// What a role requires or uses, and where that is written.
fn needs(doc: &engine_core::document::RoleDoc) -> Vec<(String, &str)> {
    let own = doc.requires.iter().enumerate().map(|(index, name)| (format!("/requires/{index}"), name.as_str()));
    let used = doc.uses.iter().flat_map(|(local, used)| {
        let requires = used.requires.iter().enumerate();
        let requires = requires.map(move |(index, name)| (format!("/uses/{local}/requires/{index}"), name.as_str()));
        std::iter::once((format!("/uses/{local}/role"), used.role.as_str())).chain(requires)
    });
    own.chain(used).collect()
}

fn walk<'a>(
    name: &'a str,
    below: &BTreeMap<&'a str, Vec<(String, &'a str)>>,
    trail: &mut Vec<&'a str>,
    done: &mut BTreeSet<&'a str>,
    tell: &mut dyn FnMut(&[&str]),
) {
    if let Some(from) = trail.iter().position(|earlier| *earlier == name) {
        tell(&trail[from..]);
        return;
    }
    if done.contains(name) {
        return;
    }
    trail.push(name);
    for (_, needed) in below.get(name).into_iter().flatten() {
        walk(needed, below, trail, done, tell);
    }
    trail.pop();
    done.insert(name);
}
