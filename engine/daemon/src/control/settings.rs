//! Profiles, policies, rules, budgets and labels.

use std::collections::BTreeMap;

use engine_core::compile::Profile;
use engine_core::diagnostic::Diagnostic;
use engine_core::document::setting::{PolicyDoc, ProfileDoc, RuleDoc, SettingKind};
use engine_core::document::{Object, Policy};
use engine_core::policy::GlobalPolicy;
use engine_core::request::Document;
use engine_core::rule;
use engine_core::view::{LabelRequest, LabelView, Refusal, RefusalKind, RuleTest, SettingView, Settled};
use engine_store::nodes::{self, ToRule};
use engine_store::settings::{self, Removed};
use engine_store::{bundles, outages};
use serde_json::Value;

use super::{Control, store, unknown_node};
use crate::rules;
use crate::shared::Shared;

/// What profiles and policies say when something is compiled.
#[derive(Default)]
pub(super) struct Settings {
    /// Global profiles, weakest first.
    pub(super) global: Vec<Profile>,
    /// The others by name.
    pub(super) profiles: BTreeMap<String, Object>,
    pub(super) policies: Vec<GlobalPolicy>,
}

/// Reads them as they are now.
pub(super) async fn read(shared: &Shared) -> Result<Settings, Refusal> {
    let mut read = Settings { policies: policies(shared).await?, ..Settings::default() };
    let mut global = Vec::new();
    for one in settings::all(&shared.pool, SettingKind::Profile).await.map_err(store)? {
        let doc: ProfileDoc = serde_json::from_value(one.document).map_err(unreadable)?;
        if doc.global {
            global.push((doc.order, Profile { name: doc.profile, values: doc.values }));
        } else {
            read.profiles.insert(doc.profile, doc.values);
        }
    }
    global.sort_by(|one, other| (one.0, &one.1.name).cmp(&(other.0, &other.1.name)));
    read.global = global.into_iter().map(|(_, profile)| profile).collect();
    Ok(read)
}

/// Policies that hold for all deployments.
pub(super) async fn policies(shared: &Shared) -> Result<Vec<GlobalPolicy>, Refusal> {
    let all = settings::all(&shared.pool, SettingKind::Policy).await.map_err(store)?;
    let global = |one: settings::Setting| {
        let doc: PolicyDoc = serde_json::from_value(one.document).map_err(unreadable)?;
        Ok(GlobalPolicy { policy: doc.policy(), name: doc.policy, by: one.by })
    };
    all.into_iter().map(global).collect()
}

fn unreadable(error: serde_json::Error) -> Refusal {
    Refusal::new(RefusalKind::Internal, "setting-unreadable", format!("a profile or policy can not be read: {error}"))
}

impl Control {
    /// All profiles, policies, rules or budgets, by name.
    ///
    /// # Errors
    /// The database can not be read.
    pub async fn settings(&self, kind: SettingKind) -> Result<Vec<SettingView>, Refusal> {
        let all = settings::all(&self.shared.pool, kind).await.map_err(store)?;
        let mut views = Vec::new();
        for one in all {
            let out = match kind {
                SettingKind::Budget => outages::out_of_service(&self.shared.pool, &one.name).await.map_err(store)?,
                _ => Vec::new(),
            };
            let (out_of_service, name, document) = (out.into_iter().collect(), one.name, one.document);
            views.push(SettingView { kind, name, document, set_by: one.by, set_at: one.at, out_of_service });
        }
        Ok(views)
    }

