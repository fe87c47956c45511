//! What schemas can not say: names that must be known, wires, files, templates, cycles.

pub(crate) mod bundle;
pub(crate) mod compiled;
pub(crate) mod cycle;
pub(crate) mod deployment;
pub(crate) mod files;
pub(crate) mod paths;
pub(crate) mod role;
pub(crate) mod templates;
pub(crate) mod text;
pub(crate) mod uses;
pub(crate) mod wires;
pub(crate) mod workload;

use crate::load::Sources;
use crate::report::Report;

/// Checks every role and workload against everything that was read.
pub(crate) fn all(sources: &mut Sources) {
    let mut found = Vec::new();
    for role in sources.roles.values() {
        let report = Report::new(&role.file, &role.spans);
        role::check(role, sources, &report);
        found.extend(report.into_found());
    }
    for workload in sources.workloads.values() {
        let report = Report::new(&workload.file, &workload.spans);
        workload::check(workload, sources, &report);
        found.extend(report.into_found());
    }
    found.extend(cycle::check(sources));
    sources.found.extend(found);
}
