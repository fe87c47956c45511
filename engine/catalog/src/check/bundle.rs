//! `bundle.yaml` and interface files.

use std::collections::BTreeMap;

use engine_core::document::BundleDoc;
use serde_json::Value;

use super::text;
use crate::report::{Report, known};

/// Checks a bundle against those that were read before it.
pub(crate) fn check(doc: &BundleDoc, others: &BTreeMap<String, BundleDoc>, report: &Report<'_>) {
    text::version(&doc.version, "/version", report);
    if others.contains_key(&doc.bundle) {
        report.error("duplicate-bundle", "/bundle", format!("the bundle `{}` is loaded already", doc.bundle));
    }
    if let Some(wanted) = &doc.plinth {
        needs(wanted, "/plinth", env!("CARGO_PKG_VERSION"), "this engine", report);
    }
    for (name, wanted) in &doc.needs {
        let pointer = format!("/needs/{name}");
        match others.get(name) {
            Some(other) => needs(wanted, &pointer, &other.version, &format!("the bundle `{name}`"), report),
            None => {
                let loaded = known(others.keys().map(String::as_str));
                report.wrong(
                    "missing-bundle",
                    &pointer,
                    format!("the bundle `{name}` is not loaded, or needs this one itself"),
                    loaded,
                );
            }
        }
    }
}

fn needs(wanted: &str, pointer: &str, version: &str, who: &str, report: &Report<'_>) {
    let range = match semver::VersionReq::parse(wanted) {
        Ok(range) => range,
        Err(error) => {
            report.wrong(
                "bad-version",
                pointer,
                format!("`{wanted}` is not a range of versions: {error}"),
                "a range such as >=0.1 or ^1",
            );
            return;
        }
    };
    if let Ok(version) = semver::Version::parse(version)
        && !range.matches(&version)
    {
        report.error("wrong-version", pointer, format!("{who} has version {version}, which is not in `{wanted}`"));
    }
}

/// An interface is an object schema whose properties are outputs.
pub(crate) fn check_interface(schema: &Value, report: &Report<'_>) {
    if !schema.get("properties").is_some_and(Value::is_object) {
        report.wrong(
            "invalid-interface",
            "",
            "an interface says its outputs as `properties`",
            "{\"type\": \"object\", \"properties\": {OUTPUT: SCHEMA}}",
        );
    }
}