    /// Sets the profiles, policies, rules and budgets of a text, all or none.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub async fn set(&self, text: &str, file: &str, by: &str) -> Result<Settled, Refusal> {
        let read = engine_catalog::read_settings(text, file).map_err(Refusal::findings)?;
        let catalog = self.catalog().await?;
        let mut findings = Vec::new();
        for one in read.iter().filter(|one| one.kind == SettingKind::Profile) {
            for key in one.document["values"].as_object().into_iter().flat_map(Object::keys) {
                let input =
                    key.split_once('.').and_then(|(role, input)| catalog.roles.get(role)?.doc.inputs.get(input));
                if input.is_some_and(|input| input.secret) {
                    let message = format!("`{key}` is secret, and profiles are kept as they are written");
                    let error = Diagnostic::error("secret-exposed", format!("/values/{key}"), message);
                    findings.push(error.expected("a value in the deployment").in_file(file));
                }
            }
        }
        if !findings.is_empty() {
            return Err(Refusal::findings(findings));
        }
        let all: Vec<_> = read.into_iter().map(|one| (one.kind, one.name, one.document)).collect();
        let changed = settings::put(&self.shared.pool, &all, by).await.map_err(store)?;
        self.shared.hint();
        let mut settled = Settled::default();
        for place in changed {
            let (kind, name, document) = &all[place];
            settled.changed.push(format!("{} {name}", kind.as_str()));
            let concerned = match kind {
                // In force at once.
                SettingKind::Rule | SettingKind::Budget => Vec::new(),
                SettingKind::Profile if document["global"] != Value::Bool(true) => {
                    settings::listing(&self.shared.pool, name).await.map_err(store)?
                }
                SettingKind::Profile | SettingKind::Policy => everybody(&self.shared).await?,
            };
            settled.concerns.extend(concerned);
        }
        settled.concerns.sort();
        settled.concerns.dedup();
        Ok(settled)
    }

    /// Removes a profile, a policy, a rule or a budget.
    ///
    /// # Errors
    /// There is none of this name, or deployments list it.
    pub async fn remove_setting(&self, kind: SettingKind, name: &str, by: &str) -> Result<Settled, Refusal> {
        match settings::remove(&self.shared.pool, kind, name, by).await.map_err(store)? {
            Removed::Done => {
                self.shared.hint();
                let concerns = match kind {
                    SettingKind::Rule | SettingKind::Budget => Vec::new(),
                    SettingKind::Profile | SettingKind::Policy => everybody(&self.shared).await?,
                };
                Ok(Settled { changed: vec![format!("{} {name}", kind.as_str())], concerns })
            }
            Removed::Unknown => {
                let message = format!("there is no {} `{name}`", kind.as_str());
                Err(Refusal::new(RefusalKind::NotFound, "unknown-setting", message))
            }
            Removed::InUse(by) => {
                let message = format!("profile `{name}` is listed by {}", by.join(", "));
                Err(Refusal::new(RefusalKind::Conflict, "profile-in-use", message))
            }
        }
    }

    /// What rules would make of every node: those that are set, and those of a document in their place.
    ///
    /// # Errors
    /// Everything that is wrong with the document.
    pub async fn test_rules(&self, document: Option<&Document>) -> Result<Vec<RuleTest>, Refusal> {
        let mut rules = rules::set(&self.shared).await.map_err(store)?;
        if let Some(document) = document {
            let read = engine_catalog::read_settings(&document.text, &document.file).map_err(Refusal::findings)?;
            let tried = read.into_iter().filter(|one| one.kind == SettingKind::Rule);
            for one in tried {
                let rule: RuleDoc = serde_json::from_value(one.document).map_err(unreadable)?;
                rules.retain(|other| other.rule != rule.rule);
                rules.push(rule);
            }
            rule::sort(&mut rules);
        }
        let nodes = nodes::ruled(&self.shared.pool).await.map_err(store)?;
        let test = |node: ToRule| {
            let ruled = rule::labels(&rules, &node.name, &node.known);
            let label = |(name, value): (&String, &Value)| LabelView {
                name: name.clone(),
                value: value.clone(),
                rule: ruled.by.get(name).cloned(),
            };
            RuleTest {
                labels: ruled.labels.iter().map(label).collect(),
                changes: rules::changes(&node, &ruled),
                problems: ruled.problems.iter().map(|(rule, why)| format!("rule {rule}: {why}")).collect(),
                node: node.name,
            }
        };
        Ok(nodes.into_iter().map(test).collect())
    }

    /// Sets labels of a node and takes others away.
    ///
    /// # Errors
    /// There is no such node, or a label can not be called so.
    pub async fn label_node(&self, name: &str, what: &LabelRequest, by: &str) -> Result<(), Refusal> {
        for (label, value) in &what.set {
            let fits = label.starts_with(|c: char| c.is_ascii_lowercase())
                && label.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
            if !fits || !(value.is_string() || value.is_number() || value.is_boolean()) {
                let message = format!(
                    "`{label}` can not be a label: its name has lower case letters, digits and underscores, its value is a text, \
                     a number, true or false"
                );
                return Err(Refusal::new(RefusalKind::Invalid, "bad-label", message));
            }
            may_be_called(label)?;
        }
        let change = (&what.set, what.remove.as_slice());
        let done = nodes::label(&self.shared.pool, name, change, &self.shared.revisions, by).await.map_err(store)?;
        self.shared.hint();
        if done { Ok(()) } else { Err(unknown_node(name)) }
    }
}

/// A label must not look like what a node says of itself.
pub(super) fn may_be_called(label: &str) -> Result<(), Refusal> {
    if !rule::RESERVED.contains(&label) {
        return Ok(());
    }
    let message = format!("`{label}` is a fact that nodes have of themselves");
    Err(Refusal::new(RefusalKind::Invalid, "label-reserved", message))
}

/// Names of all deployments that are not on their way out.
async fn everybody(shared: &Shared) -> Result<Vec<String>, Refusal> {
    let all = bundles::committed(&shared.pool).await.map_err(store)?;
    Ok(all.into_iter().map(|one| one.deployment).collect())
}

/// The policy of a deployment that is there, with those of all.
pub(super) async fn policy_of(
    shared: &Shared,
    document: &Value,
) -> Result<(Policy, BTreeMap<String, String>), Refusal> {
    let own = document.get("policy").cloned().unwrap_or_default();
    let own: Policy = serde_json::from_value(own).unwrap_or_default();
    Ok(engine_core::policy::merged(&own, &policies(shared).await?))
}
