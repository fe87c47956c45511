//! Profiles, policies, rules and budgets: documents that hold for all deployments.

use engine_core::diagnostic::Diagnostic;
use engine_core::document::setting::{RuleDoc, SettingKind};
use engine_core::template;
use engine_core::{compile, rule};
use serde_json::Value;

use crate::document::{self, Kind};
use crate::report::Report;
use crate::yaml::Parsed;

/// A profile, a policy, a rule or a budget, by its schema.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// Which.
    pub kind: SettingKind,
    /// Its name.
    pub name: String,
    /// The document.
    pub document: Value,
}

/// Reads the profiles, policies, rules and budgets of a text.
///
/// # Errors
/// Everything that is wrong with any of them.
pub fn read_settings(text: &str, file: &str) -> Result<Vec<Setting>, Vec<Diagnostic>> {
    let documents = document::parse(text.as_bytes(), file)?;
    if documents.is_empty() {
        let nothing = Diagnostic::error("empty-file", "", "there is nothing in it");
        return Err(vec![nothing.expected("a profile, a policy, a rule or a budget").in_file(file)]);
    }
    let (mut all, mut found): (Vec<Setting>, _) = (Vec::new(), Vec::new());
    for parsed in documents {
        match one(parsed, file) {
            Ok(setting) if all.iter().any(|other| (other.kind, &other.name) == (setting.kind, &setting.name)) => {
                let message = format!("{} `{}` stands in this file twice", setting.kind.as_str(), setting.name);
                found.push(Diagnostic::error("duplicate-setting", "", message).in_file(file));
            }
            Ok(setting) => all.push(setting),
            Err(diagnostics) => found.extend(diagnostics),
        }
    }
    if found.is_empty() { Ok(all) } else { Err(found) }
}

/// One of them.
pub(crate) fn one(parsed: Parsed, file: &str) -> Result<Setting, Vec<Diagnostic>> {
    let (kind, document_kind) = match Kind::of(&parsed.value) {
        Some(Kind::Profile) => (SettingKind::Profile, Kind::Profile),
        Some(Kind::Policy) => (SettingKind::Policy, Kind::Policy),
        Some(Kind::Rule) => (SettingKind::Rule, Kind::Rule),
        Some(Kind::Budget) => (SettingKind::Budget, Kind::Budget),
        other => {
            let what = other.map_or("it is not said what this is".to_owned(), |kind| format!("a {}", kind.name()));
            let error = Diagnostic::error("unknown-kind", "", what).expected("a profile, a policy, a rule or a budget");
            return Err(vec![error.in_file(file)]);
        }
    };
    let read = document::convert::<Value>(parsed, file, document_kind)?;
    let name = read.doc[kind.as_str()].as_str().unwrap_or_default().to_owned();
    if kind == SettingKind::Rule {
        let report = Report::new(file, &read.spans);
        if let Ok(rule) = serde_json::from_value::<RuleDoc>(read.doc.clone()) {
            check_rule(&rule, &report);
        }
        if report.has_errors() {
            return Err(report.into_found());
        }
    }
    Ok(Setting { kind, name, document: read.doc })
}

fn check_rule(rule: &RuleDoc, report: &Report<'_>) {
    if let Err(reason) = compile::bind::selects(&rule.when, "", &engine_core::document::Object::new()) {
        let message = format!("`{}` is no expression over facts and labels: {reason}", rule.when);
        report.wrong("bad-select", "/when", message, "such as `rack = 7 and cpus >= 8`");
    }
    for (label, value) in &rule.set {
        let pointer = format!("/set/{label}");
        if rule::RESERVED.contains(&label.as_str()) {
            report.error("label-reserved", &pointer, format!("`{label}` is a fact that nodes have of themselves"));
        }
        if let Err(error) = template::undeclared_in_value(value) {
            report.error("bad-template", &pointer, error.to_string());
        }
    }
}
