//! `plinth scale`: the committed document with another count of nodes in one group, applied as any other.

use engine_core::document::DeploymentDoc;
use engine_core::document::deployment::BindNodes;
use engine_core::request::Document;
use engine_core::view::{DeploymentDetail, Health};

use crate::output::CliError;

/// The committed document of a deployment, but for the count of a group.
///
/// # Errors
/// The deployment is leaving, has no such group, or names the group's nodes one by one.
pub(crate) fn scaled(detail: DeploymentDetail, group: &str, count: u32) -> Result<Document, CliError> {
    let name = detail.deployment.name;
    let unscalable = |why: String| CliError::NotScalable { name: name.clone(), group: group.to_owned(), why };
    if matches!(detail.deployment.health, Health::Destroying | Health::Gone) {
        return Err(unscalable("it is being destroyed".to_owned()));
    }
    let bad = |error: serde_json::Error| unscalable(format!("its document is not one that this plinth knows: {error}"));
    let mut document: DeploymentDoc = serde_json::from_value(detail.document).map_err(bad)?;
    let known: Vec<String> = document.nodes.keys().cloned().collect();
    match document.nodes.get_mut(group) {
        Some(BindNodes::Create(nodes)) => nodes.count = Some(count),
        Some(BindNodes::Select(nodes)) => nodes.count = Some(count),
        Some(BindNodes::Names(names)) => {
            let names = names.join(", ");
            return Err(unscalable(format!(
                "the document names its nodes: {names}; add or take away names and apply it"
            )));
        }
        None => {
            let known = known.join(", ");
            return Err(unscalable(format!("the document says nothing of such a group; it binds nodes to: {known}")));
        }
    }
    // JSON is YAML too.
    let text = serde_json::to_string_pretty(&document).map_err(bad)?;
    Ok(Document { text, file: format!("{name} at revision {} with {count} in {group}", detail.deployment.revision) })
}
