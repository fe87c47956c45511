//! Who provides an interface where: as chosen, or the only provider bound.

use super::closure::Closure;
use super::{CompileInput, Findings, Site, is_place, one_of};
use crate::document::WorkloadDoc;
use crate::document::workload::Choice;
use crate::graph::VIRTUAL;

/// An interface that somebody needs where nothing is chosen.
#[derive(Clone, Debug)]
pub(super) struct Wanted<'a> {
    /// The interface.
    pub interface: &'a str,
    /// Where.
    pub place: &'a str,
    /// For whom.
    pub because: String,
    /// Where that stands.
    pub site: Site,
}

/// The provider that the workload chooses.
pub(super) fn choice<'a>(workload: &'a WorkloadDoc, interface: &str, place: &str) -> Option<&'a str> {
    match workload.choose.get(interface)? {
        Choice::Everywhere(role) => Some(role),
        Choice::ByGroup(groups) => groups.get(place).map(String::as_str),
    }
}

/// Are the choices about things that exist?
pub(super) fn check_choices(input: &CompileInput, workload: &WorkloadDoc, findings: &mut Findings) {
    for (interface, choice) in &workload.choose {
        let site = |more: &[&str]| {
            let path: Vec<&str> = ["choose", interface].into_iter().chain(more.iter().copied()).collect();
            Site::of_workload(&workload.workload, &path)
        };
        let providers: Vec<&str> = input.catalog.providers(interface).into_iter().collect();
        if providers.is_empty() && !input.catalog.interfaces.contains_key(interface) {
            findings.push(site(&[]).error("unknown-interface", format!("no interface `{interface}`")));
            continue;
        }
        let chosen: Vec<(Option<&str>, &str)> = match choice {
            Choice::Everywhere(role) => vec![(None, role)],
            Choice::ByGroup(groups) => {
                groups.iter().map(|(group, role)| (Some(group.as_str()), role.as_str())).collect()
            }
        };
        for (group, role) in chosen {
            let path: Vec<&str> = group.into_iter().collect();
            if let Some(group) = group.filter(|group| !is_place(workload, group)) {
                findings.push(site(&path).error("unknown-group", format!("no group `{group}`")));
            }
            if !providers.contains(&role) {
                let message = format!("`{role}` does not provide `{interface}`");
                findings.push(site(&path).error("not-a-provider", message).expected(one_of(&providers)));
            }
        }
    }
}

/// Finds the only provider bound for each wanted interface.
pub(super) fn resolve<'a>(
    input: &CompileInput,
    closure: &mut Closure<'a>,
    wanted: &[Wanted<'a>],
    findings: &mut Findings,
) {
    for Wanted { interface, place, because, site } in wanted {
        let here: Vec<String> = closure
            .providers(interface)
            .filter(|one| one.places.contains(place) || one.places.contains(VIRTUAL))
            .map(|one| one.name.clone())
            .collect();
        match here.as_slice() {
            [only] => {
                closure.resolved.insert((*interface, *place), only.clone());
            }
            [] => {
                // What runs for the deployment may require a provider on nodes: all of them, then.
                if *place == VIRTUAL && closure.providers(interface).next().is_some() {
                    continue;
                }
                let known: Vec<&str> = input.catalog.providers(interface).into_iter().collect();
                let message = format!("nobody provides `{interface}` on `{place}` ({because})");
                let expected = format!("a milestone that provides it, or `choose`: {}", one_of(&known));
                findings.push(site.error("no-provider", message).expected(expected));
            }
            several => {
                let several: Vec<&str> = several.iter().map(String::as_str).collect();
                let message = format!("`{interface}` has more than one provider on `{place}` ({because})");
                findings
                    .push(site.error("ambiguous-provider", message).expected(format!("`choose` {}", one_of(&several))));
            }
        }
    }
}
